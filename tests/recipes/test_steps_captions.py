"""Captions, object lists and the filter of what may be edited: against scenes, and with models that answer badly."""

from __future__ import annotations

import json
from itertools import count

import pytest

from data_recipes.oracle.world import world_of
from data_recipes.runner.records import ObjectAnnotation, Record
from data_recipes.steps.captions import Captions
from data_recipes.steps.pairs import Editable, may
from tests.recipes.stand_ins import Script, only, oracles, photo, run

LIST = '{"object_list": [%s]}'
DOG = '{"category": "dog", "obj_simple_caption": "%s", "obj_detailed_caption": "a %s"}'


def objects(*captions):
    return LIST % ", ".join(DOG % (words, words) for words in captions)


def test_things_are_those_of_the_scene():
    record = photo(1)
    found = only(run(Captions(), [record], oracles()))
    world = world_of(record.truth)
    assert found.caption == world.sample.caption_source
    assert [thing.name for thing in found.things] == [thing.name for thing in world.scene.objects]
    assert [world.find(thing.caption) for thing in found.things] == [(n,) for n in range(len(found.things))]


def test_a_photo_of_nothing_is_refused():
    bare = next(record for number in count() if not world_of((record := photo(number, things=0)).truth).scene.objects)
    refused = only(run(Captions(), [bare], oracles()))
    assert (refused.key, refused.reason) == (bare.key, "no objects named")


def test_a_batch_gives_what_single_records_give():
    records = [photo(index) for index in range(4)]
    chat = {"chat": oracles(chat={"broken": 0.5})["chat"]}
    together = run(Captions(), records, chat)
    alone = [only(run(Captions(), [record], chat)) for record in records]
    assert [(one.caption, one.things) for one in together] == [(one.caption, one.things) for one in alone]


def test_first_answers_may_all_be_broken():
    backends = oracles(chat={"broken": 1})
    records = [photo(index) for index in range(12)]
    assert all(found.things for found in run(Captions(), records, backends))
    refused = run(Captions(attempts=1), records, backends)
    assert {one.reason for one in refused} <= {"no usable caption", "no usable object list"}
    assert len({one.detail for one in refused}) >= 3


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        ({"caption": ""}, "no usable caption", "the answer is empty"),
        ({"caption": "A dog.", "objects": "no"}, "no usable object list", "the answer holds no JSON object"),
        ({"caption": "A dog.", "objects": '{"object_list": [1]}'}, "no usable object list", "object_list.0:"),
        ({"caption": "A dog.", "objects": objects()}, "no objects named", ""),
    ],
)
def test_refusals(answers, reason, detail):
    chat = Script(**answers)
    refused = only(run(Captions(attempts=2), [photo(0)], {"chat": chat}))
    assert (refused.step, refused.reason) == ("captions", reason)
    assert refused.detail.startswith(detail)
    asked = [question.task for question in chat.asked]
    assert asked.count("caption") == (2 if reason == "no usable caption" else 1)


def test_one_record_of_a_batch_may_fail():
    chat = Script(caption=["", "A dog.", "A dog."], objects=objects("dog"))
    first, second, third = run(Captions(attempts=1), [photo(0), photo(1), photo(2)], {"chat": chat})
    assert (first.key, first.reason) == (photo(0).key, "no usable caption")
    assert [(one.key, len(one.things)) for one in (second, third)] == [(photo(1).key, 1), (photo(2).key, 1)]


def test_records_without_a_photo_are_refused():
    refused, kept = run(Captions(), [Record("a"), photo(0)], oracles())
    assert (refused.reason, refused.key) == ("has no photo", "a")
    assert kept.things


def test_things_of_the_same_words_are_one_and_the_first_are_kept():
    chat = Script(caption="Dogs.", objects=objects("red_dog", "Red dog", "blue dog", "green dog"))
    found = only(run(Captions(max_things=2), [photo(0)], {"chat": chat}))
    assert [thing.caption for thing in found.things] == ["red dog", "blue dog"]
    assert "up to 2 things" in chat.asked[1].prompt
    assert "Dogs." in chat.asked[1].prompt


def test_settings_and_prompts_are_told():
    step = Captions(attempts=2)
    assert step.settings == {"attempts": 2, "max_things": 8}
    assert set(step.prompts) == {"caption", "objects"}
    assert "{caption}" in step.prompts["objects"]


@pytest.mark.parametrize(
    ("step", "setting", "sentence"),
    [
        (Captions, {"attempts": 0}, "steps.captions.attempts is 0: it has to be a whole number, at least 1."),
        (Captions, {"attempts": "3"}, "steps.captions.attempts is '3': it has to be"),
        (Captions, {"max_things": 0}, "steps.captions.max_things is 0: it has to be at least 1."),
        (Editable, {"attempts": True}, "steps.editable.attempts is True"),
        (Editable, {"tasks": ["add"]}, "steps.editable.tasks has 'add': choose of remove, replace."),
    ],
)
def test_wrong_settings_are_told(step, setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        step(**setting)


# the filter ---------------------------------------------------------------------------------------


def listed(*captions):
    return photo(0).but(caption="A yard.", things=tuple(ObjectAnnotation("x", words) for words in captions))


def test_flags_say_what_may_be_edited():
    chat = Script(editable=['{"flags": [1, 0, 1]}', '{"flags": [0, 0, 1]}'])
    found = only(run(Editable(), [listed("dog", "sky", "left hand")], {"chat": chat}))
    assert may(found, "remove") == (True, False, True)
    assert may(found, "replace") == (False, False, True)
    first, second = (question.prompt for question in chat.asked)
    assert "to be removed by" in first
    assert "to be replaced by something else by" in second
    assert "2. sky" in first
    assert '{"flags": [1, 0, ...]} with 3 numbers' in first


def test_without_the_filter_everything_may_be_edited():
    assert may(listed("dog", "cat"), "remove") == (True, True)


def test_oracle_lets_edit_what_means_one_thing():
    record = only(run(Captions(), [photo(1)], oracles()))
    found = only(run(Editable(), [record], oracles()))
    assert all(may(found, "remove"))
    strange = record.but(things=(*record.things, ObjectAnnotation("sky", "sky")))
    assert may(only(run(Editable(), [strange], oracles())), "replace")[-1] is False


@pytest.mark.parametrize(
    ("flags", "reason", "detail"),
    [
        ("[0, 0]", "nothing may be edited", "2 objects"),
        ("[1]", "no usable flags", "there are 1 flags for 2 objects"),
        ("[2, 1]", "no usable flags", "flags.0: input should be 0 or 1"),
        ('"all"', "no usable flags", "flags: input should be a valid list"),
        ("[1, 0", "no usable flags", "the answer is not JSON"),
    ],
)
def test_refusals_of_the_filter(flags, reason, detail):
    chat = Script(editable=f'{{"flags": {flags}}}')
    refused = only(run(Editable(attempts=1), [listed("dog", "cat")], {"chat": chat}))
    assert (refused.step, refused.reason, refused.detail) == ("editable", reason, detail)


def test_one_task_only():
    chat = Script(editable='{"flags": [0, 1]}')
    step = Editable(tasks=["replace"])
    found = only(run(step, [listed("dog", "cat")], {"chat": chat}))
    assert may(found, "remove") == (True, True)
    assert may(found, "replace") == (False, True)
    assert set(step.prompts) == {"editable_replace"}
    assert json.loads(json.dumps(step.settings)) == {"tasks": ["replace"], "attempts": 3}
