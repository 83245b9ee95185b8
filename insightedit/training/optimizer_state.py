"""The optimiser's state by weight names, whole: any engine, ZeRO stage and number of processes reads what any wrote.

A checkpoint holds `optimizer.safetensors` with `KEY/NAME` for each key of AdamW's state and each trained weight, and
`schedule.json`. Nothing in it is pickled. 8-bit AdamW keeps its blocks per process instead (`optimizer-000.pt`, tensors
and numbers only), for the same engine and number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from insightedit.training.checkpoint import load_tensors, save_tensors
from insightedit.training.errors import StageError

if TYPE_CHECKING:
    from insightedit.training.engine import Engine

OPTIMIZER = "optimizer.safetensors"
SCHEDULE = "schedule.json"
STEP = "step"
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_optimizer(folder: Path, engine: Engine) -> None:
    """Write optimiser and schedule; every process must call."""
    is_main = engine.processes.is_main
    if is_main:
        (folder / SCHEDULE).write_text(json.dumps(engine.schedule.state_dict(), indent=1))
    if split_by_process(engine.optimizer):
        blocks = [dict(engine.optimizer.state[tensor]) for tensor in engine.stepped()]
        torch.save(blocks, folder / _blocks(engine.processes.rank))
        return
    state = {}
    for name, parameter in engine.parameters.items():
        for key in (STEP, *MOMENTS):
            value = engine.optimizer_state(parameter, key)  # by every process: under ZeRO each holds a part of it
            if is_main and value is not None:
                state[f"{key}/{name}"] = torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True)
    if is_main:
        save_tensors(folder / OPTIMIZER, state)


def load_optimizer(folder: Path, engine: Engine) -> None:
    """Put optimiser and schedule back to where `save_optimizer` found them.

    Raises:
        StageError: if the checkpoint holds its optimiser in another form, or for other processes.
    """
    engine.schedule.load_state_dict(json.loads((folder / SCHEDULE).read_text()))
    # a schedule that is loaded sets no rate before its next step, and the optimiser steps first
    for group, rate in zip(engine.optimizer.param_groups, engine.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    if split_by_process(engine.optimizer):
        _load_blocks(folder, engine)
        return
    path = folder / OPTIMIZER
    if not path.is_file():
        raise StageError(
            f"{folder} holds no {OPTIMIZER}: it was written by an earlier version, or with another optim.name. Begin a "
            "second run from its weights with --init-from RUN output_dir=DIR."
        )
    engine.load_optimizer_state(load_tensors(path))


def set_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Give an optimiser that steps the weights themselves their `KEY/NAME`; weights without state get none."""
    for name, parameter in parameters.items():
        if f"{STEP}/{name}" in state:
            moments = {key: state[f"{key}/{name}"].to(parameter.device) for key in MOMENTS}
            optimizer.state[parameter] = {STEP: _count(optimizer, state[f"{STEP}/{name}"], parameter), **moments}


def empty_state(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor], step: Tensor) -> None:
    """Give an optimiser zero moments for `tensors`, pieces of which are then filled in."""
    for tensor in tensors:
        moments = {key: torch.zeros_like(tensor) for key in MOMENTS}
        optimizer.state[tensor] = {STEP: _count(optimizer, step, tensor), **moments}


def split_by_process(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the state is not made of one number per weight: blocks of 8 bits (bitsandbytes)."""
    return type(optimizer).__name__ == "AdamW8bit"


def _count(optimizer: torch.optim.Optimizer, step: Tensor, beside: Tensor) -> Tensor | int:
    """A step as the optimiser counts: torch's in a tensor of its own, DeepSpeed's in a number."""
    return step.clone().to(beside.device) if isinstance(optimizer, torch.optim.AdamW) else int(step)


def _load_blocks(folder: Path, engine: Engine) -> None:
    rank, tensors = engine.processes.rank, engine.stepped()
    path = folder / _blocks(rank)
    states = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else []
    if len(states) != len(tensors):
        raise StageError(
            f"{folder} holds no 8-bit optimiser state for process {rank} of this run: those are split by process. "
            "Go on with the number of processes and the train.deepspeed it was written with."
        )
    for tensor, state in zip(tensors, states, strict=True):
        engine.optimizer.state[tensor] = {
            key: value.to(tensor.device) if isinstance(value, Tensor) else value for key, value in state.items()
        }


def _blocks(rank: int) -> str:
    return f"optimizer-{rank:03d}.pt"
