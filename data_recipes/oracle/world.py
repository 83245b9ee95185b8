"""The scene behind a picture: what oracles know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from data_recipes.backends.base import Usage
from data_recipes.oracle.words import read_phrase
from insightedit.scenes.sampler import EditSample, SceneSampler
from insightedit.scenes.scene import Scene, SceneObject

KIND = "scenes"
Box = tuple[float, float, float, float]


def truth_of(split: str, size: int, seed: int, index: int) -> dict[str, Any]:
    """What a record keeps so that oracles find its scene again."""
    return {"kind": KIND, "split": split, "size": size, "seed": seed, "index": index}


class Oracle:
    """A stand-in for a model that knows the scene; subclasses are dataclasses whose fields are their settings.

    Settings of the type float are shares, 0 to 1. Calls are counted, and cost nothing.
    """

    name, backend = "oracle", ""
    calls = 0

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]
            if one.type == "float" and not 0 <= (value := getattr(self, one.name)) <= 1:
                raise ValueError(f"backends.{self.backend}.{one.name} is {value}: it is a share, from 0 to 1.")

    @property
    def settings(self) -> dict[str, Any]:
        """How bad it is."""
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]

    @property
    def usage(self) -> Usage:
        """Calls."""
        return Usage(calls=self.calls, asked=self.calls)


@dataclass(frozen=True)
class World:
    """One scene, drawn as often as one likes over a background that is made once.

    Attributes:
        sample: scene and edit.
    """

    sample: EditSample

    @property
    def scene(self) -> Scene:
        """Of the photo."""
        return self.sample.scene

    @property
    def size(self) -> int:
        """Side in pixels."""
        return self.sample.renderer.size

    @cached_property
    def photo(self) -> np.ndarray:
        """(size, size, 3) uint8 RGB: the scene as it is."""
        return self.draw(self.scene)

    @cached_property
    def _ground(self) -> np.ndarray:
        return self.sample.renderer.ground(self.scene)

    def draw(self, scene: Scene) -> np.ndarray:
        """(size, size, 3) uint8 RGB: a scene with this one's background and mirror, as `Renderer.render` gives it."""
        return self.sample.renderer.draw(self._ground.copy(), scene.objects, scene.photometric)

    def without(self, *numbers: int) -> Scene:
        """The scene without some of its things."""
        kept = tuple(thing for i, thing in enumerate(self.scene.objects) if i not in numbers)
        return replace(self.scene, objects=kept)

    def swapped(self, number: int, thing: SceneObject) -> Scene:
        """The scene with another thing in place of one."""
        objects = self.scene.objects
        return replace(self.scene, objects=(*objects[:number], thing, *objects[number + 1 :]))

    @cached_property
    def masks(self) -> tuple[np.ndarray, ...]:
        """(size, size) bool for each thing: the pixels that show it; all False where it is hidden."""
        return tuple(
            (self.draw(self.without(number)) != self.photo).any(axis=-1) for number in range(len(self.scene.objects))
        )

    def find(self, words: str) -> tuple[int, ...]:
        """Indices of the things that words mean; none where they mean nothing here."""
        phrase = read_phrase(words)
        return () if phrase is None else phrase.among(self.scene.objects)

    def rng(self, *about: object) -> np.random.Generator:
        """Randomness that belongs to this scene and what it is for."""
        sample = self.sample
        told = "/".join(map(str, (sample.renderer.size, sample.index, sample.scene.background, *about)))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "little"))


def world_of(truth: Mapping[str, Any]) -> World:
    """The scene that a record's truth names; with `after`, what it is after its edit.

    Raises:
        ValueError: if the record is of no rendered scene.
    """
    if truth.get("kind") != KIND:
        raise ValueError(
            f"an oracle was asked about a picture whose truth is {dict(truth)!r}: oracles know rendered scenes only; "
            "set source.kind to scenes, or name other backends."
        )
    named = str(truth["split"]), int(truth["size"]), int(truth["seed"]), int(truth["index"])
    return _world(*named, bool(truth.get("after")))


@lru_cache(maxsize=64)
def _world(split: str, size: int, seed: int, index: int, after: bool) -> World:
    sample = _sampler(split, size, seed)[index]
    return World(replace(sample, scene=sample.target_scene) if after else sample)


@lru_cache(maxsize=4)
def _sampler(split: str, size: int, seed: int) -> SceneSampler:
    return SceneSampler(split=split, size=size, seed=seed)


def box_of(mask: np.ndarray) -> Box | None:
    """Left, top, right, bottom of a (H, W) bool mask, right and bottom exclusive; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
