"""Optimiser, learning-rate schedule and the running average of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from insightedit.config.load import ConfigError

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from insightedit.config.schema import OptimConfig


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, everything of one dimension (biases, norms, gates) without."""
    named = list(named)
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, *, device: torch.device, offloaded: bool = False
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters.

    Args:
        named: trainable parameters with their names.
        config: name, lr, betas, eps, weight decay.
        device: where training runs.
        offloaded: the optimiser's states live in CPU memory (DeepSpeed offload), so DeepSpeed's own CPU Adam is used.

    Returns:
        Fused `torch.optim.AdamW`, bitsandbytes' 8-bit AdamW, or DeepSpeed's CPU AdamW.

    Raises:
        ConfigError: if `adamw8bit` is asked for without a GPU, without bitsandbytes, or together with offload.
    """
    groups = parameter_groups(named, config.weight_decay)
    settings = {"lr": config.lr, "betas": (config.betas[0], config.betas[1]), "eps": config.eps}
    if config.name == "adamw8bit":
        return _adamw8bit(groups, settings, device, offloaded)
    if offloaded:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)
    return torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"), **settings)


def build_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, max_steps: int) -> LRScheduler:
    """Warm-up over `warmup_steps` or `warmup_ratio` of the steps, then cosine decay to 0 or constant.

    Source: `diffusers.optimization.get_scheduler`.
    """
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
    """Exponential moving average of the trainable weights, in float32, with a short warm-up of the decay.

    Args:
        decay: weight of the past, 0 to 1; after n updates at most (1 + n) / (10 + n) is used.
        values: name -> current weight; copied.

    Raises:
        ConfigError: if `decay` is not in [0, 1).
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
        torch._foreach_lerp_(shadows, [value.detach().float() for value in values.values()], 1.0 - decay)
        self.updates += 1

    @torch.no_grad()
    def load(self, shadow: Mapping[str, Tensor], updates: int) -> None:
        """Take the state of a checkpoint."""
        for name, value in shadow.items():
            self.shadow[name].copy_(value)
        self.updates = updates


def _adamw8bit(
    groups: list[dict[str, Any]], settings: dict[str, Any], device: torch.device, offloaded: bool
) -> torch.optim.Optimizer:
    if offloaded:
        raise ConfigError("optim.name=adamw8bit cannot be offloaded: use optim.name=adamw, or train.deepspeed=zero2.")
    if device.type != "cuda":
        raise ConfigError(f"optim.name=adamw8bit needs a GPU, training runs on {device.type}: set optim.name=adamw.")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError("optim.name=adamw8bit needs bitsandbytes: pip install bitsandbytes.") from error
    return AdamW8bit(groups, **settings)
