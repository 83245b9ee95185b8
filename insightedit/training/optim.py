"""Optimiser and its state on disk, learning-rate schedule, and the running average of the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from insightedit.config.load import ConfigError
from insightedit.training.checkpoint import StageError, load_tensors, save_tensors

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from insightedit.config.schema import OptimConfig
    from insightedit.training.engine import TorchEngine

OPTIMIZER, SCHEDULE, BLOCKS = "optimizer.safetensors", "schedule.json", "optimizer-{:03d}.pt"  # in a checkpoint
STEP, MOMENTS = "step", ("exp_avg", "exp_avg_sq")  # keys of AdamW's state


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, everything of one dimension (biases, norms, gates) without."""
    named = list(named)
    # decay pulls weights to zero, which is "do little" for a matrix and "switch off" for a norm's scale or a gate
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, *, device: torch.device, offloaded: bool = False
) -> torch.optim.Optimizer:
    """Fused AdamW of torch, bitsandbytes' 8-bit one, or DeepSpeed's for states that are `offloaded` to the CPU."""
    groups = parameter_groups(named, config.weight_decay)
    settings = {"lr": config.lr, "betas": (config.betas[0], config.betas[1]), "eps": config.eps}
    if config.name == "adamw8bit":
        if offloaded:
            raise ConfigError(
                "optim.name=adamw8bit cannot be offloaded: use optim.name=adamw, or train.deepspeed=zero2."
            )
        if device.type != "cuda":
            raise ConfigError(
                f"optim.name=adamw8bit needs a GPU, training runs on {device.type}: set optim.name=adamw."
            )
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise ConfigError("optim.name=adamw8bit needs bitsandbytes: pip install bitsandbytes.") from error
        return AdamW8bit(groups, **settings)
    if offloaded:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)
    return torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"), **settings)


def build_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, max_steps: int) -> LRScheduler:
    """Warm-up, then cosine decay to 0 or constant (`diffusers.optimization.get_scheduler`)."""
    names = {"cosine": "cosine", "constant": "constant_with_warmup"}
    return get_scheduler(
        names[config.schedule],
        optimizer,
        num_warmup_steps=(
            round(config.warmup_ratio * max_steps) if config.warmup_steps is None else config.warmup_steps
        ),
        num_training_steps=max_steps,
    )


class Ema:
    """Exponential moving average of the trainable weights, with a short warm-up of the decay.

    In float32, because steps of a thousandth are lost in bfloat16. By name and with a first step that averages, as
    `diffusers.training_utils.EMAModel` does neither: a checkpoint names its weights.
    """

    def __init__(self, decay: float, values: Mapping[str, Tensor]) -> None:
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"train.ema_decay is {decay}, must lie in [0, 1), e.g. 0.999; null switches it off.")
        self.decay = decay
        self.updates = 0
        self.shadow = {name: value.detach().float().clone() for name, value in values.items()}

    @torch.no_grad()
    def update(self, values: Mapping[str, Tensor]) -> None:
        """Move the average towards `values`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        shadows = [self.shadow[name] for name in values]
        # one kernel for all weights in place of one for each of thousands
        torch._foreach_lerp_(shadows, [value.detach().float() for value in values.values()], 1.0 - decay)
        self.updates += 1

    @torch.no_grad()
    def load(self, shadow: Mapping[str, Tensor], updates: int) -> None:
        """Take the state of a checkpoint."""
        for name, value in shadow.items():
            self.shadow[name].copy_(value)
        self.updates = updates


def save_optimizer(folder: Path, engine: TorchEngine) -> None:
    """Write optimiser and schedule by weight names, whole; every process must call.

    Any engine, ZeRO stage and number of processes then reads what any wrote: `optimizer.safetensors` holds `KEY/NAME`
    for each key of AdamW's state and each trained weight. Nothing in it is pickled. 8-bit AdamW keeps its blocks per
    process instead (tensors and numbers only), for the same engine and number of processes.
    """
    is_main = engine.processes.is_main
    if is_main:
        (folder / SCHEDULE).write_text(json.dumps(engine.schedule.state_dict(), indent=1))
    if split_by_process(engine.optimizer):
        blocks = [dict(engine.optimizer.state[tensor]) for tensor in engine.stepped()]
        torch.save(blocks, folder / BLOCKS.format(engine.processes.rank))
        return
    state = {}
    for name, parameter in engine.parameters.items():
        for key in (STEP, *MOMENTS):
            value = engine.optimizer_state(parameter, key)  # by every process: under ZeRO each holds a part of it
            if is_main and value is not None:
                state[f"{key}/{name}"] = torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True)
    if is_main:
        save_tensors(folder / OPTIMIZER, state)


def load_optimizer(folder: Path, engine: TorchEngine) -> None:
    """Put optimiser and schedule back to where `save_optimizer` found them; a StageError if it was of another form."""
    engine.schedule.load_state_dict(json.loads((folder / SCHEDULE).read_text()))
    # a schedule that is loaded sets no rate before its next step, and the optimiser steps first
    for group, rate in zip(engine.optimizer.param_groups, engine.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    if split_by_process(engine.optimizer):
        rank, tensors = engine.processes.rank, engine.stepped()
        path = folder / BLOCKS.format(rank)
        states = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else []
        if len(states) != len(tensors):
            raise StageError(
                f"{folder} holds no 8-bit optimiser state for process {rank} of this run: those are split by process. "
                "Go on with the number of processes and the train.deepspeed it was written with."
            )
        for tensor, held in zip(tensors, states, strict=True):
            engine.optimizer.state[tensor] = {
                key: value.to(tensor.device) if isinstance(value, Tensor) else value for key, value in held.items()
            }
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
