"""Every recipe under every ZeRO stage, two processes on the CPU: trains, is stopped, goes on with two and with one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

from insightedit.config import list_recipes, load_config
from insightedit.training.checkpoint import stage_weights
from tests.training import two_in_one
from tests.training.golden import STAGES

ROOT = Path(__file__).parents[2]
STEPS = 3
ZERO, WAYS = ("zero0", "zero2", "zero3"), ("two", "two-one", "one-two")
WORDS = [
    "--overlay",
    "tiny",
    f"train.max_steps={STEPS}",
    "train.save_every=100",
    "train.log_every=1",
    "train.num_samples=2",
]
LOSS, WEIGHT = 1e-4, 2e-4
"""Largest relative difference of a loss, and of a weight's numbers (root mean square), between ways to split a sum.

Adam moves a number by up to the learning rate, 1e-3, a step, whatever its gradient's size: where that is mere rounding,
single numbers end up to 1e-3 apart. All numbers of a weight are up to 8e-5 apart (biases before a normalisation), and
some 5e-4 where moments are lost.
"""
ROUNDED = 2e-2
"""Largest relative difference of a loss in bfloat16."""
pytestmark = [pytest.mark.slow, pytest.mark.multi_process, pytest.mark.timeout(3600)]


def start(sessions: list[tuple[int, list[str]]], file: Path, processes: int) -> None:
    """Run stages one after the other, in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    file.write_text(json.dumps(sessions))
    worker = str(Path(__file__).with_name("zero_worker.py"))
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), worker, str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def losses(run_dir: Path) -> list[float]:
    """One a step."""
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Root mean square of the difference, of the weight that differs most."""
    assert ours.keys() >= theirs.keys()
    return max(float((ours[name] - value).square().mean().sqrt()) for name, value in theirs.items())


@pytest.mark.parametrize("recipe", list_recipes())
def test_it_trains_stops_and_goes_on(tmp_path, recipe):
    *before, last = load_config(recipe).stages
    for number in before:
        STAGES[number](["--recipe", recipe, *WORDS, f"output_dir={tmp_path}/stage{number}"])
    begin = ["--init-from", f"{tmp_path}/stage{before[-1]}"] if before else []
    words = ["--recipe", recipe, *WORDS, *begin]
    weights, their_losses = two_in_one.train(last, words, tmp_path / "both")
    STAGES[last]([*words, "train.max_minutes=0", f"output_dir={tmp_path}/one"])  # plain torch
    for zero in ZERO:
        shutil.copytree(tmp_path / "one", tmp_path / zero / "one-two")

    def session(zero: str, way: str, *more: str) -> tuple[int, list[str]]:
        engine = ["train.engine=deepspeed", f"train.deepspeed={zero}"]
        return last, [*words, *engine, f"output_dir={tmp_path}/{zero}/{way}", *more]

    stop = "train.max_minutes=0"
    two = [[session(z, "two", stop), session(z, "two-one", stop), session(z, "two")] for z in ZERO]
    start([*chain(*two), *(session(z, "one-two") for z in ZERO)], tmp_path / "two.json", 2)
    start([session(z, "two-one") for z in ZERO], tmp_path / "one.json", 1)
    ends = {(z, way): stage_weights(tmp_path / z / way) for z in ZERO for way in WAYS}
    for zero in ZERO:
        assert losses(tmp_path / zero / "two") == pytest.approx(their_losses, rel=LOSS), zero
        assert farthest(ends[zero, "two"], weights) < WEIGHT, zero
        for way in WAYS:
            assert losses(tmp_path / zero / way) == pytest.approx(losses(tmp_path / ZERO[0] / way), rel=LOSS)
            assert farthest(ends[zero, way], ends[ZERO[0], way]) < WEIGHT, (zero, way)


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_saving_of_memory_trains_at_once(tmp_path, recipe):
    """ZeRO-3 and recomputed activations change nothing, bfloat16 little, in each of a recipe's stages."""
    saving = ["train.deepspeed=zero3", "train.gradient_checkpointing=true", "train.deepspeed_files=false"]
    kinds = {"plain": ["train.deepspeed=zero0"], "split": saving, "small": [*saving, "train.precision=bf16"]}
    stages = load_config(recipe).stages
    sessions = []
    for kind, settings in kinds.items():
        for before, stage in zip([None, *stages], stages, strict=False):
            begin = ["--init-from", f"{tmp_path}/plain/{before}"] if before else []
            words = ["--recipe", recipe, *WORDS, "train.engine=deepspeed", *settings, *begin]
            sessions.append((stage, [*words, f"output_dir={tmp_path}/{kind}/{stage}"]))
    start(sessions, tmp_path / "two.json", 2)
    for stage in stages:
        plain, split, small = (tmp_path / kind / str(stage) for kind in kinds)
        assert losses(split) == pytest.approx(losses(plain), rel=LOSS), stage
        assert farthest(stage_weights(split), stage_weights(plain)) < WEIGHT, stage
        assert losses(small) == pytest.approx(losses(plain), rel=ROUNDED), stage
        assert not (small / f"checkpoints/step-00000{STEPS}/deepspeed").exists()
