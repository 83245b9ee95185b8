"""Finds and cuts out the things of scenes, exactly or with the faults that models have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_recipes.backends.base import Truth
from data_recipes.oracle.world import Box, Oracle, World, box_of, world_of
from data_recipes.steps.masks import box_overlap
from insightedit.detection import Detection

SCORE = 0.9  # of what is there
WEAK_SCORE = 0.2  # of what a noisy detector imagines
MIN_OVERLAP = 0.3  # of a box with a thing's own, for the thing to be cut out


@dataclass
class OracleDetector(Oracle):
    """Knows where everything is; settings make it worse.

    Attributes:
        jitter: boxes are off by up to this share of their sides.
        miss: share of the things that are not found.
        invent: share of the phrases for which a weak box is imagined somewhere.
    """

    jitter: float = 0.0
    miss: float = 0.0
    invent: float = 0.0

    backend = "detector"

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """See `backends.base.Detector`. A phrase that means several things finds all of them."""
        self.calls += len(pictures)
        return [self._one(world_of(truth), wanted) for _, wanted, truth in zip(pictures, phrases, truths, strict=True)]

    def _one(self, world: World, phrases: Sequence[str]) -> list[Detection]:
        found = []
        for phrase in phrases:
            rng = world.rng("detect", phrase)
            for number in world.find(phrase):
                box = box_of(world.masks[number])
                if box is None or rng.random() < self.miss:
                    continue
                score = SCORE - 0.1 * rng.random()
                found.append(Detection(phrase, self._shaken(box, rng, world.size), score))
            if rng.random() < self.invent:
                left, top = rng.random(2) * world.size * 0.7
                side = world.size * 0.25
                found.append(Detection(phrase, (left, top, left + side, top + side), WEAK_SCORE))
        return sorted(found, key=lambda one: -one.score)

    def _shaken(self, box: Box, rng: np.random.Generator, size: int) -> Box:
        if not self.jitter:
            return box
        width, height = box[2] - box[0], box[3] - box[1]
        shift = (rng.random(4) * 2 - 1) * self.jitter * np.array([width, height, width, height])
        left, top, right, bottom = np.clip(np.array(box) + shift, 0, size).tolist()
        return left, top, max(right, left + 1), max(bottom, top + 1)


@dataclass
class OracleSegmenter(Oracle):
    """Knows which pixels show what; settings make it worse.

    Attributes:
        grow: pixels that masks are too large by; below 0: too small.
        speckle: share of the pixels of a mask that are missing from it.
    """

    grow: int = 0
    speckle: float = 0.0

    backend = "segmenter"

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """See `backends.base.Segmenter`. A box that holds nothing gives an empty mask."""
        self.calls += len(pictures)
        return [
            [self._one(world_of(truth), box) for box in wanted]
            for _, wanted, truth in zip(pictures, boxes, truths, strict=True)
        ]

    def _one(self, world: World, box: Box) -> np.ndarray:
        overlaps = [box_overlap(box, own) if (own := box_of(mask)) else 0.0 for mask in world.masks]
        if max(overlaps, default=0.0) < MIN_OVERLAP:
            return np.zeros((world.size, world.size), dtype=bool)
        mask = world.masks[int(np.argmax(overlaps))].copy()
        if self.grow:
            change = ndimage.binary_dilation if self.grow > 0 else ndimage.binary_erosion
            mask = change(mask, iterations=abs(self.grow))
        if self.speckle:
            mask[world.rng("segment", box).random(mask.shape) < self.speckle] = False
        return mask
