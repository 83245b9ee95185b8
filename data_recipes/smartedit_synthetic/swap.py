"""SmartEdit's pairs: a thing goes (y1), another comes in its place (y3), and is made to look as if it belonged (y4).

| pair | source | target | instruction |
| --- | --- | --- | --- |
| add | y1 | x1, the photo | "Add a cat to the right of the cat" |
| replace | x1 | y4 | "Replace the smaller cat with a rabbit" |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_recipes.backends.base import CompositeRequest, InpaintRequest
from data_recipes.backends.windows import Window, box_of
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, Outcome
from data_recipes.smartedit_synthetic.donor import NOTE
from data_recipes.steps.cutouts import CutOut
from data_recipes.steps.pairs import grown
from data_recipes.steps.places import article, place_words
from data_recipes.steps.settings import check_share


@dataclass(frozen=True)
class Swap(DataclassStep):
    """Inpaints a thing away, resizes and pastes the second photo's thing there, and harmonises.

    The thing that comes covers a box of the same area as the one that goes and stands on the same line; where it would
    reach out of the picture it is moved inwards. All rules about sizes are ours: the paper says "resize and filter".

    Attributes:
        grow: how far the inpainted area reaches beyond the mask, as a share of the picture's longer side.
        min_scale: least change of the coming thing's size, as a factor of its sides.
        max_scale: largest; beyond it gets blurred.
    """

    grow: float = 0.02
    min_scale: float = 0.2
    max_scale: float = 2.0

    name = "swap"
    needs = ("inpainter", "harmoniser")

    def __post_init__(self) -> None:
        check_share(self.name, "grow", self.grow, most=0.5, of="a side")
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"steps.{self.name}.min_scale is {self.min_scale} and max_scale {self.max_scale}: the first has to be "
                "above 0 and not above the second."
            )

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Two pairs of each; refused: no thing of the photo can be exchanged for the second photo's."""
        jobs = [self._job(record, context) for record in records]
        good = [job for job in jobs if isinstance(job, _Job)]
        y1 = context.backend("inpainter").paint([job.painting for job in good]) if good else []
        pastings = [job.pasting(empty) for job, empty in zip(good, y1, strict=True)]
        y4 = context.backend("harmoniser").harmonise(pastings) if good else []
        pairs = iter(
            job.pairs(empty, pasting.mask, final)
            for job, empty, pasting, final in zip(good, y1, pastings, y4, strict=True)
        )
        return [next(pairs) if isinstance(job, _Job) else [job] for job in jobs]

    def _job(self, record: Record, context: Context) -> _Job | Rejected:
        if record.image is None or len(record.references) != 2 or NOTE not in record.notes:
            return Rejected(record.key, self.name, "has no thing of a second photo")
        cut = CutOut.from_pictures(record.references)
        rng = context.rng(record)
        order = [int(number) for number in rng.permutation(len(record.things))]
        seed = int(rng.integers(1 << 31))
        tried = []
        for number in order:
            mask = record.things[number].mask
            if mask is None:
                continue
            where = placed(cut.mask.shape, mask)
            scale = where.height / cut.mask.shape[0]
            if self.min_scale <= scale <= self.max_scale:
                return _Job(record, number, cut, where, grown(mask, self.grow), seed)
            tried.append(f"{scale:.2f}")
        told = f"would be scaled by {', '.join(tried)}" if tried else "the photo has no masks"
        return Rejected(record.key, self.name, "nothing to exchange", told)


def placed(size: Sequence[int], mask: np.ndarray) -> Window:
    """Where a thing of a size (h, w) stands in place of another one.

    Args:
        size: height and width of its box.
        mask: (H, W) bool, of the thing that goes.

    Returns:
        A box of the same area as the old one's, its foot on the same line, within the picture.
    """
    old, (height, width) = box_of(mask), mask.shape
    scale = math.sqrt(old.height * old.width / (size[0] * size[1]))
    scale = min(scale, height / size[0], width / size[1])
    tall, wide = (max(1, round(side * scale)) for side in size)
    top = min(max(0, old.top + old.height - tall), height - tall)
    left = min(max(0, old.left + (old.width - wide) // 2), width - wide)
    return Window(top, left, tall, wide)


@dataclass(frozen=True)
class _Job:
    """One photo, which of its things goes, and what comes where."""

    record: Record
    number: int
    cut: CutOut
    where: Window
    hole: np.ndarray
    seed: int

    @property
    def thing(self) -> ObjectAnnotation:
        return self.record.things[self.number]

    @property
    def words(self) -> str:
        return self.thing.caption or self.thing.name

    @property
    def painting(self) -> InpaintRequest:
        assert self.record.image is not None
        about = {"class_origin": self.words, "class_target": ""}
        return InpaintRequest(self.record.image, self.hole, seed=self.seed, truth=self.record.truth, about=about)

    def pasting(self, empty: np.ndarray) -> CompositeRequest:
        """y3: the new thing in the emptied photo (H, W, 3) uint8."""
        picture, inside = self.cut.pasted(empty, self.where)
        return CompositeRequest(picture, inside, empty, self.seed, self.record.truth)

    def pairs(self, empty: np.ndarray, pasted: np.ndarray, final: np.ndarray) -> list[Outcome]:
        """Both pairs from y1, the pasted thing's mask, and y4."""
        record, thing = self.record, self.thing
        assert thing.mask is not None
        new = str(record.notes[NOTE]["name"])
        shared = record.but(references=(), notes={**record.notes, "object": self.number})
        return [
            shared.but(
                key=f"{record.key}/add",
                task="add",
                source=empty,
                target=record.image,
                mask=self.hole,
                class_target=self.words,
                detailed_target=thing.detailed_caption,
            ),
            shared.but(
                key=f"{record.key}/replace",
                task="replace",
                source=record.image,
                target=final,
                mask=self.hole | pasted,
                class_origin=self.words,
                class_target=new,
                detailed_origin=thing.detailed_caption,
                detailed_target=f"{article(new)} {place_words(thing.mask)}",
            ),
        ]
