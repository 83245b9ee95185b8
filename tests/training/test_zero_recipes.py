"""Every recipe under every ZeRO stage, two processes on the CPU: trains, is stopped, goes on with two and with one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from insightedit.config import list_recipes, load_config
from insightedit.training.checkpoint import stage_weights
from tests.training import two_in_one
from tests.training.golden import STAGES

ROOT = Path(__file__).parents[2]
STEPS = 3
WORDS = [
    "--overlay",
    "tiny",
    f"train.max_steps={STEPS}",
    "train.save_every=100",
    "train.log_every=1",
    "train.num_samples=2",
]
LOSS, WEIGHT = 1e-4, 5e-4
"""Largest relative difference of a loss, and largest difference of a weight, between ways to split the same sum.

Weights move by the learning rate, 1e-3, a step, whatever the gradient's size: Adam enlarges its rounding.
"""
pytestmark = [pytest.mark.slow, pytest.mark.multi_process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> Callable[[str], tuple[list[str], dict[str, torch.Tensor], list[float]]]:
    """Recipe -> the command line of its last stage, and what one process gives that plays both; once each."""

    @cache
    def train(recipe: str) -> tuple[list[str], dict[str, torch.Tensor], list[float]]:
        runs = tmp_path_factory.mktemp(recipe)
        *before, last = load_config(recipe).stages
        for number in before:
            STAGES[number](["--recipe", recipe, *WORDS, f"output_dir={runs}/stage{number}"])
        begin = ["--init-from", f"{runs}/stage{before[-1]}"] if before else []
        words = ["--recipe", recipe, *WORDS, *begin]
        return words, *two_in_one.train(last, words, runs / "both")

    return train


def start(recipe: str, words: list[str], run_dir: Path, processes: int) -> None:
    """The recipe's last stage as processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port, "-m"]
    stage = f"insightedit.stage{load_config(recipe).stages[-1]}"
    done = subprocess.run(
        [sys.executable, "-m", *(launcher if processes > 1 else []), stage, *words, f"output_dir={run_dir}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    stopped = 1 if processes > 1 else 75  # torch's launcher has one code for all that is not 0
    assert done.returncode == (stopped if "train.max_minutes=0" in words else 0), done.stderr


def losses(run_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "log.jsonl").read_text().splitlines()]


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Largest difference of a weight."""
    return max(float((ours[name] - value).abs().max()) for name, value in theirs.items())


@pytest.fixture(scope="module")
def ends(tmp_path_factory) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """(recipe, way) -> weights at the end, of the ZeRO stage that came first."""
    return {}


@pytest.mark.parametrize("zero", ["zero0", "zero2", "zero3"])
@pytest.mark.parametrize("recipe", list_recipes())
def test_it_trains_stops_and_goes_on(wanted, ends, tmp_path, recipe, zero):
    begin, weights, their_losses = wanted(recipe)
    words = [*begin, "train.engine=deepspeed", f"train.deepspeed={zero}"]
    start(recipe, [*words, "train.max_minutes=0"], tmp_path / "two", 2)
    shutil.copytree(tmp_path / "two", tmp_path / "two-one")
    start(recipe, words, tmp_path / "two", 2)
    assert losses(tmp_path / "two") == pytest.approx(their_losses, rel=LOSS)
    assert farthest(stage_weights(tmp_path / "two"), weights) < WEIGHT

    start(recipe, words, tmp_path / "two-one", 1)
    last = load_config(recipe).stages[-1]
    STAGES[last]([*begin, "train.max_minutes=0", f"output_dir={tmp_path}/one-two"])  # plain torch
    start(recipe, words, tmp_path / "one-two", 2)
    for way in ("two", "two-one", "one-two"):
        log = (tmp_path / way / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in log] == [1, 2, 3]
        end = stage_weights(tmp_path / way)
        assert farthest(end, ends.setdefault((recipe, way), end)) < WEIGHT, way
