"""Metrics against values worked out by hand, and each property that their definitions promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from insightedit.evaluation.scenes import metrics as metrics
from insightedit.evaluation.scenes import scoring
from insightedit.evaluation.scenes.benchmark import case_of
from insightedit.evaluation.scenes.scoring import EditCase
from tests.evaluation.toy import GREEN, SIZE, ToySample, paint


@pytest.fixture
def sample() -> ToySample:
    return ToySample()


@pytest.fixture
def case(sample: ToySample) -> EditCase:
    return case_of(sample)


def noisy(picture: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def test_oracle_scores_full_marks(case: EditCase) -> None:
    scores = scoring.score_edit(case, case.target)
    assert scores.success and scores.nearest == "target" and scores.verdict == "success"
    assert (scores.progress, scores.balanced, scores.leak, scores.recall) == (1.0, 1.0, 0.0, 1.0)
    assert scores.psnr_background == scores.psnr_paper == metrics.PSNR_CAP
    assert scores.discriminates and scores.discrimination_margin == 1.0 and scores.discrimination_chance == 0.5


def test_copy_of_the_source_scores_nothing(case: EditCase) -> None:
    scores = scoring.score_edit(case, case.source)
    assert not scores.success and scores.nearest == "source" and scores.verdict == "no edit"
    assert (scores.progress, scores.balanced, scores.iou, scores.recall) == (0.0, 0.0, 0.0, 0.0)
    assert scores.precision is None and scores.discriminates is False and scores.discrimination_margin == 0.0


@pytest.mark.parametrize(
    ("rival", "verdict"), [("wrong_object:0", "wrong object"), ("wrong_colour:blue", "wrong colour")]
)
def test_a_rival_is_recognised_as_itself(case: EditCase, rival: str, verdict: str) -> None:
    scores = scoring.score_edit(case, case.rivals[rival])
    assert not scores.success and scores.nearest == rival and scores.verdict == verdict


def test_editing_both_objects_is_no_success(case: EditCase) -> None:
    """Inside the changed area alone this output would equal the target."""
    both = paint({0: GREEN, 1: GREEN})
    assert metrics.relative_progress(case.source, case.target, both, case.changed) == 1.0
    assert not scoring.score_edit(case, both).success


def test_gradient_energy_counts_steps_between_pixels_of_the_area() -> None:
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[1, 1] = 2, 0, 1  # four steps of 5 around it
    everywhere = np.ones((4, 4), dtype=bool)
    assert metrics.gradient_energy(picture, everywhere) == 4 * 5 / 16
    left = np.arange(4) < 2
    assert (
        metrics.gradient_energy(picture, np.tile(left, (4, 1))) == 3 * 5 / 8
    )  # the step to the right leads out of it
    assert metrics.gradient_energy(picture, ~everywhere) == metrics.gradient_energy(picture * 0, everywhere) == 0.0


def test_a_leaking_edit_is_no_success(case: EditCase) -> None:
    leaking = np.where(case.background[:, :, None], case.source + 25, case.target).astype(np.uint8)
    scores = scoring.score_edit(case, leaking)
    assert scores.verdict == "leak" and scores.leak == 1.0 and not scores.success
    assert scores.tone_drift == pytest.approx((25 / 255,) * 3)


def test_partial_edit_is_nearest_to_the_target_and_yet_far_from_it(case: EditCase) -> None:
    """Each changed pixel is off by 0.55 of the way, in a direction in which no candidate lies."""
    gap = case.target[case.changed].astype(int) - case.source[case.changed]
    output = case.target.astype(int)
    output[case.changed, 0] += round(0.55 * math.sqrt((gap**2).sum(axis=1).mean()))
    scores = scoring.score_edit(case, output.clip(0, 255).astype(np.uint8))
    assert scores.nearest == "target" and scores.progress < 0.5 and scores.verdict == "partial edit"


def test_a_tie_goes_to_the_rival(case: EditCase) -> None:
    assert metrics.Candidates(case.target, {"other": case.target}).nearest(case.source) == "other"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 90))
def test_nearest_on_the_whole_picture_equals_nearest_where_any_candidate_changes(seed: int, sigma: float) -> None:
    case = case_of(ToySample())
    names = list(case.rivals)
    output = noisy(case.target if seed % 2 else case.rivals[names[seed % 3]], sigma, seed)
    candidates = {**case.rivals, "target": case.target}
    union = np.any([metrics.changed_mask(case.source, c) for c in candidates.values()], axis=0)
    inside = {name: metrics.squared_distance(output, c, union) for name, c in candidates.items()}
    assert case.candidates.nearest(output) == min(inside, key=inside.__getitem__)
    for name, rival in case.rivals.items():  # and each duel is decided on the pixels where the two differ
        duel = metrics.changed_mask(case.target, rival)
        wins = metrics.squared_distance(output, case.target, duel) < metrics.squared_distance(output, rival, duel)
        assert wins == (inside["target"] < inside[name])


def test_relative_progress_of_a_blend_is_its_share(case: EditCase) -> None:
    for share in (0.25, 0.5, 0.75):
        blend = np.rint(case.source + share * (case.target.astype(float) - case.source)).astype(np.uint8)
        progress = metrics.relative_progress(case.source, case.target, blend, case.changed)
        assert progress == pytest.approx(share, abs=0.01)


def test_relative_progress_of_harm_is_negative_and_bounded(case: EditCase) -> None:
    assert -1.0 <= metrics.relative_progress(case.source, case.target, 255 - case.target, case.changed) < 0


def test_half_blend_is_no_clear_success(case: EditCase) -> None:
    half = ((case.source.astype(int) + case.target) // 2).astype(np.uint8)
    assert scoring.score_edit(case, half).progress == pytest.approx(0.5, abs=0.01)


def test_background_lies_further_than_the_radius_from_the_change() -> None:
    changed = np.zeros((64, 64), dtype=bool)
    changed[32, 32] = True
    background = metrics.background_mask(changed)
    rows, columns = np.nonzero(~background)
    assert metrics.background_radius(64) == 2
    assert np.hypot(rows - 32, columns - 32).max() == 2.0
    assert metrics.background_mask(np.zeros((8, 8), dtype=bool)).all()
    assert not metrics.background_mask(np.ones((8, 8), dtype=bool)).any()


@pytest.mark.parametrize(("size", "radius", "box"), [(32, 1, 1), (64, 2, 3), (128, 3, 5), (256, 6, 11)])
def test_widths_scale_with_the_picture(size: int, radius: int, box: int) -> None:
    assert (metrics.background_radius(size), metrics.box_width(size)) == (radius, box)


def test_leak_counts_pixels_above_the_threshold_and_subtracts_the_round_trip(sample: ToySample) -> None:
    case = case_of(sample)
    output = case.target.copy()
    rows, columns = np.nonzero(case.background)
    output[rows[:10], columns[:10]] += 30
    output[rows[10:30], columns[10:30]] += 10
    share = 1 / case.background.sum()
    scores = scoring.score_edit(case, output)
    assert scores.leak_by_threshold == pytest.approx({4: 30 * share, 8: 30 * share, 20: 10 * share})
    trip = case.source.copy()
    trip[rows[:6], columns[:6]] += 30
    excess = scoring.score_edit(case_of(sample, trip), output)
    assert excess.leak == pytest.approx(4 * share)
    assert scoring.score_edit(case_of(sample, trip), case.target).leak == 0.0


def test_strict_psnr_is_that_of_the_background_pixels(case: EditCase) -> None:
    output = noisy(case.source, 10)
    expected = peak_signal_noise_ratio(case.source[case.background], output[case.background], data_range=255)
    assert metrics.strict_psnr(case.source, output, case.background) == pytest.approx(expected, abs=1e-9)
    shifted = case.source + np.uint8(8)
    assert metrics.strict_psnr(case.source, shifted, case.background) == pytest.approx(-20 * math.log10(8 / 255))


def test_paper_psnr_exceeds_the_strict_one_by_the_share_of_unchanged_pixels(case: EditCase) -> None:
    output = noisy(case.source, 10)
    strict = metrics.strict_psnr(case.source, output, ~case.changed)
    paper = scoring.score_edit(case, output).psnr_paper
    assert paper - strict == pytest.approx(-10 * math.log10((~case.changed).mean()), abs=1e-9)


def test_edit_of_the_whole_picture_has_no_background(sample: ToySample) -> None:
    brighter = sample.source + np.uint8(30)
    case = scoring.build_case({"source": sample.source, "target": brighter})
    scores = scoring.score_edit(case, brighter)
    assert scores.success and scores.balanced == 1.0
    assert scores.leak is scores.psnr_background is scores.tone_drift is scores.leak_by_threshold is None
    assert scores.discriminates is None and scores.discrimination_chance is None


def localised(case: EditCase, output: np.ndarray) -> tuple[float, float | None, float]:
    scores = scoring.score_edit(case, output)
    return scores.iou, scores.precision, scores.recall


def test_localisation_tells_too_much_from_too_little(case: EditCase) -> None:
    too_much = case.target.copy()
    too_much[20:] = 255
    iou, precision, recall = localised(case, too_much)
    assert recall == 1.0 and precision < 0.5 and iou < 0.5
    too_little = case.source.copy()
    too_little[4:7] = case.target[4:7]
    iou, precision, recall = localised(case, too_little)
    assert precision == 1.0 and recall == pytest.approx(0.3) and iou == pytest.approx(0.3)


def discriminate(
    source: np.ndarray, output: np.ndarray, masks: list[np.ndarray], instructed: list[int]
) -> tuple[bool | None, float | None]:
    return metrics.discrimination_of(metrics.largest_change(source, output), masks, instructed)[:2]


def test_discrimination_needs_a_clear_change_and_another_object(sample: ToySample) -> None:
    masks = [sample.object_mask(0), sample.object_mask(1)]
    faint = np.where(masks[0][:, :, None], sample.source + 5, sample.source).astype(np.uint8)
    assert discriminate(sample.source, faint, masks, [0]) == (False, 1.0)
    assert discriminate(sample.source, sample.target, masks, [1]) == (False, -1.0)
    assert discriminate(sample.source, sample.target, [masks[0], masks[1] & False], [0]) == (True, 1.0)
    assert discriminate(sample.source, sample.target, masks, [0, 1]) == (None, None)
    assert discriminate(sample.source, sample.target, masks, []) == (None, None)


def test_discrimination_of_several_objects_asks_for_all_of_them(sample: ToySample) -> None:
    masks = [sample.object_mask(0), sample.object_mask(1), ~(sample.object_mask(0) | sample.object_mask(1))]
    assert discriminate(sample.source, sample.target, masks, [0, 1]) == (False, 0.0)
    both = paint({0: GREEN, 1: GREEN})
    assert discriminate(sample.source, both, masks, [0, 1]) == (True, 1.0)
    masks, change = [np.eye(4, dtype=bool)[[i]].T for i in range(4)], np.zeros((4, 1), np.uint8)
    assert metrics.discrimination_of(change, masks, [1])[2] == 0.25
    assert metrics.discrimination_of(change, masks, [1, 2])[2] == pytest.approx(1 / 6)


def test_discrimination_of_noise_is_chance(sample: ToySample) -> None:
    masks = [sample.object_mask(0), sample.object_mask(1)]
    hits = []
    for seed in range(200):
        noise = np.random.default_rng(seed).integers(0, 256, sample.source.shape, dtype=np.uint8)
        hits.append(discriminate(sample.source, noise, masks, [0])[0])
    assert 0.38 < np.mean(hits) < 0.62


def test_a_second_name_of_the_target_is_no_rival(sample: ToySample) -> None:
    case = scoring.build_case({**sample.candidates(), "wrong_class:twin": sample.target.copy()})
    assert "wrong_class:twin" not in case.rivals and scoring.score_edit(case, case.target).success


def test_build_case_refuses_what_cannot_be_scored(sample: ToySample) -> None:
    good = sample.candidates()
    with pytest.raises(ValueError, match="candidates lack source, target: give the source"):
        scoring.build_case({"wrong_object:0": sample.source})
    with pytest.raises(ValueError, match="source and target are equal"):
        scoring.build_case({"source": sample.source, "target": sample.source})
    with pytest.raises(ValueError, match=r"instructed is \(0, 2\), but there are 1 object masks"):
        scoring.build_case(good, object_masks=[sample.object_mask(0)], instructed=[0, 2])
    with pytest.raises(TypeError, match="target has dtype float64; pictures are uint8"):
        scoring.build_case({**good, "target": sample.target / 255})
    with pytest.raises(ValueError, match=r"round_trip has shape \(8, 8, 3\), the source \(32, 32, 3\)"):
        scoring.build_case(good, round_trip=np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"output has shape \(32, 32\); pictures are \(H, W, 3\)"):
        scoring.score_edit(scoring.build_case(good), np.zeros((SIZE, SIZE), dtype=np.uint8))
