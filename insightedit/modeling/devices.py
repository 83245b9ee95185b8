"""Devices of this machine, and faster attention for small models on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def fast_cpu_attention(device: torch.device) -> Iterator[None]:
    """Attention over few tokens as plain bf16 matrix products; on other devices nothing changes.

    On the CPU the fused kernel's backward pass is slower than matrix products at up to a few hundred tokens (a whole
    CLIP step at batch 128: 1.45 s against 0.86 s of one core), and the plain path computes in float32 unless told.
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


def avoid_cudnn_attention() -> None:
    """Train on a GPU without cuDNN's attention, for the whole process.

    With torch 2.11 on an H200 its bfloat16 backward pass gave the miniature UNet gradients that are not finite within
    five steps; flash and memory-efficient attention did not (docs/gpu.md). A switch of the process, not a context:
    what is recomputed in the backward pass has to come from the same kernel, and no context is open then.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def find_device(device: str | torch.device | None = None) -> torch.device:
    """A device of this machine: "cpu", "cuda", "cuda:1", "mps"; None takes a GPU if there is one, else the CPU."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some names are of backends that torch gave up
            found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"`device` {device!r} is no device: use cpu, cuda, cuda:0 or mps.") from error
    count = getattr(getattr(torch, found.type, None), "device_count", lambda: 0)()
    if (found.index or 0) >= count:
        raise ValueError(f"`device` {found} is not there on this machine: use cpu, or leave it out.")
    return found
