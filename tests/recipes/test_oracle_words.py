"""Phrases and instructions: what they mean, what they do not mean, and that what is written is understood."""

from __future__ import annotations

import pytest

from data_recipes.oracle.words import (
    Meaning,
    Phrase,
    detailed_caption,
    fact_of,
    read_instruction,
    read_phrase,
    simple_caption,
    size_word,
)
from data_recipes.oracle.world import world_of
from insightedit.scenes import SceneSampler
from insightedit.scenes.scene import SLOTS, SceneObject
from tests.recipes.stand_ins import photo

TOP_LEFT = SLOTS.index("top left")


def thing(name="dog", slot=0, x=175, height=210, colour=None, in_mirror=False):
    return SceneObject(name, slot, x, 175, height, False, colour, in_mirror)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("dog", Phrase("dog")),
        ("The Red Dog at the top left", Phrase("dog", "red", TOP_LEFT)),
        ("a small fire_engine", Phrase("fire engine", size="small")),
        ("the left dog", Phrase("dog", rank="left")),
        ("the dog in the mirror", Phrase("dog", mirror=True)),
        ("the dog in front of the mirror", Phrase("dog", mirror=False)),
        ("an animal that can fly", Phrase(fact="animal that can fly")),
        ("plant with a red cap in the middle of the photo", Phrase(slot=4, fact="plant with a red cap")),
        ("the thing at the bottom", Phrase(slot=7)),
        ("both dogs", Phrase("dog", both=True)),
        ("both foxes", Phrase("fox", both=True)),
        ("both octopuses", Phrase("octopus", both=True)),
    ],
)
def test_phrases_are_read(text, phrase):
    assert read_phrase(text) == phrase


@pytest.mark.parametrize(
    "text", ["", "the thing", "doghouse", "the dog and the cat", "a very red dog", "both griffins"]
)
def test_what_is_not_in_the_grammar_means_nothing(text):
    assert read_phrase(text) is None


def test_a_phrase_fits_what_it_says():
    dog = thing(colour="red", slot=TOP_LEFT)
    assert read_phrase("a small red dog at the top left").fits(dog)
    for wrong in ("cat", "blue dog", "dog at the top", "large dog", "dog in the mirror", "animal that meows"):
        assert not read_phrase(wrong).fits(dog)
    assert read_phrase("the animal that barks").fits(dog)


def test_ranks_choose_among_two():
    left, right = thing(x=100, height=360, slot=0), thing(x=800, height=210, slot=2)
    for words, number in (("left", 1), ("right", 0), ("bigger", 1), ("smaller", 0)):
        assert read_phrase(f"the {words} dog").among((right, left)) == (number,)
    assert read_phrase("the left dog").among((right, left, thing("dog", 4))) == (0, 1, 2)
    assert read_phrase("both dogs").among((right, left)) == (0, 1)


def test_sizes_lie_between_the_heights_of_scenes():
    assert [size_word(thing(height=h)) for h in (200, 210, 244, 245, 280, 319, 320, 360)] == [
        "small", "small", "small", "medium-sized", "medium-sized", "medium-sized", "large", "large",
    ]  # fmt: skip


def test_captions_mean_their_thing_alone():
    seen = set()
    for index in range(60):
        world = world_of(photo(index, 32).truth)
        for number, one in enumerate(world.scene.objects):
            words = simple_caption(world.scene, number)
            assert world.find(words) == (number,)
            assert world.find(detailed_caption(one)) == (number,)
            seen.add(words == one.name)
    assert seen == {True, False}  # most need no place


def test_facts_are_those_of_the_sprites():
    assert fact_of("dog") == "animal that barks"
    assert fact_of("apple") == ""


DOG, FOX = Phrase("dog"), Phrase("fox")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Remove the dog.", Meaning("remove", (DOG,))),
        ("What is at the top left? Remove it.", Meaning("remove", (Phrase(slot=TOP_LEFT),))),
        (
            "Find the animal that barks and take it out of the picture.",
            Meaning("remove", (Phrase(fact="animal that barks"),)),
        ),
        ("replace the dog with the fox", Meaning("replace", (DOG,), FOX)),
        ("turn the dog into a fox", Meaning("replace", (DOG,), FOX)),
        ("turn the dog red", Meaning("recolour", (DOG,), colour="red")),
        ("turn the dog into a bigger one", Meaning("resize", (DOG,), bigger=True)),
        ("add a fox at the top left", Meaning("add", (), Phrase("fox", slot=TOP_LEFT))),
        ("There is nothing at the top left, so put a fox there.", Meaning("add", (), Phrase("fox", slot=TOP_LEFT))),
        ("remove the dog and the fox", Meaning("remove", (DOG, FOX))),
        ("make the photo higher in contrast", Meaning("photometric", operation="higher in contrast")),
        ("let the fox stand in for the dog", Meaning("replace", (DOG,), FOX)),
    ],
)
def test_instructions_are_read(text, meaning):
    assert meaning in read_instruction(text)
    assert len(read_instruction(text)) == 1


@pytest.mark.parametrize("text", ["", "remove", "remove the ghost", "what a nice dog", "replace the dog with"])
def test_what_is_no_instruction_means_nothing(text):
    assert read_instruction(text) == ()


def test_every_instruction_of_scenes_is_understood_and_done_by_its_edit():
    from data_recipes.oracle.judge import is_done

    tasks = set()
    sampler = SceneSampler("test", 32, seed=3, plain=True)
    for index in range(150):
        sample = sampler[index]
        for text in (sample.instruction, sample.expressive_instruction):
            meanings = read_instruction(text)
            assert any(is_done(one, sample.scene, sample.target_scene) for one in meanings), text
            assert not any(is_done(one, sample.scene, sample.scene) for one in meanings), text
        tasks.add(sample.task)
    assert len(tasks) == 6


def test_wrong_edits_are_not_what_instructions_mean():
    from data_recipes.oracle.judge import is_done
    from insightedit.scenes.candidates import candidate_scenes

    sampler = SceneSampler("test", 32, seed=3)
    told = 0
    for index in range(80):
        sample = sampler[index]
        wrong = candidate_scenes(sample.scene, sample.edit, sample.renderer.assets.classes)
        for name, scene in wrong.items():
            done = any(is_done(one, sample.scene, scene) for one in read_instruction(sample.instruction))
            assert not done, (sample.instruction, name)
            told += 1
    assert told > 300
