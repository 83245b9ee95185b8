"""The optimiser's state by weight names, whole: any engine, ZeRO stage and number of processes reads what any wrote.

A checkpoint holds `optimizer.safetensors` with `KEY/NAME` for each key of AdamW's state and each trained weight, and
`schedule.json`. Nothing in it is pickled. 8-bit AdamW keeps its blocks per process instead (`optimizer-000.pt`, tensors
and numbers only), for the same engine and number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from insightedit.training.checkpoint import load_tensors, save_tensors
from insightedit.training.errors import StageError

OPTIMIZER = "optimizer.safetensors"
SCHEDULE = "schedule.json"
STEP = "step"
MOMENTS = ("exp_avg", "exp_avg_sq")
Read = Callable[[nn.Parameter, str], Tensor | None]


def save_schedule(folder: Path, schedule: Any) -> None:
    """Write where the learning rate stands."""
    (folder / SCHEDULE).write_text(json.dumps(schedule.state_dict(), indent=1))


def load_schedule(folder: Path, schedule: Any, optimizer: torch.optim.Optimizer) -> None:
    """Put the learning rate back to where `save_schedule` found it."""
    schedule.load_state_dict(json.loads((folder / SCHEDULE).read_text()))
    for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate


def gather_state(parameters: Mapping[str, nn.Parameter], read: Read, keep: bool) -> dict[str, Tensor]:
    """`KEY/NAME` -> whole tensor on the CPU; weights that no objective has reached yet have none.

    Args:
        parameters: trained weights by name.
        read: (weight, key) -> its whole state; every process must call it for every weight.
        keep: whether this process wants the result.
    """
    state = {}
    for name, parameter in parameters.items():
        for key in (STEP, *MOMENTS):
            value = read(parameter, key)
            if keep and value is not None:
                state[f"{key}/{name}"] = torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True)
    return state


def load_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Give an optimiser that steps the weights themselves what `gather_state` found; those without state get none."""
    counts_in_tensors = isinstance(optimizer, torch.optim.AdamW)
    for name, parameter in parameters.items():
        if f"{STEP}/{name}" in state:
            step = state[f"{STEP}/{name}"].to(parameter.device)
            moments = {key: state[f"{key}/{name}"].to(parameter.device) for key in MOMENTS}
            optimizer.state[parameter] = {STEP: step if counts_in_tensors else int(step), **moments}


def empty_state(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor], step: Tensor) -> None:
    """Give an optimiser zero moments for `tensors`, pieces of which are then filled in."""
    counts_in_tensors = isinstance(optimizer, torch.optim.AdamW)
    for tensor in tensors:
        count = step.clone().to(tensor.device) if counts_in_tensors else int(step)
        optimizer.state[tensor] = {STEP: count, **{key: torch.zeros_like(tensor) for key in MOMENTS}}


def split_by_process(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the state is not made of one number per weight: blocks of 8 bits (bitsandbytes)."""
    return type(optimizer).__name__ == "AdamW8bit"


def read_state(folder: Path) -> dict[str, Tensor]:
    """What `gather_state` gave.

    Raises:
        StageError: if the checkpoint holds its optimiser in another form.
    """
    path = folder / OPTIMIZER
    if not path.is_file():
        raise StageError(
            f"{folder} holds no {OPTIMIZER}: it was written by an earlier version, or with another optim.name. Begin a "
            "second run from its weights with --init-from RUN output_dir=DIR."
        )
    return load_tensors(path)


def save_state(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write what `gather_state` gave."""
    save_tensors(folder / OPTIMIZER, state)


def save_blocks(folder: Path, rank: int, states: Sequence[Mapping[str, Any]]) -> None:
    """Write a process's own states as they are: tensors and numbers."""
    torch.save([dict(state) for state in states], folder / _blocks(rank))


def load_blocks(folder: Path, rank: int, optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor]) -> None:
    """Give the optimiser the states that `save_blocks` wrote for `tensors`, in their order.

    Raises:
        StageError: if there are none for this process, or of other sizes.
    """
    path = folder / _blocks(rank)
    states = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else []
    if len(states) != len(tensors):
        raise StageError(
            f"{folder} holds no 8-bit optimiser state for process {rank} of this run: those are split by process. "
            "Go on with the number of processes and the train.deepspeed it was written with."
        )
    for tensor, state in zip(tensors, states, strict=True):
        optimizer.state[tensor] = {
            key: value.to(tensor.device) if isinstance(value, Tensor) else value for key, value in state.items()
        }


def _blocks(rank: int) -> str:
    return f"optimizer-{rank:03d}.pt"
