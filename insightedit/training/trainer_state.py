"""Everything that a run has to remember, taken and put back as one, and where its randomness comes from."""

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

from insightedit.training import checkpoint
from insightedit.training.optim import load_optimizer

if TYPE_CHECKING:
    from torch import nn

    from insightedit.training.engine import TorchEngine
    from insightedit.training.optim import Ema
    from insightedit.training.processes import Processes

SEED_STRIDE = 10007  # between the seeds of steps at which the number of processes changed


@dataclass
class TrainerState:
    """The parts of a run with a state, how far it is, and the folder that keeps it."""

    folder: checkpoint.CheckpointFolder
    engine: TorchEngine  # weights, optimiser and schedule
    loader: Any  # has `state_dict` and `load_state_dict`
    generator: torch.Generator  # of noise and condition dropout
    processes: Processes
    ema: Ema | None = None  # running average; None without one, and in every process but the main one
    step: int = 0  # optimiser steps done
    seconds: float = 0.0  # wall time of all sessions of this run so far
    losses: dict[str, float] = field(default_factory=dict)  # the last logged means
    resumed_from: int | None = None  # step of the checkpoint this session started from

    def save(self) -> None:
        """Write a checkpoint; every process must call."""
        weights = self.engine.trainable_state()  # all help to gather them, before the main one alone goes on
        with self.folder.writing(self.step, self.processes) as path:
            self.engine.save(path)
            torch.save(rng_state(self.generator), path / f"rng-{self.processes.rank:03d}.pt")
            if not self.processes.is_main:
                return
            checkpoint.save_tensors(path / checkpoint.TRAINABLE, weights)
            if self.ema is not None:
                checkpoint.save_tensors(path / checkpoint.EMA, self.ema.shadow)
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
            (path / checkpoint.TRAINER).write_text(json.dumps(trainer, indent=1))

    def restore(self, seed: int) -> None:
        """Go back to the newest whole checkpoint, if there is one; the module has its weights already (`take_up`).

        With another number of processes than it was written by, noise and dropout are drawn anew from `seed`.
        """
        path = self.folder.latest()
        if path is None:
            return
        trainer = json.loads((path / checkpoint.TRAINER).read_text())
        load_optimizer(path, self.engine)
        self.loader.load_state_dict(trainer["loader"])
        if self.ema is not None:
            self.ema.load(checkpoint.load_tensors(path / checkpoint.EMA), trainer["ema_updates"])
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


def take_up(folder: checkpoint.CheckpointFolder, editor: nn.Module, names: Collection[str]) -> None:
    """Load the newest whole checkpoint's weights, if there is one; a StageError if it trains others than `names`."""
    path = folder.latest()
    if path is None:
        return
    trained = json.loads((path / checkpoint.TRAINER).read_text())["trainable"]
    if odd := sorted(set(trained) ^ set(names)):
        raise checkpoint.StageError(
            f"{path} and this run train different weights ({len(odd)} differ, e.g. {', '.join(odd[:3])}): "
            "the code or the packages changed since. Start anew with --restart."
        )
    checkpoint.load_weights(editor, checkpoint.load_tensors(path / checkpoint.TRAINABLE), path)


def seed_everything(seed: int, rank: int = 0) -> torch.Generator:
    """Seed torch, numpy and Python by rank; returns the generator of noise and condition dropout."""
    torch.manual_seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)  # noqa: NPY002 - libraries below still draw from it
    random.seed(seed + rank)
    # by their sum alone, rank 1 of seed 0 would get the noise of rank 0 of seed 1
    return torch.Generator().manual_seed(seed * 1000003 + rank)


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
