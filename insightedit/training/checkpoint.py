"""Checkpoints that are whole or absent: written aside, flushed, renamed, and only then pointed to.

checkpoints/step-000500/   trainable.safetensors [ema.safetensors] [optimizer.pt | deepspeed/] rng-000.pt
trainer.json COMPLETE
checkpoints/latest         text: the newest whole one
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from insightedit.files import flush, open_to_others, write_atomically, write_text
from insightedit.training.errors import StageError

if TYPE_CHECKING:
    from insightedit.training.engine import Processes

logger = logging.getLogger(__name__)
COMPLETE = "COMPLETE"
TRAINABLE = "trainable.safetensors"
EMA = "ema.safetensors"
TRAINER = "trainer.json"


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        root: `RUN/checkpoints`; made on the first save.
        keep: how many whole ones stay, >= 1.
    """

    def __init__(self, root: str | os.PathLike[str], keep: int = 2) -> None:
        self.root = Path(root)
        self.keep = max(1, keep)

    def complete(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(folder for folder in self.root.glob("step-*") if is_complete(folder))

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        whole = self.complete()
        return whole[-1] if whole else None

    def clean(self) -> list[str]:
        """Remove what a killed save left behind; returns the names removed."""
        broken = sorted(folder for folder in self.root.glob("step-*") if not is_complete(folder))
        for folder in broken:
            logger.warning("removed the incomplete checkpoint %s", folder)
            shutil.rmtree(folder)
        return [folder.name for folder in broken]

    @contextmanager
    def writing(self, step: int, processes: Processes) -> Iterator[Path]:
        """A folder to write checkpoint `step` into; it becomes the latest when the block ends well.

        All processes enter and leave together; the main one makes, flushes, renames and prunes.

        Raises:
            StageError: if the disk refuses; the earlier checkpoints are untouched.
        """
        folder = self.root / f"step-{step:06d}"
        aside = folder.with_suffix(".tmp")
        try:
            if processes.is_main:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
            processes.barrier()
            yield aside
            processes.barrier()
            if processes.is_main:
                self._publish(aside, folder)
            processes.barrier()
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise StageError(self._refused(step, error)) from error

    def _publish(self, aside: Path, folder: Path) -> None:
        sizes = {str(f.relative_to(aside)): f.stat().st_size for f in sorted(aside.rglob("*")) if f.is_file()}
        for name in sizes:
            flush(aside / name)
        (aside / COMPLETE).write_text(json.dumps(sizes, indent=1))
        flush(aside / COMPLETE)
        flush(aside)
        open_to_others(aside)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
        flush(self.root)
        write_text(self.root / "latest", folder.name + "\n", durable=True)
        for old in self.complete()[: -self.keep]:
            shutil.rmtree(old)

    def _refused(self, step: int, error: Exception) -> str:
        kept = self.latest()
        state = f"{kept.name} is untouched" if kept else "there is no earlier checkpoint"
        return (
            f"could not save step {step} under {self.root}: {error}; {state}. Free some space "
            f"({shutil.disk_usage(self.root.parent).free / 2**30:.1f} GiB are left) and run the same command again."
        )


def is_complete(folder: Path) -> bool:
    """Whether every file that the save listed is there in full size."""
    try:
        sizes = json.loads((folder / COMPLETE).read_text())
        return folder.suffix != ".tmp" and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, contiguous and on the CPU, atomically."""
    with write_atomically(path, durable=True) as aside:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, aside)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors onto the CPU."""
    return load_file(path)


def stage_weights(run_dir: Path, *, ema: bool = True) -> dict[str, Tensor]:
    """All weights a run added to its base models: those it inherited and those it trained.

    Args:
        run_dir: run folder of a stage, or one checkpoint folder in it.
        ema: take the running average where there is one.

    Returns:
        Editor parameter name -> float32 weight.

    Raises:
        StageError: if there is no whole checkpoint.
    """
    folder = run_dir if is_complete(run_dir) else CheckpointFolder(run_dir / "checkpoints").latest()
    if folder is None:
        raise StageError(
            f"{run_dir} holds no whole checkpoint: name the run folder of a stage (it has a folder `checkpoints`), or "
            "run that stage first."
        )
    inherited = folder.parent.parent / "inherited.safetensors"
    weights = load_tensors(inherited) if inherited.exists() else {}
    averaged = ema and (folder / EMA).exists()
    return {**weights, **load_tensors(folder / (EMA if averaged else TRAINABLE))}


def rng_state(generator: torch.Generator) -> dict[str, Any]:
    """State of torch, CUDA, numpy, Python and the noise generator, as plain tensors and numbers."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - libraries below still draw from it
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": {
            "key": torch.from_numpy(state["state"]["key"].astype(np.int64)),
            "pos": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "generator": generator.get_state(),
    }


def set_rng_state(state: Mapping[str, Any], generator: torch.Generator) -> None:
    """Put every random source back to where `rng_state` found it."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
    saved = state["numpy"]
    inner = {"key": saved["key"].numpy().astype(np.uint32), "pos": saved["pos"]}
    whole = {"bit_generator": "MT19937", "state": inner, "has_gauss": saved["has_gauss"], "gauss": saved["gauss"]}
    np.random.set_state(whole)  # noqa: NPY002 - see rng_state
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    generator.set_state(state["generator"])


@contextmanager
def undisturbed(generator: torch.Generator) -> Iterator[None]:
    """Whatever is drawn inside leaves the run's random sources as they were."""
    state = rng_state(generator)
    try:
        yield
    finally:
        set_rng_state(state, generator)
