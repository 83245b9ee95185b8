"""The stages as a user runs them, on the tiny base models."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from insightedit import stage1, stage2, stage3
from insightedit.export.checks import read_run
from insightedit.export.folder import export_run
from insightedit.model.build import build_editor
from insightedit.training.checkpoint import (
    CheckpointFolder,
    StageError,
    drawn_buffers,
    load_tensors,
    save_tensors,
    stage_weights,
)
from insightedit.training.run import run_from_command_line

ROOT = Path(__file__).parents[2]
TINY = ["--overlay", "tiny"]
STEPS = 12
FREQUENCIES = "bridge.bim.positions.frequencies"
KILLABLE = [*TINY, f"train.max_steps={STEPS}", "train.save_every=1", "train.ema_decay=0.9", "train.keep_checkpoints=2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder `runs` after all three stages."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (stage1, stage2, stage3):
            assert stage.main(TINY).finished
    return folder / "runs" / "insightedit"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(run_dir: Path, step: int = STEPS) -> dict[str, bytes]:
    folder = run_dir / "checkpoints" / f"step-{step:06d}"
    return {name: (folder / name).read_bytes() for name in ("trainable.safetensors", "ema.safetensors")}


def test_a_stage_leaves_what_the_guide_lists(runs):
    found = {p.relative_to(runs / "stage3").as_posix() for p in (runs / "stage3").rglob("*") if p.is_file()}
    found = {name for name in found if not name.startswith("tensorboard")}
    names = (
        "COMPLETE",
        "optimizer.safetensors",
        "rng-000.pt",
        "schedule.json",
        "trainable.safetensors",
        "trainer.json",
    )
    wanted = {f"checkpoints/step-{step:06d}/{name}" for step in (2, 4) for name in names}
    wanted |= {"checkpoints/latest", "config.yaml", "contract.json", "log.jsonl", "losses.png"}
    wanted |= {"inherited.safetensors", "samples/step-000004.png", "data.json", ".lock"}
    assert found == wanted


def test_each_stage_trains_what_it_says(runs):
    parts = {}
    for number in (1, 2, 3):
        keys = json.loads((runs / f"stage{number}" / "contract.json").read_text())["keys"]
        parts[number] = {
            part
            for part in ("qformer", "iaa", "bim", "lora_", "unet", "trainable_tokens")
            if any(part in k for k in keys)
        }
    assert parts[1] == {"qformer", "trainable_tokens"}
    assert parts[2] == parts[1] | {"iaa", "lora_", "unet"}
    assert parts[3] == parts[2] | {"bim"}


def test_weights_move_in_every_stage(runs):
    first, second, third = (stage_weights(runs / f"stage{n}") for n in (1, 2, 3))
    name = next(k for k in first if "qformer" in k and k.endswith("weight") and first[k].ndim == 2)
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(second[name], third[name])


def test_the_same_command_after_the_end_does_nothing(runs, monkeypatch):
    monkeypatch.chdir(runs.parents[1])
    before = (runs / "stage3" / "log.jsonl").read_text()
    summary = stage3.main(TINY)
    assert summary.finished
    assert summary.steps == 4
    assert (runs / "stage3" / "log.jsonl").read_text() == before


def test_other_settings_are_refused(runs, monkeypatch):
    monkeypatch.chdir(runs.parents[1])
    with pytest.raises(StageError, match=r"optim.lr was 0.001, is 0.5\. Use the old ones"):
        stage1.main([*TINY, "optim.lr=0.5"])


def test_restart_begins_anew_beside_the_old_run():
    stage1.main([*TINY, "train.max_steps=2"])
    summary = stage1.main([*TINY, "train.max_steps=3", "--restart"])
    assert summary.steps == 3
    assert summary.resumed_from is None
    assert Path("runs/insightedit/stage1.old-1/contract.json").is_file()


def test_a_restart_that_cannot_start_renames_nothing():
    run_dir = Path("runs/insightedit/stage2")
    run_dir.mkdir(parents=True)
    (run_dir / "log.jsonl").write_text("hours of work")
    with pytest.raises(StageError, match="Run `python -m insightedit.stage1"):
        stage2.main([*TINY, "--restart"])
    assert (run_dir / "log.jsonl").read_text() == "hours of work"
    assert not run_dir.with_name("stage2.old-1").exists()


def test_a_missing_stage_names_its_command():
    with pytest.raises(
        StageError, match="Run `python -m insightedit.stage1 --recipe insightedit --overlay tiny` first"
    ):
        stage2.main(TINY)


def test_stage_3_before_2_is_refused(runs):
    with pytest.raises(StageError, match="stage 3 comes after stage 2, but .*stage1 holds stage 1"):
        stage3.main([*TINY, "--init-from", str(runs / "stage1")])


def test_another_width_is_explained(runs):
    with pytest.raises(StageError, match="this editor"):
        stage2.main([*TINY, "--init-from", str(runs / "stage1"), "bridge.qformer.ffn_dim=32"])


def test_what_is_not_trained_again_is_kept(runs):
    frozen = "stage.trainable=[unet.*,bridge.bim.*,bridge.iaa.*]"
    summary = stage3.main([*TINY, frozen, "--init-from", str(runs / "stage2")])
    kept = load_tensors(summary.run_dir / "inherited.safetensors")
    before = stage_weights(runs / "stage2")
    assert kept.pop(FREQUENCIES).shape == (2, 16)  # BIM is new here: drawn, not inherited
    assert kept
    assert all(torch.equal(value, before[name]) for name, value in kept.items())
    assert set(stage_weights(summary.run_dir)) == set(stage_weights(runs / "stage3"))


def test_what_was_drawn_at_random_goes_along_whatever_the_seed(runs):
    """BIM reads places by random frequencies: with others it has to learn them anew."""
    assert FREQUENCIES not in stage_weights(runs / "stage2")  # no BIM yet, and a next stage may have none
    drawn = stage_weights(runs / "stage3")[FREQUENCIES]
    other = ["--init-from", str(runs / "stage3"), "train.seed=7", "output_dir=other"]
    run_dir = stage3.main([*TINY, *other]).run_dir
    assert torch.equal(stage_weights(run_dir)[FREQUENCIES], drawn)
    assert json.loads((run_dir / "contract.json").read_text())["keys"][FREQUENCIES] == list(drawn.shape)
    config = read_run(run_dir)
    assert not torch.equal(drawn_buffers(build_editor(config))[FREQUENCIES], drawn)
    exported = load_file(export_run(run_dir, "model", dtype="fp32") / "bridge/diffusion_pytorch_model.safetensors")
    assert torch.equal(exported["bim.positions.frequencies"], drawn)


def test_a_run_without_its_random_frequencies_is_warned_of(runs, caplog):
    old = Path(shutil.copytree(runs / "stage3", "old"))
    kept = load_tensors(old / "inherited.safetensors")
    del kept[FREQUENCIES]
    save_tensors(old / "inherited.safetensors", kept)
    stage3.main([*TINY, "--init-from", "old", "output_dir=other"])
    assert f"old does not hold {FREQUENCIES}, which its weights were trained with" in caplog.text
    caplog.clear()
    stage3.main([*TINY, "--init-from", str(runs / "stage3"), "output_dir=another"])
    stage3.main([*TINY, "--init-from", str(runs / "stage2"), "output_dir=third"])  # BIM is new there
    assert "does not hold" not in caplog.text


def test_a_run_folder_goes_on_without_the_stage_before(runs, monkeypatch):
    straight = stage2.main([*TINY, "--init-from", str(runs / "stage1"), "output_dir=straight", "train.ema_decay=0.9"])
    arguments = [*TINY, "train.ema_decay=0.9", "output_dir=broken"]
    stage2.main([*arguments, "--init-from", str(runs / "stage1"), "train.max_minutes=0"])
    resumed = stage2.main(arguments)
    assert resumed.resumed_from == 1
    assert files(straight.run_dir, 4) == files(resumed.run_dir, 4)


def test_recomputed_activations_give_the_same_weights(runs):
    summary = stage2.main([*TINY, "--init-from", str(runs / "stage1"), "train.gradient_checkpointing=true"])
    before = stage_weights(runs / "stage2")
    for name, value in stage_weights(summary.run_dir).items():
        torch.testing.assert_close(value, before[name], rtol=1e-3, atol=1e-5)


def test_a_mistake_on_the_command_line_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stage1", *TINY, "train.max_step=3"])
    with pytest.raises(SystemExit, match="2"):
        run_from_command_line(stage1.main)
    assert re.fullmatch(r"insightedit: .*max_steps.*\n", capsys.readouterr().err)


def start(number: int, arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """The stage as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"insightedit.stage{number}", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def kill_somewhere(number: int, arguments: list[str], folder: Path, draw: random.Random) -> None:
    """kill -9 after a random number of log lines and a random moment more."""
    process = start(number, arguments, folder)
    log = folder / "runs" / "insightedit" / f"stage{number}" / "log.jsonl"
    already = len(log.read_text().splitlines()) if log.exists() else 0
    wanted = already + draw.randint(0, 2)
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= wanted:
            break
        time.sleep(0.002)
    time.sleep(draw.random() * 0.15)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, bytes]:
    """What an uninterrupted stage 1 ends with."""
    folder = tmp_path_factory.mktemp("straight")
    stage1.main([*KILLABLE, "train.log_every=1", f"output_dir={folder}"])
    return files(folder)


def check_kills(trials: range, folder: Path, straight: dict[str, bytes]) -> None:
    arguments = [*KILLABLE, "train.log_every=1"]
    for trial in trials:
        kill_somewhere(1, arguments, folder, random.Random(trial))
        run_dir = folder / "runs" / "insightedit" / "stage1"
        checkpoints = CheckpointFolder(run_dir / "checkpoints")
        if checkpoints.latest() and checkpoints.latest().name == f"step-{STEPS:06d}":
            assert files(run_dir) == straight
            stage1.main([*arguments, "--restart", "train.max_minutes=0"])
    stage1.main(arguments)
    assert files(folder / "runs" / "insightedit" / "stage1") == straight


def test_kill_9_at_any_step_changes_no_bit(tmp_path, straight):
    check_kills(range(2), tmp_path, straight)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_9_twenty_times_changes_no_bit(tmp_path, straight):
    check_kills(range(100, 120), tmp_path, straight)
