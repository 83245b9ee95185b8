"""Colour statistics of what was pasted, moved towards those of its surroundings. No network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from data_recipes.backends.base import CompositeRequest
from data_recipes.backends.loading import CountedBackend
from data_recipes.backends.windows import box_of

SPREAD = (0.5, 2.0)  # how much the contrast may change
FAINT = 1e-3  # a standard deviation in Lab below which a channel counts as flat


class StatisticsHarmoniser(CountedBackend):
    """Moves mean and spread of the thing's CIE Lab channels part of the way, `strength`, to those around it.

    SmartEdit used PIH, a network whose output is colour curves as well; it is in no library, and this is the classic
    in its place: no shading, no shadow, and a thing that stands in surroundings of another colour than its own takes
    some of it, so `strength` is below 1.

    The surroundings reach as far as `margin`, in shares of the longer side of the thing's box; both are ours.

    Source: Reinhard et al., Color Transfer between Images (2001), in CIE Lab.
    """

    def __init__(self, strength: float = 0.4, *, margin: float = 0.5) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}: give a number from 0 to 1.")
        if not margin > 0:
            raise ValueError(f"margin is {margin}: give a number above 0.")
        super().__init__("statistics", {"strength": strength, "margin": margin})

    def harmonise(self, pastings: Sequence[CompositeRequest]) -> list[np.ndarray]:
        """See `backends.base`; a picture without surroundings or without a thing stays as it is."""
        with self.timed(len(pastings)):
            self.count(asked=len(pastings))
            return [self._one(pasting) for pasting in pastings]

    def _one(self, pasting: CompositeRequest) -> np.ndarray:
        from skimage.color import lab2rgb, rgb2lab

        strength = self.settings["strength"]
        if not strength or not pasting.mask.any():
            return pasting.picture.copy()
        box = box_of(pasting.mask)
        reach = max(1, round(self.settings["margin"] * max(box.height, box.width)))
        top, left = max(0, box.top - reach), max(0, box.left - reach)
        part = slice(top, box.top + box.height + reach), slice(left, box.left + box.width + reach)
        inside = pasting.mask[part]
        if inside.all():
            return pasting.picture.copy()
        thing = rgb2lab(pasting.picture[part])[inside]
        around = rgb2lab(pasting.background[part])[~inside]
        mean, spread = thing.mean(axis=0), thing.std(axis=0)
        scale = np.where(spread > FAINT, around.std(axis=0) / np.maximum(spread, FAINT), 1.0)
        moved = (thing - mean) * np.clip(scale, *SPREAD) + around.mean(axis=0)
        mixed = thing + strength * (moved - thing)
        out = pasting.picture.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # skimage tells of negative Z values that it clips
            rgb = np.clip(lab2rgb(mixed[None])[0], 0.0, 1.0)  # colours that no screen shows: the nearest edge
        out[part][inside] = np.round(rgb * 255).astype(np.uint8)
        return out
