"""From noise to latents: draw, schedule, denoise. The only state is the scheduler's own.

The noise of a sample depends on its seed alone: a picture comes out the same alone or in a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from insightedit.generation.autoencoder import check_finite
from insightedit.generation.denoiser import predict
from insightedit.generation.guidance import BRANCHES, branch_weights, guide, null_branches
from insightedit.generation.noise import PREDICTION_TYPES
from insightedit.modeling.offloading import unwrapped
from insightedit.types import EditCondition

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

    from insightedit.generation.denoiser import Denoiser


@dataclass
class DrawState:
    """What a callback sees after a step, and may change before the next."""

    latents: Tensor  # (B, C, h, w) float32
    condition: EditCondition
    guidance_scale: float  # s_T
    image_guidance_scale: float  # s_I
    num_timesteps: int  # calls of the denoiser in all
    stopped: bool = False  # no further step is wanted


StepCallback = Callable[[int, Tensor, DrawState], None]


def sample_seeds(seed: int, count: int) -> list[int]:
    """Seeds of `count` samples: seed, seed + 1, ... modulo 2**32, so that each can be repeated alone."""
    return [(seed + index) % 2**32 for index in range(count)]


def initial_noise(
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal latents (B, *shape) to start from, drawn in float32 on the CPU: every device gets the same."""
    samples = [torch.randn(shape, generator=torch.Generator().manual_seed(seed % 2**32)) for seed in seeds]
    return torch.stack(samples).to(device=device, dtype=dtype)


def step_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """CPU generators for schedulers that add noise at each step, independent of `initial_noise`; for one run each."""
    # another stream of the same seed: noise added on the way must not repeat the noise it began with
    streams = [int(np.random.SeedSequence([seed % 2**32, 1]).generate_state(1)[0]) for seed in seeds]
    return [torch.Generator().manual_seed(stream) for stream in streams]


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
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
    negative: EditCondition | None = None,
) -> Tensor:
    """Walk the schedule from noise to latents, under two-scale guidance.

    Args:
        denoiser: may be compiled, or behind peft.
        scheduler: any diffusers scheduler; its timesteps are set here.
        latents: (B, C, h, w) standard normal, from `initial_noise`.
        source_latents: (B, C_src, h, w) from `encode_source`.
        condition: what bridging made.
        null_text_states: (Q, D_text) text states of "".
        guidance_scale: s_T, how strongly the text is followed.
        image_guidance_scale: s_I, how strongly the source picture is kept.
        num_inference_steps: steps of the schedule.
        callback: called after each step with (step number, timestep, `DrawState`), which it may change.
        generators: from `step_generators`; needed to repeat a run of a scheduler that adds noise (as Euler
            ancestral does).
        negative: see `null_branches`.

    Returns:
        (B, C, h, w) float32 latents for `decode`.

    Raises:
        ValueError: if there is not one generator per sample, the scheduler does not fit the model, or the result is
            not finite.
    """
    if generators is not None and len(generators) != len(latents):
        raise ValueError(f"got {len(generators)} generators for {len(latents)} samples: give one per sample.")
    _set_timesteps(scheduler, num_inference_steps, latents.device, unwrapped(denoiser).config)
    step_options = _step_options(scheduler, generators)
    # float32 throughout: many small steps are summed, whatever type the denoiser computes in
    state = DrawState(
        latents.float() * scheduler.init_noise_sigma,
        condition,
        guidance_scale,
        image_guidance_scale,
        len(scheduler.timesteps),
    )
    prepared: Any = None
    for number, timestep in enumerate(scheduler.timesteps):
        scales = (state.guidance_scale, state.image_guidance_scale)
        # the branches' inputs change only if a callback changed scales or condition
        if prepared is None or prepared[0] != scales or prepared[1] is not state.condition:
            branches = tuple(branch_weights(*scales))
            parts = null_branches(state.condition, source_latents, null_text_states, branches, negative)
            prepared = (scales, state.condition)
        noisy_latents = scheduler.scale_model_input(state.latents, timestep)
        # all branches in one batch; those whose weight is zero are not computed at all
        prediction = predict(denoiser, torch.cat([noisy_latents] * len(branches)), timestep, parts[1], parts[0])
        by_branch = dict(zip(branches, prediction.float().chunk(len(branches)), strict=True))
        guided = guide(*(by_branch.get(branch) for branch in BRANCHES), *scales)
        try:
            stepped = scheduler.step(guided, timestep, state.latents, **step_options, return_dict=False)
        except NotImplementedError as error:  # the lack of a prediction type, which is found at the first step
            raise ValueError(f"{type(scheduler).__name__} does not fit this model: {error}.") from error
        state.latents = stepped[0]
        if callback is not None:
            callback(number, timestep, state)
        if state.stopped:
            break
    check_finite(state.latents, f"what was drawn with guidance scales {scales[0]:g} and {scales[1]:g}")
    return state.latents


def _set_timesteps(scheduler: SchedulerMixin, steps: int, device: torch.device, config: Any) -> None:
    """Set the schedule, and refuse one that the denoiser was not made for."""
    name, kind = type(scheduler).__name__, scheduler.config.get("prediction_type")
    known = ("sample",) if config.get("source_prior") else PREDICTION_TYPES
    length = scheduler.config.get("num_train_timesteps")
    if kind not in known or length is None or not hasattr(scheduler, "init_noise_sigma"):
        raise ValueError(
            f"{name} takes the denoiser's output for {kind or 'a velocity of another kind'}, and this model gives "
            f"{' or '.join(known)}: build the scheduler with `from_config(pipeline.scheduler.config)`."
        )
    scheduler.set_timesteps(steps, device=device)
    # schedulers of continuous time count in sigmas or in [0, 1], which the embedding of timesteps would misread
    first, last = scheduler.timesteps.max(), scheduler.timesteps.min()
    if last < 0 or first >= length:
        raise ValueError(
            f"{name} counts time from {first:g} to {last:g}, and this model was trained on the timesteps 0 to "
            f"{length - 1}: take a scheduler of diffusion in discrete time."
        )


def _step_options(scheduler: SchedulerMixin, generators: list[torch.Generator] | None) -> dict[str, Any]:
    """Generators for the schedulers whose `step` takes them; others that draw noise take seeds."""
    if generators is None:
        return {}
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = [generator.initial_seed() for generator in generators]
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": generators} if takes_generator else {}
