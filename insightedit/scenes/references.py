"""Where objects stand so that a reference is needed, and the reference itself. Never ambiguous."""

from __future__ import annotations

import numpy as np

from insightedit.scenes.assets import Assets
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOT_CENTRES, Scene, SceneObject
from insightedit.scenes.wordings import describe

JITTER = 30  # thousandths of the side
SIZES = tuple(HEIGHTS)
Arranged = tuple[tuple[SceneObject, ...], tuple[int, ...]]


def arrange(rng: np.random.Generator, category: str, assets: Assets) -> Arranged | None:
    """Objects of a scene and the indices of the ones the instruction is about; None if this draw is not usable."""
    if category == "mirror":
        return _mirror(rng, assets)
    if category in ("left_right", "relative_size", "colour"):
        return _twins(rng, category, assets)
    count = int(rng.integers(2, 5)) if category in ("multiple_objects", "reasoning") else int(rng.integers(1, 5))
    names = _names(rng, assets, count)
    if category == "reasoning":
        known = [n for n in assets.classes if assets.sprites[n].fact]
        names[0] = known[int(rng.integers(len(known)))]
        fact = assets.sprites[names[0]].fact
        if len(set(names)) < count or sum(assets.sprites[n].fact == fact for n in names) > 1:
            return None
    if category == "multiple_objects" and rng.integers(2):
        names[1] = names[0]  # "both dogs"
    slots = rng.permutation(9)[:count]
    things = [_object(rng, n, int(s)) for n, s in zip(names, slots, strict=True)]
    targets = (0, 1) if category == "multiple_objects" else (0,)
    return _shuffled(rng, things, targets)


def refer(scene: Scene, targets: tuple[int, ...], category: str, assets: Assets | None = None) -> str:
    """The words for the targets (indices), as the category wants them: `the left dog`, `the animal that can fly`.

    `assets` tell the facts; the embedded ones by default.

    Raises:
        ValueError: if there is no target.
    """
    if not targets:
        raise ValueError("refer() needs at least one target object.")
    things = [scene.objects[i] for i in targets]
    first = things[0]
    if category == "multiple_objects":
        if things[0].name == things[1].name:
            return f"both {first.name}s" if not first.name.endswith("s") else f"both {first.name}es"
        return f"the {first.name} and the {things[1].name}"
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


def _twins(rng: np.random.Generator, category: str, assets: Assets) -> Arranged | None:
    """Two of one class that differ in column, size or colour, and up to two others."""
    count = int(rng.integers(2, 5))
    names = _names(rng, assets, count - 1)
    names = [names[0], *names]
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
    return _shuffled(rng, things, (int(rng.integers(2)),))


def _mirror(rng: np.random.Generator, assets: Assets) -> Arranged | None:
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
        things.append(_object(rng, names[1], free[int(rng.integers(len(free)))]))
    return _shuffled(rng, things, (int(rng.integers(2)),))


def _names(rng: np.random.Generator, assets: Assets, count: int) -> list[str]:
    return [assets.classes[int(i)] for i in rng.permutation(len(assets.classes))[:count]]


def _object(
    rng: np.random.Generator, name: str, slot: int, size: str | None = None, colour: str | None = None
) -> SceneObject:
    dx, dy, drawn, flip = (int(v) for v in rng.integers((-JITTER, -JITTER, 0, 0), (JITTER + 1, JITTER + 1, 3, 2)))
    x, y = SLOT_CENTRES[slot]
    return SceneObject(name, slot, x + dx, y + dy, HEIGHTS[size or SIZES[drawn]], bool(flip), colour)


def _shuffled(rng: np.random.Generator, things: list[SceneObject], targets: tuple[int, ...]) -> Arranged:
    order = [int(i) for i in rng.permutation(len(things))]
    return tuple(things[i] for i in order), tuple(sorted(order.index(t) for t in targets))
