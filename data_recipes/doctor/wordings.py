"""What an instruction asks for, as far as its words say so without doubt."""

from __future__ import annotations

import re

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 40), "orange": (245, 135, 20), "yellow": (245, 220, 40), "green": (40, 170, 60),
    "blue": (40, 90, 225), "purple": (145, 50, 190), "violet": (145, 50, 190), "pink": (245, 130, 190),
}  # fmt: skip
NAMED_COLOURS = "|".join([*COLOURS, "white", "black", "brown", "gr[ae]y", "golden?", "silver", "cyan", "magenta"])
_TAKE = r"\btak(?:e|ing)\b(?:(?:\W+\w+){1,8}?\W+| )(?:out|away|off)\b(?! of focus)"
_DROP = r"\b(?:remov(?:e|ing)|delete|deleting|eras(?:e|ing)|eliminat(?:e|ing))\b|\bget(?:ting)? rid of\b"
REMOVE = re.compile(rf"{_DROP}|{_TAKE}|\bnever been\b")
GONE = re.compile(
    r"\bdo(?: not|n't) want to see\b|\bmake\b.* disappear\b|\b(?:lose|losing|(?:wip|cut|rub|edit|crop)\w* out)\b"
)
ADD = re.compile(r"\b(?:add|insert|attach)(?:ing)?\b|\b(?:include|including)\b")
_IN = r"(?:paint|pop|stick|throw|drop|bring) in|plonk|paste|render"
PUT = re.compile(rf"\b(?:put|place|draw|show|set|want|want to see|{_IN}) (?:an?|another|some|the|<imagehere>)\b")
PLACED = re.compile(r"\b(?:put|place|draw|want|want to see) (?:an?|another|<imagehere>)\b")
THERE = re.compile(r"\bthere\b|\bthat (?:place|spot)\b")
EFFECT = re.compile(  # what is added to a whole picture, or taken from it
    r"\b(?:filter|effect|tint|tone|cast|contrast|brightness|saturation|sharpness|sharpening|blur|warmth|vignett(?:e|ing)|"
    r"fade|glow|sepia|haze|grain|tinge|hue|wash|overlay|veil|film|layer|exposure|punch|clarity|definition|bloom|vibrance|"
    r"colou?r|light|shadow|highlight|glare|darkness|gloom|softness|crispness|coolness|mosaic|pixell?ation|shading|toning|"
    r"illumination|border|edge|matte)s?\b|\bversion of\b"
    rf"|\b(?:some|more|fill|add) (?:light|teal|violet|{NAMED_COLOURS})\b(?! \w{{2,}}s\b)"
)
POLITE = re.compile(r"\W*(?:(?:please|now|just|could you|can you|would you|i|i would like (?:you )?to|let us)\W*)*")
STRONG_REPLACE = re.compile(
    r"\b(?:replac(?:e|ing)|swap|substitute|exchange)\b|\bin place of\b"
    r"|\b(?:turn|convert|transform)\b.+\binto an?\b(?! \w+ one\b)|\bchange\b.+\b(?:to|into) an?\b(?! \w+ one\b)"
)
WHOLE = re.compile(r"\b(?:whole|photo|picture|image|it)\b")
REPLACE = re.compile(
    r"\b(?:replac|swap|substitut|exchang|transform|convert|turn|chang)\w*\b|\binstead\b|\bin (?:its|the) place\b"
    r"|\bin place of\b|\bwhere\b.*\b(?:is|was|are|were|see|stands?)\b|\bhad been\b|\bnot the\b|\brather than\b"
    r"|\b(?:is|was|are|were)\W*$|\bdraw\b.*\bover (?:the|that|this|my)\b"
)
RECOLOUR = re.compile(
    rf"\b(?:colou?r|hue|shade)|\b(?:paint|make|turn|change|tint|dye|look|be)\b.*\b(?:{NAMED_COLOURS})\b"
)
OTHER = re.compile(
    r"\b(?:bigger|smaller|larger|size|bright|dark|light|black and white|sepia|warm|cool|contrast|blur|invert|negative"
    r"|photo|picture|image|style|weather|background|whole|everything|mark|segment|highlight)"
)
TONES = {
    "brighter": re.compile(r"\b(?:brighter|lighter)\b"),
    "darker": re.compile(r"\bdarker\b"),
    "grey": re.compile(r"\bblack and white\b|\bgr[ae]yscale\b"),
    "warmer": re.compile(r"\bwarmer\b"),
    "cooler": re.compile(r"\b(?:cooler|colder)\b"),
    "more contrast": re.compile(r"\bmore contrast\b"),
    "less contrast": re.compile(r"\bless contrast\b"),
    "blurry": re.compile(r"\bblurr(?:y|ed|ier)\b"),
    "sharper": re.compile(r"\bsharp(?:er)?\b"),
}
PAINTS = re.compile(
    rf"^(?:please )?(?:make|paint|colou?r)\b(?!.*\b(?:into|with)\b).*(?<!\ban )\b(?:{NAMED_COLOURS})\W*$"
)
CHECKED = ("remove", "add", "replace", "recolour", "resize", "photometric")


def tasks_named(text: str) -> set[str]:
    """The tasks that an instruction can mean; empty where its words do not tell, as in all but plain cases."""
    text = text.lower()
    removes, adds, puts = (bool(form.search(text)) for form in (REMOVE, ADD, PUT))
    others, colours = bool(OTHER.search(text)), bool(RECOLOUR.search(text))
    if STRONG_REPLACE.search(text) and not (colours or others or removes or adds):
        return {"replace"}
    if REPLACE.search(text) or colours or ((removes or GONE.search(text)) and (adds or puts)):
        return set()
    if EFFECT.search(text):
        return set()
    if removes:
        return {"remove"}
    placed = None if named_tone(text) or GONE.search(text) else PLACED.search(text)
    if not adds and placed and (THERE.search(text) or not POLITE.fullmatch(text[: placed.start()])):
        return {"add", "replace"}  # "find the drum and put a horse there"
    if adds or placed:
        return {"add"}
    if named_tone(text) and WHOLE.search(text) and not PUT.search(text):
        return {"photometric"}
    return set()


def contradiction(text: str, task: str) -> str:
    """Why an instruction cannot be of a task, as words; "" where it can."""
    if task not in CHECKED:
        return ""
    named = tasks_named(text)
    if named and task not in named:
        return f"{' or '.join(sorted(named))}, not {task}"
    text = text.lower()
    paints = PAINTS.search(text) and not any(form.search(text) for form in (REMOVE, ADD, REPLACE))
    return f"recolour, not {task}" if paints and task in ("remove", "add", "replace") else ""


def goes_backwards(text: str, origin: str, target: str) -> bool:
    """Whether "replace A with B" names the classes the other way round."""
    found = re.search(r"\b(?:replace|swap|change|turn|exchange)\b(.+?)\b(?:with|by|for|to|into)\b(.+)", text.lower())
    if not found or not origin or not target:
        return False
    one, other = (_words(name) for name in (origin, target))
    if one & other:
        return False
    before, after = _words(found[1]), _words(found[2])
    return other <= before and one <= after and not (one & before) and not (other & after)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - {"a", "an", "the", "of", "on"}


def named_colour(text: str) -> str | None:
    """The saturated colour that something shall take: the only one named, or the last word; None where it is open."""
    found = re.findall(r"\w+", re.sub(r"\b(?:whose colou?r|that|which) is \w+", "", text.lower()))  # what is there
    named = [word for word in found if re.fullmatch(NAMED_COLOURS, word)]
    is_told = len(set(named)) == 1 or (named and found[-1] == named[-1])
    return named[-1] if is_told and named[-1] in COLOURS else None


def named_tone(text: str) -> str | None:
    """The one change of tone of the whole picture that is asked for."""
    found = [name for name, form in TONES.items() if form.search(text.lower())]
    return found[0] if len(found) == 1 else None
