"""What judges are asked, and how their scores become numbers: VIEScore, and what others made of it.

The prompts are our own words for the published questions, so numbers are comparable among methods that were judged
with one rubric hash by one judge, and never with published tables.

| rubric | questions | scale | pictures | one edit's value | published average |
| --- | --- | --- | --- | --- | --- |
| viescore | success, restraint; naturalness, no artefacts | 0-10 | as they are | O = sqrt(SC PQ) | mean |
| gedit | the same | 0-10 | edited one at the source's size | O | macro mean over groups |
| insightedit | the same | 0-5 | at most 1500 px, both at the smaller size | O | not published |
| imgedit | three, by type of edit | 1-5 | as they are | mean of the three | mean per type |

Source: VIEScore (Ku et al.); GEdit-Bench of Step1X-Edit; ImgEdit-Bench; InsightEdit's data filter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from PIL import Image

from insightedit.chat.scores import Scale

INSIGHTEDIT_SIDE = 1500  # pixels

_ANSWER = """
Judge what you see, not what you expect. Answer with one JSON object and nothing else:
{"score": [SCORES], "reasoning": "one or two sentences"}"""

_SC = """A program was given a picture and an instruction, and had to edit the picture. You see two pictures: the \
first is the one it was given, the second is what it made. If the program failed, the two may be the same.

The instruction: {instruction}

Give two numbers from 0 to HIGH.
1. success: does the second picture do what the instruction asks? 0: nothing of it is done. HIGH: all of it is done, \
exactly as asked.
2. restraint: was everything kept that the instruction does not ask to change? 0: the second picture has nothing to \
do with the first. HIGH: it differs from the first only where it has to.
A beautiful picture that does not do what was asked has no success.
""" + _ANSWER.replace("SCORES", "success, restraint")

_PQ = """A program made the picture that you see. Say how good it is as a picture; what it shows does not matter.

Give two numbers from 0 to HIGH.
1. naturalness: do light, shadows, perspective, distances and materials fit together? 0: the scene is not believable \
at all. HIGH: it looks like a photograph or an artwork of one piece.
2. cleanness: is it free of faults such as distortion, blur, seams, noise, stray marks, watermarks, deformed faces or \
hands, things that melt into each other? 0: faults all over. HIGH: none can be found.
""" + _ANSWER.replace("SCORES", "naturalness, cleanness")

_IMGEDIT = """A program was given a picture and an instruction, and had to edit the picture. You see two pictures: \
the first is the one it was given, the second is what it made. If the program failed, the two may be the same.

The instruction: {instruction}
It asks to ASKED.

Give three numbers from 1 to 5.
1. compliance: COMPLIANCE 1: not done, or something else was done. 2: a small part, or the wrong thing was touched. \
3: the main point is done, with clear gaps. 4: done but for small deviations. 5: exactly as asked.
2. seamlessness: SEAMLESSNESS 1: obviously pasted, broken or torn. 2: faults catch the eye. 3: believable at a \
glance. 4: faults only on a close look. 5: no trace of editing.
3. integrity: INTEGRITY 1: wrong or destroyed. 2: heavy errors. 3: some errors. 4: small errors. 5: consistent down \
to the details.
Neither of the last two may be higher than compliance.
""" + _ANSWER.replace("SCORES", "compliance, seamlessness, integrity")

# type of edit -> what is asked, and what to look at for compliance, seamlessness and integrity
IMGEDIT_TYPES: dict[str, tuple[str, str, str, str]] = {
    "add": (
        "add something",
        "Is the new thing there, of the right kind, number, place and look, and nothing else new?",
        "Does the new thing fit in style, sharpness, light and edges?",
        "Are its size, perspective, contact and shadow right, and is what was there before unharmed?",
    ),
    "adjust": (
        "change an attribute of something, such as its colour, material or shape",
        "Has the right thing the right new attribute, and kept its others?",
        "Does the change follow the thing's outline, without spill or edges?",
        "Are texture, shading and reflections right for the new attribute, and is the rest unharmed?",
    ),
    "replace": (
        "put something in place of something else",
        "Is the old thing gone, and the right new one in its place?",
        "Does the new thing fit in style, sharpness, light and edges, without remains of the old one?",
        "Are its size, perspective, contact and shadow right, and is the rest unharmed?",
    ),
    "remove": (
        "take something away",
        "Is exactly what was named gone, all of it, and nothing else?",
        "Is the place filled so that no outline, smear or ghost is left?",
        "Does the filling continue lines, textures, shadows and reflections rightly, and is the rest unharmed?",
    ),
    "background": (
        "change the background",
        "Is the background the one that was asked for, behind the same foreground?",
        "Is the outline of the foreground clean, down to hair and gaps?",
        "Do light, shadow and perspective of the foreground fit the new place, and is it unharmed?",
    ),
    "style": (
        "show the picture in another style",
        "Is it the style that was asked for, and a strong enough one?",
        "Is the style the same all over, without patches that kept the old one?",
        "Are the objects, their arrangement and what makes them recognisable still there?",
    ),
    "action": (
        "change a pose, a movement or an expression",
        "Does the right person, animal or thing do what was asked?",
        "Does the moved part join its surroundings without tears, doubles or blur?",
        "Is it still the same individual, with sound anatomy, clothes and setting?",
    ),
    "extract": (
        "cut something out and show it alone",
        "Is exactly what was named shown, all of it, and nothing else but a plain ground?",
        "Is its outline clean, without a halo or bits of the old surroundings?",
        "Does it look the same as in the source, in shape, colours and details?",
    ),
    "compose": (
        "make several changes at once",
        "Is every one of the changes done, on the right things?",
        "Does every changed part fit in style, sharpness, light and edges?",
        "Do the changed parts agree with each other and with physics, and is the rest unharmed?",
    ),
}


@dataclass(frozen=True)
class RubricQuestion:
    """One call of the judge."""

    part: str  # what it gives, e.g. "SC"
    prompt: str  # with `{instruction}` where the instruction goes, if it is shown
    scale: Scale  # of the reply
    sees_source: bool = True  # whether the judge sees source and edited picture, or the edited one only

    def ask(self, instruction: str) -> str:
        """The prompt for an edit; ValueError if the instruction is empty but shown."""
        if "{instruction}" in self.prompt and not instruction.strip():
            raise ValueError("the instruction is empty: a judge of edits needs to know what was asked.")
        return self.prompt.replace("{instruction}", " ".join(instruction.split()))


@dataclass(frozen=True)
class Rubric:
    """Questions and what is made of their scores."""

    name: str  # as on the command line
    questions: Mapping[str, tuple[RubricQuestion, ...]]  # by type of edit; "" for edits of any type
    columns: tuple[str, ...]  # what one edit gets, the main number first
    pictures: str = "as they are"  # or "edited at the source's size", or "both at the smaller size"

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over all prompts, scales and rules."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8")).hexdigest()[:16]

    def questions_for(self, category: str) -> tuple[RubricQuestion, ...]:
        """The questions about an edit of this type; ValueError if the rubric asks by type and has no such type."""
        if "" in self.questions:
            return self.questions[""]
        if category not in self.questions:
            raise ValueError(
                f"{self.name} has no questions about edits of type {category!r}; it has {', '.join(self.questions)}."
            )
        return self.questions[category]

    def values(self, scores: Mapping[str, Sequence[float] | None]) -> dict[str, float | None]:
        """Columns of one edit: scores of each part's question, None if missing -> numbers, None where they need those.

        SC and PQ are the smaller of their two scores, O = sqrt(SC PQ); ImgEdit's mean has two decimals.
        """
        if self.columns == ("mean",):
            (three,) = scores.values()
            return {"mean": None if three is None else round(math.fsum(three) / len(three), 2)}
        lowest = {part: None if found is None else min(found) for part, found in scores.items()}
        sc, pq = lowest["SC"], lowest["PQ"]
        return {"O": None if sc is None or pq is None else math.sqrt(sc * pq), "SC": sc, "PQ": pq}

    def prepare(self, source: Image.Image, edited: Image.Image) -> tuple[Image.Image, Image.Image]:
        """Source and edited picture, RGB, at the sizes at which this rubric shows them."""
        if self.pictures == "edited at the source's size":
            return source, _resize(edited, source.size, Image.Resampling.BICUBIC)
        if self.pictures == "both at the smaller size":
            sizes = [limited_size(picture.size, INSIGHTEDIT_SIDE) for picture in (source, edited)]
            size = min(sizes, key=lambda side: side[0] * side[1])
            return _resize(source, size, Image.Resampling.LANCZOS), _resize(edited, size, Image.Resampling.LANCZOS)
        return source, edited


def _resize(picture: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, method)


def limited_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) scaled down so that neither is above `side`."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _viescore(name: str, high: int, pictures: str) -> Rubric:
    prompts = [prompt.replace("HIGH", str(high)) for prompt in (_SC, _PQ)]
    sc = RubricQuestion("SC", prompts[0], Scale(("success", "restraint"), 0, high))
    pq = RubricQuestion("PQ", prompts[1], Scale(("naturalness", "cleanness"), 0, high), sees_source=False)
    return Rubric(name, {"": (sc, pq)}, ("O", "SC", "PQ"), pictures)


def _imgedit() -> Rubric:
    scale = Scale(("compliance", "seamlessness", "integrity"), 1, 5)
    questions = {}
    for name, words in IMGEDIT_TYPES.items():
        prompt = _IMGEDIT
        for mark, text in zip(("ASKED", "COMPLIANCE", "SEAMLESSNESS", "INTEGRITY"), words, strict=True):
            prompt = prompt.replace(mark, text)
        questions[name] = (RubricQuestion("mean", prompt, scale),)
    return Rubric("imgedit", questions, ("mean",))


RUBRICS: dict[str, Rubric] = {
    rubric.name: rubric
    for rubric in (
        _viescore("viescore", 10, "as they are"),
        _viescore("gedit", 10, "edited at the source's size"),
        _viescore("insightedit", 5, "both at the smaller size"),
        _imgedit(),
    )
}
