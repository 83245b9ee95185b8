"""Errors of the edited thing and its likeness, on drawings whose errors are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import deltaE_ciede2000, rgb2lab

from insightedit.evaluation.scenes.attributes import AttributeCase, Cutout, cut_out, likeness
from insightedit.evaluation.scenes.graph import GraphCase, SceneGraph, graph_case_of
from insightedit.scenes import SubjectSampler
from tests.evaluation.test_scenes_parse import of_task


@pytest.fixture(scope="module")
def case() -> GraphCase:
    """An edit that recolours one of two things or more."""
    found = graph_case_of(of_task("recolour"))
    assert found is not None
    return found


def errors(case: GraphCase, seen: SceneGraph) -> dict:
    return vars(AttributeCase(case, case.render(case.target)).errors(seen, case.render(seen)))


def changed(case: GraphCase, **values: object) -> SceneGraph:
    """The target with the edited thing changed."""
    thing = case.target.at(case.slots[0])
    assert thing is not None
    return case.target.put(thing.slot, replace(thing, **values))


def disc(colour: tuple[int, int, int], radius: float = 8.0, x: int = 20, y: int = 20, size: int = 64) -> Cutout:
    """A striped disc on grey."""
    rows, columns = np.mgrid[:size, :size]
    mask = np.hypot(rows - y, columns - x) <= radius
    picture = np.full((size, size, 3), 128, dtype=np.uint8)
    picture[mask] = colour
    picture[mask & ((rows - y) > radius / 3)] = 20
    return Cutout(picture, mask)


def test_the_target_has_no_errors_and_full_likeness(case: GraphCase) -> None:
    found = errors(case, case.target)
    assert (found["found"], found["right_kind"]) == (1.0, 1.0)
    assert all(found[name] == 0 for name in ("colour_error", "position_error", "size_error", "count_error"))
    likenesses = [found[name] for name in ("subject_histogram", "subject_iou", "subject_ssim")]
    assert likenesses == pytest.approx([1.0, 1.0, 1.0])


def test_place_and_size_are_those_of_the_graph(case: GraphCase) -> None:
    thing = case.target.at(case.slots[0])
    assert thing is not None
    found = errors(case, changed(case, x=thing.x + 30, y=thing.y - 40))
    assert found["position_error"] == pytest.approx(0.05 / math.sqrt(2))
    assert found["size_error"] == 0.0
    found = errors(case, changed(case, height=thing.height // 2))
    assert found["size_error"] == pytest.approx(1.0)


def test_colour_is_ciede2000_between_mean_colours() -> None:
    red, green = disc((220, 40, 40)), disc((40, 200, 60))
    means = [rgb2lab(c.picture[c.mask][None].reshape(1, -1, 3)).mean(axis=1)[0] for c in (red, green)]
    assert np.allclose(red.colour, means[0]) and np.allclose(green.colour, means[1])
    assert float(deltaE_ciede2000(red.colour, green.colour)) > 40


def test_a_wrong_tint_costs_colour_but_not_kind_nor_outline(case: GraphCase) -> None:
    thing = case.target.at(case.slots[0])
    assert thing is not None
    found = errors(case, changed(case, colour="pink" if thing.colour != "pink" else "green"))
    assert found["right_kind"] == 1.0 and found["colour_error"] > 10
    assert found["subject_histogram"] < 0.5 < found["subject_iou"]


def test_another_kind_is_another_kind(case: GraphCase) -> None:
    found = errors(case, changed(case, name="guitar"))
    assert found["right_kind"] == 0.0 and found["found"] == 1.0
    assert found["subject_iou"] < 0.9 and found["subject_ssim"] < 0.9


def test_a_thing_that_is_not_there_is_counted_and_has_no_errors(case: GraphCase) -> None:
    found = errors(case, case.target.without(case.slots[0]))
    assert found["found"] == 0.0 and found["count_error"] == 1
    absent = ("right_kind", "colour_error", "position_error", "size_error", "subject_iou", "subject_ssim")
    assert all(found[name] is None for name in absent)


def test_edits_that_leave_nothing_to_look_at_have_a_count_alone() -> None:
    for task in ("remove", "photometric"):
        case = graph_case_of(of_task(task))
        assert case is not None
        found = errors(case, case.target)
        assert found["count_error"] == 0
        assert {value for name, value in found.items() if name != "count_error"} == {None}
    case = graph_case_of(of_task("remove"))
    assert case is not None
    assert errors(case, case.source)["count_error"] == len(case.source.things) - len(case.target.things)


def test_a_thing_in_a_wrong_place_is_matched_to_the_wanted_one() -> None:
    case = graph_case_of(of_task("add", things=1))
    assert case is not None
    (slot,) = case.slots
    wanted = case.target.at(slot)
    wrong = next(graph for name, graph in case.candidates.items() if name.startswith("wrong_place:"))
    elsewhere = next(thing for thing in wrong.things if case.source.at(thing.slot) is None)
    assert wanted is not None
    found = errors(case, wrong)
    gap = math.hypot(elsewhere.x - wanted.x, elsewhere.y - wanted.y) / 1000
    assert found["position_error"] == pytest.approx(gap / math.sqrt(2))
    assert (found["found"], found["right_kind"], found["count_error"]) == (1.0, 1.0, 0)


def test_two_things_are_averaged() -> None:
    sampler = SubjectSampler("test", 64)
    sample = next(s for i in range(50) if (s := sampler[i]).task == "two_subjects")
    case = graph_case_of(sample)
    assert case is not None and len(case.slots) == 2
    found = errors(case, case.target.without(case.slots[0]))
    assert found["found"] == 0.5 and found["right_kind"] == 1.0 and found["count_error"] == 1
    first = case.target.at(case.slots[0])
    assert first is not None
    half = errors(case, case.target.put(first.slot, replace(first, height=first.height // 2)))
    assert half["size_error"] == pytest.approx(0.5)


def test_likeness_does_not_see_place_and_size() -> None:
    small, large = disc((220, 40, 40), 8.0), disc((220, 40, 40), 16.0, 40, 36)
    histogram, iou, ssim = likeness(small, large)
    assert histogram > 0.95 and iou > 0.93 and ssim > 0.8
    histogram, iou, ssim = likeness(small, disc((40, 60, 220), 8.0))
    assert histogram < 0.5 < iou


def test_likeness_orders_blurs() -> None:
    sharp = disc((220, 40, 40), 12.0, 32, 32)
    values = []
    for width in (0.5, 1.5, 3.0):
        blurred = ndimage.gaussian_filter(sharp.picture.astype(float), (width, width, 0))
        values.append(likeness(Cutout(np.rint(blurred).astype(np.uint8), sharp.mask), sharp))
    assert [v[2] for v in values] == sorted((v[2] for v in values), reverse=True)
    assert [v[0] for v in values] == sorted((v[0] for v in values), reverse=True)


def test_a_cut_out_is_the_largest_piece_that_stands_out(case: GraphCase) -> None:
    thing = case.target.at(case.slots[0])
    assert thing is not None
    picture = case.render(case.target)
    cut = cut_out(case, case.target, thing, picture)
    assert cut is not None
    visible = (picture != case.render(case.target.without(thing.slot))).any(axis=2)
    assert cut.picture.shape[:2] == cut.mask.shape and cut.mask.size < visible.size
    assert 0.6 * np.count_nonzero(visible) < np.count_nonzero(cut.mask) <= np.count_nonzero(visible)
    assert cut_out(case, case.target, thing, case.render(case.target.without(thing.slot))) is None
