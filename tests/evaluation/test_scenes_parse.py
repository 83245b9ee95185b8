"""What an output shows: things moved, resized, tinted, taken away and added behind the editor's back are found."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from scipy import ndimage

from insightedit.evaluation.scenes.benchmark import case_of
from insightedit.evaluation.scenes.graph import GraphCase, SceneGraph, agreement, graph_case_of, snap
from insightedit.evaluation.scenes.scene_from_image import parse, tone_shift
from insightedit.scenes import EditSample, SceneSampler, SubjectSampler
from insightedit.scenes.scene import HEIGHTS, SLOT_CENTRES

SIZE = 64
NO_SHIFT = np.zeros(3, dtype=np.int32)


def to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def of_task(task: str, number: int = 0, things: int = 2) -> EditSample:
    """The scene of a task with at least so many things."""
    sampler = SceneSampler("test", SIZE)
    fitting = (s for i in count() if (s := sampler[i]).task == task and len(s.scene.objects) >= things)
    return [next(fitting) for _ in range(number + 1)][-1]


@pytest.fixture(scope="module")
def case() -> GraphCase:
    """One thing of three or more is recoloured, and another one is small enough to grow by half where it stands."""
    cases = (graph_case_of(of_task("recolour", number, things=3)) for number in count())
    return next(one for one in cases if one and one.target.at(another(one)).height <= HEIGHTS["medium"])


def another(case: GraphCase) -> int:
    """The place of a thing that the edit does not mean, drawn last so that nothing hides it."""
    return next(thing.slot for thing in reversed(case.source.things) if thing.slot not in case.slots)


def found(case: GraphCase, start: str, output: np.ndarray, shift: np.ndarray = NO_SHIFT) -> SceneGraph:
    return parse(case, start, case.render(case.candidates[start]), output, shift)


def parsed(case: GraphCase, graph: SceneGraph, start: str = "target") -> SceneGraph:
    """What is seen in a slightly blurred drawing of a graph."""
    picture = to_bytes(ndimage.gaussian_filter(case.render(graph).astype(float), (0.4, 0.4, 0)))
    return snap(found(case, start, picture), graph)


@pytest.mark.parametrize("start", ["source", "target"])
def test_an_exact_picture_is_its_graph(case: GraphCase, start: str) -> None:
    for name in ("source", "target"):
        assert (
            snap(found(case, start, case.render(case.candidates[name])), case.candidates[name])
            == (case.candidates[name])
        )


@pytest.mark.parametrize("start", ["source", "target"])
@pytest.mark.parametrize("change", [{"colour": "pink"}, {"colour": "black"}, {"x": 90}, {"y": -80}, {"height": 1.5}])
def test_another_thing_that_changed_is_noticed(case: GraphCase, change: dict, start: str) -> None:
    slot = another(case)
    thing = case.target.at(slot)
    assert thing is not None
    values = {
        "colour": change.get("colour", thing.colour),
        "x": thing.x + change.get("x", 0),
        "y": thing.y + change.get("y", 0),
        "height": round(thing.height * change.get("height", 1)),
    }
    wanted = case.target.put(slot, replace(thing, **values))
    seen = parsed(case, wanted, start)
    assert seen == wanted
    assert not agreement(case.source, case.target, seen).exact


def test_a_thing_that_went_and_one_that_came_are_noticed(case: GraphCase) -> None:
    slot = another(case)
    gone = case.target.without(slot)
    assert parsed(case, gone) == gone
    free = next(s for s in range(9) if case.source.at(s) is None)
    x, y = SLOT_CENTRES[free]
    thing = case.target.at(slot)
    assert thing is not None
    doubled = case.target.put(free, replace(thing, slot=free, x=x, y=y, height=280))
    assert {(o.slot, o.name) for o in parsed(case, doubled).things} == {(o.slot, o.name) for o in doubled.things}


def test_any_class_is_found_where_the_edit_is() -> None:
    case = graph_case_of(of_task("replace"))
    assert case is not None
    (slot,) = case.slots
    thing = case.target.at(slot)
    assert thing is not None
    for name in ("owl", "guitar", "lemon"):
        wanted = case.target.put(slot, replace(thing, name=name))
        assert parsed(case, wanted) == wanted


@pytest.mark.parametrize("task", ["remove", "replace", "recolour", "add", "resize"])
def test_noise_blur_and_tint_do_not_change_what_is_seen(task: str) -> None:
    for number in range(3):
        sample = of_task(task, number)
        case, pixels = graph_case_of(sample), case_of(sample)
        assert case is not None
        target = pixels.target.astype(float)
        noise = np.random.default_rng(number).normal(0, 12, target.shape)
        for output in (
            to_bytes(target + noise),
            to_bytes(ndimage.gaussian_filter(target, (0.5, 0.5, 0))),
            to_bytes(target + np.array([30.0, 0.0, -30.0])),
        ):
            shift = tone_shift(pixels.source, output, pixels.background)
            assert agreement(case.source, case.target, found(case, "target", output, shift)).exact, sample


def test_the_shift_in_tone_is_a_median_of_the_background() -> None:
    source = np.full((8, 8, 3), 100, dtype=np.uint8)
    output = source + np.array([7, 0, 3], dtype=np.uint8)
    output[:2] = 255  # a quarter is something else
    background = np.ones((8, 8), dtype=bool)
    assert tone_shift(source, output, background).tolist() == [7, 0, 3]
    assert tone_shift(source, source - np.uint8(9), background).tolist() == [-9, -9, -9]
    assert tone_shift(source, output, background & False).tolist() == [0, 0, 0], "there is none"


def test_what_is_no_scene_is_left_as_it_is() -> None:
    """A reference handed back, a blank canvas, a blurred look: the nearest candidate's own graph."""
    sample = SubjectSampler("test", SIZE)[0]
    case = graph_case_of(sample)
    assert case is not None
    chaos = np.random.default_rng(0).integers(0, 256, sample.target.shape, dtype=np.uint8)
    for name in ("blank_canvas", "copy_reference"):
        assert found(case, name, chaos) == case.candidates[name]
    photometric = graph_case_of(of_task("photometric"))
    assert photometric is not None
    blurry = replace(photometric.source, look="blurry")
    candidates = {**photometric.candidates, "wrong_operation:blurry": blurry}
    assert found(replace(photometric, candidates=candidates), "wrong_operation:blurry", chaos) == blurry


def test_things_are_found_on_a_wrong_backdrop_and_under_a_look() -> None:
    sample = SubjectSampler("test", SIZE)[1]
    case = graph_case_of(sample)
    assert case is not None
    name = next(name for name in case.candidates if name.startswith("wrong_backdrop:"))
    bare = replace(case.candidates[name], things=())
    assert found(case, name, case.render(bare)) == bare
    photometric = graph_case_of(of_task("photometric"))
    assert photometric is not None
    slot = photometric.target.things[-1].slot
    gone = photometric.target.without(slot)
    assert gone.look is not None
    assert found(photometric, "target", photometric.render(gone)) == gone
