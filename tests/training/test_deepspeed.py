from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from insightedit.config.load import ConfigError
from insightedit.training.checkpoint import load_tensors
from insightedit.training.deepspeed_engine import deepspeed_file, deepspeed_settings
from tests.training.standin import small_config

ROOT = Path(__file__).parents[2]
NAMES = ["zero0", "zero2", "zero2_offload", "zero3", "zero3_offload"]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_filled_from_the_config(name):
    config = small_config(deepspeed=name, gradient_accumulation_steps=3)
    settings = deepspeed_settings(config)
    assert settings["train_micro_batch_size_per_gpu"] == 4
    assert settings["gradient_accumulation_steps"] == 3
    assert settings["gradient_clipping"] == config.optim.max_grad_norm
    assert settings["zero_optimization"]["stage"] == int(name[4])
    assert ("offload_optimizer" in settings["zero_optimization"]) == name.endswith("offload")


def test_the_list_above_is_complete():
    assert sorted(path.stem for path in deepspeed_file("zero0").parent.glob("*.json")) == NAMES


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"zero_optimization": {"stage": 1}}')
    assert deepspeed_settings(small_config(deepspeed=str(path)))["zero_optimization"] == {"stage": 1}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="train.deepspeed=zero9 is not known: one of zero0, zero2, zero2_offload"):
        deepspeed_settings(small_config(deepspeed="zero9"))


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match="the file nowhere.json does not exist"):
        deepspeed_settings(small_config(deepspeed="nowhere.json"))


def test_broken_json_is_named(tmp_path):
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ConfigError, match="mine.json is not JSON"):
        deepspeed_settings(small_config(deepspeed=str(tmp_path / "mine.json")))


def test_what_the_config_decides_is_not_set_twice(tmp_path):
    (tmp_path / "mine.json").write_text('{"bf16": {"enabled": true}}')
    with pytest.raises(ConfigError, match="sets `bf16`, which `train.precision` decides: remove it there"):
        deepspeed_settings(small_config(deepspeed=str(tmp_path / "mine.json")))


def train(run_dir: Path, name: str, *options: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Start the worker under torch's launcher, as `deepspeed` would, or alone for 0 processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port]
    script = str(Path(__file__).with_name("worker.py"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *(launcher if processes else []), script, str(run_dir), name, *options],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def weights(run_dir: Path) -> dict[str, list[float]]:
    folder = run_dir / "checkpoints" / "step-000004"
    names = ("trainable.safetensors", "ema.safetensors")
    return {f"{n}/{k}": v.tolist() for n in names for k, v in load_tensors(folder / n).items()}


def close(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> bool:
    import torch

    return all(torch.allclose(torch.tensor(ours[k]), torch.tensor(theirs[k]), atol=1e-5) for k in ours)


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["zero0", "zero2", "zero3"])
def test_two_processes_stop_and_go_on_exactly(tmp_path, name):
    straight = train(tmp_path / "straight", name)
    assert straight.returncode == 0, straight.stderr
    assert "steps=4 resumed=None" in straight.stdout
    stopped = train(tmp_path / "stopped", name, "--minutes", "0")
    assert "steps=1 resumed=None" in stopped.stdout, stopped.stderr
    resumed = train(tmp_path / "stopped", name)
    assert "steps=4 resumed=1" in resumed.stdout, resumed.stderr
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")
    trainer = json.loads((tmp_path / "stopped/checkpoints/step-000004/trainer.json").read_text())
    assert trainer["world_size"] == 2 and trainer["engine"] == f"deepspeed {name}"


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.timeout(400)
def test_zero_stages_agree_and_go_on_from_each_others_checkpoints(tmp_path):
    for name in ("zero0", "zero2"):
        assert train(tmp_path / name, name).returncode == 0
    assert close(weights(tmp_path / "zero0"), weights(tmp_path / "zero2"))
    assert train(tmp_path / "mixed", "zero2", "--minutes", "0").returncode == 0
    alone = train(tmp_path / "mixed", "zero3", processes=1)
    assert "steps=4 resumed=1" in alone.stdout, alone.stderr


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.timeout(400)
def test_deepspeeds_own_tool_reads_a_checkpoint_as_it_says(tmp_path):
    import torch

    assert train(tmp_path, "zero2").returncode == 0
    folder = tmp_path / "checkpoints/step-000004"
    command = [sys.executable, "zero_to_fp32.py", ".", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    theirs = torch.load(folder / "out/pytorch_model.bin", weights_only=True)
    ours = load_tensors(folder / "trainable.safetensors")
    assert {name.removeprefix("editor.") for name in theirs} == ours.keys()
    assert all(torch.equal(theirs[f"editor.{name}"], value) for name, value in ours.items())


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.timeout(400)
def test_pickles_in_a_run_folder_are_never_opened(tmp_path):
    """Whoever hands over a run folder hands over no code."""
    import torch

    assert train(tmp_path, "zero2", "--minutes", "0").returncode == 0
    folder = tmp_path / "checkpoints/step-000001"
    marker = tmp_path / "executed"
    hostile = b"cos\nsystem\n(S'touch " + os.fsencode(marker) + b"'\ntR."
    sizes = json.loads((folder / "COMPLETE").read_text())
    for path in (folder / "deepspeed").iterdir():
        path.write_bytes(hostile)
        sizes[f"deepspeed/{path.name}"] = len(hostile)
    (folder / "COMPLETE").write_text(json.dumps(sizes))
    with pytest.raises(Exception):  # noqa: B017, PT011 - torch itself would have run it, were it asked to
        torch.load(path, weights_only=True)
    done = train(tmp_path, "zero2")
    assert "steps=4 resumed=1" in done.stdout, done.stderr
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_process_needs_no_launcher(tmp_path):
    done = train(tmp_path, "zero2", processes=0)
    assert "steps=4 resumed=None" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.timeout(400)
def test_bf16_keeps_float32_weights(tmp_path):
    import torch

    done = train(tmp_path, "zero2", "--precision", "bf16")
    assert done.returncode == 0, done.stderr
    saved = load_tensors(tmp_path / "checkpoints/step-000004/trainable.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
