"""Runs that are killed, and runs that are asked to stop: afterwards nothing is lost, doubled or different."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_recipes.runner.run import run_recipe
from tests.recipes.toy import contents, toy_config

SCRIPT = Path(__file__).with_name("killable.py")
COUNT = 60  # six units


@contextmanager
def running(out: Path, *words: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), f"count={COUNT}", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, bytes]:
    """Files of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("straight") / "out"
    run_recipe(toy_config(out, COUNT, steps={"fault": {"how": "slow"}}))
    return contents(out)


def kill_at_random(out: Path, kills: int, seed: int, *words: str) -> int:
    """Kill runs in `out` at random moments between their beginning and their end; how many were killed."""
    rng, killed = random.Random(seed), 0
    for _ in range(kills * 3):
        with running(out, "how=slow", *words) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            time.sleep(rng.uniform(0, 0.5))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        if killed == kills:
            break
        if is_complete(out):  # begin anew in the middle: some shards and counts are gone or damaged
            for path in rng.sample(sorted(out.rglob("*0000*")), 5):
                path.write_bytes(path.read_bytes()[:-7]) if rng.random() < 0.5 else path.unlink()
    return killed


def is_complete(out: Path) -> bool:
    manifest = out / "manifest.json"
    return manifest.is_file() and bool(json.loads(manifest.read_text())["complete"])


def finish(out: Path, **changes) -> dict[str, bytes]:
    run_recipe(toy_config(out, COUNT, steps={"fault": {"how": "slow"}}, **changes))
    return contents(out)


@pytest.mark.parametrize("schedule", ["unit", "step"])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, straight, schedule):
    out = tmp_path / "out"
    number = 3 if schedule == "unit" else 2
    assert kill_at_random(out, number, 1, f"schedule={schedule}") == number
    assert finish(out, schedule=schedule) == straight


@pytest.mark.slow
@pytest.mark.parametrize("words", [("schedule=unit",), ("schedule=step",), ("workers=2",)])
def test_thirty_kills_change_nothing(tmp_path, straight, words):
    out = tmp_path / "out"
    assert kill_at_random(out, 30, 2, *words) == 30
    assert finish(out) == straight


def test_a_resumed_run_keeps_what_is_whole_and_does_the_rest_again(tmp_path, straight):
    out = tmp_path / "out"
    finish(out)
    (out / "train-00001.parquet").unlink()
    damaged = out / "train-00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (out / "units/00003.json").write_text("{")
    (out / "log.jsonl").unlink()
    assert finish(out) == straight
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["unit"] for entry in log if entry["what"] == "unit"] == [1, 2, 3]


def test_what_lies_between_steps_is_not_done_again(tmp_path, straight):
    out = tmp_path / "out"
    with running(out, "how=slow", "schedule=step") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1 + 6 + 6 + 3)]
        assert lines[-1], process.communicate()
        process.kill()
        process.wait()
    assert len(list((out / "work/03").iterdir())) >= 3
    (out / "log.jsonl").unlink()
    assert finish(out, schedule="step") == straight
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [entry["steps"] for entry in log if entry["what"] == "unit"]
    assert steps.count(["look"]) == steps.count(["pairs"]) == 0
    assert steps.count(["quality"]) <= 3
    assert not (out / "work").exists()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_stops_a_run_after_its_units(tmp_path, straight, number, workers):
    out = tmp_path / "out"
    with running(out, "how=slow", f"workers={workers}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        process.stdout.readline()
        os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped as asked" in errors, errors
    assert "Traceback" not in errors
    written = sorted(path.name for path in out.glob("*.parquet"))
    assert 1 <= len(written) < 6
    assert len(written) == len(list((out / "units").iterdir()))
    assert not is_complete(out)
    assert not list(out.rglob("*.part"))
    assert finish(out) == straight


def test_workers_end_with_the_process_that_started_them(tmp_path):
    out = tmp_path / "out"
    with running(out, "how=slow", "workers=2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) >= 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 20
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if _lives(child)]


def _lives(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
