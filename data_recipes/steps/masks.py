"""AdvancedEdit's second step: a mask for each object, by a detector and a segmenter (Grounded-SAM)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_recipes.runner.records import ObjectAnnotation, Record
from data_recipes.runner.steps import Context, Outcome, Step, at_least, share
from insightedit.detection import Detection

SAME_BOX = 0.9  # overlap from which on two captions found one thing


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
