"""Paints by drawing the scene anew: without what the mask covers, or with another thing in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_recipes.backends.base import InpaintRequest
from data_recipes.oracle.words import read_phrase
from data_recipes.oracle.world import Box, Oracle, World, box_of, world_of
from insightedit.scenes.scene import SLOT_CENTRES, Scene, SceneObject

COVERED = 0.5  # share of a thing's pixels in the mask from which on it is painted over
MIN_HEIGHT = 6  # pixels, of a new thing that has to fit into a small mask


@dataclass
class OracleInpainter(Oracle):
    """Draws exactly what would be seen; a mask that is too small leaves the rest of the old thing standing.

    A new thing stands where the old one stood, as high as it, or less high where it would not fit into the mask.
    """

    def paint(self, paintings: Sequence[InpaintRequest]) -> list[np.ndarray]:
        """See `backends.base.Inpainter`.

        Raises:
            ValueError: if a picture or a mask is not of the scene's size, or a prompt names nothing that scenes have.
        """
        self.calls += len(paintings)
        return [self._one(painting) for painting in paintings]

    def _one(self, painting: InpaintRequest) -> np.ndarray:
        world = world_of(painting.truth)
        _check_sizes(painting, world.size)
        if not painting.mask.any():
            return painting.picture.copy()
        new = str(painting.about.get("class_target") or painting.prompt)
        numbers = covered(world, painting.mask, str(painting.about.get("class_origin") or ""))
        drawn = _with_new(world, numbers, painting.mask, new) if new else world.draw(world.without(*numbers))
        return np.where(painting.mask[..., None], drawn, painting.picture)


def covered(world: World, mask: np.ndarray, words: str = "") -> tuple[int, ...]:
    """Indices of the things that a mask is about.

    Args:
        world: the scene.
        mask: (H, W) bool.
        words: for the thing, where the step knows them; if they mean one thing, it is that one.

    Returns:
        Else all things of which at least half of the visible pixels lie in the mask, those with most pixels first.
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
    box = box_of(mask)
    assert box is not None, "empty masks are not painted"
    old = world.scene.objects[numbers[0]] if numbers else _stand_in(box, world.size)
    new = SceneObject(phrase.name, old.slot, old.x, old.y, old.height, colour=phrase.colour)
    drawn = world.photo
    for height in range(old.height * world.size // 1000, 0, -1):
        new = replace(new, height=-(-height * 1000 // world.size))
        drawn = world.draw(_put(world, numbers, new))
        if height <= MIN_HEIGHT or not ((drawn != world.photo).any(axis=-1) & ~mask).any():
            break
    return drawn


def _put(world: World, numbers: tuple[int, ...], new: SceneObject) -> Scene:
    if numbers:
        return world.swapped(numbers[0], new)
    return replace(world.scene, objects=(*world.scene.objects, new))


def _stand_in(box: Box, size: int) -> SceneObject:
    """Where a thing stands that is painted where nothing was."""
    x, y = (round(500 * (box[i] + box[i + 2]) / size) for i in (0, 1))
    near = [(x - cx) ** 2 + (y - cy) ** 2 for cx, cy in SLOT_CENTRES]
    return SceneObject("", int(np.argmin(near)), x, y, round(1000 * (box[3] - box[1]) / size))


def _check_sizes(painting: InpaintRequest, size: int) -> None:
    for name, shape in (("picture", painting.picture.shape[:2]), ("mask", painting.mask.shape)):
        if shape != (size, size):
            raise ValueError(
                f"the oracle got a {name} of {shape[1]} x {shape[0]} px for a scene of {size} x {size} px: give it "
                "the scene's own size."
            )
