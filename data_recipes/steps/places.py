"""Where things stand, in words, by their masks: places in the picture, and things among others of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from data_recipes.backends.windows import box_of
from data_recipes.runner.records import ObjectAnnotation
from data_recipes.steps.asking import bare

ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
APART = 0.1  # share of the picture's side by which centres have to differ to be told apart by sides
LARGER = 1.5  # ratio of two areas from which on one is the bigger one


def article(noun: str) -> str:
    """`a dog`, `an apple`; without the article that it may have."""
    words = bare(noun)
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Across and down, as shares of the picture, of the middle of a mask's box; (H, W) bool, not empty."""
    box, (height, width) = box_of(mask), mask.shape
    return (2 * box.left + box.width) / 2 / width, (2 * box.top + box.height) / 2 / height


def place_words(mask: np.ndarray) -> str:
    """In which ninth of the picture: `at the top left`, `at the left side`, `in the middle`."""
    across, down = (min(2, int(share * 3)) for share in centre(mask))
    row, column = ROWS[down], COLUMNS[across]
    if row and column:
        return f"at the {row} {column}"
    if row:
        return f"at the {row}"
    return f"at the {column} side" if column else "in the middle"


def told_apart(things: Sequence[ObjectAnnotation], number: int) -> tuple[str, ...]:
    """What thing `number` is among others of its name, by masks: "the left dog", "the smaller dog".

    All that is true and clear; nothing where it is the only one, or neither side nor size tells them apart.
    """
    name = things[number].name
    same = [i for i, thing in enumerate(things) if thing.mask is not None and thing.name.lower() == name.lower()]
    if not 2 <= len(same) <= 3 or number not in same:
        return ()
    found = []
    across = sorted(same, key=lambda i: centre(things[i].pixels)[0])
    places = [centre(things[i].pixels)[0] for i in across]
    if all(b - a >= APART for a, b in pairwise(places)):
        sides = ("left", "right") if len(same) == 2 else ("left", "middle", "right")
        found.append(f"the {sides[across.index(number)]} {name}")
    if len(same) == 2:
        own, other = (int(things[i].pixels.sum()) for i in (number, sum(same) - number))
        if max(own, other) >= LARGER * min(own, other):
            found.append(f"the {'bigger' if own > other else 'smaller'} {name}")
    return tuple(found)


def beside(mask: np.ndarray, things: Sequence[ObjectAnnotation]) -> str:
    """Where a mask (H, W) bool is from the nearest of other things: `to the left of the cat`, `above the table`.

    "" where there is none, or where the side is not clear.
    """
    x, y = centre(mask)
    known = [
        (abs(x - a) + abs(y - b), bare(thing.words), x - a, y - b)
        for thing in things
        if thing.mask is not None
        for a, b in [centre(thing.mask)]
    ]
    if not known:
        return ""
    _, words, right, down = min(known)
    if max(abs(right), abs(down)) < APART:
        return ""
    if abs(right) >= abs(down):
        return f"to the {'right' if right > 0 else 'left'} of the {words}"
    return f"{'below' if down > 0 else 'above'} the {words}"
