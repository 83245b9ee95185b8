"""Attention for training on the CPU in bfloat16, where torch's fused kernel is slow backward."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from insightedit.config.schema import TrainConfig


class UnfusedAttention(TorchFunctionMode):
    """`scaled_dot_product_attention` as two products and a softmax, wherever gradients are needed.

    The same function up to rounding: of bfloat16, the softmax is computed in float32 and rounded, as transformers'
    "eager" attention does. On the CPU the backward pass of torch's fused kernel is two to five times as slow in
    bfloat16 at the sizes of the miniatures (`python benchmarks/cpu_attention.py`). Calls with dropout, a causal flag,
    grouped queries or other than four dimensions go to torch.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for torch's function."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention and torch.is_grad_enabled():
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def training_attention(train: TrainConfig, device: str) -> AbstractContextManager[Any]:
    """The context that a forward pass of training runs in.

    Args:
        train: precision, and whether activations are computed again backward (they have to come from the same kernel,
            and the context is not open then).
        device: type, e.g. "cpu".
    """
    unfused = device == "cpu" and train.precision == "bf16" and not train.gradient_checkpointing
    return UnfusedAttention() if unfused else nullcontext()


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> torch.Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E); arguments as torch's."""
    scale = others.get("scale")
    if dropout_p or is_causal or others.get("enable_gqa") or query.dim() != 4 or query.shape[1] != key.shape[1]:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **others)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    heads = query.shape[:2]
    query, key, value = (states.flatten(0, 1) for states in (query, key, value))
    weights = torch.bmm(query * scale, key.transpose(1, 2))
    if attn_mask is not None:
        weights = _masked(weights.unflatten(0, heads), attn_mask).flatten(0, 1)
    with torch.autocast(query.device.type, enabled=False):  # autocast would hold the softmax in float32
        weights = weights.softmax(-1)
    return torch.bmm(weights, value).unflatten(0, heads)


def _masked(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, H, N, M) before the softmax, with a mask as torch takes it: True = look, or numbers to add."""
    if mask.dtype == torch.bool:
        return weights.masked_fill(~mask, -math.inf)
    return weights + mask.to(weights.dtype)
