"""MIGE's subject replacements from pairs that replace something, against the scenes and MIGE's tasks in scenes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from data_recipes.backends.windows import cut_out
from data_recipes.mige_replacement import Marks, Replacements, SubjectMasks, read_replacement
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context
from tests.recipes.recipe_runs import oracles, run_steps, same_records, scenes, world

RECIPE = "mige_replacement"
COUNT = 40


@pytest.fixture(scope="module")
def pairs() -> list[Record]:
    return scenes("scene_pairs", COUNT)


@pytest.fixture(scope="module")
def run(pairs: list[Record]) -> tuple[list[Record], list[Rejected]]:
    return run_steps(RECIPE, pairs)


def context(step: Any) -> Context:
    return Context(0, step.name, oracles())


def test_exactly_the_replacements_come_through(pairs: list[Record], run: tuple[list[Record], list[Rejected]]):
    wanted = [pair.key for pair in pairs if pair.task == "replace"]
    assert [record.key for record in run[0]] == wanted and len(wanted) >= 4
    assert {one.reason for one in run[1]} == {"is no replacement"} and len(run[1]) == COUNT - len(wanted)


def test_the_reference_is_what_came(pairs: list[Record], run: tuple[list[Record], list[Rejected]]):
    given = {pair.key: pair for pair in pairs}
    for record in run[0]:
        after = world(record, after=True)
        sample = world(record).sample
        assert np.array_equal(after.photo, record.target) and np.array_equal(record.target, sample.target)
        (number,) = sample.edit.targets
        assert after.scene.objects[number].name == record.class_target
        (reference,) = record.references
        assert np.array_equal(reference, cut_out(record.target, after.masks[number]))
        assert np.array_equal(record.mask, given[record.key].mask)
        assert np.array_equal(record.source, given[record.key].source)


def test_the_words_for_what_came_became_the_picture(pairs: list[Record], run: tuple[list[Record], list[Rejected]]):
    given = {pair.key: pair for pair in pairs}
    for record in run[0]:
        (words,) = [texts for kind, texts in given[record.key].instructions.items() if kind != "expressive"]
        wanted = re.sub(rf"an? {record.class_target}", "<imagehere>", words[0])
        kind = next(kind for kind in given[record.key].instructions if kind != "expressive")
        assert record.instructions[kind] == (wanted,) and wanted != words[0]
        assert record.instructions["template"][0].startswith("replace the ")
        assert all(text.count("<imagehere>") == 1 for text in record.wordings)


def test_one_by_one_gives_the_same_as_together(pairs: list[Record], run: tuple[list[Record], list[Rejected]]):
    assert same_records(run[0], run_steps(RECIPE, pairs, batch=1)[0])


def pair(**changed: Any) -> Record:
    source = np.full((40, 40, 3), 9, dtype=np.uint8)
    target = source.copy()
    target[10:20, 10:20] = 200
    given = {
        "task": "replace",
        "source": source,
        "target": target,
        "class_origin": "dog",
        "class_target": "fox",
        "instructions": {"simple": ("swap the dog for a fox",)},
        **changed,
    }
    return Record("a", **given)


def test_try_on_records_pass_untouched():
    cloth = np.zeros((9, 9, 3), dtype=np.uint8)
    ready = pair(
        task="edit", references=(cloth,), instructions={"simple": ("let her wear <imagehere>",)}, class_target=""
    )
    records, rejected = run_steps(RECIPE, [ready])
    assert not rejected and same_records(records, [ready])


def test_other_records_are_refused_and_say_why():
    known = {
        "is no pair of source and target": pair(source=None),
        "is no replacement": pair(task="edit", instructions={"simple": ("make it night",)}),
        "has references that its instructions do not name": pair(references=(pair().target,)),
        "does not name what goes and what comes": pair(class_target="", instructions={"simple": ("make it a fox",)}),
    }
    for reason, record in known.items():
        found = Replacements().one(record, context(Replacements()))
        assert isinstance(found, Rejected) and found.reason == reason


def test_names_are_read_from_the_instruction_where_the_data_set_has_none():
    plain = pair(task="edit", class_origin="", class_target="")
    found = Replacements().one(plain, context(Replacements()))
    assert isinstance(found, Record)
    assert (found.task, found.class_origin, found.class_target) == ("replace", "dog", "fox")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Replace the dog with a fox.", ("dog", "fox")),
        ("please swap the left dog for a red fox", ("left dog", "red fox")),
        ("turn the dog into an owl", ("dog", "owl")),
        ("change the dog to a fox", ("dog", "fox")),
        ("change the dog into a fox", ("dog", "fox")),
        ("put a fox in place of the dog", ("dog", "fox")),
        ("remove the dog", None),
        ("turn the dog into a bigger one", None),
        ("turn the photo into a painting", None),
        ("change it to winter", None),
        ("add a fox to the lawn", None),
    ],
)
def test_how_replacements_read(text: str, read: tuple[str, str] | None):
    assert read_replacement(text) == read


class Box:
    """Finds and cuts out one given part."""

    def __init__(self, *masks: np.ndarray, score: float = 0.9) -> None:
        self.masks, self.score = masks, score

    def detect(self, pictures: Any, phrases: Any, truths: Any) -> Any:
        from insightedit.detection import Detection

        self.phrases = phrases
        return [[Detection(words[0], (0, 0, 9, 9), self.score) for _ in self.masks] for words in phrases]

    def segment(self, pictures: Any, boxes: Any, truths: Any) -> Any:
        return [list(self.masks[: len(some)]) for some in boxes]


def area(top: int, bottom: int) -> np.ndarray:
    mask = np.zeros((40, 40), dtype=bool)
    mask[top:bottom, top:bottom] = True
    return mask


def located(box: Box, **settings: Any) -> Any:
    step = SubjectMasks(**settings)
    return step([pair()], Context(0, step.name, {"detector": box, "segmenter": box}))[0][0]


@pytest.mark.parametrize(
    ("box", "settings", "reason"),
    [
        (Box(), {}, "what came is not found"),
        (Box(area(10, 20), score=0.3), {}, "what came is not found"),
        (Box(area(10, 11)), {}, "subject is too small"),
        (Box(area(0, 40)), {}, "subject is too large"),
        (Box(area(25, 35)), {}, "subject was there before"),
        (Box(area(8, 20)), {"min_changed": 0.8}, "subject was there before"),
    ],
)
def test_subjects_that_will_not_do(box: Box, settings: dict, reason: str):
    found = located(box, **settings)
    assert isinstance(found, Rejected) and found.reason == reason and found.detail == "fox"


def test_of_several_boxes_the_first_that_came_is_taken():
    box = Box(area(25, 35), area(10, 20))
    found = located(box)
    assert isinstance(found, Record) and box.phrases == [["fox"]]
    assert np.array_equal(found.references[0], cut_out(pair().target, area(10, 20)))  # type: ignore[arg-type]
    assert np.array_equal(found.mask, area(10, 20)), "where the data set has no mask, the subject's"


def test_wordings_that_do_not_name_what_came_are_left_out():
    picture = pair().target
    told = {
        "simple": ("make it another animal", "a fox, please"),
        "advanced": ("swap the dog for a red fox on the lawn",),
    }
    record = pair(references=(picture,), instructions=told, detailed_target="A red fox on the lawn.")
    found = Marks().one(record, context(Marks()))
    assert isinstance(found, Record) and found.instructions == {
        "template": ("replace the dog with <imagehere>",),
        "simple": ("<imagehere>, please",),
        "advanced": ("swap the dog for <imagehere>",),
    }
    assert Marks().one(pair(), context(Marks())) == Rejected("a", "marks", "has no reference")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"min_changed": 2}, "steps.subject_masks.min_changed is 2: it is a share, from 0 to 1"),
        ({"min_area": 0.7}, "min_area is 0.7 and max_area 0.6: no mask is both"),
    ],
)
def test_settings_out_of_range(wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        SubjectMasks(**wrong)
