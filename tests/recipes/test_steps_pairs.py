"""Pairs: pixels against scenes, the swapped ones, what may not be edited, and proposals that cannot be used."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_recipes.oracle.world import world_of
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.pairs import PROMPT, Pairs, box_mask, grown, swapped
from insightedit.datasets.segmentation import decode_mask
from tests.recipes.stand_ins import Script, drive, only, oracles, photo, run

FRONT = (Captions(), Masks())


def masked(*indices):
    left, refused = drive(FRONT, [photo(index) for index in indices], oracles())
    assert not refused
    return left


def test_removals_and_additions_are_the_scene_without_the_thing():
    for record in run(Pairs(tasks=["remove", "add"]), masked(0, 1, 2), oracles()):
        world = world_of(record.truth)
        back = record.task == "add"
        (number,) = world.find(record.class_target if back else record.class_origin)
        without, photo_itself = (record.source, record.target) if back else (record.target, record.source)
        np.testing.assert_array_equal(photo_itself, world.photo)
        np.testing.assert_array_equal(without, world.draw(world.without(number)))
        np.testing.assert_array_equal(decode_mask(record.notes["segmentation"]), world.masks[number])
        assert (record.mask | ~world.masks[number]).all()


def test_replacements_show_what_was_proposed_and_come_both_ways():
    (record,) = masked(1)
    world = world_of(record.truth)
    pairs = {pair.key: pair for pair in run(Pairs(tasks=["replace"]), [record], oracles())}
    there = pairs[f"{record.key}/0-replace"]
    back = pairs[f"{record.key}/0-replace-back"]
    assert (there.task, back.task) == ("replace", "replace")
    assert (there.class_origin, there.class_target) == (back.class_target, back.class_origin)
    assert (there.detailed_origin, there.detailed_target) == (back.detailed_target, back.detailed_origin)
    assert there.source is back.target
    assert there.target is back.source
    assert there.class_target not in {thing.name for thing in world.scene.objects}
    changed = (there.source != there.target).any(axis=-1)
    assert changed.any()
    assert not (changed & ~there.mask).any()
    assert (there.notes["swapped"], back.notes["swapped"]) == (False, True)


def test_keys_and_tasks():
    (record,) = masked(1)
    pairs = run(Pairs(), [record], oracles())
    kinds = ["remove", "add", "replace", "replace-back"]
    assert [pair.key for pair in pairs] == [
        f"{record.key}/{number}-{kind}" for number in range(len(record.things)) for kind in kinds
    ]
    assert {pair.key.split("-", 1)[1]: pair.task for pair in pairs} == {
        "remove": "remove", "add": "add", "replace": "replace", "replace-back": "replace",
    }  # fmt: skip
    assert {pair.key.split("-", 1)[1] for pair in run(Pairs(tasks=["add"]), [record], oracles())} == {"add"}
    forward = run(Pairs(tasks=["replace"], swap=False), [record], oracles())
    assert {pair.key.split("-", 1)[1] for pair in forward} == {"replace"}


def test_a_batch_gives_what_single_records_give():
    records = masked(0, 1, 2)
    together = run(Pairs(), records, oracles())
    alone = [pair for record in records for pair in run(Pairs(), [record], oracles())]
    assert [(pair.key, pair.class_target) for pair in together] == [(p.key, p.class_target) for p in alone]
    assert all(np.array_equal(one.target, other.target) for one, other in zip(together, alone, strict=True))


def test_only_what_the_filter_allows_is_edited():
    (record,) = masked(1)
    names = [thing.caption for thing in record.things]
    record = record.but(notes={"may_remove": [names[0]], "may_replace": [names[1]]})
    assert [pair.key.split("/")[1] for pair in run(Pairs(), [record], oracles())] == [
        "0-remove", "0-add", "1-replace", "1-replace-back",
    ]  # fmt: skip
    nothing = record.but(notes={"may_remove": [], "may_replace": []})
    refused = only(run(Pairs(), [nothing], oracles()))
    assert (refused.step, refused.reason) == ("pairs", "nothing may be edited")


def test_so_many_things_at_most_by_chance_but_always_the_same():
    (record,) = masked(1)
    step = Pairs(tasks=["remove"], max_things=2)
    chosen = [{p.key for p in run(step, [record], oracles(), seed=seed)} for seed in range(8)]
    assert all(len(keys) == 2 for keys in chosen)
    assert len({frozenset(keys) for keys in chosen}) > 1
    assert {p.key for p in run(step, [record], oracles(), seed=3)} == chosen[3]


@pytest.mark.parametrize(
    ("record", "reason"),
    [(Record("a"), "has no photo"), (photo(0).but(things=(ObjectAnnotation("dog"),)), "has no masks")],
)
def test_refusals(record, reason):
    refused = only(run(Pairs(), [record], oracles()))
    assert (refused.step, refused.reason) == ("pairs", reason)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("no idea", "the answer holds no JSON object"),
        ('{"object": "", "detailed_caption": "x"}', "object: string should have at least 1 character"),
        ('{"object": "fox"}', "detailed_caption: field required"),
        ('{"object": "The %s", "detailed_caption": "one more"}', "'The %s' is in the picture already"),
    ],
)
def test_a_proposal_that_cannot_be_used_costs_this_replacement_only(answer, why):
    (record,) = masked(1)
    answer, why = (text.replace("%s", record.things[0].name.upper()) for text in (answer, why))
    backends = {**oracles(), "chat": Script(propose=answer)}
    outcomes = run(Pairs(attempts=2), [record], backends)
    refused = [one for one in outcomes if isinstance(one, Rejected)]
    assert [one.key for one in refused] == [f"{record.key}/{n}-replace" for n in range(len(record.things))]
    assert {(one.reason, one.detail) for one in refused} == {("no usable proposal", why)}
    assert {one.task for one in outcomes if isinstance(one, Record)} == {"remove", "add"}
    assert len(backends["chat"].asked) == 2 * len(record.things)


def test_the_proposal_is_asked_for_with_picture_and_words():
    (record,) = masked(1)
    chat = Script(propose='{"object": "fox", "detailed_caption": "a fox"}')
    run(Pairs(tasks=["replace"]), [record], {**oracles(), "chat": chat})
    question = chat.asked[0]
    assert question.about["object"] == record.things[0].caption
    assert record.things[0].detailed_caption in question.prompt
    assert record.caption in question.prompt
    np.testing.assert_array_equal(question.pictures[0], record.image)
    assert Pairs().prompts == {"propose": PROMPT}
    assert Pairs(tasks=["remove"]).prompts == {}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"tasks": []}, "steps.pairs.tasks is empty: choose of remove, add, replace."),
        ({"tasks": ["paint"]}, "steps.pairs.tasks has 'paint': choose of remove, add, replace."),
        ({"grow": 0.6}, "steps.pairs.grow is 0.6: it is a share of a side, from 0 to 0.5."),
        ({"max_things": 0}, "steps.pairs.max_things is 0: it has to be at least 1."),
        ({"attempts": 0}, "steps.pairs.attempts is 0"),
    ],
)
def test_wrong_settings_are_told(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Pairs(**setting)


def test_settings_are_ready_for_json():
    assert json.loads(json.dumps(Pairs(tasks=("add",)).settings))["tasks"] == ["add"]


def test_grown_masks_reach_a_share_of_the_longer_side():
    mask = np.zeros((50, 200), dtype=bool)
    mask[25, 100] = True
    wide = grown(mask, 0.02)  # 4 pixels
    assert wide[25, 96:105].all()
    assert not wide[25, 95]
    assert not wide[22, 97]  # a disc, no square
    assert grown(mask, 0.001)[25, 98]  # 2 pixels at least
    np.testing.assert_array_equal(grown(mask, 0), mask)
    assert not grown(np.zeros((5, 5), dtype=bool), 0.1).any()


def test_boxes_of_masks():
    mask = np.zeros((8, 8), dtype=bool)
    assert not box_mask(mask).any()
    mask[1, 2] = mask[5, 6] = True
    box = box_mask(mask)
    assert box.sum() == 25
    assert box[1:6, 2:7].all()


def test_swapping_twice_is_nothing():
    (record,) = masked(1)
    pair = run(Pairs(tasks=["remove"]), [record], oracles())[0]
    again = swapped(swapped(pair, "x"), pair.key)
    assert (again.task, again.class_origin, again.class_target) == ("remove", pair.class_origin, "")
    assert again.source is pair.source
