"""The scene behind a picture: what oracles know; and scenes as the photos, or the pairs, that a recipe starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from data_recipes.backends.base import Usage
from data_recipes.oracle.words import detailed_caption, read_phrase, simple_caption
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record
from insightedit.scenes.sampler import EditSample, SceneSampler
from insightedit.scenes.scene import Scene, SceneObject
from insightedit.scenes.wordings import article

KIND = "scenes"
ENDLESS = 1 << 31  # scenes have no end; a length has to be a number
TASK_OF = {"resize": "edit", "photometric": "edit"}  # else the scene's own name


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
    """One scene and its edit, drawn as often as one likes over a background that is made once."""

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
        return random_of("/".join(map(str, (sample.renderer.size, sample.index, sample.scene.background, *about))))


def random_of(text: str) -> np.random.Generator:
    """Randomness that belongs to a text."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def world_of(truth: Mapping[str, Any]) -> World:
    """The scene that a record's truth names; with `after`, what it is after its edit. ValueError if it names none."""
    if truth.get("kind") != KIND:
        raise ValueError(
            f"an oracle was asked about a picture whose truth is {dict(truth)!r}: oracles know rendered scenes only; "
            "set source.kind to scenes, or name other backends."
        )
    named = str(truth["split"]), int(truth["size"]), int(truth["seed"]), int(truth["index"])
    return _world(*named, bool(truth.get("after")))


@lru_cache(maxsize=64)
def _world(split: str, size: int, seed: int, index: int, after: bool) -> World:
    sample = _sampler(split=split, size=size, seed=seed)[index]
    return World(replace(sample, scene=sample.target_scene) if after else sample)


_sampler = lru_cache(maxsize=4)(partial(SceneSampler, plain=True))


@dataclass(frozen=True)
class Scenes:
    """Scenes as photographs, with the truth for oracles; or as finished pairs."""

    sampler: SceneSampler
    as_pairs: bool

    def __len__(self) -> int:
        """More than anyone asks for."""
        return ENDLESS

    def __getitem__(self, index: int) -> Record:
        """Photo or pair number `index`."""
        sampler, sample = self.sampler, self.sampler[index]
        truth = {"kind": KIND, "split": sampler.split, "size": sampler.size, "seed": sampler.seed, "index": index}
        if not self.as_pairs:
            return Record(f"{index:06d}", image=sample.source, truth=truth)
        before, after, edit = sample.scene.objects, sample.target_scene.objects, sample.edit
        new = ""  # detailed caption of what comes
        if edit.task == "add":
            new = detailed_caption(after[-1])
        elif edit.task in ("replace", "recolour", "resize"):
            new = " and ".join(detailed_caption(after[number]) for number in edit.targets)
        elif edit.operation:
            new = article(f"{edit.operation} photo")
        return Record(
            f"{index:06d}",
            caption=sample.caption_source,
            task=TASK_OF.get(sample.task, sample.task),
            source=sample.source,
            target=sample.target,
            mask=sample.mask,
            class_origin=" and ".join(simple_caption(sample.scene, number) for number in edit.targets),
            class_target=edit.name or "",
            detailed_origin=" and ".join(detailed_caption(before[number]) for number in edit.targets),
            detailed_target=new,
            instructions={sample.style: (sample.instruction,), "expressive": (sample.expressive_instruction,)},
            truth=truth,
            notes={"category": sample.category, "template_id": sample.template_id},
        )


def open_scenes(config: InputConfig, as_pairs: bool = False) -> Scenes:
    """Photos of the split, size and seed that a config names; ValueError if no count is set, or they cannot be."""
    if config.count is None:
        raise ValueError("source.count is not set: scenes have no end, so say how many, e.g. `count: 200`.")
    return Scenes(SceneSampler(split=config.split, size=config.size, seed=config.seed, plain=True), as_pairs)


def open_scene_pairs(config: InputConfig) -> Scenes:
    """Pairs of the split, size and seed that a config names; see `open_scenes`."""
    return open_scenes(config, as_pairs=True)
