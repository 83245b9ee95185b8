"""Reads pictures of a known scene: which things stand in it, and which pixels nothing explains.

The photo's background and things are known; a picture made of it may lack some, show another in place of one,
or be what the scene's own edit makes of it. Of all these the one whose drawing is nearest is what the picture shows;
what differs from it then is a fault of the picture. Nothing but pixels is looked at.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from data_recipes.oracle.world import World
from insightedit.scenes.scene import Scene, SceneObject

SEEN = 12  # grey levels from which on two pixels differ
TOUCHED = 0.1  # share of a thing's pixels that differ, from which on it may be gone or another one
COARSE = (1.0, 0.8, 0.62, 0.48, 0.36)  # heights that are tried first, as shares of the old thing's
BEST = 4  # guesses that are looked at closely
KEPT = 512  # readings


@dataclass(frozen=True)
class Reading:
    """What a picture shows.

    Attributes:
        scene: nearest to it.
        unexplained: (H, W) bool: pixels that are not as the scene's drawing has them.
    """

    scene: Scene
    unexplained: np.ndarray


class Reader:
    """Reads pictures, and remembers the last ones: a pair is asked about once for each wording."""

    def __init__(self) -> None:
        self._readings: OrderedDict[bytes, Reading] = OrderedDict()

    def read(self, world: World, picture: np.ndarray) -> Reading:
        """What a picture of a scene's size shows; (H, W, 3) uint8."""
        key = hashlib.sha256(repr(world.scene).encode() + picture.tobytes()).digest()
        if key not in self._readings:
            self._readings[key] = read_picture(world, picture)
            if len(self._readings) > KEPT:
                self._readings.popitem(last=False)
        return self._readings[key]


def read_picture(world: World, picture: np.ndarray) -> Reading:
    """What a picture of a scene's size shows; (H, W, 3) uint8.

    Raises:
        ValueError: if it has another size.
    """
    if picture.shape != world.photo.shape:
        raise ValueError(
            f"the oracle judge got a picture of shape {picture.shape} for a scene of {world.photo.shape}: give it "
            "pairs of the scene's own size."
        )
    best = min(_without_new(world, picture), key=lambda scene: _cost(world, scene, picture))
    unexplained = _gap(world, best, picture)
    if unexplained.any():
        for number in _touched(world, picture):
            other = _with_new(world, number, picture)
            if _cost(world, other, picture) < _cost(world, best, picture):
                best = other
        unexplained = _gap(world, best, picture)
    return Reading(best, unexplained)


def _without_new(world: World, picture: np.ndarray) -> Iterator[Scene]:
    """The photo, the photo without one or two of its things, and the scene's own edit."""
    yield world.scene
    touched = _touched(world, picture)
    for count in (1, 2):
        for numbers in combinations(touched, count):
            yield world.without(*numbers)
    yield world.sample.target_scene


def _touched(world: World, picture: np.ndarray) -> list[int]:
    """Things whose pixels are not what they were."""
    differs = _differs(world.photo, picture)
    return [
        number
        for number, mask in enumerate(world.masks)
        if mask.any() and (differs & mask).sum() >= TOUCHED * mask.sum()
    ]


def _with_new(world: World, number: int, picture: np.ndarray) -> Scene:
    """The nearest scene that shows another thing in place of one: any class, any lower height."""
    old = world.scene.objects[number]
    place = _Place.of(world, number, picture)
    tall = old.height * world.size // 1000
    heights = sorted({max(3, round(tall * share)) for share in COARSE})
    names = [name for name in world.sample.renderer.assets.classes if name != old.name or old.colour]
    coarse = sorted((place.cost(name, pixels), name) for name in names for pixels in heights)
    close = list(dict.fromkeys(name for _, name in coarse))[:BEST]
    fine = ((place.cost(name, pixels), name, pixels) for name in close for pixels in range(3, tall + 1))
    _, name, pixels = min(fine)
    return world.swapped(number, _new(old, name, pixels, world.size))


@dataclass(frozen=True)
class _Place:
    """Where one thing stands, prepared for many guesses: all that they share is drawn already.

    Attributes:
        world: the scene.
        old: the thing that is known to have stood there.
        under: (H, W, 3) uint8: the scene as far as a guess does not change it.
        above: things that may cover it.
        box: rows and columns that guesses may reach.
        picture: (h, w, 3) float64, the picture there.
    """

    world: World
    old: SceneObject
    under: np.ndarray
    above: tuple[SceneObject, ...]
    box: tuple[slice, slice]
    picture: np.ndarray

    @classmethod
    def of(cls, world: World, number: int, picture: np.ndarray) -> _Place:
        """Draw what guesses share."""
        things = world.scene.objects
        old, size = things[number], world.size
        spans = _spans(old, size, old.height * size // 1000, size * 42 // 100)
        over = [thing for thing in things[number + 1 :] if _meet(spans, _drawn_spans(world, thing))]
        rest = tuple(thing for thing in things if thing is not old and not any(thing is one for one in over))
        under = world.draw(replace(world.scene, objects=rest))
        rows, columns = (slice(max(0, low), min(size, high)) for low, high in spans)
        return cls(world, old, under, tuple(over), (rows, columns), picture[rows, columns].astype(np.float64))

    def cost(self, name: str, pixels: int) -> int:
        """Sum of the squared differences there, of a guess to the picture."""
        canvas = self.under.copy()
        for thing in (_new(self.old, name, pixels, self.world.size), *self.above):
            self.world.sample.renderer.paste(canvas, thing)
        flat = (canvas[self.box] - self.picture).reshape(-1)
        return int(flat @ flat)


def _spans(thing: SceneObject, size: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row and column, and one to spare, of a sprite of so many pixels at a thing's place."""
    top, left = thing.y * size // 1000 - height // 2, thing.x * size // 1000 - width // 2
    return (top - 1, top + height + 1), (left - 1, left + width + 1)


def _drawn_spans(world: World, thing: SceneObject) -> tuple[tuple[int, int], tuple[int, int]]:
    pixels = max(3, thing.height * world.size // 1000)
    height, width = world.sample.renderer.sprite(thing.name, pixels, thing.flip, thing.colour)[1].shape[:2]
    return _spans(thing, world.size, height, width)


def _meet(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> bool:
    return all(a[0] < b[1] and b[0] < a[1] for a, b in zip(one, other, strict=True))


def _new(old: SceneObject, name: str, pixels: int, size: int) -> SceneObject:
    return replace(old, name=name, colour=None, flip=False, in_mirror=False, height=-(-pixels * 1000 // size))


def _cost(world: World, scene: Scene, picture: np.ndarray) -> int:
    """Sum of the squared differences of a scene's drawing to a picture."""
    gap = world.draw(scene).astype(np.float64) - picture  # sums of squares are exact
    flat = gap.reshape(-1)
    return int(flat @ flat)


def _gap(world: World, scene: Scene, picture: np.ndarray) -> np.ndarray:
    return _differs(world.draw(scene), picture)


def _differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ by more than `SEEN` grey levels in a channel."""
    return np.asarray((np.maximum(one, other) - np.minimum(one, other) > SEEN).any(axis=-1))
