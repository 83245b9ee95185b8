from __future__ import annotations

import os
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from insightedit import files
from insightedit.training import checkpoint
from insightedit.training.checkpoint import (
    CheckpointFolder,
    StageError,
    is_complete,
    load_tensors,
    save_tensors,
    stage_weights,
)
from insightedit.training.processes import Processes
from insightedit.training.trainer_state import rng_state, set_rng_state, undisturbed

ALONE = Processes()


def save(folder: CheckpointFolder, step: int, text: str = "weights") -> None:
    with folder.writing(step, ALONE) as path:
        (path / "a.txt").write_text(text)
        (path / "inner").mkdir()
        (path / "inner" / "b.txt").write_text(text)


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(p.name for p in folder.root.iterdir())


def test_saved_checkpoints_are_whole_and_the_last_ones_stay(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    assert folder.latest() is None
    for step in (1, 2, 10):
        save(folder, step)
    assert names(folder) == ["latest", "step-000002", "step-000010"]
    assert folder.latest().name == "step-000010"
    assert (folder.root / "latest").read_text() == "step-000010\n"


@pytest.mark.parametrize(
    "moment", ["while writing", "before the marker", "before the rename", "before the pointer", "before the pruning"]
)
def test_a_death_at_any_moment_keeps_a_whole_checkpoint(tmp_path, monkeypatch, moment):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=1)
    save(folder, 1)

    class Death(BaseException):
        """No handler of ours sees it, as with kill -9."""

    def die(*_: object, **__: object) -> None:
        raise Death

    with monkeypatch.context() as patch:
        if moment == "before the marker":
            patch.setattr(checkpoint, "flush", die)
        if moment == "before the rename":
            patch.setattr(checkpoint.Path, "rename", die)
        if moment == "before the pointer":
            patch.setattr(checkpoint, "write_text", die)
        if moment == "before the pruning":
            patch.setattr(shutil, "rmtree", lambda path, **k: die() if path.name == "step-000001" else None)
        with pytest.raises(Death), folder.writing(2, ALONE) as path:
            (path / "a.txt").write_text("half")
            if moment == "while writing":
                die()

    renamed = moment in ("before the pointer", "before the pruning")
    again = CheckpointFolder(folder.root, keep=1)
    again.clean()
    assert again.latest().name == ("step-000002" if renamed else "step-000001")
    assert not list(folder.root.glob("*.tmp"))
    save(again, 3)
    assert names(again) == ["latest", "step-000003"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_full_disk_is_explained_and_loses_nothing(tmp_path, error):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    save(folder, 1)
    wanted = pytest.raises(StageError, match="could not save step 2 .*step-000001 is untouched.*Free some space")
    with wanted, folder.writing(2, ALONE) as path:
        (path / "a.txt").write_text("half")
        raise error
    assert names(folder) == ["latest", "step-000001"]


def test_full_disk_at_the_first_save_says_so(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(StageError, match="no earlier checkpoint"), folder.writing(1, ALONE):
        raise OSError("full")


def test_a_shortened_file_makes_a_checkpoint_incomplete(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    save(folder, 1)
    save(folder, 2)
    (folder.root / "step-000002" / "a.txt").write_text("w")
    assert not is_complete(folder.root / "step-000002")
    assert folder.latest().name == "step-000001"
    assert folder.clean() == ["step-000002"]
    assert "removed the incomplete checkpoint" in caplog.text


@pytest.mark.parametrize("value", [0o022, 0o027])
def test_others_may_read_what_the_umask_allows(tmp_path, value):
    before = os.umask(value)
    try:
        with CheckpointFolder(tmp_path, keep=1).writing(1, ALONE) as path:
            checkpoint.save_tensors(path / "a.safetensors", {"a": torch.zeros(1)})
            save_file({"a": torch.zeros(1)}, path / "b.safetensors")
    finally:
        os.umask(before)
    for name in ("a.safetensors", "b.safetensors"):
        assert (tmp_path / "step-000001" / name).stat().st_mode & 0o777 == 0o666 & ~value


def test_small_files_are_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "latest"
    files.write_text(path, "old", durable=True)
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        files.write_text(path, "new", durable=True)
    assert path.read_text() == "old"


def test_channels_last_weights_come_back_equal(tmp_path):
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    save_tensors(tmp_path / "w.safetensors", {"w": weight})
    assert torch.equal(load_tensors(tmp_path / "w.safetensors")["w"], weight)


def draws(generator: torch.Generator) -> tuple:
    return (
        torch.rand(2).tolist(),
        torch.rand(2, generator=generator).tolist(),
        np.random.rand(2).tolist(),
        np.random.randn(1).tolist(),
        random.random(),
        random.gauss(0, 1),
    )


def test_random_sources_go_on_where_they_were(tmp_path):
    generator = torch.Generator().manual_seed(3)
    draws(generator)
    torch.save(rng_state(generator), tmp_path / "rng.pt")
    wanted = draws(generator)
    draws(generator)
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True), generator)
    assert draws(generator) == wanted


def test_undisturbed_gives_the_random_state_back():
    generator = torch.Generator().manual_seed(3)
    state = rng_state(generator)
    with undisturbed(generator):
        draws(generator)
    assert torch.equal(rng_state(generator)["torch"], state["torch"])
    assert torch.equal(rng_state(generator)["generator"], state["generator"])


def test_weights_of_a_stage_are_inherited_and_trained_ones(tmp_path):
    save_tensors(tmp_path / "inherited.safetensors", {"old": torch.zeros(1)})
    with CheckpointFolder(tmp_path / "checkpoints").writing(1, ALONE) as path:
        save_tensors(path / "trainable.safetensors", {"new": torch.ones(1)})
        save_tensors(path / "ema.safetensors", {"new": torch.full((1,), 2.0)})
    assert {k: v.item() for k, v in stage_weights(tmp_path).items()} == {"old": 0.0, "new": 2.0}
    assert stage_weights(tmp_path, ema=False)["new"].item() == 1.0
    assert stage_weights(tmp_path / "checkpoints" / "step-000001").keys() == {"old", "new"}


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(StageError, match="holds no whole checkpoint.*run that stage first"):
        stage_weights(tmp_path)
