"""Codes of failure: each from an output that fails in just this way."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from scipy import ndimage

from insightedit.evaluation.core.records import FAILURES
from insightedit.evaluation.scenes.benchmark import case_of, tinted
from insightedit.evaluation.scenes.details import (
    BY_KIND,
    DetailCase,
    is_drifted,
    primary_failure,
    shift_of,
    shown_failures,
)
from insightedit.evaluation.scenes.graph import GraphCase, graph_case_of
from insightedit.evaluation.scenes.scoring import score_edit
from insightedit.scenes import EditSample, SceneSampler, SubjectEditSampler, SubjectSampler
from tests.evaluation.test_scenes_parse import SIZE, of_task, to_bytes
from tests.evaluation.toy import ToySample


def codes(sample: object, output: np.ndarray, trip: np.ndarray | None = None) -> list[str]:
    """All codes of an output, the primary first."""
    case = case_of(sample, trip)
    found = DetailCase(sample, case).of(score_edit(case, output), output)
    assert found["failure"] == (found["failures"][0] if found["failure"] else None)
    assert set(found["failures"]) <= set(FAILURES)
    return found["failures"]


def rival(sample: EditSample, kind: str) -> np.ndarray:
    return next(p for name, p in sample.candidates().items() if name.split(":")[0] == kind)


def graphs(sample: object) -> GraphCase:
    found = graph_case_of(sample)
    assert found is not None
    return found


def test_every_kind_of_candidate_has_the_code_of_its_verdict() -> None:
    kinds: dict[str, set[str | None]] = {}
    for sampler in (SceneSampler("test", 32), SubjectSampler("test", 32), SubjectEditSampler("test", 32)):
        for index in range(30):
            for name in sampler[index].candidates():
                kinds.setdefault(name.split(":")[0], set()).add(primary_failure(name == "target", name, 1.0))
    assert kinds.pop("target") == {None}
    expected = {kind: {BY_KIND.get(kind, "F3")} for kind in kinds}
    assert kinds == expected
    assert {kind for kind in kinds if kind not in BY_KIND} == {
        "wrong_class", "wrong_colour", "wrong_degree", "wrong_operation", "wrong_task",
    }  # fmt: skip
    assert primary_failure(False, "target", 0.4) == "F4" and primary_failure(False, "target", 0.9) == "F5"


def test_success_has_no_code() -> None:
    sample = of_task("recolour")
    assert codes(sample, sample.target) == []


def test_f1_no_edit() -> None:
    sample = of_task("recolour")
    assert codes(sample, sample.source) == ["F1"]
    new = SubjectSampler("test", SIZE)[0]
    assert codes(new, new.empty)[0] == codes(new, new.blank)[0] == codes(new, new.references[0])[0] == "F1"


def test_f2_wrong_object_alone_and_beside_the_right_one() -> None:
    sample = next(s for n in range(9) if "wrong_object" in str((s := of_task("recolour", n)).candidates().keys()))
    wrong = rival(sample, "wrong_object")
    found = codes(sample, wrong)
    assert found[0] == "F2" and "F7" not in found
    both = np.where((wrong != sample.source).any(axis=2)[..., None], wrong, sample.target)
    assert "F2" in codes(sample, both), "the right object is edited, and another one, too"


def test_f3_wrong_attribute_and_f9_lost_subject() -> None:
    sample = of_task("recolour")
    assert codes(sample, rival(sample, "wrong_colour")) == ["F3"]
    sampler = SubjectEditSampler("test", SIZE)
    subject = next(s for i in range(30) if (s := sampler[i]).task == "add")
    assert codes(subject, rival(subject, "wrong_tint")) == ["F9"]


def test_f4_some_objects_only() -> None:
    sampler = SceneSampler("test", SIZE)
    recoloured = (s for index in count() if len((s := sampler[index]).edit.targets) == 2 and s.task == "recolour")
    sample = next(s for s in recoloured if "only_object" in str(s.candidates().keys()))
    case = graphs(sample)
    one = case.target.put(case.slots[0], case.source.at(case.slots[0]))
    assert shown_failures(case, one) == {"F4"}
    assert codes(sample, rival(sample, "only_object"))[0] == "F4"


def test_f5_leak() -> None:
    sample = of_task("recolour")
    case = case_of(sample)
    rows, columns = np.nonzero(case.background)
    leaking = sample.target.copy()
    leaking[rows[::10], columns[::10]] = 255 - leaking[rows[::10], columns[::10]]
    assert codes(sample, leaking)[0] == "F5"


@pytest.mark.parametrize(("value", "code"), [({"height": 1.35}, "F6"), ({"x": 45}, "F6"), ({}, None)])
def test_f6_place_and_size(value: dict[str, float], code: str | None) -> None:
    case = graphs(of_task("recolour"))
    thing = case.target.at(case.slots[0])
    assert thing is not None
    values = {"height": round(thing.height * value.get("height", 1)), "x": thing.x + round(value.get("x", 0))}
    seen = case.target.put(thing.slot, replace(thing, **values))
    assert shown_failures(case, seen) == ({code} if code else set())


def test_f6_added_elsewhere_and_f7_added_twice() -> None:
    sample = of_task("add", things=1)
    case = graphs(sample)
    wrong = next(graph for name, graph in case.candidates.items() if name.startswith("wrong_place:"))
    elsewhere = next(thing for thing in wrong.things if case.source.at(thing.slot) is None)
    assert codes(sample, rival(sample, "wrong_place"))[0] == "F6"
    assert shown_failures(case, wrong) == {"F6"}
    twice = case.target.put(elsewhere.slot, elsewhere)
    assert shown_failures(case, twice) == {"F6", "F7"}
    assert shown_failures(case, replace(case.target, things=())) >= {"F7", "F2"}


def test_f11_tone_of_the_whole_picture_less_the_autoencoder() -> None:
    sample = of_task("recolour")
    assert set(codes(sample, tinted(sample.target))) == {"F5", "F11"}
    faint = to_bytes(sample.target + np.array([10.0, 0.0, 0.0]))
    assert codes(sample, faint) == ["F11"], "a success, with a blemish"
    assert codes(sample, faint, to_bytes(sample.source + np.array([6.0, 0.0, 0.0]))) == []
    zero = np.zeros(3, dtype=np.int32)
    assert is_drifted(np.array([0, -9, 0]), zero) and not is_drifted(np.array([8, -8, 8]), zero)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -2), (-3, 2)])
def test_f13_shift_is_found_under_blur_and_noise(right: int, down: int) -> None:
    sample = of_task("recolour")
    case = case_of(sample)
    moved = np.roll(sample.target, (down, right), axis=(0, 1)).astype(float)
    noise = np.random.default_rng(0).normal(0, 4, moved.shape)
    for output in (moved, ndimage.gaussian_filter(moved, (0.5, 0.5, 0)), moved + noise):
        assert shift_of(case.source, to_bytes(output), case.background) == (right, down)
    assert "F13" in codes(sample, to_bytes(moved))


def test_f13_is_not_seen_where_nothing_shifted() -> None:
    sample = of_task("recolour")
    case = case_of(sample)
    rng = np.random.default_rng(0)
    outputs = [
        sample.target,
        tinted(sample.target),
        to_bytes(ndimage.gaussian_filter(sample.target.astype(float), (1, 1, 0))),
        to_bytes(sample.target + rng.normal(0, 20, sample.target.shape)),
        rng.integers(0, 256, sample.target.shape, dtype=np.uint8),
        np.full_like(sample.target, 90),
        np.roll(sample.target, SIZE // 3, axis=1),  # further than is looked for
    ]
    assert [shift_of(case.source, output, case.background) for output in outputs] == [(0, 0)] * len(outputs)
    assert shift_of(case.source, sample.target, case.background & False) == (0, 0), "no background"
    flat = np.full_like(sample.source, 90)
    assert shift_of(flat, to_bytes(flat + rng.normal(0, 9, flat.shape)), case.background) == (0, 0)


def test_samples_without_a_graph_have_the_codes_that_pixels_tell() -> None:
    sample = ToySample()
    case = case_of(sample)
    assert codes(sample, case.rivals["wrong_object:0"]) == ["F2"]
    assert codes(sample, tinted(sample.target)) == ["F5", "F11"]
