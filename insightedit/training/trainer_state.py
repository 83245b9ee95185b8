"""Everything that a run has to remember, taken and put back as one."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from insightedit.training.checkpoint import (
    EMA,
    TRAINABLE,
    TRAINER,
    CheckpointFolder,
    load_tensors,
    rng_state,
    save_tensors,
    set_rng_state,
    undisturbed,
)
from insightedit.training.contract import load_weights
from insightedit.training.errors import StageError

if TYPE_CHECKING:
    from torch import nn

    from insightedit.training.engine import Engine
    from insightedit.training.optim import Ema
    from insightedit.training.processes import Processes

SEED_STRIDE = 10007  # between the seeds of steps at which the number of processes changed


@dataclass
class TrainerState:
    """The parts of a run with a state, how far it is, and the folder that keeps it.

    Attributes:
        folder: of the checkpoints.
        engine: weights, optimiser and schedule.
        loader: has `state_dict` and `load_state_dict`.
        generator: of noise and condition dropout.
        processes: that train together.
        ema: running average; None without one, and in every process but the main one.
        step: optimiser steps done.
        seconds: wall time of all sessions of this run so far.
        losses: the last logged means.
        resumed_from: step of the checkpoint this session started from, or None.
    """

    folder: CheckpointFolder
    engine: Engine
    loader: Any
    generator: torch.Generator
    processes: Processes
    ema: Ema | None = None
    step: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    resumed_from: int | None = None

    def save(self) -> None:
        """Write a checkpoint; every process must call.

        Raises:
            StageError: if the disk refuses.
        """
        weights = self.engine.trainable_state()
        with self.folder.writing(self.step, self.processes) as path:
            self.engine.save(path)
            torch.save(rng_state(self.generator), path / f"rng-{self.processes.rank:03d}.pt")
            if not self.processes.is_main:
                return
            save_tensors(path / TRAINABLE, weights)
            if self.ema is not None:
                save_tensors(path / EMA, self.ema.shadow)
            trainer = {
                "step": self.step,
                "seconds": round(self.seconds, 3),
                "losses": self.losses,
                "loader": self.loader.state_dict(),
                "engine": self.engine.name,
                "world_size": self.processes.world_size,
                "ema_updates": self.ema.updates if self.ema is not None else 0,
                "trainable": list(weights),
            }
            (path / TRAINER).write_text(json.dumps(trainer, indent=1))

    def restore(self, seed: int) -> None:
        """Go back to the newest whole checkpoint, if there is one; the module has its weights already (`take_up`).

        With another number of processes than it was written by, noise and dropout are drawn anew from `seed`.

        Raises:
            StageError: if the optimiser's state cannot be read.
        """
        path = self.folder.latest()
        if path is None:
            return
        trainer = json.loads((path / TRAINER).read_text())
        self.engine.load(path)
        self.loader.load_state_dict(trainer["loader"])
        if self.ema is not None:
            self.ema.load(load_tensors(path / EMA), trainer["ema_updates"])
        # last: what is loaded above may draw
        if trainer["world_size"] == self.processes.world_size:
            state = torch.load(path / f"rng-{self.processes.rank:03d}.pt", map_location="cpu", weights_only=True)
            set_rng_state(state, self.generator)
        else:
            fresh = seed_everything(seed + SEED_STRIDE * trainer["step"], self.processes.rank)
            self.generator.set_state(fresh.get_state())
        self.step = self.resumed_from = trainer["step"]
        self.seconds, self.losses = trainer["seconds"], trainer["losses"]

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Inside, the model evaluates with its averaged weights where there are some, and the run is undisturbed."""
        averaged = self.ema.shadow if self.ema is not None else {}
        self.engine.module.eval()
        with undisturbed(self.generator), torch.no_grad(), swapped(self.engine.trainable_state(), averaged):
            yield
        self.engine.module.train()


@contextmanager
def swapped(weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, `weights` hold the values of `averaged`, in place."""
    before = {name: weights[name].clone() for name in averaged}
    try:
        for name, value in averaged.items():
            weights[name].copy_(value)
        yield
    finally:
        for name, value in before.items():
            weights[name].copy_(value)


def take_up(folder: CheckpointFolder, editor: nn.Module, names: Collection[str]) -> None:
    """Load the newest whole checkpoint's weights, if there is one; before an engine splits them.

    Args:
        folder: of the run.
        editor: model.
        names: of the weights that this run trains.

    Raises:
        StageError: if the checkpoint trains others.
    """
    path = folder.latest()
    if path is None:
        return
    trained = json.loads((path / TRAINER).read_text())["trainable"]
    if odd := sorted(set(trained) ^ set(names)):
        raise StageError(
            f"{path} and this run train different weights ({len(odd)} differ, e.g. {', '.join(odd[:3])}): "
            "the code or the packages changed since. Start anew with --restart."
        )
    load_weights(editor, load_tensors(path / TRAINABLE), path)


def seed_everything(seed: int, rank: int = 0) -> torch.Generator:
    """Seed torch, numpy and Python by rank; returns the generator of noise and condition dropout."""
    torch.manual_seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)  # noqa: NPY002 - libraries below still draw from it
    random.seed(seed + rank)
    return torch.Generator().manual_seed(seed * 1000003 + rank)
