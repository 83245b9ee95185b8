"""Masks: against the scene's own, and every reason why an object gets none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from data_recipes.backends.windows import box_of
from data_recipes.oracle.world import world_of
from data_recipes.runner.records import ObjectAnnotation, Record
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks, box_overlap
from insightedit.detection import Detection
from tests.recipes.stand_ins import only, oracles, photo, run

SIDE = 100


@dataclass
class Seen:
    """A detector and segmenter with given answers: boxes by phrase, and boxes as masks."""

    boxes: list[Detection]
    masks: dict = field(default_factory=dict)

    def detect(self, pictures, phrases, truths):
        return [self.boxes for _ in pictures]

    def segment(self, pictures, boxes, truths):
        return [[self.masks.get(box, filled(box)) for box in wanted] for wanted in boxes]


def filled(box):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    left, top, right, bottom = (int(v) for v in box)
    mask[top:bottom, left:right] = True
    return mask


def found(step, boxes, names=("dog", "cat"), masks=None):
    seen = Seen([Detection(*one) for one in boxes], masks or {})
    record = Record(
        "a", np.zeros((SIDE, SIDE, 3), np.uint8), things=tuple(ObjectAnnotation(name, f"red {name}") for name in names)
    )
    return only(run(step, [record], {"detector": seen, "segmenter": seen}))


DOG = ("red dog", (10.0, 10.0, 30.0, 30.0), 0.8)
CAT = ("red cat", (50.0, 50.0, 80.0, 80.0), 0.7)


def test_masks_are_exact_on_scenes():
    records = run(Captions(), [photo(index) for index in range(6)], oracles())
    for record in run(Masks(), records, oracles()):
        world = world_of(record.truth)
        for thing in record.things:
            (number,) = world.find(thing.caption)
            np.testing.assert_array_equal(thing.mask, world.masks[number])
            assert thing.box == box_of(world.masks[number]).xyxy
            assert 0.8 <= thing.score <= 0.9


def test_things_keep_their_order_whatever_their_scores():
    record = found(Masks(), [CAT, (*DOG[:2], 0.5)])
    assert [(thing.name, thing.score, thing.box) for thing in record.things] == [
        ("dog", 0.5, DOG[1]),
        ("cat", 0.7, CAT[1]),
    ]
    assert record.notes["objects_left_out"] == {}


def test_the_best_box_of_a_phrase_is_taken():
    record = found(Masks(), [("red dog", (0.0, 0.0, 20.0, 20.0), 0.5), DOG])
    assert [thing.box for thing in record.things] == [DOG[1]]
    assert record.notes["objects_left_out"] == {"not found": 1}


def test_two_phrases_of_one_box_are_one_thing():
    record = found(Masks(), [DOG, ("red cat", (10.0, 10.0, 30.0, 31.0), 0.6)])
    assert [thing.name for thing in record.things] == ["dog"]
    assert record.notes["objects_left_out"] == {"box is another's": 1}


@pytest.mark.parametrize(
    ("boxes", "reason", "detail"),
    [
        ([], "nothing found", "2 not found"),
        ([(*DOG[:2], 0.39), (*CAT[:2], 0.1)], "nothing found", "2 low score"),
        ([("a bird", (0.0, 0.0, 9.0, 9.0), 0.9)], "nothing found", "2 not found"),
        ([("red dog", (10.0, 10.0, 16.0, 18.0), 0.9)], "no mask is usable", "1 mask is too small, 1 not found"),
        ([("red dog", (0.0, 0.0, 100.0, 60.0), 0.9)], "no mask is usable", "1 mask is too large, 1 not found"),
    ],
)
def test_refusals(boxes, reason, detail):
    refused = found(Masks(), boxes)
    assert (refused.step, refused.reason, refused.detail) == ("masks", reason, detail)


def test_an_empty_mask_is_too_small_even_if_all_sizes_are_allowed():
    refused = found(Masks(min_area=0), [DOG], masks={DOG[1]: np.zeros((SIDE, SIDE), dtype=bool)})
    assert refused.detail == "1 mask is too small, 1 not found"


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((10.0, 10.0, 30.0, 34.0), "masks overlap"),  # IoU 400 / 480
        ((12.0, 12.0, 20.0, 22.0), "mask lies within another"),
        ((20.0, 10.0, 40.0, 30.0), ""),  # half of each
    ],
)
def test_the_weaker_of_two_masks_in_one_place_goes(box, why):
    record = found(Masks(), [DOG, ("red cat", box, 0.6)])
    assert [thing.name for thing in record.things] == (["dog"] if why else ["dog", "cat"])
    assert record.notes["objects_left_out"] == ({why: 1} if why else {})


def test_the_weaker_one_goes_where_it_is_the_outer_one():
    record = found(Masks(), [("red cat", (12.0, 12.0, 20.0, 22.0), 0.9), (*DOG[:2], 0.6)])
    assert [thing.name for thing in record.things] == ["cat"]


def test_so_many_things_at_most():
    record = found(Masks(max_things=1), [DOG, CAT])
    assert [thing.name for thing in record.things] == ["dog"]
    assert record.notes["objects_left_out"] == {"beyond max_things": 1}


def test_thresholds_are_settings():
    weak = [(*DOG[:2], 0.3)]
    assert found(Masks(box_threshold=0.3), weak).things[0].name == "dog"
    assert found(Masks(max_area=0.03), [DOG]).reason == "no mask is usable"
    assert found(Masks(min_area=0.05), [DOG]).reason == "no mask is usable"


def test_a_record_without_a_photo_is_refused_beside_others():
    record = only(run(Captions(), [photo(0)], oracles()))
    refused, kept = run(Masks(), [Record("a"), record], oracles())
    assert (refused.key, refused.reason) == ("a", "has no photo")
    assert kept.things[0].mask is not None


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"box_threshold": 1.2}, "steps.masks.box_threshold is 1.2: it is a share, from 0 to 1."),
        ({"min_area": -0.1}, "steps.masks.min_area is -0.1: it is a share"),
        ({"min_area": 0.6}, "steps.masks.min_area is 0.6 and max_area 0.5: no mask is both; make min_area"),
        ({"max_things": 0}, "steps.masks.max_things is 0: it has to be at least 1."),
    ],
)
def test_wrong_settings_are_told(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Masks(**setting)


def test_overlap_of_boxes():
    assert box_overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert box_overlap((0, 0, 2, 2), (2, 2, 3, 3)) == 0
    assert box_overlap((1, 1, 1, 1), (1, 1, 1, 1)) == 0
    assert box_overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
