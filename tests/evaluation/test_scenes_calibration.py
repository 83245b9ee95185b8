"""The confidence that scenes teach: its fit, its threshold, and what a model is asked for it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from insightedit import load_pipeline
from insightedit.cli.main import app
from insightedit.evaluation.core.editing_methods import noise_seed
from insightedit.evaluation.scenes.calibration import (
    CalibrationCase,
    ask,
    best_threshold,
    calibrate,
    cross_fitted,
    expected_calibration_error,
    fit,
)
from insightedit.pipelines.loading import DEFAULT_MODEL
from insightedit.pipelines.understanding import SIGNS, Calibration, Signs
from insightedit.scenes import SceneSampler


def drawn_signs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random signs (N, 5), the last always the same, and what was right by a known logistic law (N,)."""
    rng = np.random.default_rng(0)
    signs = rng.normal(size=(count, len(SIGNS)))
    signs[:, -1] = 1.0
    chance = expit(2.0 * signs[:, 0] - 1.0 * signs[:, 2] + 0.5)
    return signs, rng.random(count) < chance


class TestFit:
    def test_it_finds_the_law_that_made_the_data(self):
        weights, bias = fit(*drawn_signs(20_000))
        np.testing.assert_allclose(weights[:4], [2.0, 0.0, -1.0, 0.0], atol=0.08)
        assert weights[4] == 0.0
        assert bias == pytest.approx(0.5, abs=0.08)

    def test_a_request_is_judged_by_a_fit_without_it(self):
        signs, right = drawn_signs(200)
        confidence = cross_fitted(signs, right)
        weights, bias = fit(signs[np.arange(200) % 5 != 3], right[np.arange(200) % 5 != 3])
        np.testing.assert_allclose(confidence[3::5], expit(signs[3::5] @ weights + bias))


class TestNumbers:
    def test_calibration_error(self):
        # five bins of 4 right ones in 10 at a confidence of 0.2, and five of 9 in 10 at 0.9
        right = np.concatenate([np.tile(np.arange(10) < 4, 5), np.tile(np.arange(10) < 9, 5)])
        assert expected_calibration_error(np.repeat([0.2, 0.9], 50), right) == pytest.approx(0.5 * 0.2)
        assert expected_calibration_error(np.ones(100), np.zeros(100, bool)) == 1.0

    def test_the_threshold_decides_most_requests_right(self):
        confidence = np.array([0.1, 0.2, 0.3, 0.8, 0.9])
        assert best_threshold(confidence, np.array([False, False, False, True, True])) == pytest.approx(0.55)
        assert best_threshold(confidence, np.ones(5, bool)) == 0.0

    def test_it_holds_back_few_of_the_right_ones(self):
        confidence, right = np.linspace(0, 1, 100), np.zeros(100, bool)
        right[60:] = True
        right[[5, 10]] = True  # 2 of 42 right ones are unlikely by their signs: 4.8 %
        assert best_threshold(confidence, right) == pytest.approx((confidence[59] + confidence[60]) / 2)
        right[15] = True  # 3 of 43 would be 7 %
        assert best_threshold(confidence, right) == pytest.approx((confidence[14] + confidence[15]) / 2)


def outcomes() -> list[CalibrationCase]:
    """40 right edits with likely words, 40 wrong ones and 20 impossible requests without; 9 refusals, 1 is wrong."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(100):
        good = number % 5 < 2
        signs = Signs(rng.normal(-0.1 if good else -1.0, 0.1), -1.0, rng.uniform(), 0.0, 1.0)
        made.append(CalibrationCase(signs, good, number % 5 != 4))
    return made + [CalibrationCase(None, False, False)] * 8 + [CalibrationCase(None, False, True)]


class TestCalibrate:
    def test_what_is_kept(self):
        found = calibrate(outcomes(), "109 requests")
        setting = Calibration.of(found)
        assert setting is not None
        assert json.loads(json.dumps(found)) == found
        assert found["weights"]["mean_log_prob"] > 1
        assert (found["weights"]["unknown_words"], found["weights"]["agrees"]) == (0.0, 0.0)
        sure, unsure = (setting.confidence(Signs(value, -1.0, 0.5, 0.0, 1.0)) for value in (-0.1, -1.0))
        assert unsure < found["threshold"] < sure
        assert (found["count"], found["data"]) == (109, "109 requests")
        assert found["decided_right"] == pytest.approx(108 / 109, abs=1e-5)
        assert found["decided_right_ungated"] == pytest.approx(48 / 109, abs=1e-5)
        assert found["held_back"] == 0.0
        assert found["refused_wrongly"] == pytest.approx(1 / 81, abs=1e-5)
        assert found["left_alone"] == 1.0
        assert found["brier"] < 0.02

    def test_too_few_of_a_kind_are_refused(self):
        few = [one for one in outcomes() if one.is_right or one.signs is None]
        with pytest.raises(ValueError, match="of 40 requests that it draws the model understood 40: at least 5 right"):
            calibrate(few, "few")


class TestModel:
    def test_a_model_is_asked_without_its_own_threshold(self):
        pipeline = load_pipeline()
        pipeline.set_progress_bar_config(disable=True)
        strict = {"weights": {}, "bias": -9.0, "threshold": 0.99}
        pipeline.register_to_config(confidence_calibration=strict, refusals="make the whole picture")
        sampler = SceneSampler("val", 64, declines=0.5)
        samples = [sampler[index] for index in range(12)]
        found = ask(pipeline, samples)
        assert pipeline.config["confidence_calibration"] == strict
        assert [one.is_possible for one in found] == [sample.task != "decline" for sample in samples]
        assert {one.is_possible for one in found} == {True, False}
        pipeline.register_to_config(confidence_calibration=None)
        seeds = [noise_seed(sample, 0) for sample in samples]
        result = pipeline([s.source for s in samples], [s.instruction for s in samples], seed=seeds)
        refused = [words.startswith("make the whole picture") for words in result.expressive_instructions]
        assert [one.signs is None for one in found] == refused
        for one, no, mask in zip(found, refused, result.masks, strict=True):
            assert not (no and one.is_right)
            assert one.is_possible or one.is_right == (not no and not mask.any())

    def test_a_model_without_words_is_refused(self):
        pipeline = load_pipeline()
        pipeline.register_to_config(expressive=False)
        pipeline.set_progress_bar_config(disable=True)
        with pytest.raises(ValueError, match="writes nothing before it edits: there is nothing to be sure of"):
            ask(pipeline, [SceneSampler("val", 64)[0]])

    def test_the_command_writes_it_into_the_folder(self, tmp_path):
        folder = shutil.copytree(DEFAULT_MODEL, tmp_path / "model")
        result = CliRunner().invoke(app, ["calibrate", str(folder), "--count", "100"])
        assert result.exit_code == 0, result.output
        index = json.loads((folder / "model_index.json").read_text())
        before = json.loads((DEFAULT_MODEL / "model_index.json").read_text())
        found = index.pop("confidence_calibration")
        assert index == {name: value for name, value in before.items() if name != "confidence_calibration"}
        assert found["data"] == "100 scenes of the split val at 64 px, seed 0"
        assert f"threshold: {found['threshold']:.3f}" in result.stdout
        assert "of the edits that would have been right, held back: " in result.stdout
        assert load_pipeline(folder).config["confidence_calibration"]["count"] == 100

    def test_what_is_no_folder_is_refused(self, tmp_path):
        result = CliRunner().invoke(app, ["calibrate", str(tmp_path)])
        assert result.exit_code == 2
        assert "holds no model_index.json: name a model folder on this machine" in result.stderr
