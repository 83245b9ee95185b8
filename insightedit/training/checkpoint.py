"""Checkpoints that are whole or absent: written aside, flushed, renamed, and only then pointed to; and their weights.

checkpoints/step-000500/   trainable.safetensors [ema.safetensors] optimizer.safetensors schedule.json rng-000.pt
                           trainer.json [deepspeed/] COMPLETE
checkpoints/latest         text: the newest whole one
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from insightedit.bridging.two_way import FourierPositions
from insightedit.config.load import ConfigError
from insightedit.files import flush, open_to_others, write_atomically, write_text

if TYPE_CHECKING:
    from insightedit.training.processes import Processes

logger = logging.getLogger(__name__)
COMPLETE = "COMPLETE"
TRAINABLE = "trainable.safetensors"
EMA = "ema.safetensors"
TRAINER = "trainer.json"
INHERITED = "inherited.safetensors"  # in the run folder: what earlier stages made and this one does not train


class StageError(ConfigError):
    """A run folder, a checkpoint or the order of stages forbids what was asked; the text says what to do."""


class CheckpointFolder:
    """The checkpoints of one run, in `RUN/checkpoints`; the newest `keep` (at least one) stay."""

    def __init__(self, root: str | os.PathLike[str], keep: int = 2) -> None:
        self.root = Path(root)
        self.keep = max(1, keep)

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        return max(self._complete(), default=None)

    def _complete(self) -> list[Path]:
        return sorted(folder for folder in self.root.glob("step-*") if is_complete(folder))

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

        All processes enter and leave together; the main one makes, flushes, renames and prunes. If the disk refuses
        (StageError), the earlier checkpoints are untouched.
        """
        folder = self.root / f"step-{step:06d}"
        aside = folder.with_suffix(".tmp")
        try:
            if processes.is_main:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
            processes.barrier()  # the folder is there before anybody writes into it
            yield aside
            processes.barrier()  # all have written before their files are listed
            if processes.is_main:
                self._publish(aside, folder)
            processes.barrier()  # nobody goes on, and perhaps dies, before the checkpoint counts
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            kept = self.latest()
            state = f"{kept.name} is untouched" if kept else "there is no earlier checkpoint"
            free = shutil.disk_usage(self.root.parent).free / 2**30
            raise StageError(
                f"could not save step {step} under {self.root}: {error}; {state}. Free some space "
                f"({free:.1f} GiB are left) and run the same command again."
            ) from error

    def _publish(self, aside: Path, folder: Path) -> None:
        sizes = {str(f.relative_to(aside)): f.stat().st_size for f in sorted(aside.rglob("*")) if f.is_file()}
        for name in sizes:
            flush(aside / name)
        # the marker comes after what it vouches for is on the disk, the rename after the marker, the pointer last: a
        # kill between any two leaves either no checkpoint or a whole one
        (aside / COMPLETE).write_text(json.dumps(sizes, indent=1))
        flush(aside / COMPLETE)
        flush(aside)
        open_to_others(aside)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
        flush(self.root)
        write_text(self.root / "latest", folder.name + "\n", durable=True)
        for old in self._complete()[: -self.keep]:
            shutil.rmtree(old)


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
    """All weights that a run added to its base models, inherited and trained: editor parameter name -> float32 weight.

    `run_dir` may be one checkpoint in it, too; `ema` takes the running average where there is one. A StageError if
    there is no whole checkpoint.
    """
    folder = run_dir if is_complete(run_dir) else CheckpointFolder(run_dir / "checkpoints").latest()
    if folder is None:
        raise StageError(
            f"{run_dir} holds no whole checkpoint: name the run folder of a stage (it has a folder `checkpoints`), or "
            "run that stage first."
        )
    inherited = folder.parent.parent / INHERITED
    weights = load_tensors(inherited) if inherited.exists() else {}
    averaged = ema and (folder / EMA).exists()
    return {**weights, **load_tensors(folder / (EMA if averaged else TRAINABLE))}


def load_stage_weights(editor: nn.Module, run_dir: str | Path, *, ema: bool = True) -> dict[str, Tensor]:
    """Load `stage_weights` of an earlier stage into an editor built with the same base models; returns them."""
    weights = stage_weights(Path(run_dir), ema=ema)
    load_weights(editor, weights, run_dir)
    return weights


@torch.no_grad()
def load_weights(editor: nn.Module, weights: Mapping[str, Tensor], origin: str | Path) -> None:
    """Copy `weights` into the parameters and drawn buffers of the same names; a StageError if one does not fit.

    Those of a part that is absent, because a cache stands for it, are passed over.
    """
    parameters = dict(editor.named_parameters(remove_duplicate=False)) | drawn_buffers(editor)
    absent = getattr(editor, "absent", ())
    weights = {name: value for name, value in weights.items() if name not in absent}
    unknown = [name for name in weights if name not in parameters]
    if unknown:
        raise StageError(
            f"{origin} holds {len(unknown)} weights that this editor does not have, e.g. {', '.join(unknown[:3])}: "
            "comprehension and bridge must be configured as in that run (its config.yaml shows how; of a model, its "
            "bridge/config.json)."
        )
    for name, value in weights.items():
        if parameters[name].shape != value.shape:
            raise StageError(
                f"{origin} holds {name} of shape {tuple(value.shape)}, this editor has "
                f"{tuple(parameters[name].shape)}: widths, depths and token counts must be configured as in that run "
                "(its config.yaml shows how)."
            )
    for name, value in weights.items():  # all have been checked: an editor is loaded whole or left as it was
        parameters[name].copy_(value)


def drawn_buffers(editor: nn.Module, learned: Collection[str] | None = None) -> dict[str, Tensor]:
    """What is drawn at random when an editor is built, never trained, and in no base model.

    It belongs to the weights trained with it (BIM reads places by its Fourier frequencies), so it goes with them from
    stage to stage, whatever the seed or the order in which a later stage builds its parts. With the names of `learned`
    weights, only the buffers of parts that hold one of them.
    """
    found = {}
    for name, module in editor.named_modules():
        part = f"{name.rpartition('.')[0]}."
        if isinstance(module, FourierPositions) and (
            learned is None or any(weight.startswith(part) for weight in learned)
        ):
            found[f"{name}.frequencies"] = module.frequencies
    return found
