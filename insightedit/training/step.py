"""Objective and editor as one module, and the weighted sum of its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from insightedit.training.trainable import set_train_mode

if TYPE_CHECKING:
    from insightedit.config.schema import Config, LossConfig

METRIC = "metric/"


class TrainingStep(nn.Module):
    """Objective and editor as one module, because DeepSpeed wants to call a module.

    Autocast is opened here, so weights, gradients and optimiser states stay in float32 under both engines (a module
    cast to bfloat16 as a whole would round the rotary frequencies of the language model too).

    Args:
        editor: the model; frozen parts already frozen.
        objective: (editor, batch, config, generator) -> named scalar losses.
        config: whole config.
    """

    def __init__(self, editor: nn.Module, objective: Callable[..., dict[str, Tensor]], config: Config) -> None:
        super().__init__()
        self.editor = editor
        self.objective = objective
        self.config = config

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total (float32 scalar) and the named losses (detached float32 scalars)."""
        device = next(self.editor.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.train.precision == "bf16"):
            losses = self.objective(self.editor, batch, self.config, generator)
        losses = {name: value.float() for name, value in losses.items() if value is not None}
        return total_loss(losses, self.config.loss), {name: value.detach() for name, value in losses.items()}

    def train(self, mode: bool = True) -> TrainingStep:
        """Train mode for what is being trained only; frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            set_train_mode(self.editor)
        return self


def total_loss(losses: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """Sum of the losses times the weights of their names; `metric/...` entries do not count.

    Raises:
        ValueError: if a loss has no weight in the config, or there is no loss at all.
    """
    counted = {name: value for name, value in losses.items() if not name.startswith(METRIC)}
    for name in counted:
        if not isinstance(getattr(weights, name, None), float | int):
            raise ValueError(
                f"the objective returned the loss `{name}`, for which the config has no weight `loss.{name}`: "
                f"add the field, or call it `{METRIC}{name}` if it is only to be logged."
            )
    if not counted:
        raise ValueError(f"the objective returned no loss, only {sorted(losses)}: nothing can be trained.")
    return torch.stack([value * getattr(weights, name) for name, value in counted.items()]).sum()


def trainable_parameters(module: TrainingStep) -> dict[str, nn.Parameter]:
    """Trainable parameters by their name in the editor."""
    return {name: parameter for name, parameter in module.editor.named_parameters() if parameter.requires_grad}
