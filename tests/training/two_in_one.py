"""What two processes have to compute, by one: the ranks take turns, their gradients are averaged, plain torch steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from insightedit.model.build import build_editor
from insightedit.training.data import build_loader
from insightedit.training.engine import TorchEngine
from insightedit.training.objectives import OBJECTIVES, TrainingStep
from insightedit.training.processes import Processes
from insightedit.training.run import inherit, parse_arguments, read_config
from insightedit.training.run_folder import previous_run
from insightedit.training.trainable import select_trainable
from insightedit.training.trainer_state import rng_state, seed_everything, set_rng_state

RANKS = range(2)


def train(number: int, words: Sequence[str], run_dir: Path) -> tuple[dict[str, Tensor], list[float]]:
    """Train a stage as two processes would.

    Args:
        number: of the stage.
        words: its command line.
        run_dir: folder for what is inherited.

    Returns:
        The trained weights, and rank 0's losses, one a step.
    """
    config = read_config(number, parse_arguments(number, list(words)))
    editor = build_editor(config)
    run_dir.mkdir(parents=True)
    inherit(editor, config, run_dir, previous_run(config), Processes())
    select_trainable(editor, config.stage.trainable)
    halves = replace(config, train=replace(config.train, gradient_accumulation_steps=len(RANKS)))
    engine = TorchEngine(TrainingStep(editor, OBJECTIVES[config.stage.objective], halves), Processes())
    loaders = [iter(build_loader(config, editor, rank=rank, world_size=len(RANKS))) for rank in RANKS]
    generators = [seed_everything(config.train.seed, rank) for rank in RANKS]
    states = []
    for rank in RANKS:
        generators[rank] = seed_everything(config.train.seed, rank)
        states.append(rng_state(generators[rank]))
    losses = []
    for _ in range(config.train.max_steps):
        for rank in RANKS:
            batch = next(loaders[rank])
            set_rng_state(states[rank], generators[rank])
            total, _ = engine.backward(batch, generators[rank])
            states[rank] = rng_state(generators[rank])
            if rank == 0:
                losses.append(float(total))
        engine.step()
    return engine.trainable_state(), losses
