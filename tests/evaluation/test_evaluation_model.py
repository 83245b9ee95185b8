"""A tiny pipeline of real classes under the benchmark, and through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from insightedit.cli import eval as cli
from insightedit.evaluation.core.editing_methods import edit_with, noise_seed, round_trip_of, to_uint8
from insightedit.evaluation.scenes import benchmark
from insightedit.export.folder import export_pipeline
from insightedit.pipelines.edit import InsightEditPipeline
from tests.evaluation.test_scenes_benchmark import run
from tests.evaluation.toy import ToySample, ToySampler
from tests.pipeline.conftest import build_pipeline


@pytest.fixture(scope="module")
def pipeline(tiny_root: Path) -> InsightEditPipeline:
    pipeline = build_pipeline(tiny_root)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_pipeline_is_measured_the_same_in_any_batches(pipeline: InsightEditPipeline) -> None:
    first, second = (
        run(edit_with(pipeline), count=3, pairs=1, batch_size=size, round_trip=round_trip_of(pipeline))
        for size in (2, 5)
    )
    assert first.records == second.records
    assert {row.name for row in first.rows} >= {"autoencoder_source", "autoencoder_target"}


@pytest.mark.parametrize("command", [cli.scenes, cli.tradeoff, cli.drift])
def test_each_picture_is_drawn_as_it_would_be_alone(command: Callable[..., None]) -> None:
    assert signature(command).parameters["batch_size"].default == 1


def test_a_picture_does_not_depend_on_the_others(pipeline: InsightEditPipeline) -> None:
    sampler = ToySampler()
    samples = [sampler[index] for index in range(5)]
    alone = [edit_with(pipeline)([sample])[0] for sample in samples]
    assert [one.tobytes() for one in edit_with(pipeline)(samples)] == [one.tobytes() for one in alone]
    for size in (2, 5):  # rounds otherwise
        for one, other in zip(edit_with(pipeline, batch_size=size)(samples), alone, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1


def test_settings_and_seed_reach_the_pipeline(pipeline: InsightEditPipeline) -> None:
    samples = [ToySample()]
    plain = edit_with(pipeline)(samples)[0]
    assert plain.dtype == np.uint8
    assert plain.shape == samples[0].source.shape
    for other in ({"seed": 1}, {"num_inference_steps": 3}, {"background_lock": True}):
        assert not np.array_equal(plain, edit_with(pipeline, **other)(samples)[0]), other


def test_noise_follows_the_picture_and_the_seed() -> None:
    sampler = ToySampler()
    left, right = sampler.pair(0)
    assert noise_seed(left, 0) == noise_seed(right, 0) != noise_seed(left, 1)
    assert 0 <= noise_seed(left, 0) < 2**32


def test_round_trip_keeps_size_and_goes_through_the_autoencoder(pipeline: InsightEditPipeline) -> None:
    large = np.asarray(ToySample().source).repeat(2, axis=0).repeat(2, axis=1)
    small, back = round_trip_of(pipeline)([ToySample().source, large])
    assert small.shape == (32, 32, 3)
    assert back.shape == large.shape
    assert not np.array_equal(small, ToySample().source)


def test_floats_are_rounded_and_clipped() -> None:
    values = np.array([[[-0.1, 0.5, 1.2]]], dtype=np.float32)
    assert to_uint8(values).tolist() == [[[0, 128, 255]]]


def test_command_line_measures_a_model_folder(
    pipeline: InsightEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "scene_sampler", lambda *_, **__: ToySampler())
    folder = export_pipeline(pipeline, tmp_path / "model")
    arguments = ["scenes", "--model", str(folder), "--count", "3", "--steps", "1", "--guidance-scale", "2"]
    arguments += ["--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["protocol"]["size"] == pipeline.config.resolution
    assert report["settings"]["num_inference_steps"] == 1
    assert report["settings"]["guidance_scale"] == 2.0
    assert report["settings"]["image_guidance_scale"] == pipeline.config.default_image_guidance_scale
    assert report["settings"]["background_lock"] is False
    assert report["settings"]["excess_leak"] is True
    assert len(report["rows"]) == 7
