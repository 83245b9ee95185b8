"""MIGE's subject replacement: "replace the dog with <imagehere>", from pairs that replace something already.

| the paper | here |
| --- | --- |
| filtered from existing editing data | `replacements`: by task, or by how the instruction reads |
| the subject segmented by Grounded SAM | `subject_masks`: in the target, where the picture has changed |
| multimodal instructions | `marks`: the words for what came become `<imagehere>`, by rule; beside it a template |
| virtual try-on data by IDM-VTON | pairs with references in their instructions pass untouched |
| about 110k samples | as many as the source has; the step `quality` where the config names it |

The reference is cut out of the target itself, on white, in the middle of a square; the paper does not say how.

Source: MIGE, section 3.3.1 and figure 5b.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_recipes.backends.windows import MARGIN, cut_out
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, EachRecord, Outcome, Step, share
from data_recipes.steps.asking import bare
from data_recipes.steps.masks import area_fault, check_areas
from data_recipes.steps.quality import Quality, changed_pixels
from data_recipes.steps.wording import SUBJECT_TEMPLATES, is_finished, mark_words

ABOUT = "Replacements of an editing data set, with what comes shown by a picture in the instruction (MIGE)."

FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?:please )?(?:replace|swap|exchange|substitute) (?P<old>.+?) (?:with|by|for) (?P<new>.+)",
        r"(?:please )?(?:turn|transform|make|convert) (?P<old>.+?) into (?P<new>.+)",
        r"(?:please )?change (?P<old>.+?) (?:in)?to (?P<new>.+)",
        r"(?:please )?put (?P<new>.+?) in (?:the )?place of (?P<old>.+)",
    )
)
WHOLE = ("it", "this", "photo", "picture", "image", "scene", "background")  # what styles and places are changed of


def read_replacement(text: str) -> tuple[str, str] | None:
    """What goes and what comes: "swap the dog for a fox" -> ("dog", "fox").

    None if it is no such instruction: it changes the whole picture, or the thing itself ("a bigger one").
    """
    words = " ".join(text.split()).strip(" .!?")
    found = next((match for form in FORMS if (match := form.fullmatch(words)) is not None), None)
    if found is None:
        return None
    old, new = bare(found["old"]), bare(found["new"])
    is_same = re.fullmatch(r"(?:.+ )?ones?", new, re.IGNORECASE) is not None
    return None if is_same or old.lower() in WHOLE else (old, new)


@dataclass(frozen=True)
class Replacements(EachRecord):
    """Lets replacements pass: those that are called so, and those whose instruction reads so.

    Pairs with references in their instructions pass untouched (try-on data).
    """

    name = "replacements"

    def one(self, record: Record, context: Context) -> Outcome:
        """Refused: no pair, no source, another task, what came has no name."""
        if record.target is None or record.source is None:
            return self.reject(record, "is no pair of source and target")
        if is_finished(record):
            return record
        if record.references:
            return self.reject(record, "has references that its instructions do not name")
        read = next((found for text in record.wordings if (found := read_replacement(text))), None)
        if record.task != "replace" and (record.task != "edit" or read is None):
            return self.reject(record, "is no replacement", record.task)
        old, new = read or ("", "")
        named = record.but(
            task="replace", class_origin=record.class_origin or old, class_target=record.class_target or new
        )
        if not named.class_origin or not named.class_target:
            return self.reject(record, "does not name what goes and what comes", " / ".join(record.wordings))
        return named


@dataclass(frozen=True)
class SubjectMasks(Step):
    """Finds what came in the target (Grounding DINO + SAM), and cuts it out as the reference."""

    box_threshold: float = share(0.4)  # least score of a detection; ours, as AdvancedEdit has it
    min_area: float = share(0.005)  # least share of the picture that the subject covers; ours
    max_area: float = share(0.6)  # largest; ours
    # least share of the subject's pixels that the edit has changed, or it was there before; ours
    min_changed: float = share(0.5)
    tolerance: int = 12  # grey levels, in any channel, up to which two pixels count as the same; ours
    margin: float = share(MARGIN)  # of white around the reference, as a share of its longer side; ours

    name = "subject_masks"
    needs = ("detector", "segmenter")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_areas(self.name, self.min_area, self.max_area)

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with a reference; refused: what came is not found, too small or large, or was there before."""
        return self.batched(
            records, lambda record: record if is_finished(record) else None, lambda left: self._masked(left, context)
        )

    def _masked(self, records: Sequence[Record], context: Context) -> Iterator[Outcome]:
        pictures = [record.target for record in records]
        truths = [{**record.truth, "after": True} if record.truth else {} for record in records]
        phrases = [[bare(record.class_target)] for record in records]
        found = context.backend("detector").detect(pictures, phrases, truths)
        boxes = [[tuple(one.box) for one in some if one.score >= self.box_threshold] for some in found]
        masks = context.backend("segmenter").segment(pictures, boxes, truths)
        for record, cut in zip(records, masks, strict=True):
            assert record.source is not None and record.target is not None
            changed = changed_pixels(record.source, record.target, self.tolerance)
            faults = [self._fault(mask, changed) for mask in cut]
            if "" in faults:  # the first, by the scores of the boxes, that is what came
                mask = cut[faults.index("")]
                reference = cut_out(record.target, mask, self.margin)
                yield record.but(references=(reference,), mask=mask if record.mask is None else record.mask)
            else:
                yield self.reject(record, (*faults, "what came is not found")[0], record.class_target)

    def _fault(self, mask: np.ndarray, changed: np.ndarray) -> str:
        if fault := area_fault(mask, self.min_area, self.max_area):
            return f"subject {fault}"
        is_new = np.count_nonzero(mask & changed) >= self.min_changed * np.count_nonzero(mask)
        return "" if is_new else "subject was there before"


@dataclass(frozen=True)
class Marks(EachRecord):
    """Puts `<imagehere>` in place of the words for what came, by rule; a template of ours stands beside."""

    name = "marks"

    def one(self, record: Record, context: Context) -> Outcome:
        """The record with wordings in which its picture stands; those that do not name what came are left out."""
        if is_finished(record):
            return record
        if len(record.references) != 1:
            return self.reject(record, "has no reference")
        names = sorted({record.class_target, record.detailed_target} - {""}, key=len, reverse=True)
        wordings = {"template": (SUBJECT_TEMPLATES["replace"].format(origin=bare(record.class_origin)),)}
        for kind, texts in record.instructions.items():
            found = list(wordings.get(kind, ()))
            for text in texts:  # the mark stands in place of the longest words for what came
                marked = (mark_words(text, words.rstrip(".")) for words in names)
                found += [next((one for one in marked if one != text), "")]
            if any(found):
                wordings[kind] = tuple(dict.fromkeys(text for text in found if text))
        return record.but(instructions=wordings)


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(settings, Replacements, SubjectMasks, Marks, Quality, optional=[Quality])


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("mige_replacement")
