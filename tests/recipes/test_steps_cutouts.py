"""Things taken out of photos, pasted into others, and told by where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from data_recipes.backends.windows import CutOut, Window, cut_out, touches_border, trimmed
from data_recipes.runner.records import ObjectAnnotation
from data_recipes.steps.masks import article, beside, centre, place_words, told_apart


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (height, width, 3), dtype=np.uint8)


def disc(top: int, left: int, side: int, height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    middle = (side - 1) / 2
    return (rows - top - middle) ** 2 + (columns - left - middle) ** 2 <= (side / 2) ** 2


def thing(name: str, top: int, left: int, side: int = 10, caption: str = "") -> ObjectAnnotation:
    return ObjectAnnotation(name, caption or name, mask=disc(top, left, side))


def test_a_reference_shows_the_thing_alone_on_white():
    mask = disc(5, 10, 20)
    mask[12, 40] = True  # wider than high
    out = cut_out(picture(), mask, 0.1)
    assert out.shape == (37, 37, 3), "31 wide, and three of white on each side"
    rows, columns = np.nonzero(mask)
    shown = out[rows - 5 + 8, columns - 10 + 3]
    assert np.array_equal(shown, picture()[mask]), "as large as it was"
    assert np.count_nonzero((out != 255).any(axis=-1)) == mask.sum()
    assert cut_out(picture(), mask, 0.0).shape == (31, 31, 3)


def test_what_touches_the_border_is_cut_off():
    for top, left in ((0, 20), (30, 20), (10, 0), (10, 50)):
        assert touches_border(disc(top, left, 10))
    assert not touches_border(disc(1, 1, 10))


def test_edges_are_trimmed_unless_nothing_is_left():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:12, 5:12] = True
    assert trimmed(mask, 0) is mask
    assert np.array_equal(np.argwhere(trimmed(mask, 2)).min(axis=0), [7, 7]) and trimmed(mask, 2).sum() == 9
    assert np.array_equal(trimmed(mask, 4), mask)


def test_a_thing_of_the_same_size_is_pasted_exactly():
    mask = disc(5, 10, 20)
    cut = CutOut.of(picture(), mask)
    assert cut.pixels.shape == (20, 20, 3) and cut.mask.sum() == mask.sum()
    empty = np.full((50, 50, 3), 7, dtype=np.uint8)
    out, inside = cut.pasted(empty, Window(25, 30, 20, 20))
    assert np.array_equal(out[25:45, 30:50][cut.mask], picture()[mask])
    assert np.array_equal(inside[25:45, 30:50], cut.mask) and inside.sum() == mask.sum()
    assert (out[~inside] == 7).all() and (empty == 7).all()
    again = CutOut.from_pictures(cut.pictures)
    assert np.array_equal(again.mask, cut.mask) and np.array_equal(again.pixels, cut.pixels)


def test_a_thing_of_another_size_brings_nothing_of_its_old_background_along():
    green = np.zeros((40, 60, 3), dtype=np.uint8)
    green[..., 1] = 255
    mask = disc(5, 10, 24)
    green[mask] = (250, 10, 10)  # a red disc on green
    empty = np.full((60, 60, 3), 10, dtype=np.uint8)
    for side in (11, 40):
        out, inside = CutOut.of(green, mask).pasted(empty, Window(4, 6, side, side))
        assert (out[~inside] == 10).all()
        assert out[..., 1].max() <= 12, "no green anywhere"
        assert tuple(out[4 + side // 2, 6 + side // 2]) == (250, 10, 10)
        assert 0.7 < inside.sum() / (np.pi * side**2 / 4) < 1.4


def test_places_are_ninths_of_the_picture():
    told = [[place_words(disc(top, left, 10)) for left in (2, 25, 48)] for top in (1, 15, 29)]
    assert told == [
        ["at the top left", "at the top", "at the top right"],
        ["at the left side", "in the middle", "at the right side"],
        ["at the bottom left", "at the bottom", "at the bottom right"],
    ]
    assert centre(disc(10, 20, 10)) == (25 / 60, 15 / 40)


def test_things_of_one_kind_are_told_apart_by_side_and_size():
    two = [thing("dog", 5, 40, 12), thing("cat", 5, 20), thing("Dog", 20, 5, 8)]
    assert told_apart(two, 0) == ("the right dog", "the bigger dog")
    assert told_apart(two, 2) == ("the left Dog", "the smaller Dog")
    assert told_apart(two, 1) == (), "the only cat needs no telling"
    three = [thing("dog", 5, 40), thing("dog", 5, 20), thing("dog", 20, 5)]
    assert [told_apart(three, i) for i in range(3)] == [("the right dog",), ("the middle dog",), ("the left dog",)]
    assert told_apart([*three, thing("dog", 30, 50)], 0) == (), "four are too many"
    above = [thing("dog", 5, 20), thing("dog", 25, 21)]
    assert told_apart(above, 0) == (), "neither side nor size tells"
    assert told_apart([ObjectAnnotation("dog"), *above[:1]], 0) == ()


def test_a_place_is_told_from_the_nearest_thing():
    cat, table = thing("cat", 5, 20, caption="the old cat"), thing("table", 28, 48)
    assert beside(disc(5, 45, 10), [cat, table]) == "to the right of the old cat"
    assert beside(disc(5, 2, 10), [cat, table]) == "to the left of the old cat"
    assert beside(disc(25, 20, 10), [cat]) == "below the old cat"
    assert beside(disc(15, 48, 10), [cat, table]) == "above the table"
    assert beside(disc(5, 21, 10), [cat]) == "" and beside(disc(5, 21, 10), [ObjectAnnotation("dog")]) == ""


@pytest.mark.parametrize(("noun", "told"), [("dog", "a dog"), ("old dog", "an old dog"), ("the ape", "an ape")])
def test_articles(noun: str, told: str):
    assert article(noun) == told
