"""What samplers have in common: streams of numbers, what is held out, objects and the words that refer to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, permutations
from typing import Any, TypeVar

import numpy as np

from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOT_CENTRES, TASKS, Background, Scene, SceneObject, Texture
from insightedit.scenes.textures import TEXTURES
from insightedit.scenes.wordings import Template, describe

MAX_TRIES = 200
STREAMS = ("edits", "subjects", "subject_edits")  # numbers never meet between these kinds of samples
CHANNEL_ORDERS = tuple(permutations(range(3)))
# Thousandths of the training photographs that have shuffled channels, a second one shining through, quarter turns,
# another light, another tone.
DISGUISES = (400, 300, 300, 500, 200)
MILD_TONES = (
    "slightly brighter", "slightly darker", "slightly higher in contrast", "slightly lower in contrast",
    "slightly more colourful", "slightly less colourful", "much less colourful", "slightly faded", "cinematic",
)  # fmt: skip
Drawn = TypeVar("Drawn")
Rng = np.random.Generator
JITTER = 30  # thousandths of the side
SIZES = tuple(HEIGHTS)
Arranged = tuple[tuple[SceneObject, ...], tuple[int, ...]]


class RandomAccessSampler:
    """Endless, random-access samples of one split: `sampler[index]` is a pure function of (split, size, seed, index).

    Pictures are squares of `size` pixels. Another seed, of which 24 bits are used, gives another world of the same
    kind. `assets` are sprites and photographs; the embedded ones by default.
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

    def _draw(self, index: int, rng: Rng) -> Any:
        raise NotImplementedError

    def _pair(self, index: int, rng: Rng) -> tuple[Any, Any]:
        raise NotImplementedError

    def _random(self, index: int, pair: bool = False) -> Rng:
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

    def _template(self, rng: Rng, templates: tuple[Template, ...], style: str | None = None) -> Template:
        """A wording; in `test` a third of them are held out."""
        held_out = self.split == "test" and int(rng.integers(3)) == 0
        choices = [t for t in templates if t.held_out == held_out and style in (None, t.style)]
        return pick(rng, choices)


def is_held_out_combination(name: str, task: str, classes: tuple[str, ...]) -> bool:
    """Whether this class never takes part in this task in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 7 + TASKS.index(task) * 3) % 11 == 0


def pick(rng: Rng, choices: Sequence[Drawn]) -> Drawn:
    """One of several, each as likely as the others; `rng.choice` would draw other numbers."""
    return choices[int(rng.integers(len(choices)))]


def weighted(rng: Rng, weights: Mapping[str, int]) -> str:
    """One of the names, by weight."""
    draw, ends = int(rng.integers(sum(weights.values()))), accumulate(weights.values())
    return next(name for name, end in zip(weights, ends, strict=True) if draw < end)


def draw_background(rng: Rng, split: str, assets: Assets) -> Background:
    """A crop of a photograph of the split; in training it may be disguised, see `sampler`, or be a texture."""
    if split == "train" and rng.integers(5) == 0:
        return Background("", texture=draw_texture(rng))
    photos = assets.photos_of(split)
    photo = pick(rng, photos)
    left, top, side = (int(v) for v in rng.integers(0, 1001, 3))
    smallest = 300 if split == "train" else 550
    side = smallest + side * (1000 - smallest) // 1000
    background = Background(photo.name, left, top, side, bool(rng.integers(2)))
    if split != "train":
        return background
    shuffled, veiled, turned, lit, toned = (bool(v) for v in rng.integers(0, 1000, 5) < DISGUISES)
    if shuffled:
        background = replace(background, channels=pick(rng, CHANNEL_ORDERS))
    if veiled:
        veil, share = pick(rng, photos).name, int(rng.integers(200, 501))
        background = replace(background, veil=veil, veil_share=share)
    if turned:
        background = replace(background, turns=int(rng.integers(1, 4)))
    if lit:
        red, green, blue = (int(v) for v in rng.integers(850, 1151) * rng.integers(920, 1081, 3) // 1000)
        background = replace(background, gains=(red, green, blue), lift=int(rng.integers(-20, 21)))
    return replace(background, tone=pick(rng, MILD_TONES)) if toned else background


def draw_texture(rng: Rng) -> Texture:
    """A ground in one to three colours, which are often pale and often near to each other."""
    kind = pick(rng, tuple(TEXTURES))
    vivid = rng.integers(0, 256, (int(rng.integers(2, 4)), 3))
    grey = vivid.sum(axis=1, keepdims=True) // 3
    colours = grey + (vivid - grey) * int(rng.integers(200, 1001)) // 1000
    colours = colours[:1] + (colours - colours[:1]) * int(rng.integers(250, 1001)) // 1000
    period, way, seed = (int(v) for v in rng.integers((60, 0, 0), (400, 8, 1 << 31)))
    return Texture(kind, tuple((r, g, b) for r, g, b in colours.tolist()), period, way, seed)


def arrange(rng: Rng, category: str, assets: Assets) -> Arranged | None:
    """Objects of a scene and the indices of the ones the instruction is about; None if this draw is not usable."""
    if category == "mirror":
        arranged = _mirror(rng, assets)
    elif category in ("left_right", "relative_size", "colour"):
        arranged = _twins(rng, category, assets)
    else:
        arranged = _others(rng, category, assets)
    if arranged is None:
        return None
    things, targets = arranged
    order = [int(i) for i in rng.permutation(len(things))]
    return tuple(things[i] for i in order), tuple(sorted(order.index(t) for t in targets))


def _others(rng: Rng, category: str, assets: Assets) -> Arranged | None:
    """Things of different classes, or both targets of one."""
    count = int(rng.integers(2, 5)) if category in ("multiple_objects", "reasoning") else int(rng.integers(1, 5))
    names = _names(rng, assets, count)
    if category == "reasoning":
        known = [n for n in assets.classes if assets.sprites[n].fact]
        names[0] = pick(rng, known)
        fact = assets.sprites[names[0]].fact
        if len(set(names)) < count or sum(assets.sprites[n].fact == fact for n in names) > 1:
            return None
    if category == "multiple_objects" and rng.integers(2):
        names[1] = names[0]  # "both dogs"
    slots = rng.permutation(9)[:count]
    things = tuple(_object(rng, n, int(s)) for n, s in zip(names, slots, strict=True))
    return things, (0, 1) if category == "multiple_objects" else (0,)


def refer(scene: Scene, targets: tuple[int, ...], category: str, assets: Assets | None = None) -> str:
    """The words for the targets (indices), as the category wants them: `the left dog`, `the animal that can fly`.

    `assets` tell the facts; the embedded ones by default.
    """
    if not targets:
        raise ValueError("refer() needs at least one target object.")
    first = scene.objects[targets[0]]
    if category == "multiple_objects":
        second = scene.objects[targets[1]].name
        plural = f"{second}{'es' if second.endswith('s') else 's'}"
        return f"both {plural}" if first.name == second else f"the {first.name} and the {second}"
    if category == "mirror":
        return f"the {first.name} in the mirror" if first.in_mirror else f"the {first.name} in front of the mirror"
    if category == "colour":
        return f"the {describe(first)}"
    if category in ("left_right", "relative_size"):
        twin = next(o for i, o in enumerate(scene.objects) if o.name == first.name and i not in targets)
        if category == "left_right":
            return f"the {'left' if first.x < twin.x else 'right'} {first.name}"
        return f"the {'smaller' if first.height < twin.height else 'bigger'} {first.name}"
    if category == "reasoning":
        return f"the {(assets or Assets.embedded()).sprites[first.name].fact or first.name}"
    return f"the {first.name}"


def _twins(rng: Rng, category: str, assets: Assets) -> Arranged | None:
    """Two of one class that differ in column, size or colour, and up to two others."""
    count = int(rng.integers(2, 5))
    names = _names(rng, assets, count - 1)
    names.insert(0, names[0])
    slots = [int(s) for s in rng.permutation(9)[:count]]
    if category == "left_right" and slots[0] % 3 == slots[1] % 3:
        return None
    sizes = rng.permutation([0, 2]) if category == "relative_size" else [None, None]
    colours = rng.permutation(len(COLOURS))[:2] if category == "colour" else [None, None]
    things = []
    for i, (name, slot) in enumerate(zip(names, slots, strict=True)):
        size = SIZES[int(sizes[i])] if i < 2 and sizes[i] is not None else None
        colour = list(COLOURS)[int(colours[i])] if i < 2 and colours[i] is not None else None
        things.append(_object(rng, name, slot, size=size, colour=colour))
    return tuple(things), (int(rng.integers(2)),)


def _mirror(rng: Rng, assets: Assets) -> Arranged:
    """One object, its flipped copy in the mirror on the right, and perhaps another object."""
    names = _names(rng, assets, int(rng.integers(1, 3)))
    row, column = int(rng.integers(3)), int(rng.integers(2))
    real = _object(rng, names[0], row * 3 + column, size="medium")
    copy = SceneObject(
        real.name, row * 3 + 2, SLOT_CENTRES[row * 3 + 2][0] + 5, real.y, real.height, not real.flip, None, True
    )
    things = [real, copy]
    if len(names) > 1:
        free = [s for s in (0, 1, 3, 4, 6, 7) if s != real.slot]
        things.append(_object(rng, names[1], pick(rng, free)))
    return tuple(things), (int(rng.integers(2)),)


def _names(rng: Rng, assets: Assets, count: int) -> list[str]:
    return [assets.classes[int(i)] for i in rng.permutation(len(assets.classes))[:count]]


def _object(rng: Rng, name: str, slot: int, size: str | None = None, colour: str | None = None) -> SceneObject:
    dx, dy, drawn, flip = (int(v) for v in rng.integers((-JITTER, -JITTER, 0, 0), (JITTER + 1, JITTER + 1, 3, 2)))
    x, y = SLOT_CENTRES[slot]
    return SceneObject(name, slot, x + dx, y + dy, HEIGHTS[size or SIZES[drawn]], bool(flip), colour)
