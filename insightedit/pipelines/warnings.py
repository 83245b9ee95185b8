"""The words of an instruction: made clean before a model reads them, and what the model made of them afterwards.

A warning says in plain words that a picture may not be what was asked for. Each has a reason that can be checked (a
word the model was never taught, a claim that nobody made), and none is an error: the picture is there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insightedit.pipelines.inputs import DrawSettings

MAX_LETTERS = 10_000  # of an instruction: no model reads on, and tokenizers take minutes for a megabyte
MUCH_HIDDEN = 0.25  # of an edit: a little of its border may lie under full transparency
SHOWN_WORDS = 5  # of the unknown ones; the rest is counted
_JOINERS = "\u200c\u200d"  # invisible, but parts of Persian words and of emoji
_GROUPS = {
    "remove": "remove delete erase away rid out clean never without gone not lose drop ditch cut wipe rub vanish "
    "disappear eliminate discard scrap",
    "add": "add put place draw insert see had show want need pop stick drop set lay give include appear",
    "replace": "replace turn change swap put place into instead show want stand had switch exchange substitute trade "
    "become becomes convert transform",
    "bigger": "bigger big biggest larger large largest size grow enlarge huge scale expand increase giant double",
    "smaller": "smaller small smallest little tiny size shrink scale reduce decrease half",
    "place": "a an the and with at in of top bottom left right middle side mirror",
    "colour": "red orange yellow green blue purple pink white black brown grey gray",
    "whole": "picture photo image whole colour color size rest light look one contrast",
    "filler": "could would will may kindly just simply thanks thank hey hi ok now me my our your its pic background",
    "degree": "slightly bit little much very lot more less rich poor in strongly really far way quite a the so",
    "describing": "which who thing things object animal food fruit plant toy vehicle bird flower",
}
_TONES = {
    "bright": "light lighten lighter sunny",
    "dark": "dim dimmer gloomy",
    "warm": "cosy golden",
    "cool": "cold colder chilly",
    "black": "monochrome greyscale grayscale grey gray colourless",
    "white": "monochrome greyscale grayscale grey gray colourless",
    "sepia": "old antique brown brownish",
    "blurry": "soft softer fuzzy",
    "inverted": "negative opposite",
}
STEM = 4  # letters
FEW_STEPS = 4  # a model made for so few at most has learnt to do without more
GROUPS: dict[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _GROUPS.items()}
TONES = {tone[:STEM]: frozenset(words.split()) for tone, words in _TONES.items()}
PLAIN = frozenset().union(*GROUPS.values())  # what was understood tells whether these were


@dataclass(frozen=True)
class EditWarning:
    """One reason to look at a picture twice."""

    # "refused" (the model says that it cannot), "unsure" (its confidence is under its threshold), "words" (the model
    # does not know them), "understood" (it read something else), "unchanged" (it changed nothing), "settings" (they are
    # far from the model's own), "unseen" (the edit lies under full transparency)
    kind: str
    message: str  # one sentence for a person


def clean_instruction(text: str, lowercase: bool = False) -> str:
    """An instruction as a model reads it: composed letters (NFC), no invisible characters; white space stays.

    `lowercase` is for models that were trained on lower-case text only, to which capitals are other words.
    """
    if not isinstance(text, str):
        raise TypeError(f"`instruction` is a {type(text).__name__}: give a text.")
    if len(text) > MAX_LETTERS:
        raise ValueError(f"`instruction` has {len(text)} characters: say what to change in at most {MAX_LETTERS}.")
    for character in text:
        category = unicodedata.category(character)
        broken = category in ("Cc", "Cs") or ord(character) & 0xFFFE == 0xFFFE
        if broken and character not in "\t\n\r":
            raise ValueError(
                f"`instruction` holds the character U+{ord(character):04X}, which is no text: write it without."
            )
    kept = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")
    kept = unicodedata.normalize("NFC", kept)
    if not kept.strip().strip(_JOINERS):
        raise ValueError('`instruction` is empty: say what to change, e.g. "make the car red".')
    return re.sub(r"([^\W\d_])\1{2,}", r"\1", kept.lower()) if lowercase else kept  # "sooo" is "so"


def unknown_words(instruction: str, known: Collection[str] | None = None, tokenizer: Any = None) -> list[str]:
    """The words of an instruction that a model was never taught, each once.

    `known` is every word that it was taught; None where nobody knows, as for models that read a whole language. Then
    the `tokenizer` tells those that it cannot even spell.
    """
    words = list(dict.fromkeys(split_words(instruction)))
    if known is not None:
        return [word for word in words if word not in known]
    unspelt = getattr(tokenizer, "unk_token_id", None)
    if unspelt is None:
        return []
    return [word for word in words if unspelt in tokenizer(word, add_special_tokens=False).input_ids]


def content_words(words: Collection[str]) -> list[str]:
    """Those of some words that ask for something of their own; what was understood tells whether the others were."""
    return [word for word in words if word not in PLAIN]


def told_words(understood: str | None) -> str:
    """What a model wrote, without control characters."""
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in understood or "").strip()


def find_warnings(
    instruction: str,
    understood: str | None = None,
    changed: bool = True,
    *,
    known: Collection[str] | None = None,
    tokenizer: Any = None,
    is_sure: bool = False,
) -> list[EditWarning]:
    """What a user should know about one edit, most serious first.

    Args:
        instruction: as the model read it.
        understood: what its language model said that it would do; None where it was not asked.
        changed: whether any pixel may differ from the source's.
        known: see `unknown_words`, and so the `tokenizer`.
        tokenizer: of the model.
        is_sure: a calibrated confidence says that it was understood, so what it said is not compared with known
            wordings.
    """
    warnings = []
    told = told_words(understood)
    reading = f"; it understood: {told}" if told else ""
    unknown = unknown_words(instruction, known, tokenizer)
    if understood and known is not None and not content_words(unknown):
        unknown = []
    has_words = split_words(instruction)
    if not has_words and (known is not None or not any(unicodedata.category(c) == "So" for c in instruction)):
        warnings.append(EditWarning("words", f"the instruction holds no word that the model knows{reading}"))
    elif unknown:
        warnings.append(EditWarning("words", f"the model does not know {listed(unknown)}{reading}"))
    elif understood and known is not None and not is_sure and not agrees(instruction, understood):
        warnings.append(EditWarning("understood", f"the model understood something else: {told}"))
    if not changed:
        warnings.append(EditWarning("unchanged", "the model changed nothing"))
    return warnings


def listed(words: Sequence[str]) -> str:
    """`the word "winter"`, `the words "a", "b"`: the first few in full, the others counted."""
    shown = ", ".join(f'"{word}"' for word in words[:SHOWN_WORDS])
    more = f" and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else ""
    return f"the word{'s' if len(words) > 1 else ''} {shown}{more}"


def unseen_edit(hidden: float) -> list[EditWarning]:
    """Whether much of an edit lies where nobody sees it: its share 0..1 under full transparency."""
    if hidden < MUCH_HIDDEN:
        return []
    text = f"{100 * hidden:.0f} % of the edit lies where the picture is fully transparent, so nobody sees it: "
    return [EditWarning("unseen", text + "put the picture on a background first")]


def unusual_settings(given: DrawSettings, usual: DrawSettings) -> list[EditWarning]:
    """Whether a call's numbers are far from those that the model was made for, where it draws worse pictures."""
    steps, made = given.num_inference_steps, usual.num_inference_steps
    far = [f"{steps} steps (made for {made})"] if steps > FEW_STEPS * made and made <= FEW_STEPS else []
    far += [f"{steps} steps (made for {made})"] if steps * 2 * FEW_STEPS < made else []
    for name in ("guidance_scale", "image_guidance_scale"):
        value, own = getattr(given, name), getattr(usual, name)
        if value >= (2 * own if own > 1 else 1.5):
            far.append(f"{name.replace('_', ' ')} {value:g} (made for {own:g})")
    if not far:
        return []
    told = f"the settings are far from what the model was made for: {', '.join(far)}; leave them out"
    return [EditWarning("settings", told)]


def split_words(text: str) -> list[str]:
    """Lower-case words without punctuation: `the dog's light-blue hat!` has five, an emoji none."""
    pieces = re.split(r"[\s\-/<>]+", text.lower().replace("\u2019", "'"))
    words = (re.sub(r"^[\W_]+|[\W_]+$", "", piece).removesuffix("'s") for piece in pieces)
    return [word for word in words if any(c.isalnum() for c in word)]


def agrees(instruction: str, understood: str) -> bool:
    """Whether what a model says it will do follows from the instruction, as far as its words are known.

    Only sentences of the form that this package teaches ("remove the dog at the left side", "paint the cat and the fox
    red") are compared, any other agrees. So does another thing where words describe the one meant ("the animal that can
    fly").
    """
    said, told = set(split_words(instruction)), split_words(understood)
    if told[:4] == ["make", "the", "whole", "picture"]:
        return all(_mentions_tone(said, word) for word in told[4:] if word not in GROUPS["degree"] | {"and"})
    verb, things, claim = (told or [""])[0], told[1:], []
    if verb == "remove":
        agreed = said & GROUPS["remove"]
    elif verb == "paint":
        agreed, things, claim = said, told[1:-1], told[-1:]
    elif verb == "make" and told[-1] in ("bigger", "smaller"):
        agreed, things = said & GROUPS[told[-1]], told[1:-1]
    elif verb in ("add", "replace"):
        start = max((i for i, word in enumerate(told) if word in ("a", "an")), default=len(told))
        agreed, things, claim = said & GROUPS[verb], told[1:start], told[start + 1 :]
    else:
        return True
    new = [word for word in claim if word not in GROUPS["place"]]
    given = _named(instruction, "a", "an")
    described = said & GROUPS["describing"]
    if given and not described and verb in ("add", "replace", "remove"):
        agreed = agreed and set(new) & set(given)
    objects = [word for word in things if word not in GROUPS["place"] | GROUPS["colour"]]
    same = described or (_mentions(said, objects) and _mentions(set(told), _named(instruction, "the", "both")))
    return bool(agreed and same and _mentions(said, new))


def _named(instruction: str, *articles: str) -> list[str]:
    """The nouns right after an article, as far as they are told from adjectives."""
    adjectives = {"left", "right", "new", *GROUPS["colour"], *GROUPS["bigger"], *GROUPS["smaller"]}
    words, found = split_words(instruction), []
    for i, word in enumerate(words):
        noun = next((later for later in words[i + 1 :] if later not in adjectives), None)
        beside = words[max(i - 2, 0) : i] in (["left", "of"], ["right", "of"])
        if word in articles and noun is not None and not beside:
            found.append(noun)
    return [noun for noun in found if noun not in GROUPS["place"] | GROUPS["whole"] | GROUPS["filler"]]


def _mentions(said: set[str], words: Sequence[str]) -> bool:
    return all(_forms(word) & {form for other in said for form in _forms(other)} for word in words)


def _mentions_tone(said: set[str], tone: str) -> bool:
    """Whether words hold a tone in any form (`brighten` for `brighter`: four letters tell), or one that means it."""
    stem = tone[:STEM]
    return any(word[:STEM] == stem for word in said) or bool(said & TONES.get(stem, frozenset()))


def _forms(word: str) -> set[str]:
    return {word, word.removesuffix("s"), word.removesuffix("es")}
