"""Faster attention for small models on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fast_cpu_attention(device: torch.device) -> Iterator[None]:
    """Attention over few tokens as plain bf16 matrix products; on other devices nothing changes.

    On the CPU the fused kernel's backward pass is slower than matrix products at up to a few hundred tokens (a whole
    CLIP step at batch 128: 1.45 s against 0.86 s of one core), and the plain path computes in float32 unless told.

    Args:
        device: where the model lives.
    """
    if device.type != "cpu":
        yield
        return
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
