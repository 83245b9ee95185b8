"""What samplers have in common: streams of numbers, what is held out, objects and the words that refer to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, permutations
from typing import Any, TypeVar

import numpy as np

from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import (
    COLOURS,
    HEIGHTS,
    SLOT_CENTRES,
    SLOTS,
    TASKS,
    Background,
    Scene,
    SceneObject,
    Texture,
)
from insightedit.scenes.textures import TEXTURES
from insightedit.scenes.wordings import BOOK, Template, called, place, place_words, plural, told_in

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
JITTER = 60  # thousandths of the side
SEEN_ONLY = 25  # of a hundred things: of classes that nothing is asked to draw
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

    def _template(self, rng: Rng, templates: Sequence[Template], style: str | None = None) -> Template:
        """A wording; in `val` now and then and in `test` always one of the split's own, where there is any."""
        return pick(rng, [t for t in told_in(rng, templates, self.split) if style in (None, t.style)])


def is_held_out_combination(name: str, task: str, classes: tuple[str, ...]) -> bool:
    """Whether this class never takes part in this task in training: one pair in eleven, spread evenly.

    What is seen only is held out of nothing.
    """
    return name in classes and (classes.index(name) * 7 + TASKS.index(task) * 3) % 11 == 0


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
    elif category == "relation":
        arranged = _beside(rng, assets)
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


def refer(
    scene: Scene,
    targets: tuple[int, ...],
    category: str,
    assets: Assets | None = None,
    rng: Rng | None = None,
    held_out: bool = False,
) -> str:
    """The words for the targets (indices), as the category wants them: `the left dog`, `the animal that can fly`.

    With `rng` in somebody's words (two calls with generators of one state choose the same words for two targets),
    without in the plainest. `assets` tell the facts; the embedded ones by default.
    """
    if not targets:
        raise ValueError("refer() needs at least one target object.")
    assets, first = assets or Assets.embedded(), scene.objects[targets[0]]
    name = called(rng, first.name) if rng is not None and category != "multiple_objects" else first.name
    slots = {"name": name, "names": plural(name), "colour": first.colour or ""}
    others = [o for i, o in enumerate(scene.objects) if i not in targets]
    kind, twin = category, next((o for o in others if o.name == first.name), None)
    if category == "multiple_objects":
        slots["other"] = scene.objects[targets[1]].name
        kind = "both" if slots["other"] == first.name else category
    elif category == "mirror":
        slots["where"] = "in the mirror" if first.in_mirror else "in front of the mirror"
        kind = kind if rng is None else "mirrored" if first.in_mirror else "unmirrored"
    elif category == "left_right" and twin is not None:
        slots["side"] = "left" if first.x < twin.x else "right"
    elif category == "relative_size" and twin is not None:
        slots["size"] = "smaller" if first.height < twin.height else "bigger"
        slots["sizest"] = "smallest" if first.height < twin.height else "biggest"
    elif category == "reasoning":
        slots["fact"] = assets.sprites[first.name].fact or first.name
    elif category == "colour" and first.colour is None:
        kind = "plain"
    elif category == "position":
        slots["place"] = place(first.slot) if rng is None else place_words(rng, first.slot, held_out)
    elif category == "relation":
        near = neighbours(scene, first.slot)
        side, number = pick(rng, near) if rng is not None else near[0]
        slots |= {"n": scene.objects[number].name, "side": side_words(rng, side, held_out)}
    group = assets.sprites[first.name].group
    alone = all(assets.sprites[o.name].group != group for o in others)
    slots["group"] = group if alone and group in BOOK["groups"] else "thing"
    forms = list(reference_forms(kind, held_out))
    if rng is not None and category == "position":
        if any(o.name == first.name and _same_side(o.slot, first.slot) for o in others):
            forms = [form for form in forms if "{at}" not in form]
        elif twin is not None and first.slot // 3 != twin.slot // 3:
            forms += reference_forms("upper_lower", held_out)
            higher = first.slot // 3 < twin.slot // 3
            slots["level"] = pick(rng, BOOK["levels"]["upper" if higher else "lower"])
            slots["up"] = "up" if higher else "down"
        slots["at"] = pick(rng, BOOK["adjectives"][SLOTS[first.slot]])
    return (forms[0] if rng is None else pick(rng, forms)).format(**slots)


def _same_side(other: int, slot: int) -> bool:
    """Whether the word for a place's side, as in `the top dog`, may mean another place, too."""
    row, column = slot // 3, slot % 3
    if column == 1 and row != 1:
        return other // 3 == row
    return row == 1 and column != 1 and other % 3 == column


def told_apart_by(scene: Scene, target: int, assets: Assets) -> list[str]:
    """The categories of references that tell one thing of a scene from all others; at least its position does."""
    thing = scene.objects[target]
    others = [o for i, o in enumerate(scene.objects) if i != target]
    twins, fact = [o for o in others if o.name == thing.name], assets.sprites[thing.name].fact
    found = ["position", *(["relation"] if neighbours(scene, thing.slot) else [])]
    if scene.mirror and len(twins) == 1 and thing.in_mirror != twins[0].in_mirror:
        return ["mirror"]
    if fact and all(assets.sprites[o.name].fact != fact for o in others):
        found.append("reasoning")
    if not twins:
        return [*found, "plain", "plain", "colour"]
    if len(twins) == 1:
        twin = twins[0]
        found += ["left_right"] if thing.slot % 3 != twin.slot % 3 else []
        found += ["relative_size"] if thing.height != twin.height else []
        found += ["colour"] if thing.colour is not None and thing.colour != twin.colour else []
    return found


def neighbours(scene: Scene, slot: int) -> list[tuple[str, int]]:
    """The things around a place, alone of their class: (where the place lies, seen from the thing; its index)."""
    found = []
    for number, thing in enumerate(scene.objects):
        row, column = thing.slot // 3 - slot // 3, thing.slot % 3 - slot % 3
        side = {(0, 1): "left", (0, -1): "right", (1, 0): "above", (-1, 0): "below"}.get((row, column))
        if side is not None and sum(o.name == thing.name for o in scene.objects) == 1:
            found.append((side, number))
    return found


def near_words(rng: Rng, scene: Scene, slot: int, held_out: bool) -> str | None:
    """Words for an empty place by what stands around it; None where nothing tells it apart.

    `beside` a thing is the place to the right of it, or the one to its left where that is taken or there is none.
    """
    told = []
    near = neighbours(scene, slot)
    for side, number in near:
        name = scene.objects[number].name
        told.append(f"{side_words(rng, side, held_out)} the {name}")
        at = scene.objects[number].slot
        if side == "right" or (side == "left" and (at % 3 == 2 or at + 1 not in scene.empty_slots)):
            told.append(pick(rng, BOOK["neighbours"]["beside"]).format(n=name))
    for one, other in (("left", "right"), ("above", "below")):
        ends = [number for side, number in near if side in (one, other)]
        if len(ends) == 2:
            n, m = (scene.objects[number].name for number in ends)
            told.append(pick(rng, BOOK["neighbours"]["between"]).format(n=n, m=m))
    return pick(rng, told) if told else None


def side_words(rng: Rng | None, side: str, held_out: bool = False) -> str:
    """`left of`, `above` and so on."""
    words = BOOK["held_out_sides" if held_out else "sides"][side]
    return words[0] if rng is None else pick(rng, words)


def reference_forms(kind: str, held_out: bool) -> list[str]:
    """How a thing can be told; what is never held out is told in the same forms everywhere."""
    return BOOK["held_out_references"].get(kind, BOOK["references"][kind]) if held_out else BOOK["references"][kind]


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


def _beside(rng: Rng, assets: Assets) -> Arranged:
    """A thing, another one in the place beside, above or below it, and perhaps one or two more."""
    names = _names(rng, assets, int(rng.integers(2, 5)))
    slot = int(rng.integers(9))
    beside = [s for s in range(9) if abs(s // 3 - slot // 3) + abs(s % 3 - slot % 3) == 1]
    slots = [slot, pick(rng, beside)]
    slots += [int(s) for s in rng.permutation(9) if s not in slots][: len(names) - 2]
    return tuple(_object(rng, n, s) for n, s in zip(names, slots, strict=True)), (0,)


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
    """Different classes, some of them of those that are seen only."""
    names = [assets.classes[int(i)] for i in rng.permutation(len(assets.classes))[:count]]
    if more := assets.only_seen_classes:
        others = rng.permutation(len(more))[:count]
        names = [more[int(o)] if rng.integers(100) < SEEN_ONLY else n for n, o in zip(names, others, strict=False)]
    return names


def _object(rng: Rng, name: str, slot: int, size: str | None = None, colour: str | None = None) -> SceneObject:
    dx, dy, drawn, flip = (int(v) for v in rng.integers((-JITTER, -JITTER, 0, 0), (JITTER + 1, JITTER + 1, 3, 2)))
    x, y = SLOT_CENTRES[slot]
    return SceneObject(name, slot, x + dx, y + dy, HEIGHTS[size or SIZES[drawn]], bool(flip), colour)
