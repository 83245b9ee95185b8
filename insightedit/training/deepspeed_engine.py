"""The DeepSpeed engine and its settings. DeepSpeed is imported only when it is used."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insightedit.config.load import ConfigError, config_root
from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.engine import TorchEngine
from insightedit.training.optim import MOMENTS, STEP, build_optimizer, build_schedule, empty_state, split_by_process
from insightedit.training.trainable import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from insightedit.config.schema import Config
    from insightedit.training.objectives import TrainingStep
    from insightedit.training.processes import Processes

OWNED_KEYS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_clipping": "optim.max_grad_norm",
    "optimizer": "optim.name",
    "scheduler": "optim.schedule",
    "bf16": "train.precision",
    "fp16": "train.precision",
}


class DeepSpeedEngine(TorchEngine):
    """DeepSpeed, used directly: ZeRO 0 to 3, with or without offload, on GPUs (nccl) or CPUs (gloo)."""

    def __init__(self, module: TrainingStep, processes: Processes) -> None:
        import deepspeed
        from deepspeed.utils import logger as deepspeed_logger

        deepspeed_logger.setLevel(logging.WARNING)
        config = module.config
        settings = deepspeed_settings(config)
        zero = settings.get("zero_optimization", {})
        self.zero_stage = int(zero.get("stage", 0))
        self.partitioned = self.zero_stage == 3
        self.name = f"deepspeed {config.train.deepspeed}"
        self.parameters = trainable_parameters(module.editor)
        self.processes = processes
        self.own_files = config.train.deepspeed_files
        # DeepSpeed cannot send channels_last weights
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
        self.optimizer = build_optimizer(
            self.parameters.items(), config.optim, device=processes.device, offloaded="offload_optimizer" in zero
        )
        self.module, _, _, self.schedule = deepspeed.initialize(
            model=module,
            optimizer=self.optimizer,
            lr_scheduler=lambda inner: build_schedule(inner, config.optim, config.train.max_steps),
            config=settings,
        )
        self.module.train()
        self._norm: Tensor | float = 0.0

    def backward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of a micro-batch; DeepSpeed itself updates at the last one of a step."""
        with fast_cpu_attention(self.processes.device):
            total, losses = self.module(batch, generator)
            self.module.backward(total)
        # before the update: without ZeRO DeepSpeed keeps no norm, and has cleared the gradients afterwards
        if self.zero_stage == 0 and self.module.is_gradient_accumulation_boundary():
            self._norm = torch.nn.utils.get_total_norm(p.grad for p in self.parameters.values() if p.grad is not None)
        self.module.step()
        return total.detach(), losses

    def step(self) -> Tensor | float:
        """The gradient norm; the update is done already."""
        norm = self._norm if self.zero_stage == 0 else self.module.get_global_grad_norm()
        return float("nan") if norm is None else norm

    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.module.get_lr()[0])

    def trainable_state(self) -> dict[str, Tensor]:
        """Under ZeRO-3 gathered from all processes by the main one."""
        if not self.partitioned:
            return super().trainable_state()
        import deepspeed

        state = {}
        for name, parameter in self.parameters.items():
            with deepspeed.zero.GatheredParameters([parameter]):  # entered by all, or the others wait for ever
                if self.processes.is_main:
                    state[name] = parameter.detach().clone()
        return state

    def save(self, folder: Path) -> None:
        """Optimiser and schedule; under ZeRO DeepSpeed's own files, too, for its tools.

        Those are pickled, so they are never read here.
        """
        if not split_by_process(self.optimizer):
            self._link_moments()
        super().save(folder)
        if self.zero_stage and self.own_files:
            self.module.save_checkpoint(str(folder), tag="deepspeed", exclude_frozen_parameters=True)

    def stepped(self) -> list[Tensor]:
        """The weights, or this process's flat parts of them."""
        if self.zero_stage == 0:
            return super().stepped()
        zero = self.module.optimizer
        return list(zero.fp32_partitioned_groups_flat if self.partitioned else zero.single_partition_of_fp32_groups)

    def optimizer_state(self, parameter: nn.Parameter, key: str) -> Tensor | None:
        """A weight's whole state, gathered from all processes."""
        if self.zero_stage == 0:
            return super().optimizer_state(parameter, key)
        if key == STEP:
            return self.optimizer.state[self.stepped()[0]][STEP]
        from deepspeed.utils import safe_get_full_optimizer_state

        return safe_get_full_optimizer_state(parameter, key)

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Give each process its parts of the moments; DeepSpeed itself would read pickles."""
        if self.zero_stage == 0:
            super().load_optimizer_state(state)
            return
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        steps = [value for key, value in state.items() if key.startswith(f"{STEP}/")]
        # there must be moments before parts of them can be set; DeepSpeed makes its own in the first step only
        empty_state(self.optimizer, self.stepped(), max(steps))
        self._link_moments()
        for name, parameter in self.parameters.items():
            for key in MOMENTS:
                value = state.get(f"{key}/{name}")
                if value is None:  # no objective has reached this weight yet
                    continue
                if self.partitioned:
                    safe_set_local_optimizer_state(parameter, self._part(value, parameter), key)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)

    def _link_moments(self) -> None:
        """Tell the weights where their moments are; DeepSpeed does so after its first group's first step, for all."""
        if self.zero_stage in (1, 2):
            self.module.optimizer._hp_optimizer_states_linked = False
            self.module.optimizer._lazy_init_hp_params_optimizer_state()

    def _part(self, value: Tensor, parameter: nn.Parameter) -> Tensor:
        """What this process holds of a weight's state under ZeRO-3: equal parts, the last one filled up with zeros."""
        size = cast("Any", parameter).ds_tensor.numel()
        flat = F.pad(value.flatten(), (0, size * self.processes.world_size - value.numel()))
        return flat[size * self.processes.rank :][:size]


def deepspeed_settings(config: Config) -> dict[str, Any]:
    """The JSON of `train.deepspeed`, a path or a name in `configs/deepspeed`, with what the config owns filled in."""
    path = deepspeed_file(config.train.deepspeed)
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"train.deepspeed: {path} is not JSON: {error}.") from error
    for key in OWNED_KEYS.keys() & settings.keys():
        raise ConfigError(f"train.deepspeed: {path} sets `{key}`, which `{OWNED_KEYS[key]}` decides: remove it there.")
    return {
        **settings,
        "train_micro_batch_size_per_gpu": config.train.batch_size,
        "gradient_accumulation_steps": config.train.gradient_accumulation_steps,
        "gradient_clipping": max(0.0, config.optim.max_grad_norm),  # 0: off
        "zero_allow_untested_optimizer": True,  # torch's fused AdamW is none of DeepSpeed's
        "zero_force_ds_cpu_optimizer": False,  # `build_optimizer` has chosen
    }


def deepspeed_file(name: str) -> Path:
    """Where the settings are; a ConfigError lists the names that exist."""
    folder = config_root() / "deepspeed"
    path = Path(name) if name.endswith(".json") else folder / f"{name}.json"
    if path.is_file():
        return path
    if name.endswith(".json"):
        raise ConfigError(f"train.deepspeed: the file {name} does not exist.")
    known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
    raise ConfigError(f"train.deepspeed={name} is not known: one of {known}, or the path of a .json file.")
