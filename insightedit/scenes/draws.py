"""What samplers draw by chance: numbers from a stream of their own, weighted choices, backgrounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

import numpy as np

from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.scene import Background

MAX_TRIES = 200
STREAMS = ("edits", "subjects", "subject_edits")  # numbers never meet between these kinds of samples
CHANNEL_ORDERS = tuple(permutations(range(3)))


def random_stream(split: str, seed: int, index: int, kind: str = "edits", pair: bool = False) -> np.random.Generator:
    """Numbers that belong to one sample alone.

    Args:
        split: train, val or test.
        seed: of the sampler; 24 bits of it are used.
        index: of the sample.
        kind: one of `STREAMS`.
        pair: whether the sample is half of a minimal pair.
    """
    stream = STREAMS.index(kind) * 16 + SPLITS.index(split) * 2 + pair
    key = stream << 56 | (seed & 0xFFFFFF) << 32
    return np.random.Generator(np.random.Philox(key=np.array([key, index], dtype=np.uint64)))


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
    numbers = [int(v) for v in rng.integers(0, 1001, 3)]
    background = Background(photo.name, numbers[0], numbers[1], 550 + numbers[2] * 450 // 1000, bool(rng.integers(2)))
    return _disguised(background, rng, assets) if split == "train" else background


def _disguised(background: Background, rng: np.random.Generator, assets: Assets) -> Background:
    """Channels shuffled in half of them, a second photograph shining through in half of them."""
    photos = assets.photos_of("train")
    if rng.integers(2):
        background = replace(background, channels=CHANNEL_ORDERS[int(rng.integers(len(CHANNEL_ORDERS)))])
    if rng.integers(2):
        veil, share = photos[int(rng.integers(len(photos)))].name, int(rng.integers(200, 501))
        background = replace(background, veil=veil, veil_share=share)
    return background
