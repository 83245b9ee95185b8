"""What carries a training step: plain torch in one process, or DeepSpeed in one or many."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.optim import build_optimizer, build_schedule
from insightedit.training.optimizer_state import (
    gather_state,
    load_blocks,
    load_schedule,
    load_state,
    read_state,
    save_blocks,
    save_schedule,
    save_state,
    split_by_process,
)
from insightedit.training.processes import Processes, engine_kind
from insightedit.training.step import TrainingStep, trainable_parameters

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """What the loop needs."""

    name: str
    partitioned: bool  # no process holds all the weights

    def backward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of one micro-batch; total and named losses, detached."""
        ...

    def evaluate(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and named losses of a batch, nothing else; every process must call."""
        ...

    def step(self) -> Tensor | float:
        """After the last micro-batch: clip, update, schedule; the gradient norm before clipping."""
        ...

    def learning_rate(self) -> float:
        """Of the first parameter group."""
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """Trainable weights by editor name, whole; every process must ask, only the main one may get an answer."""
        ...

    def parameter_names(self) -> list[str]:
        """Names of the trainable weights."""
        ...

    def save(self, folder: Path) -> None:
        """Optimiser and schedule into a checkpoint folder; every process must call."""
        ...

    def load(self, folder: Path) -> None:
        """Optimiser and schedule from a checkpoint folder, of any engine and number of processes.

        The weights are in the module already.
        """
        ...

    def train_mode(self) -> None:
        """Train what is trained, evaluate what is frozen."""
        ...

    def eval_mode(self) -> None:
        """Evaluate everything, to look at samples."""
        ...


class TorchEngine:
    """One process, plain torch: autocast, fused AdamW, gradient clipping."""

    partitioned = False

    def __init__(self, module: TrainingStep, processes: Processes) -> None:
        config = module.config
        self.name = "torch"
        self.device = processes.device
        self.module = module.to(processes.device)
        self.module.train()
        self.parameters = trainable_parameters(module)
        self.accumulation = config.train.gradient_accumulation_steps
        self.max_grad_norm = config.optim.max_grad_norm
        self.optimizer = build_optimizer(self.parameters.items(), config.optim, device=processes.device)
        self.schedule = build_schedule(self.optimizer, config.optim, config.train.max_steps)
        self._checked = False

    def backward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Engine`."""
        with fast_cpu_attention(self.device):
            total, losses = self.module(batch, generator)
            (total / self.accumulation).backward()
        return total.detach(), losses

    def evaluate(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Engine`."""
        with fast_cpu_attention(self.device):
            return self.module(batch, generator)

    def step(self) -> Tensor:
        """See `Engine`."""
        self._name_idle_parameters()
        limit = self.max_grad_norm if self.max_grad_norm > 0 else float("inf")
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.detach()

    def learning_rate(self) -> float:
        """See `Engine`."""
        return float(self.schedule.get_last_lr()[0])

    def trainable_state(self) -> dict[str, Tensor]:
        """See `Engine`; the weights themselves, not copies."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def save(self, folder: Path) -> None:
        """See `Engine`."""
        save_schedule(folder, self.schedule)
        if split_by_process(self.optimizer):
            states = self.optimizer.state
            save_blocks(folder, 0, [states[parameter] for parameter in self.parameters.values()])
        else:
            save_state(folder, gather_state(self.parameters, self._state, keep=True))

    def load(self, folder: Path) -> None:
        """See `Engine`."""
        load_schedule(folder, self.schedule, self.optimizer)
        if split_by_process(self.optimizer):
            load_blocks(folder, 0, self.optimizer, list(self.parameters.values()))
        else:
            load_state(self.optimizer, self.parameters, read_state(folder))

    def _state(self, parameter: nn.Parameter, key: str) -> Tensor | None:
        return self.optimizer.state.get(parameter, {}).get(key)

    def parameter_names(self) -> list[str]:
        """See `Engine`."""
        return list(self.parameters)

    def train_mode(self) -> None:
        """See `Engine`."""
        self.module.train()

    def eval_mode(self) -> None:
        """See `Engine`."""
        self.module.eval()

    def _name_idle_parameters(self) -> None:
        """Once: say which trainable weights the objective did not reach."""
        if self._checked:
            return
        self._checked = True
        idle = [name for name, parameter in self.parameters.items() if parameter.grad is None]
        if idle:
            logger.warning(
                "%d of %d trainable parameters got no gradient in the first step, e.g. %s: the objective "
                "does not use them",
                len(idle),
                len(self.parameters),
                ", ".join(idle[:3]),
            )


def build_engine(module: TrainingStep, processes: Processes) -> Engine:
    """The engine that the config and the launcher ask for, with the module on its device."""
    kind = engine_kind(module.config.train)
    if module.config.train.precision == "bf16":
        shrink_language_model(module.editor, float32=processes.device.type == "cuda")
    if kind == "torch":
        return TorchEngine(module, processes)
    from insightedit.training.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(module, processes)


def shrink_language_model(editor: nn.Module, *, float32: bool = True) -> None:
    """Hold the language model's frozen weights in bfloat16: half the memory, the same under autocast.

    Args:
        editor: whose weights are frozen already.
        float32: those that are stored in float32, too; else float16 alone, which autocast to bfloat16 cannot mix in.
    """
    for name, parameter in editor.named_parameters():
        if (
            name.startswith("comprehension.")
            and not parameter.requires_grad
            and parameter.is_floating_point()
            and (float32 or parameter.dtype == torch.float16)
        ):
            parameter.data = parameter.data.to(torch.bfloat16)
