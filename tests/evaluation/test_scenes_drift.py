"""Edits of edits: sessions are what they say, controls are exact, and decay shows as a slope."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from insightedit.cli import eval as cli
from insightedit.evaluation.scenes.drift import (
    NULL_INSTRUCTIONS,
    DriftReport,
    DriftRow,
    DriftTurn,
    drift_table,
    measure_drift,
    session_of,
    write_drift,
)
from insightedit.export.folder import export_pipeline
from insightedit.scenes import SceneSampler
from tests.pipeline.conftest import build_pipeline

SIZE = 32


def fade(turns: Sequence[DriftTurn]) -> list[np.ndarray]:
    """Makes no edit, and darkens a little each time."""
    return [(turn.source * 0.95).astype(np.uint8) for turn in turns]


def dim(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.clip(picture.astype(int) - 2, 0, 255).astype(np.uint8) for picture in pictures]


@pytest.fixture(scope="module")
def report() -> DriftReport:
    return measure_drift(fade, count=6, size=SIZE, turns=3, round_trip=dim)


@pytest.fixture(scope="module")
def rows(report: DriftReport) -> dict[str, DriftRow]:
    return {row.name: row for row in report.rows}


def test_a_cycle_ends_where_it_began() -> None:
    sampler = SceneSampler("test", SIZE)
    for index in range(12):
        sample = sampler[index]
        session = session_of(sample, ("add", "undo"))
        assert np.array_equal(session.targets[0], session.targets[2]) and np.array_equal(
            session.targets[0], sample.source
        )
        assert (session.targets[1] != session.targets[0]).any() and len(session.instructions) == 2
        again = session_of(sample, ("add", "undo"))
        assert again.instructions == session.instructions, "a pure function of the sample"


def test_a_chain_changes_the_picture_at_every_turn() -> None:
    sampler = SceneSampler("test", SIZE)
    session = session_of(sampler[0], ("add", "recolour", "replace", "remove"))
    for before, after in zip(session.targets[:-1], session.targets[1:], strict=True):
        assert (before != after).any()
        assert np.array_equal(before[session.untouched], after[session.untouched])
    assert session.untouched.any() and "{" not in " ".join(session.instructions)


def test_impossible_sessions_are_refused() -> None:
    sample = SceneSampler("test", SIZE)[0]
    with pytest.raises(RuntimeError, match="no recolour edit changes scene 0: it shows too few things"):
        session_of(sample, ("remove",) * len(sample.scene.objects) + ("recolour",))


def test_controls_are_exact(rows: dict[str, DriftRow]) -> None:
    assert list(rows) == ["model", "copy_source", "oracle", "autoencoder"]
    for name in ("copy_source", "oracle"):
        row = rows[name]
        assert (row.null_change, row.null_leak, row.null_psnr, row.cycle_psnr) == (0.0, 0.0, 60.0, 60.0)
        assert row.turn_psnr == (60.0, 60.0, 60.0) and row.slope == pytest.approx(0.0, abs=1e-9)
    assert rows["oracle"].turn_progress == (1.0, 1.0, 1.0) and rows["oracle"].cycle_progress == 1.0
    assert rows["copy_source"].turn_progress[0] == rows["copy_source"].cycle_progress == 0.0


def test_an_autoencoder_is_paid_for_at_every_turn(rows: dict[str, DriftRow]) -> None:
    row = rows["autoencoder"]
    assert row.null_change == pytest.approx(2.0, abs=0.05)
    expected = [-20 * np.log10(2 * turn / 255) for turn in (1, 2, 3)]
    assert row.turn_psnr == pytest.approx(expected, abs=0.2)
    assert row.slope == pytest.approx(np.polyfit(range(3), expected, 1)[0], abs=0.1)
    assert all(step > 0.8 for step in row.turn_progress)


def test_decay_shows_as_a_slope_and_idleness_as_no_progress(rows: dict[str, DriftRow]) -> None:
    row = rows["model"]
    assert row.turn_psnr[0] > row.turn_psnr[1] > row.turn_psnr[2] and row.slope < -3
    assert row.cycle_progress < 0.1 and 3 < row.null_change < 10
    assert row.cycle_psnr < row.null_psnr < 60


def test_the_editor_sees_its_own_pictures_and_known_words() -> None:
    seen: list[list[DriftTurn]] = []

    def spy(turns: Sequence[DriftTurn]) -> list[np.ndarray]:
        seen.append(list(turns))
        return fade(turns)

    calls: list[int] = []
    measure_drift(spy, count=2, size=SIZE, turns=3, progress=calls.append)
    assert len(seen) == sum(calls) == 6, "null, add, undo, three turns"
    assert {turn.instruction for turn in seen[0]} <= set(NULL_INSTRUCTIONS)
    assert np.array_equal(seen[2][0].source, fade(seen[1])[0])
    assert np.array_equal(seen[5][1].source, fade(seen[4])[1])
    assert np.array_equal(seen[0][0].target, seen[0][0].source)


def test_files_and_table(report: DriftReport, tmp_path: Path) -> None:
    path = write_drift(report, tmp_path / "new", {"model": "toy"})
    written = json.loads(path.read_text())
    assert written["protocol"]["name"] == "scenes_drift_v1" and written["settings"] == {"model": "toy"}
    assert written["rows"][0]["slope"] == report.rows[0].slope
    console = Console(file=io.StringIO(), width=160)
    console.print(drift_table(report))
    text = console.file.getvalue()
    assert "copy source" in text and "+0.00" in text and "-0.00" not in text
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        write_drift(report, tmp_path / "file", {})


def test_errors_teach() -> None:
    with pytest.raises(ValueError, match="count is 0: it has to be at least 1"):
        measure_drift(fade, count=0, size=SIZE)
    with pytest.raises(ValueError, match="turns is 1: a slope needs at least 2"):
        measure_drift(fade, count=1, size=SIZE, turns=1)
    with pytest.raises(ValueError, match="unknown split 'best'"):
        measure_drift(fade, count=1, size=SIZE, split="best")


def test_command_measures_a_model_folder(tiny_root: Path, tmp_path: Path) -> None:
    folder = export_pipeline(build_pipeline(tiny_root), tmp_path / "model")
    arguments = ["drift", "--model", str(folder), "--count", "2", "--turns", "2", "--size", str(SIZE)]
    arguments += ["--steps", "1", "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "autoencoder" in result.output and "dB a turn" in result.output
    written = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert written["protocol"]["turns"] == 2 and written["settings"]["num_inference_steps"] == 1
    (tmp_path / "file").write_text("x")
    refused = CliRunner().invoke(cli.app, ["drift", "--out", str(tmp_path / "file")])
    assert refused.exit_code == 2 and "is a file: name a folder." in " ".join(refused.output.split())
