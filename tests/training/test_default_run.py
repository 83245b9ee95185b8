"""The run from nothing at work: parts as processes, side by side, stopped, failed and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from insightedit.training.default import processes
from insightedit.training.default.parts import PlannedPart, Settings
from insightedit.training.default.run import DefaultRun
from insightedit.training.default.state import PLAN, RunState, trained

pytestmark = pytest.mark.slow  # processes that import torch


def small(name: str, *needs: str, steps: int = 2, fail: bool = False) -> PlannedPart:
    def folder(settings: Settings) -> Path:
        return settings.runs / name

    def command(settings: Settings, minutes: float) -> list[str]:
        return ["tests.training.small_part", str(folder(settings)), str(steps), *["fail"] * fail]

    return PlannedPart(name, needs, 1.0, 1.0, command, folder)


@pytest.fixture(autouse=True)
def _light_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOADED", ("torch",))


def session(folder: Path, parts: tuple[PlannedPart, ...]) -> tuple[DefaultRun, list[str]]:
    settings = Settings(60.0, folder, "tiny", cores=tuple(sorted(os.sched_getaffinity(0))), lanes=2)
    told: list[str] = []
    return DefaultRun(settings, parts, RunState.read(settings, parts), told.append), told


def test_parts_run_side_by_side_and_after_what_they_need(tmp_path: Path) -> None:
    parts = (small("a"), small("b"), small("c", "a", "b"))
    run, told = session(tmp_path, parts)
    assert run.go() == 0
    assert [line.split()[2] + line.split()[3].rstrip(",") for line in told][:2] == ["a:begins", "b:begins"]
    assert "c: done, 2 steps in 0.0 min, loss 0.333" in told[-1]
    assert {one["status"] for one in json.loads((tmp_path / PLAN).read_text())["parts"].values()} == {"done"}


def test_a_signal_saves_and_the_rest_comes_later(tmp_path: Path) -> None:
    parts = (small("a", steps=1500), small("b", "a"))
    run, told = session(tmp_path, parts)
    folder = tmp_path / "a"

    def ask() -> None:
        while not (folder / "checkpoints").is_dir():
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    assert run.go() == 143
    before = trained(parts[0], run.settings)["step"]
    assert 0 < before < 1500
    assert "a: stopped, saved" in told[-1]
    parts = (small("a", steps=before + 3), small("b", "a"))
    again, told = session(tmp_path, parts)
    assert again.go() == 0
    assert f"a: done, {before + 3} steps" in told[1]


def test_a_failure_stops_the_others_and_names_the_log(tmp_path: Path) -> None:
    run, told = session(tmp_path, (small("a", fail=True), small("b", steps=1500), small("c", "a")))
    assert run.go() == 2
    failed = next(line for line in told if line.startswith("a failed"))
    assert "(exit code 1): the disk is full, so nothing was written. All that it said: " in failed
    assert failed.endswith(os.path.join("logs", "a.log"))
    assert {name: one.status for name, one in run.state.parts.items()} == {
        "a": "failed",
        "b": "stopped",
        "c": "waiting",
    }


def test_what_fails_is_tried_in_its_simpler_way_once(tmp_path: Path) -> None:
    part = replace(small("a", fail=True), instead=small("a").command)
    run, told = session(tmp_path, (part, small("b", "a")))
    assert run.go() == 0
    assert told[2] == "a: tried in a simpler way"
    assert "b: done, 2 steps" in told[-1]
    run, told = session(tmp_path / "again", (replace(part, instead=part.command),))
    assert run.go() == 2
    assert sum("a failed" in line for line in told) == 2


def test_tiny_from_nothing_to_the_export_then_nothing_is_left_to_do(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--steps", "1", "--runs", str(tmp_path / "run"), "--export", str(tmp_path / "model")]
    command = [sys.executable, "-m", "insightedit.training.default", *words, "--shard-mb", "4"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)  # its own fork server, all loaded
    assert first.returncode == 0, first.stdout + first.stderr
    record = json.loads((tmp_path / "run" / "pieces" / "record.json").read_text())
    assert record["parts"]["stage3"]["steps"] == 1
    assert set(record["measured"]) == {"scenes", "photos"}
    assert (tmp_path / "model" / "model_index.json").is_file()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "begins" not in again.stdout
