"""What samplers have in common: numbers from a stream of their own, weighted choices, backgrounds, what is held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any, TypeVar

import numpy as np

from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import TASKS, Background
from insightedit.scenes.wordings import Template

MAX_TRIES = 200
STREAMS = ("edits", "subjects", "subject_edits")  # numbers never meet between these kinds of samples
CHANNEL_ORDERS = tuple(permutations(range(3)))
Drawn = TypeVar("Drawn")


class RandomAccessSampler:
    """Endless, random-access samples of one split: `sampler[index]` is a pure function of (split, size, seed, index).

    Args:
        split: train, val or test.
        size: side of the square pictures in pixels.
        seed: another seed gives another world of the same kind; 24 bits of it are used.
        assets: sprites and photographs; the embedded ones by default.

    Raises:
        ValueError: for an unknown split.
    """

    stream = "edits"  # one of `STREAMS`

    def __init__(self, split: str = "train", size: int = 64, seed: int = 0, assets: Assets | None = None) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
        self.split, self.size, self.seed = split, size, seed
        self.assets = assets or Assets.embedded()
        self.renderer = Renderer(self.assets, size)

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            raise IndexError(f"sample {index} does not exist: indices start at 0 and have no end.")
        return self._draw(index, self._random(index))

    def pair(self, index: int) -> tuple[Any, Any]:
        """Two samples that differ in one thing only: a minimal pair."""
        return self._pair(index, self._random(index, pair=True))

    def _draw(self, index: int, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    def _pair(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        raise NotImplementedError

    def _random(self, index: int, pair: bool = False) -> np.random.Generator:
        """Numbers that belong to one sample alone, or to one minimal pair."""
        stream = STREAMS.index(self.stream) * 16 + SPLITS.index(self.split) * 2 + pair
        key = stream << 56 | (self.seed & 0xFFFFFF) << 32
        return np.random.Generator(np.random.Philox(key=np.array([key, index], dtype=np.uint64)))

    def _first(self, attempt: Callable[[], Drawn | None], what: str) -> Drawn:
        """The first draw that is usable."""
        for _ in range(MAX_TRIES):
            drawn = attempt()
            if drawn is not None:
                return drawn
        raise RuntimeError(
            f"no valid {what} in {MAX_TRIES} tries: the pack at {self.assets.folder} has too few sprites or facts for "
            "it."
        )

    def _may(self, name: str, task: str) -> bool:
        """Whether the split may show this class in this task."""
        return self.split == "test" or not is_held_out_combination(name, task, self.assets.classes)

    def _known(self, weights: Mapping[str, int], task: str) -> dict[str, int]:
        """The weights without `reasoning` where no fact can be told: a pack of one's own may tell few, or none."""
        told = any(sprite.fact and self._may(sprite.name, task) for sprite in self.assets.sprites.values())
        return {name: weight for name, weight in weights.items() if told or name != "reasoning"}

    def _template(
        self, rng: np.random.Generator, templates: tuple[Template, ...], style: str | None = None
    ) -> Template:
        """A wording; in `test` a third of them are held out."""
        held_out = self.split == "test" and int(rng.integers(3)) == 0
        choices = [t for t in templates if t.held_out == held_out and style in (None, t.style)]
        return choices[int(rng.integers(len(choices)))]


def is_held_out_combination(name: str, task: str, classes: tuple[str, ...]) -> bool:
    """Whether this class never takes part in this task in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 7 + TASKS.index(task) * 3) % 11 == 0


def weighted(rng: np.random.Generator, weights: Mapping[str, int]) -> str:
    """One of the names, by weight."""
    draw = int(rng.integers(sum(weights.values())))
    for name, weight in weights.items():
        draw -= weight
        if draw < 0:
            return name
    raise AssertionError("weights do not sum up")


def draw_background(rng: np.random.Generator, split: str, assets: Assets) -> Background:
    """A crop of a photograph of the split; in training it may be disguised, see `sampler`."""
    photos = assets.photos_of(split)
    photo = photos[int(rng.integers(len(photos)))]
    left, top, side = (int(v) for v in rng.integers(0, 1001, 3))
    background = Background(photo.name, left, top, 550 + side * 450 // 1000, bool(rng.integers(2)))
    if split != "train":
        return background
    if rng.integers(2):  # channels shuffled in half of them
        background = replace(background, channels=CHANNEL_ORDERS[int(rng.integers(len(CHANNEL_ORDERS)))])
    if rng.integers(2):  # a second photograph shines through in half of them
        veil, share = photos[int(rng.integers(len(photos)))].name, int(rng.integers(200, 501))
        background = replace(background, veil=veil, veil_share=share)
    return background
