"""Finds, cuts out and paints the things of scenes: exactly, or with the faults that models have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from data_recipes.backends.base import InpaintRequest, Truth
from data_recipes.backends.windows import box_of
from data_recipes.oracle.words import read_phrase
from data_recipes.oracle.world import Oracle, World, world_of
from data_recipes.steps.masks import box_overlap
from insightedit.detection import XYXY, Detection
from insightedit.scenes.scene import SLOT_CENTRES, SceneObject

SCORE = 0.9  # of what is there
WEAK_SCORE = 0.2  # of what a noisy detector imagines
MIN_OVERLAP = 0.3  # of a box with a thing's own, for the thing to be cut out
COVERED = 0.5  # share of a thing's pixels in the mask from which on it is painted over
MIN_HEIGHT = 6  # pixels, of a new thing that has to fit into a small mask


@dataclass
class OracleDetector(Oracle):
    """Knows where everything is; settings make it worse."""

    jitter: float = 0.0  # boxes are off by up to this share of their sides
    miss: float = 0.0  # share of the things that are not found
    invent: float = 0.0  # share of the phrases for which a weak box is imagined somewhere

    backend = "detector"

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """See `backends.base`. A phrase that means several things finds all of them."""
        self.calls += len(pictures)
        return [self._one(world_of(truth), wanted) for _, wanted, truth in zip(pictures, phrases, truths, strict=True)]

    def _one(self, world: World, phrases: Sequence[str]) -> list[Detection]:
        found = []
        for phrase in phrases:
            rng = world.rng("detect", phrase)
            for number in world.find(phrase):
                mask = world.masks[number]
                if not mask.any() or rng.random() < self.miss:
                    continue
                score = SCORE - 0.1 * rng.random()
                box = box_of(mask).xyxy
                if self.jitter:
                    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
                    shaken = np.array(box) + (rng.random(4) * 2 - 1) * self.jitter * sides
                    left, top, right, bottom = np.clip(shaken, 0, world.size).tolist()
                    box = left, top, max(right, left + 1), max(bottom, top + 1)
                found.append(Detection(phrase, box, score))
            if rng.random() < self.invent:
                left, top = rng.random(2) * world.size * 0.7
                side = world.size * 0.25
                found.append(Detection(phrase, (left, top, left + side, top + side), WEAK_SCORE))
        return sorted(found, key=lambda one: -one.score)


@dataclass
class OracleSegmenter(Oracle):
    """Knows which pixels show what; settings make it worse."""

    grow: int = 0  # pixels that masks are too large by; below 0: too small
    speckle: float = 0.0  # share of the pixels of a mask that are missing from it

    backend = "segmenter"

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[XYXY]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """See `backends.base`. A box that holds nothing gives an empty mask."""
        self.calls += len(pictures)
        return [
            [self._one(world_of(truth), box) for box in wanted]
            for _, wanted, truth in zip(pictures, boxes, truths, strict=True)
        ]

    def _one(self, world: World, box: XYXY) -> np.ndarray:
        overlaps = [box_overlap(box, box_of(mask).xyxy) if mask.any() else 0.0 for mask in world.masks]
        if max(overlaps, default=0.0) < MIN_OVERLAP:
            return np.zeros((world.size, world.size), dtype=bool)
        mask = world.masks[int(np.argmax(overlaps))].copy()
        if self.grow:
            change = ndimage.binary_dilation if self.grow > 0 else ndimage.binary_erosion
            mask = change(mask, iterations=abs(self.grow))
        if self.speckle:
            mask[world.rng("segment", box).random(mask.shape) < self.speckle] = False
        return mask


@dataclass
class OracleInpainter(Oracle):
    """Draws exactly what would be seen; a mask that is too small leaves the rest of the old thing standing.

    A new thing stands where the old one stood, as high as it, or less high where it would not fit into the mask.
    """

    def paint(self, paintings: Sequence[InpaintRequest]) -> list[np.ndarray]:
        """See `backends.base`; ValueError for other sizes than the scene's, and what scenes do not have."""
        self.calls += len(paintings)
        return [self._one(painting) for painting in paintings]

    def _one(self, painting: InpaintRequest) -> np.ndarray:
        world, mask = world_of(painting.truth), painting.mask
        for name, (height, width) in (("picture", painting.picture.shape[:2]), ("mask", mask.shape)):
            if (height, width) != (world.size, world.size):
                raise ValueError(
                    f"the oracle got a {name} of {width} x {height} px for a scene of {world.size} x {world.size} px: "
                    "give it the scene's own size."
                )
        if not mask.any():
            return painting.picture.copy()
        new = str(painting.about.get("class_target") or painting.prompt)
        numbers = covered(world, mask, str(painting.about.get("class_origin") or ""))
        drawn = _with_new(world, numbers, mask, new) if new else world.draw(world.without(*numbers))
        return np.where(mask[..., None], drawn, painting.picture)


def covered(world: World, mask: np.ndarray, words: str = "") -> tuple[int, ...]:
    """Indices of the things that a mask (H, W) bool is about.

    If `words`, where the step knows them, mean one thing, it is that one; else all things of which at least half of the
    visible pixels lie in the mask, those with most pixels first.
    """
    named = world.find(words) if words else ()
    if len(named) == 1:
        return named
    inside = [(np.count_nonzero(own & mask), np.count_nonzero(own)) for own in world.masks]
    numbers = [i for i, (shared, whole) in enumerate(inside) if whole and shared >= COVERED * whole]
    return tuple(sorted(numbers, key=lambda number: -inside[number][0]))


def _with_new(world: World, numbers: tuple[int, ...], mask: np.ndarray, words: str) -> np.ndarray:
    """(H, W, 3) uint8: the scene with the thing that words name, as high as it fits into the mask."""
    phrase = read_phrase(words)
    if phrase is None or phrase.name is None:
        raise ValueError(
            f"the oracle cannot draw {words!r}: it knows the things of data_recipes.scenes.CLASSES, such as a red dog; "
            "let the oracle chat propose them."
        )
    if numbers:
        old = world.scene.objects[numbers[0]]
    else:  # painted where nothing was: at the mask's middle, as high as the mask
        left, top, right, bottom = box_of(mask).xyxy
        x, y = (round(500 * both / world.size) for both in (left + right, top + bottom))
        slot = int(np.argmin([(x - cx) ** 2 + (y - cy) ** 2 for cx, cy in SLOT_CENTRES]))
        old = SceneObject("", slot, x, y, round(1000 * (bottom - top) / world.size))
    drawn = world.photo
    for height in range(old.height * world.size // 1000, 0, -1):
        thousandths = -(-height * 1000 // world.size)
        new = SceneObject(phrase.name, old.slot, old.x, old.y, thousandths, colour=phrase.colour)
        added = replace(world.scene, objects=(*world.scene.objects, new))
        drawn = world.draw(world.swapped(numbers[0], new) if numbers else added)
        if height <= MIN_HEIGHT or not ((drawn != world.photo).any(axis=-1) & ~mask).any():
            break
    return drawn
