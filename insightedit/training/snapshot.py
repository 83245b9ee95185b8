"""Everything that a run has to remember, taken and put back as one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from insightedit.training.checkpoint import (
    EMA,
    TRAINABLE,
    TRAINER,
    CheckpointFolder,
    load_tensors,
    rng_state,
    save_tensors,
    set_rng_state,
)
from insightedit.training.errors import StageError

if TYPE_CHECKING:
    from insightedit.training.engine import Engine
    from insightedit.training.optim import Ema
    from insightedit.training.processes import Processes


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done.
        seconds: wall time of all sessions of this run so far.
        losses: the last logged means.
        resumed_from: step of the checkpoint this session started from, or None.
    """

    step: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    resumed_from: int | None = None


@dataclass
class Snapshot:
    """The parts of a run with a state, and the folder that keeps it."""

    folder: CheckpointFolder
    engine: Engine
    loader: Any
    generator: torch.Generator
    processes: Processes
    ema: Ema | None = None

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; every process must call.

        Raises:
            StageError: if the disk refuses.
        """
        weights = self.engine.trainable_state()
        with self.folder.writing(progress.step, self.processes) as path:
            self.engine.save(path)
            torch.save(rng_state(self.generator), path / f"rng-{self.processes.rank:03d}.pt")
            if self.processes.is_main:
                save_tensors(path / TRAINABLE, weights)
                if self.ema is not None:
                    save_tensors(path / EMA, self.ema.shadow)
                (path / TRAINER).write_text(json.dumps(self._trainer(progress, list(weights)), indent=1))

    def restore(self) -> Progress:
        """Go back to the newest whole checkpoint; a fresh `Progress` where there is none.

        Raises:
            StageError: if the checkpoint was made by another engine, number of processes or set of weights.
        """
        path = self.folder.latest()
        if path is None:
            return Progress()
        trainer = json.loads((path / TRAINER).read_text())
        self._check(path, trainer)
        self.engine.load(path)
        self.loader.load_state_dict(trainer["loader"])
        if self.ema is not None and self.processes.is_main:
            self.ema.load(load_tensors(path / EMA), trainer["ema_updates"])
        state = torch.load(path / f"rng-{self.processes.rank:03d}.pt", map_location="cpu", weights_only=True)
        set_rng_state(state, self.generator)
        return Progress(trainer["step"], trainer["seconds"], trainer["losses"], resumed_from=trainer["step"])

    def _trainer(self, progress: Progress, names: list[str]) -> dict[str, Any]:
        return {
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "losses": progress.losses,
            "loader": self.loader.state_dict(),
            "engine": self.engine.name,
            "world_size": self.processes.world_size,
            "ema_updates": self.ema.updates if self.ema is not None else 0,
            "trainable": names,
        }

    def _check(self, path: Path, trainer: dict[str, Any]) -> None:
        size, engine = self.processes.world_size, self.engine.name
        if trainer["world_size"] != size:
            raise StageError(
                f"{path} was written by {trainer['world_size']} processes, this run has {size}: optimiser "
                "states and "
                f"data order are split by process. Start it with {trainer['world_size']} again, or anew "
                "with --restart."
            )
        if trainer["engine"] != engine:
            raise StageError(
                f"{path} was written by the engine `{trainer['engine']}`, this run uses `{engine}`: set "
                "train.engine and "
                "train.deepspeed as before, or start anew with --restart."
            )
        names = set(self.engine.parameter_names())
        if set(trainer["trainable"]) != names:
            odd = sorted(set(trainer["trainable"]) ^ names)
            raise StageError(
                f"{path} and this run train different weights ({len(odd)} differ, e.g. "
                f"{', '.join(odd[:3])}): "
                "the code or the packages changed since. Start anew with --restart."
            )
