"""From noise to latents: draw, schedule, denoise. The only state is the scheduler's own.

The noise of a sample depends on its seed alone: a picture comes out the same alone or in a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from insightedit.generation.guidance import BRANCHES, branch_weights, guide, null_branches
from insightedit.generation.transformer import EditTransformer
from insightedit.generation.unet_input import image_prompt, unet_input
from insightedit.types import EditCondition

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

    from insightedit.generation.unet import EditUNet

StepCallback = Callable[[int, Tensor, Tensor], Tensor | None]


def sample_seeds(seed: int, count: int) -> list[int]:
    """Seeds of `count` samples: seed, seed + 1, ..., so that each can be repeated alone.

    Args:
        seed: seed of the first sample, in [0, 2**32).
        count: number of samples.

    Returns:
        One seed per sample, modulo 2**32 (all that the CPU generator uses of a seed).
    """
    return [(seed + index) % 2**32 for index in range(count)]


def initial_noise(
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal latents to start from, drawn on the CPU so that every device gets the same.

    Args:
        seeds: one per sample, modulo 2**32.
        shape: (C, h, w).
        dtype: of the result; the draw is float32.
        device: of the result.

    Returns:
        (B, C, h, w).
    """
    samples = [torch.randn(shape, generator=torch.Generator().manual_seed(seed % 2**32)) for seed in seeds]
    return torch.stack(samples).to(device=device, dtype=dtype)


def step_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator per sample for schedulers that add noise at each step, independent of `initial_noise`.

    Args:
        seeds: one per sample.

    Returns:
        CPU generators for the `generators` of `denoise`; each is used up by one run.
    """
    streams = [int(np.random.SeedSequence([seed % 2**32, 1]).generate_state(1)[0]) for seed in seeds]
    return [torch.Generator().manual_seed(stream) for stream in streams]


@torch.no_grad()
def denoise(
    unet: EditUNet | EditTransformer,
    scheduler: SchedulerMixin,
    latents: Tensor,
    source_latents: Tensor,
    condition: EditCondition,
    null_text_states: Tensor,
    guidance_scale: float = 7.5,
    image_guidance_scale: float = 1.5,
    num_inference_steps: int = 50,
    callback: StepCallback | None = None,
    *,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """Walk the schedule from noise to latents, under two-scale guidance.

    Args:
        unet: the denoiser.
        scheduler: any diffusers scheduler; its timesteps are set here.
        latents: (B, C, h, w) standard normal, from `initial_noise`.
        source_latents: (B, C_src, h, w) from `encode_source`.
        condition: what bridging made.
        null_text_states: (Q, D_text) text states of "".
        guidance_scale: s_T, how strongly the text is followed.
        image_guidance_scale: s_I, how strongly the source picture is kept.
        num_inference_steps: steps of the schedule.
        callback: called after each step with (step number, timestep, latents); a tensor it returns replaces
            the latents.
        generators: from `step_generators`; needed to repeat a run of a scheduler that adds noise (as Euler
            ancestral does).

    Returns:
        (B, C, h, w) float32 latents for `decode`.

    Raises:
        ValueError: if there is not one generator per sample.
    """
    if generators is not None and len(generators) != len(latents):
        raise ValueError(f"got {len(generators)} generators for {len(latents)} samples: give one per sample.")
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    step_options = _step_options(scheduler, generators)
    branches = tuple(branch_weights(guidance_scale, image_guidance_scale))
    branch_condition, branch_source = null_branches(condition, source_latents, null_text_states, branches)
    latents = latents.float() * scheduler.init_noise_sigma

    for number, timestep in enumerate(scheduler.timesteps):
        noisy_latents = scheduler.scale_model_input(latents, timestep)
        prediction = predict(
            unet, torch.cat([noisy_latents] * len(branches)), timestep, branch_source, branch_condition
        )
        by_branch = dict(zip(branches, prediction.float().chunk(len(branches)), strict=True))
        guided = guide(*(by_branch.get(branch) for branch in BRANCHES), guidance_scale, image_guidance_scale)
        latents = scheduler.step(guided, timestep, latents, **step_options, return_dict=False)[0]
        if callback is not None:
            replaced = callback(number, timestep, latents)
            latents = latents if replaced is None else replaced
    return latents


def predict(
    unet: EditUNet | EditTransformer,
    noisy_latents: Tensor,
    timestep: Tensor,
    source_latents: Tensor,
    condition: EditCondition,
) -> Tensor:
    """One call of the denoiser, in its dtype.

    Args:
        unet: the denoiser.
        noisy_latents: (B, C, h, w) z_t, scaled as the scheduler wants it.
        timestep: scalar or (B,).
        source_latents: (B, C_src, h, w) z_src.
        condition: text states, v' and image embedding of B samples.

    Returns:
        (B, C, h, w) prediction in the scheduler's prediction type, in the denoiser's dtype.
    """
    if isinstance(unet, EditTransformer):
        return unet.predict(noisy_latents, timestep, source_latents, condition)
    return unet(
        unet_input(
            noisy_latents.to(unet.dtype),
            source_latents,
            condition.spatial_residual,
            unet.config.residual_channels,
        ),
        timestep,
        encoder_hidden_states=condition.encoder_hidden_states.to(unet.dtype),
        added_cond_kwargs=image_prompt(condition),
        return_dict=False,
    )[0]


def _step_options(scheduler: SchedulerMixin, generators: list[torch.Generator] | None) -> dict[str, Any]:
    """Generators for the schedulers whose `step` takes them."""
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": generators} if takes_generator and generators is not None else {}
