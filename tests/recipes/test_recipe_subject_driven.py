"""New pictures of subjects: captions with pictures in them, against the scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data_recipes.backends.windows import cut_out
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context
from data_recipes.subject_driven import Compose, Entities, marked_caption
from tests.recipes.recipe_runs import oracles, run_steps, same_records, showing, world
from tests.recipes.test_recipe_mige_addition import Said

RECIPE = "subject_driven"
COUNT = 8


@pytest.fixture(scope="module")
def run() -> tuple[list[Record], list[Rejected]]:
    return run_steps(RECIPE, showing("scenes", COUNT))


def context(step: Any, chat: Any = None) -> Context:
    return Context(0, step.name, {**oracles(), **({"chat": chat} if chat else {})})


def test_the_caption_shows_what_the_cut_outs_show(run: tuple[list[Record], list[Rejected]]):
    records, rejected = run
    assert len(records) == COUNT and not rejected
    for record in records:
        known = world(record)
        assert record.task == "subject" and record.source is None
        assert np.array_equal(record.target, known.photo)
        (text,) = record.wordings
        entities = record.class_target.split(", ")
        assert text.count("<imagehere>") == len(entities) == len(record.references) <= 3
        shown = np.zeros((known.size, known.size), dtype=bool)
        for words, reference in zip(entities, record.references, strict=True):
            (number,) = known.find(words)
            assert np.array_equal(reference, cut_out(known.photo, known.masks[number]))
            shown |= known.masks[number]
            thing = known.scene.objects[number].name
            text = text.replace("<imagehere>", f"{'an' if words[0] in 'aeiou' else 'a'} {words}", 1)
            assert thing in words
        assert text == known.sample.caption_source, "with the words back it is the caption again"
        assert np.array_equal(record.mask, shown)


def test_one_by_one_gives_the_same_as_together(run: tuple[list[Record], list[Rejected]]):
    assert same_records(run[0], run_steps(RECIPE, showing("scenes", COUNT), batch=1)[0])


def test_the_largest_are_shown_and_the_others_keep_their_words():
    records, _ = run_steps(RECIPE, showing("scenes", COUNT), {"compose": {"max_references": 1}})
    for record in records:
        known = world(record)
        (number,) = known.find(record.class_target)
        sizes = [int(mask.sum()) for mask in known.masks]
        assert sizes[number] == max(sizes) and record.wordings[0].count("<imagehere>") == 1


def test_a_caption_of_the_source_is_kept():
    (record,) = showing("scenes", 1)
    told = f"look: {world(record).sample.caption_source}"
    records, _ = run_steps(RECIPE, [record.but(caption=told)])
    assert records[0].wordings[0].startswith("look: a photo with <imagehere>")


def test_longer_words_go_first_and_marks_are_in_the_order_of_the_caption():
    text, numbers = marked_caption("a red dog, a dog and two cats near the tree", ["dog", "red dog", "tree", "cat"])
    assert text == "<imagehere>, <imagehere> and two cats near <imagehere>" and numbers == [1, 0, 2]
    assert marked_caption("a photo", ["dog"]) == ("a photo", [])


def photo(**changed: Any) -> Record:
    mask = np.zeros((30, 40), dtype=bool)
    mask[10:20, 10:25] = True
    given = {
        "image": np.full((30, 40, 3), 9, dtype=np.uint8),
        "caption": "A red dog on a lawn",
        "things": (ObjectAnnotation("dog", "red dog", mask=mask),),
        **changed,
    }
    return Record("a", **given)


def test_the_model_reads_the_caption_only():
    chat = Said('{"entities": ["the red dog", "Red Dog", "lawn"]}')
    ((found,),) = Entities()([photo(things=())], context(Entities(), chat))
    assert isinstance(found, Record) and [thing.caption for thing in found.things] == ["red dog", "lawn"]
    assert chat.asked[0].pictures == () and "A red dog on a lawn" in chat.asked[0].prompt
    chat = Said("A dog.", '{"entities": ["dog"]}')
    ((found,),) = Entities()([photo(things=(), caption="")], context(Entities(), chat))
    assert isinstance(found, Record) and found.caption == "A dog." and len(chat.asked[0].pictures) == 1
    step = Entities(max_things=1)
    ((found,),) = step([photo()], context(step, Said('{"entities": ["red dog", "lawn"]}')))
    assert isinstance(found, Record) and len(found.things) == 1


@pytest.mark.parametrize(
    ("changed", "answers", "reason", "detail"),
    [
        ({"image": None}, [], "has no photo", ""),
        ({"caption": ""}, ["", "", ""], "no usable caption", "the answer is empty"),
        ({}, ['{"entities": []}'], "caption names no entity", "A red dog on a lawn"),
        ({}, ['{"entities": ["wolf"]}'] * 3, "no usable list of entities", "'wolf' is not in the caption"),
    ],
)
def test_entities_that_will_not_do(changed: dict, answers: list[str], reason: str, detail: str):
    ((found,),) = Entities()([photo(**changed)], context(Entities(), Said(*answers)))
    assert found == Rejected("a", "entities", reason, detail)


def test_photos_that_cannot_be_composed_are_refused():
    step = Compose()
    assert step.one(photo(things=(ObjectAnnotation("dog"),)), context(step)) == Rejected(
        "a", "compose", "has no masks"
    )
    found = step.one(photo(caption="a cat"), context(step))
    assert found == Rejected("a", "compose", "caption names nothing that was found", "a cat")


def test_finished_records_pass_untouched():
    grey = np.full((30, 40, 3), 9, dtype=np.uint8)
    ready = Record(
        "a", task="subject", target=grey, references=(grey,), instructions={"simple": ("<imagehere> on a lawn",)}
    )
    records, rejected = run_steps(RECIPE, [ready, *showing("scenes", 1)])
    assert not rejected and len(records) == 2 and same_records(records[:1], [ready])


@pytest.mark.parametrize(
    ("step", "wrong", "told"),
    [
        (Entities, {"attempts": 0}, "attempts is 0"),
        (Entities, {"max_things": 0}, "steps.entities.max_things is 0: it has to be at least 1"),
        (Compose, {"max_references": 0}, "steps.compose.max_references is 0: it has to be at least 1"),
        (Compose, {"margin": 1}, "steps.compose.margin is 1: it is a share, from 0 to 0.5"),
    ],
)
def test_settings_out_of_range(step: type, wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        step(**wrong)
