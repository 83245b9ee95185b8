"""Painting regions, and masks in all of COCO's forms."""

from __future__ import annotations

import numpy as np
import pytest

from insightedit.datasets.segmentation import coco_mask, paint, polygon_mask, run_length_mask


def test_painting_blends_half_and_half_and_touches_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    mask = np.zeros((6, 5), bool)
    mask[2:4, 1:3] = True
    before = image.copy()
    painted = paint(image, mask, "yellow")
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(painted[~mask], image[~mask])
    np.testing.assert_array_equal(painted[mask], np.round((image[mask] + np.array([255.0, 255, 0])) / 2))


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the mask is \(3, 4\), its picture \(4, 3\)"):
        paint(np.zeros((4, 3, 3), np.uint8), np.zeros((3, 4), bool), "red")


def test_polygons_are_filled_and_joined() -> None:
    mask = polygon_mask([[1, 1, 3, 1, 3, 3, 1, 3], [5, 0, 6, 0, 6, 1, 5, 1]], height=5, width=8)
    assert mask[1:4, 1:4].all()
    assert mask[0:2, 5:7].all()
    assert mask.sum() == 9 + 4
    with pytest.raises(ValueError, match="a polygon has 4 numbers"):
        polygon_mask([[1, 1, 2, 2]], 5, 5)


# (runs, COCO's text) as `pycocotools.mask` writes it for the same 40 x 30 picture
PYCOCOTOOLS = [
    (
        [
            210,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            30,
            10,
            220,
        ],
        "b6:n00000000000000000000000000000000000000n5",
    ),
    ([0, 1200], "0`U1"),
    (
        [
            0,
            1,
            257,
            5,
            32,
            11,
            28,
            13,
            26,
            15,
            24,
            17,
            23,
            17,
            23,
            17,
            22,
            19,
            21,
            19,
            21,
            19,
            21,
            19,
            21,
            19,
            22,
            17,
            23,
            17,
            23,
            17,
            24,
            15,
            26,
            13,
            28,
            11,
            32,
            5,
            217,
        ],
        "01Q84oH6L2N2N2O000O2O00000001N10001N2N2N4Ji5",
    ),
]


@pytest.mark.parametrize(("runs", "text"), PYCOCOTOOLS)
def test_compressed_runs_are_those_of_pycocotools(runs: list[int], text: str) -> None:
    np.testing.assert_array_equal(run_length_mask(text, 40, 30), run_length_mask(runs, 40, 30))


def test_runs_go_down_the_columns() -> None:
    mask = run_length_mask([3, 2, 1], height=2, width=3)
    np.testing.assert_array_equal(mask, [[False, False, True], [False, True, False]])


@pytest.mark.parametrize("runs", [[3, 2], [3, 4, -1], []])
def test_runs_that_do_not_fill_the_picture_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="the runs of a mask fill"):
        run_length_mask(runs, 2, 3)


def test_all_forms_of_a_segmentation() -> None:
    parts = [{"counts": [0, 1, 5]}, {"counts": [5, 1]}]
    assert coco_mask(parts, 2, 3).sum() == 2
    assert coco_mask(parts[0], 2, 3).sum() == 1
    assert coco_mask([[0, 0, 1, 0, 1, 1, 0, 1]], 2, 3).sum() == 4
    with pytest.raises(ValueError, match="it is polygons or run lengths"):
        coco_mask([], 2, 3)
