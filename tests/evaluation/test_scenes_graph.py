"""Graphs of scenes: every candidate's drawing, predicates by hand, tolerances, agreement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from insightedit.evaluation.scenes.graph import SceneGraph, agreement, graph_case_of, predicates, snap
from insightedit.scenes import SceneSampler, SubjectEditSampler, SubjectSampler
from insightedit.scenes.scene import SceneObject
from tests.evaluation.toy import ToySample

DOG = SceneObject("dog", 3, 180, 500, 280)
CAT = SceneObject("cat", 5, 820, 500, 360, colour="red")
BOTH = SceneGraph((DOG, CAT))
SAMPLERS = {"editing": SceneSampler, "subject": SubjectSampler, "subject_editing": SubjectEditSampler}


@pytest.mark.parametrize("task", SAMPLERS)
def test_every_candidate_is_drawn_as_the_sampler_draws_it(task: str) -> None:
    """The graph of a candidate is the candidate: same bytes, mirrors, looks, backdrops and references included."""
    kinds = set()
    for index in range(40):
        sample: Any = SAMPLERS[task]("test", 32)[index]
        case = graph_case_of(sample)
        assert case is not None
        for name, picture in sample.candidates().items():
            assert np.array_equal(case.render(case.candidates[name]), picture), (index, name)
            kinds.add(name.split(":")[0])
        assert case.slots or sample.task == "photometric"
    wanted = {
        "editing": {"wrong_object", "only_object", "wrong_colour", "wrong_place", "wrong_operation"},
        "subject": {"blank_canvas", "copy_reference", "wrong_backdrop", "only_subject", "wrong_tint"},
        "subject_editing": {"copy_reference", "wrong_subject", "wrong_tint"},
    }
    assert kinds >= {"source", "target"} | wanted[task]


def test_samples_of_other_kinds_have_no_graph() -> None:
    assert graph_case_of(ToySample()) is None


def test_predicates_of_two_things() -> None:
    assert predicates(BOTH) == {
        ("look", None),
        ("ground", "given"),
        ("things", 2),
        ("count", "dog", 1),
        ("count", "cat", 1),
        ("is", 3, "dog"),
        ("is", 5, "cat"),
        ("tint", 3, None),
        ("tint", 5, "red"),
        ("height", 3, 280),
        ("height", 5, 360),
        ("place", 3, 180, 500),
        ("place", 5, 820, 500),
        ("left of", "dog", "cat"),
        ("larger than", "cat", "dog"),
    }
    assert predicates(SceneGraph()) == {("look", None), ("ground", "given"), ("things", 0)}


def test_a_graph_is_put_together_and_taken_apart() -> None:
    assert BOTH.at(3) is DOG and BOTH.at(4) is None
    assert BOTH.without(3).things == (CAT,) and BOTH.put(5, None).things == (DOG,)
    bird = SceneObject("bird", 0, 175, 175, 210)
    assert BOTH.put(0, bird).things == (DOG, CAT, bird), "in front of the others"
    fox = replace(DOG, name="fox")
    assert BOTH.put(3, fox).things == (fox, CAT), "where the dog was in the order"


@pytest.mark.parametrize(
    ("change", "snapped"),
    [
        ({"x": 200, "y": 480}, True),
        ({"x": 201}, False),
        ({"height": 325}, True),  # 280 * exp(0.15) is 325.3
        ({"height": 326}, False),
        ({"height": 242}, True),
        ({"height": 240}, False),
    ],
)
def test_tolerances_are_two_hundredths_of_the_side_and_fifteen_of_the_size(
    change: dict[str, int], snapped: bool
) -> None:
    seen = SceneGraph((replace(DOG, **change), CAT))
    assert (snap(seen, BOTH) == BOTH) is snapped
    assert agreement(SceneGraph((CAT,)), BOTH, seen).exact is snapped


def test_the_first_truth_that_fits_counts() -> None:
    bigger = SceneGraph((replace(DOG, height=392),))
    assert snap(SceneGraph((replace(DOG, height=380),)), bigger, SceneGraph((DOG,))) == bigger
    assert snap(SceneGraph((replace(DOG, height=290),)), bigger, SceneGraph((DOG,))).things == (DOG,)


def test_agreement_tells_too_little_from_too_much() -> None:
    """The dog is to go; the cat is to stay."""
    target = SceneGraph((CAT,))
    right, idle = agreement(BOTH, target, target), agreement(BOTH, target, BOTH)
    assert (right.exact, right.change_accuracy, right.keep_accuracy, right.predicate_f1) == (True, 1, 1, 1)
    assert (idle.exact, idle.change_accuracy, idle.keep_accuracy, idle.predicate_f1) == (False, 0, 1, 0)
    all_gone = agreement(BOTH, target, SceneGraph())
    # of 9 predicates to come or go only `things 1` is missing; of the 7 to stay look and ground are left
    assert all_gone.change_accuracy == pytest.approx(8 / 9)
    assert all_gone.keep_accuracy == pytest.approx(2 / 7)
    assert all_gone.predicate_f1 == pytest.approx(2 * (8 / 9) * (2 / 7) / (8 / 9 + 2 / 7))
    wrong = agreement(BOTH, target, SceneGraph((DOG,)))
    assert wrong.keep_accuracy == pytest.approx(2 / 7) and wrong.change_accuracy == pytest.approx(4 / 9)
    assert not wrong.exact


def test_direction_is_no_predicate_but_look_and_ground_are() -> None:
    source = SceneGraph((CAT,))
    assert agreement(source, BOTH, SceneGraph((replace(DOG, flip=True), CAT))).exact
    assert not agreement(source, BOTH, replace(BOTH, look="sepia")).exact
    assert not agreement(source, BOTH, replace(BOTH, ground="wrong_backdrop:red")).exact


def test_a_look_is_the_whole_change_of_a_photometric_edit() -> None:
    sepia = replace(BOTH, look="sepia")
    assert agreement(BOTH, sepia, BOTH).change_accuracy == 0
    assert agreement(BOTH, sepia, replace(BOTH, look="darker")).change_accuracy == 0.5, "gone, but not come"
    assert agreement(BOTH, sepia, sepia).exact
