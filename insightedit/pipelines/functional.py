"""The core that every way of editing shares: pictures and instructions -> condition -> latents -> evidence.

Functions of finished parts. The pipeline, previews during training and measurements all come through here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from insightedit.generation.autoencoder import decode
from insightedit.generation.sampling import StepCallback, denoise, initial_noise, step_generators
from insightedit.images.background import EditComparison, compute_edit_map
from insightedit.images.reading import tensor_to_pixels
from insightedit.model.editor import understand as run_understanding
from insightedit.types import EditCondition

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin

    from insightedit.bridging.bridge import EditBridge
    from insightedit.comprehension.llava import LlavaComprehension
    from insightedit.generation.transformer import EditTransformer
    from insightedit.generation.unet import EditUNet


@dataclass(frozen=True)
class DrawSettings:
    """How to draw.

    Attributes:
        guidance_scale: how strongly the instruction is followed.
        image_guidance_scale: how strongly the source picture is kept.
        num_inference_steps: steps of the schedule.
        image_prompt_scale: lambda, weight of the image branch.
        scale_source_latents: whether the UNet gets source latents times the autoencoder's scaling factor.
    """

    guidance_scale: float
    image_guidance_scale: float
    num_inference_steps: int
    image_prompt_scale: float
    scale_source_latents: bool


@torch.no_grad()
def understand(
    comprehension: LlavaComprehension,
    bridge: EditBridge,
    instructions: Sequence[str],
    images: Sequence[np.ndarray],
    latent_size: tuple[int, int],
    replies: Sequence[str | None] | None = None,
) -> EditCondition:
    """Comprehension and bridging.

    Args:
        comprehension: the MLLM.
        bridge: Q-Former, BIM, IAA.
        instructions: B texts.
        images: B pictures (H, W, 3) uint8 RGB of any size.
        latent_size: (h, w) of the latent grid.
        replies: B texts that the MLLM has written before the edit tokens; None for the template's words.

    Returns:
        The condition for the UNet, in the bridge's dtype.
    """
    tokens = comprehension.tokenize(list(instructions), list(images), replies=replies)
    on_device = replace(tokens, labels=None).to(comprehension.device)
    return run_understanding(comprehension, bridge, None, None, on_device, latent_size)[1]


@torch.no_grad()
def sample_latents(
    unet: EditUNet | EditTransformer,
    scheduler: SchedulerMixin,
    source_latents: Tensor,
    condition: EditCondition,
    null_text_states: Tensor,
    seeds: Sequence[int],
    settings: DrawSettings,
    callback: StepCallback | None = None,
    *,
    latents: Tensor | None = None,
    negative: EditCondition | None = None,
) -> Tensor:
    """Generation: noise -> latents of the edited picture.

    Args:
        unet: the denoiser.
        scheduler: any diffusers scheduler.
        source_latents: (B, C, h, w), scaled as the UNet was trained.
        condition: from `understand`.
        null_text_states: (Q, D_text), the bridge's.
        seeds: one per sample.
        settings: how to draw.
        callback: see `insightedit.generation.sampling.denoise`.
        latents: (B, C, h, w) standard normal to start from; None draws them from the seeds.
        negative: see `insightedit.generation.guidance.null_branches`.

    Returns:
        (B, C, h, w) float32 latents, scaled.
    """
    device = source_latents.device
    if latents is None:
        shape = (unet.config.in_channels, *source_latents.shape[-2:])
        latents = initial_noise(seeds, shape, device=device)
    return denoise(
        unet,
        scheduler,
        latents.to(device),
        source_latents.to(unet.dtype),
        condition,
        null_text_states,
        settings.guidance_scale,
        settings.image_guidance_scale,
        settings.num_inference_steps,
        callback,
        generators=step_generators(seeds),
        negative=negative,
    )


@torch.no_grad()
def compare_decoded(
    vae: AutoencoderKL, edited_latents: Tensor, source_latents: Tensor, threshold: float | None = None
) -> list[EditComparison]:
    """Decode edit and source alike, and compare.

    Args:
        vae: autoencoder.
        edited_latents: (B, C, h, w), scaled.
        source_latents: (B, C, h, w), scaled.
        threshold: see `insightedit.images.background.find_mask`.
    """
    edited, round_trip = decode(vae, edited_latents), decode(vae, source_latents)
    return [
        compute_edit_map(tensor_to_pixels(e), tensor_to_pixels(r), threshold)
        for e, r in zip(edited, round_trip, strict=True)
    ]


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


def software_versions() -> dict[str, str]:
    """Versions of what decides about the bytes of a result."""
    versions = {}
    for name in ("insightedit", "torch", "transformers", "diffusers", "numpy", "pillow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "source"
    return {**versions, "python": platform.python_version()}
