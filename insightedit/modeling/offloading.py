"""Weights that are not where they are used: on the CPU, on a disk or on another device until a forward pass needs them.

accelerate (`enable_model_cpu_offload`, `enable_sequential_cpu_offload`, `device_map`) and diffusers
(`enable_group_offload`) bring a module's weights in when the module is called, and take them away after. What reads
weights without calling the module says so with `in_forward`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.utils.torch_utils import is_compiled_module
from peft import PeftModel
from torch import nn

GROUP_OFFLOADING = "group_offloading"  # diffusers' name of its hook


@contextmanager
def in_forward(module: nn.Module) -> Iterator[None]:
    """Inside, a module's offloaded weights are there, as they are while its `forward` runs.

    Do not call the module itself inside: its own hooks take the weights away when it returns.
    """
    with ExitStack() as stack:
        for hook in _offload_hooks(module):
            hook.pre_forward(module)
            stack.callback(hook.post_forward, module, None)
        yield


@contextmanager
def eval_mode(*modules: nn.Module | None) -> Iterator[None]:
    """Dropout and the like off inside; every part goes back to the mode it was in."""
    modes = [(part, part.training) for module in modules if module is not None for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def execution_device(module: nn.Module) -> torch.device:
    """Where a module computes, which is not where offloaded weights lie."""
    for part in module.modules():
        for hook in _offload_hooks(part):
            group = getattr(hook, "group", None)
            device = group.onload_device if group else getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return next(module.parameters()).device


def unwrapped(module: Any) -> Any:
    """The model inside `torch.compile` and peft; calls still go to what was given."""
    while isinstance(module, PeftModel) or is_compiled_module(module):
        module = module.get_base_model() if isinstance(module, PeftModel) else module._orig_mod
    return module


def _offload_hooks(module: nn.Module) -> list[Any]:
    registry: Any = getattr(module, "_diffusers_hook", None)
    hooks = (getattr(module, "_hf_hook", None), registry and registry.get_hook(GROUP_OFFLOADING))
    return [hook for hook in hooks if hook is not None]
