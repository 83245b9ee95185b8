"""What carries a training step: plain torch in one process here, or DeepSpeed in one or many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.optim import build_optimizer, build_schedule, save_optimizer, set_state
from insightedit.training.processes import Processes, engine_kind
from insightedit.training.trainable import trainable_parameters

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from insightedit.training.objectives import TrainingStep

logger = logging.getLogger(__name__)
BuildSchedule = Callable[[torch.optim.Optimizer], "LRScheduler"]


class TorchEngine:
    """One process, plain torch: autocast, fused AdamW, gradient clipping. `DeepSpeedEngine` is the other one."""

    name = "torch"
    partitioned = False  # whether no process holds all the weights
    module: Any  # to call for the losses of a batch, and to put into train or eval mode

    def __init__(self, module: TrainingStep, processes: Processes, schedule: BuildSchedule | None = None) -> None:
        config = module.config
        self.processes = processes
        self.module = module.to(processes.device)
        self.module.train()
        self.parameters = trainable_parameters(module.editor)
        self.accumulation = config.train.gradient_accumulation_steps
        self.max_grad_norm = config.optim.max_grad_norm
        self.optimizer = build_optimizer(self.parameters.items(), config.optim, device=processes.device)
        schedule = schedule or (lambda inner: build_schedule(inner, config.optim, config.train.max_steps))
        self.schedule = schedule(self.optimizer)
        self._checked = False

    def backward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of one micro-batch; total and named losses, detached."""
        with fast_cpu_attention(self.processes.device):
            total, losses = self.module(batch, generator)
            # divided before the gradients add up, so that the step is that of one large batch
            (total / self.accumulation).backward()
        return total.detach(), losses

    def step(self) -> Tensor | float:
        """After the last micro-batch: clip, update, schedule; the gradient norm before clipping."""
        idle = [] if self._checked else [name for name, weight in self.parameters.items() if weight.grad is None]
        if idle:  # a pattern of `stage.trainable` that this objective does not reach
            logger.warning(
                "%d of %d trainable parameters got no gradient in the first step, e.g. %s: the objective does not use "
                "them",
                len(idle),
                len(self.parameters),
                ", ".join(idle[:3]),
            )
        self._checked = True
        limit = self.max_grad_norm if self.max_grad_norm > 0 else float("inf")
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)  # None, not zeros: AdamW would decay weights nothing has reached
        return norm.detach()

    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.schedule.get_last_lr()[0])

    def trainable_state(self) -> dict[str, Tensor]:
        """Trainable weights by editor name: themselves, not copies, unless they are partitioned.

        Every process must ask; where they are partitioned, only the main one gets an answer.
        """
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def save(self, folder: Path) -> None:
        """Optimiser and schedule into a checkpoint folder; every process must call."""
        save_optimizer(folder, self)

    def stepped(self) -> list[Tensor]:
        """The tensors that the optimiser itself steps."""
        return list(self.parameters.values())

    def optimizer_state(self, parameter: nn.Parameter, key: str) -> Tensor | None:
        """A weight's whole state; None if no objective has reached it yet. Every process must ask."""
        return self.optimizer.state.get(parameter, {}).get(key)

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Take each weight's whole state, `KEY/NAME`."""
        set_state(self.optimizer, self.parameters, state)


def build_engine(module: TrainingStep, processes: Processes, schedule: BuildSchedule | None = None) -> TorchEngine:
    """The engine that the config and the launcher ask for, with the module on its device."""
    kind = engine_kind(module.config.train)
    if module.config.train.precision == "bf16":
        shrink_language_model(module.editor, float32=processes.device.type == "cuda")
    if kind == "torch":
        return TorchEngine(module, processes, schedule)
    from insightedit.training.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(module, processes)


def shrink_language_model(editor: nn.Module, *, float32: bool = True) -> None:
    """Hold the language model's frozen weights in bfloat16: half the memory, the same under autocast.

    Those stored in `float32`, too, or those in float16 alone, which autocast to bfloat16 cannot mix in.
    """
    kinds = (torch.float16, torch.float32) if float32 else (torch.float16,)
    for name, parameter in editor.named_parameters():
        if name.startswith("comprehension.") and not parameter.requires_grad and parameter.dtype in kinds:
            parameter.data = parameter.data.to(torch.bfloat16)
