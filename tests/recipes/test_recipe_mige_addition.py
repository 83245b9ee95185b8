"""MIGE's subject additions, against the scenes; and wordings in which a picture stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from data_recipes.backends.base import Question, Usage
from data_recipes.backends.windows import cut_out, touches_border
from data_recipes.mige_addition import Addition, MainSubject
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context
from data_recipes.steps.asking import UnusableError
from data_recipes.steps.wording import SubjectWording, mark_words, read_marked
from tests.recipes.recipe_runs import oracles, run_steps, same_records, showing, world

RECIPE = "mige_addition"
COUNT = 10


class Said:
    """A language model that says what it is told to; keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []
        self.name, self.settings, self.usage = "said", {}, Usage()

    def answer(self, questions: Sequence[Question]) -> list[str]:
        self.asked += questions
        return [self.answers.pop(0) for _ in questions]


def context(step: Any, chat: Any = None) -> Context:
    return Context(0, step.name, {**oracles(), **({"chat": chat} if chat else {})})


@pytest.fixture(scope="module")
def run() -> tuple[list[Record], list[Rejected]]:
    return run_steps(RECIPE, showing("scenes", COUNT))


def test_source_target_and_reference_are_exact(run: tuple[list[Record], list[Rejected]]):
    records, rejected = run
    assert len(records) + len(rejected) == COUNT and len(records) >= COUNT - 2
    for record in records:
        known = world(record)
        (number,) = known.find(record.class_target)
        mask = known.masks[number]
        whole = [m for m in known.masks if not touches_border(m)]
        assert mask.sum() == max(m.sum() for m in whole), "the largest one that is whole"
        assert record.task == "add" and record.class_origin == ""
        assert np.array_equal(record.target, known.photo)
        assert np.array_equal(record.source, known.draw(known.without(number)))
        assert not (mask & ~record.mask).any()
        (reference,) = record.references
        assert np.array_equal(reference, cut_out(known.photo, mask))
        assert np.count_nonzero((reference != 255).any(axis=-1)) >= 0.9 * mask.sum()


def test_a_picture_stands_once_in_every_wording(run: tuple[list[Record], list[Rejected]]):
    for record in run[0]:
        assert record.instructions["template"] == ("add <imagehere> to the picture",)
        assert len(set(record.instructions["simple"])) == 2
        assert all(text.count("<imagehere>") == 1 for text in record.wordings)
        assert all(record.things[record.notes["subject"]].name not in text for text in record.wordings)


def test_one_by_one_gives_the_same_as_together(run: tuple[list[Record], list[Rejected]]):
    assert same_records(run[0], run_steps(RECIPE, showing("scenes", COUNT), batch=1)[0])


def photo(**changed: Any) -> Record:
    mask = np.zeros((30, 40), dtype=bool)
    mask[10:20, 10:25] = True
    cut_off = np.zeros_like(mask)
    cut_off[:8, :8] = True
    things = (
        ObjectAnnotation("dog", "the red dog", mask=mask),
        ObjectAnnotation("cat", "a cat", mask=cut_off),
        ObjectAnnotation("sun", "sun"),
    )
    given = {"image": np.full((30, 40, 3), 9, dtype=np.uint8), "things": things, **changed}
    return Record("a", **given)


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        (['{"subject": null}'], "has no main subject", ""),
        (['{"subject": "cat"}'], "main subject is cut off", "a cat"),
        (['{"subject": "the sun"}'], "main subject has no mask", "sun"),
        (['{"subject": "wolf"}'] * 3, "no usable answer", "'wolf' is not in the list"),
        (["I think it is the dog."] * 3, "no usable answer", "the answer holds no JSON object"),
    ],
)
def test_subjects_that_will_not_do(answers: list[str], reason: str, detail: str):
    ((found,),) = MainSubject()([photo()], context(MainSubject(), Said(*answers)))
    assert found == Rejected("a", "main_subject", reason, detail)


def test_the_model_is_asked_with_the_photo_and_again_after_a_bad_answer():
    chat = Said("hm", '{"subject": "A Red Dog"}')
    ((found,),) = MainSubject()([photo()], context(MainSubject(), chat))
    assert isinstance(found, Record) and found.notes["subject"] == 0
    assert [question.attempt for question in chat.asked] == [0, 1]
    assert "- the red dog\n- a cat\n- sun" in chat.asked[0].prompt and len(chat.asked[0].pictures) == 1
    ((found,),) = MainSubject(whole=False)([photo()], context(MainSubject(), Said('{"subject": "cat"}')))
    assert isinstance(found, Record) and found.notes["subject"] == 1


def test_records_that_do_not_fit_are_refused():
    bare = photo(things=(ObjectAnnotation("dog"),))
    assert MainSubject()([bare], context(MainSubject()))[0][0].reason == "has no masks"  # type: ignore[union-attr]
    assert Addition()([photo()], context(Addition()))[0][0].reason == "has no subject"  # type: ignore[union-attr]
    ((found,),) = SubjectWording()([photo()], context(SubjectWording()))
    assert isinstance(found, Rejected) and found.reason == "has no subject with a reference"


def pair(task: str = "replace") -> Record:
    grey = np.full((30, 40, 3), 9, dtype=np.uint8)
    return Record(
        "a",
        task=task,
        source=grey,
        target=grey + 1,
        class_origin="the dog",
        class_target="a red fox",
        references=(grey,),
    )


def test_a_replacement_is_worded_alike_and_the_model_sees_the_target():
    chat = Said('{"instructions": ["turn the dog into <imagehere>"]}')
    step = SubjectWording(count=1)
    ((found,),) = step([pair()], context(step, chat))
    assert isinstance(found, Record) and found.instructions == {
        "template": ("replace the dog with <imagehere>",),
        "simple": ("turn the dog into <imagehere>",),
    }
    (question,) = chat.asked
    assert "the dog was replaced with the red fox" in question.prompt and question.pictures[0][0, 0, 0] == 10
    assert '{"instructions": ["..."]}' in question.prompt


def test_without_a_model_the_template_stands_alone():
    step = SubjectWording(count=0)
    assert step.needs == () and step.prompts == {}
    ((found,),) = step([pair("add")], Context(0, step.name, {}))
    assert isinstance(found, Record)
    assert found.wordings == ("add <imagehere> to the picture",)


def test_wordings_without_the_mark_are_asked_for_again():
    bad = '{"instructions": ["turn the dog into a fox", "swap the dog for <imagehere>"]}'
    good = '{"instructions": ["put <imagehere> here", "swap the dog for <imagehere>"]}'
    ((found,),) = SubjectWording()([pair()], context(SubjectWording(), Said(bad, good)))
    assert isinstance(found, Record) and found.instructions["simple"][0] == "put <imagehere> here"
    ((found,),) = SubjectWording()([pair()], context(SubjectWording(), Said(bad, bad, bad)))
    told = "an instruction holds <imagehere> 0 times, not once"
    assert found == Rejected("a", "subject_wording", "no usable wording", told)
    with pytest.raises(UnusableError, match="holds <imagehere> 2 times, not once"):
        read_marked('{"instructions": ["<imagehere> and <imagehere>"]}', 1, 9)
    with pytest.raises(UnusableError, match="an instruction has 3 words, more than 2"):
        read_marked('{"instructions": ["put <imagehere> here"]}', 1, 2)


@pytest.mark.parametrize(
    ("text", "words", "marked"),
    [
        ("replace the dog with a red fox.", "red fox", "replace the dog with <imagehere>."),
        ("An Owl and an owl", "an owl", "<imagehere> and an owl"),
        ("the foxes", "fox", "the foxes"),
        ("(small) fox, a fox", "a (small) fox", "<imagehere>, a fox"),
    ],
)
def test_marks_take_the_place_of_whole_words(text: str, words: str, marked: str):
    assert mark_words(text, words) == marked


@pytest.mark.parametrize(
    ("step", "wrong", "told"),
    [
        (MainSubject, {"attempts": 0}, "attempts is 0"),
        (Addition, {"grow": -0.1}, "steps.addition.grow is -0.1: it is a share, from 0 to 0.5"),
        (Addition, {"margin": 0.6}, "steps.addition.margin is 0.6"),
        (SubjectWording, {"count": -1}, "steps.subject_wording.count is -1: it has to be at least 0"),
        (SubjectWording, {"max_words": 0}, "steps.subject_wording.max_words is 0: it has to be at least 1"),
        (SubjectWording, {"attempts": 0}, "attempts is 0"),
    ],
)
def test_settings_out_of_range(step: type, wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        step(**wrong)
