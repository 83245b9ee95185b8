"""AdvancedEdit's second step: a mask for each object, by a detector and a segmenter (Grounded-SAM).

And where things stand, in words, by their masks: places in the picture, and things among others of their kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from data_recipes.backends.windows import box_of
from data_recipes.runner.records import ObjectAnnotation, Record
from data_recipes.runner.steps import Context, Outcome, Step, at_least, share
from data_recipes.steps.asking import bare
from insightedit.detection import Detection

SAME_BOX = 0.9  # overlap from which on two captions found one thing
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
APART = 0.1  # share of the picture's side by which centres have to differ to be told apart by sides
LARGER = 1.5  # ratio of two areas from which on one is the bigger one


@dataclass(frozen=True)
class Masks(Step):
    """One box and one mask for each object; objects without a good one are left out."""

    box_threshold: float = share(0.4)  # least score of a detection; published, with 0.3 for its words
    min_area: float = share(0.005)  # least share of the picture that a mask covers; ours
    max_area: float = share(0.5)  # largest; ours
    max_overlap: float = share(0.7)  # largest intersection over union of two masks; the lower score goes; ours
    # largest share of the smaller of two masks that lies within the other; the one with the lower score goes; ours
    max_contained: float = share(0.9)
    max_things: int = at_least(8)  # objects that are kept, the ones with the best scores; ours

    name = "masks"
    needs = ("detector", "segmenter")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_areas(self.name, self.min_area, self.max_area)

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records whose things have boxes, masks and scores; refused: nothing found, no mask is usable, no photo."""
        return self.batched(
            records,
            lambda record: self.reject(record, "has no photo") if record.image is None else None,
            lambda seen: self._masked(seen, context),
        )

    def _masked(self, records: Sequence[Record], context: Context) -> Iterator[Outcome]:
        pictures, truths = [record.image for record in records], [record.truth for record in records]
        phrases = [[thing.words for thing in record.things] for record in records]
        detected = context.backend("detector").detect(pictures, phrases, truths)
        located = [self._located(record, found) for record, found in zip(records, detected, strict=True)]
        boxes = [[thing.box for thing in things] for things, _ in located]
        masks = context.backend("segmenter").segment(pictures, boxes, truths)
        for record, (things, lost), cut in zip(records, located, masks, strict=True):
            kept: list[ObjectAnnotation] = []
            for thing, mask in zip(things, cut, strict=True):
                if reason := self._fault(mask, [one.pixels for one in kept]):
                    lost[reason] += 1
                else:
                    kept.append(replace(thing, mask=mask))
            if not kept:
                told = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()) if count)
                yield self.reject(record, "no mask is usable" if things else "nothing found", told)
                continue
            order = {thing.words: number for number, thing in enumerate(record.things)}
            kept.sort(key=lambda thing: order[thing.words])
            notes = {**record.notes, "objects_left_out": {k: v for k, v in sorted(lost.items()) if v}}
            yield record.but(things=tuple(kept), notes=notes)

    def _located(self, record: Record, found: Sequence[Detection]) -> tuple[list[ObjectAnnotation], Counter[str]]:
        """Things with a box of their own, best scores first, and why others have none."""
        lost: Counter[str] = Counter()
        good = sorted((one for one in found if one.score >= self.box_threshold), key=lambda one: -one.score)
        weak = {one.phrase for one in found}
        named = {one.phrase for one in good}
        taken: list[ObjectAnnotation] = []
        open_things = {thing.words: thing for thing in record.things}
        for one in good:
            is_taken = any(box_overlap(one.box, thing.box) >= SAME_BOX for thing in taken if thing.box)
            if one.phrase in open_things and not is_taken:
                taken.append(replace(open_things.pop(one.phrase), box=tuple(one.box), score=float(one.score)))
        for words in open_things:
            lost["box is another's" if words in named else "low score" if words in weak else "not found"] += 1
        lost["beyond max_things"] += max(0, len(taken) - self.max_things)
        return taken[: self.max_things], lost

    def _fault(self, mask: np.ndarray, others: Sequence[np.ndarray]) -> str:
        """Why a mask is not taken beside those with better scores; "" if it is."""
        area = np.count_nonzero(mask)
        if fault := area_fault(mask, self.min_area, self.max_area):
            return f"mask {fault}"
        for other in others:
            shared = np.count_nonzero(mask & other)
            whole = np.count_nonzero(other)
            if shared > self.max_overlap * (area + whole - shared):
                return "masks overlap"
            if shared > self.max_contained * min(area, whole):
                return "mask lies within another"
        return ""


def check_areas(step: str, min_area: float, max_area: float) -> None:
    """Refuse bounds that no mask's area lies between."""
    if min_area > max_area:
        raise ValueError(
            f"steps.{step}.min_area is {min_area} and max_area {max_area}: no mask is both; make min_area the smaller "
            "one."
        )


def area_fault(mask: np.ndarray, min_area: float, max_area: float) -> str:
    """Why a (H, W) bool mask is of the wrong size, bounds as shares of the picture; "" if it is not."""
    area = np.count_nonzero(mask)
    if area < max(1.0, min_area * mask.size):
        return "is too small"
    return "is too large" if area > max_area * mask.size else ""


def box_overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes xyxy."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(0.0, width) * max(0.0, height)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if union > 0 else 0.0


def article(noun: str) -> str:
    """`a dog`, `an apple`; without the article that it may have."""
    words = bare(noun)
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Across and down, as shares of the picture, of the middle of a mask's box; (H, W) bool, not empty."""
    box, (height, width) = box_of(mask), mask.shape
    return (2 * box.left + box.width) / 2 / width, (2 * box.top + box.height) / 2 / height


def place_words(mask: np.ndarray) -> str:
    """In which ninth of the picture: `at the top left`, `at the left side`, `in the middle`."""
    across, down = (min(2, int(share * 3)) for share in centre(mask))
    row, column = ROWS[down], COLUMNS[across]
    if row and column:
        return f"at the {row} {column}"
    if row:
        return f"at the {row}"
    return f"at the {column} side" if column else "in the middle"


def told_apart(things: Sequence[ObjectAnnotation], number: int) -> tuple[str, ...]:
    """What thing `number` is among others of its name, by masks: "the left dog", "the smaller dog".

    All that is true and clear; nothing where it is the only one, or neither side nor size tells them apart.
    """
    name = things[number].name
    same = [i for i, thing in enumerate(things) if thing.mask is not None and thing.name.lower() == name.lower()]
    if not 2 <= len(same) <= 3 or number not in same:
        return ()
    found = []
    across = sorted(same, key=lambda i: centre(things[i].pixels)[0])
    places = [centre(things[i].pixels)[0] for i in across]
    if all(b - a >= APART for a, b in pairwise(places)):
        sides = ("left", "right") if len(same) == 2 else ("left", "middle", "right")
        found.append(f"the {sides[across.index(number)]} {name}")
    if len(same) == 2:
        own, other = (int(things[i].pixels.sum()) for i in (number, sum(same) - number))
        if max(own, other) >= LARGER * min(own, other):
            found.append(f"the {'bigger' if own > other else 'smaller'} {name}")
    return tuple(found)


def beside(mask: np.ndarray, things: Sequence[ObjectAnnotation]) -> str:
    """Where a mask (H, W) bool is from the nearest of other things: `to the left of the cat`, `above the table`.

    "" where there is none, or where the side is not clear.
    """
    x, y = centre(mask)
    known = [
        (abs(x - a) + abs(y - b), bare(thing.words), x - a, y - b)
        for thing in things
        if thing.mask is not None
        for a, b in [centre(thing.mask)]
    ]
    if not known:
        return ""
    _, words, right, down = min(known)
    if max(abs(right), abs(down)) < APART:
        return ""
    if abs(right) >= abs(down):
        return f"to the {'right' if right > 0 else 'left'} of the {words}"
    return f"{'below' if down > 0 else 'above'} the {words}"
