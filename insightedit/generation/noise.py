"""The diffusion loss, piece by piece: timesteps, target, weights, mean. Pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def draw_timesteps(batch_size: int, num_train_timesteps: int, generator: torch.Generator, *, begin: int = 0) -> Tensor:
    """One timestep per sample, uniform over the schedule from `begin` on.

    Args:
        batch_size: B.
        num_train_timesteps: length of the training schedule, in steps.
        generator: where the draw comes from.
        begin: first timestep that is trained; 0 trains all, as the papers do. A sampler of two or three steps
            visits only the noisy part of the schedule, and there alone the answer cannot be read off z_t.

    Returns:
        (B,) int64 in [begin, num_train_timesteps), on the generator's device.

    Raises:
        ValueError: if `begin` lies outside the schedule.
    """
    if not 0 <= begin < num_train_timesteps:
        raise ValueError(
            f"min_timestep is {begin}, but the schedule has the timesteps 0 to {num_train_timesteps - 1}: "
            "give one of them; 0 trains all."
        )
    return torch.randint(begin, num_train_timesteps, (batch_size,), generator=generator, device=generator.device)


def diffuse(scheduler: SchedulerMixin, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Mix noise into clean latents, and say what the denoiser has to answer: the objective `ddpm`.

    The one place of training that asks a scheduler for either; another objective (flow matching) joins here, and in
    `sampling._set_timesteps`, which refuses its schedulers so far.

    Args:
        scheduler: a diffusers scheduler with `alphas_cumprod`.
        latents: (B, C, h, w) clean latents.
        noise: (B, C, h, w) standard normal.
        timesteps: (B,) int64.

    Returns:
        z_t = sqrt(a_t) latents + sqrt(1 - a_t) noise, and the target under the scheduler's prediction type: the noise
        (epsilon), the velocity (v_prediction) or the latents (sample); both (B, C, h, w).

    Raises:
        ValueError: on another prediction type.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    match _prediction_type(scheduler):
        case "epsilon":
            return noisy, noise
        case "v_prediction":
            return noisy, scheduler.get_velocity(latents, noise, timesteps)
        case _:
            return noisy, latents


def snr_weights(scheduler: SchedulerMixin, timesteps: Tensor, gamma: float) -> Tensor:
    """Min-SNR weight of each sample's loss.

    In terms of the clean latents every prediction type is weighted min(SNR, gamma); the loss on epsilon
    carries SNR already, the loss on v carries SNR + 1.

    Of timesteps (B,) int64, (B,) float32; `gamma` is the highest signal-to-noise ratio that counts, 5 in the paper.

    Raises:
        ValueError: if `gamma` is not positive, or on an unknown prediction type.

    Source: Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, section 3.4.
    """
    if gamma <= 0:
        raise ValueError(f"min_snr_gamma has to be positive, got {gamma}; 5 is usual, None turns the weighting off.")
    snr = compute_snr(scheduler, timesteps)
    match _prediction_type(scheduler):
        # loss on epsilon = SNR * loss on x: min(SNR, gamma) / SNR is left to multiply with
        case "epsilon":
            return (gamma / snr).clamp(max=1.0)
        case "v_prediction":  # loss on v = (SNR + 1) * loss on x
            return snr.clamp(max=gamma) / (snr + 1)
        case _:
            return snr.clamp(max=gamma)


def changed_area_weights(changed_mask: Tensor | None, *, latent_size: tuple[int, int], weight: float) -> Tensor:
    """Weight map that lets the changed area of a picture count more than the rest.

    A latent cell is changed if any of its pixels is, or a neighbouring cell (the autoencoder looks that far).
    Changed cells weigh `weight`, others 1; then each sample is normalised to mean 1, so that the loss keeps
    its scale and large and small edits count the same.

    (B, 1, H, W) float, 1 where source and target differ -> (B, 1, h, w) float32; the scalar 1 for an unknown mask.

    Raises:
        ValueError: if `weight` is not positive.
    """
    if weight <= 0:
        raise ValueError(f"changed_area_weight has to be positive, got {weight}; 1 weighs all the same.")
    if changed_mask is None:
        return torch.ones(())
    # max, not mean: one changed pixel changes its whole cell
    cells = F.adaptive_max_pool2d(changed_mask.float(), latent_size)
    cells = F.max_pool2d(cells, kernel_size=3, stride=1, padding=1)
    weights = 1 + (weight - 1) * (cells > 0).float()
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


def relative_weights(source: Tensor, target: Tensor, weights: Tensor, *, floor: float) -> Tensor:
    """Weights under which an edit counts by the share of it that is missing, not by its size.

    An inverted picture differs from its source twenty times as much as one without a small object; with plain
    weights the gradient is about the former. Divided by the error of a mere copy, both start near 1 (ours).

    Args:
        source: (B, C, h, w) source latents, scaled as the target's.
        target: (B, C, h, w) target latents.
        weights: broadcastable to them, of `changed_area_weights`.
        floor: mean squared change in latent units below which an edit does not count more, > 0.

    Returns:
        (B, ?, ?, ?) float32 weights, each sample's divided by max(floor, weighted mean of (source - target)^2).

    Raises:
        ValueError: if `floor` is not positive.
    """
    if floor <= 0:
        raise ValueError(f"change_floor has to be positive, got {floor}; None turns the weighting off.")
    # how wrong a copy of the source is under the same weights; the loss is then a share of it
    change = (weights * (source.float() - target.float()).square()).mean(dim=(1, 2, 3), keepdim=True)
    return weights / change.clamp(min=floor)


def noise_loss(
    prediction: Tensor, target: Tensor, weights: Tensor | None = None, sample_mask: Tensor | None = None
) -> Tensor:
    """Weighted mean squared error, averaged over the samples that count.

    Samples that do not count (chat without a picture) leave the mean altogether; they do not dilute it.

    Args:
        prediction: (B, C, h, w) any float dtype.
        target: (B, C, h, w).
        weights: broadcastable to (B, C, h, w), or None.
        sample_mask: (B,) 1 for a sample that counts, 0 for another; None counts all.

    Returns:
        Scalar float32; 0 where no sample counts.
    """
    error = (prediction.float() - target.float()).square()  # in half precision small errors would square to zero
    if weights is not None:
        error = error * weights
    # first by sample, so that a batch with chat in it does not weigh its edits otherwise
    per_sample = error.mean(dim=(1, 2, 3))
    if sample_mask is None:
        return per_sample.mean()
    return (per_sample * sample_mask).sum() / sample_mask.sum().clamp(min=1)


def _prediction_type(scheduler: SchedulerMixin) -> str:
    prediction_type = scheduler.config.prediction_type
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"scheduler {type(scheduler).__name__} has prediction_type {prediction_type!r}; "
            f"training knows {', '.join(PREDICTION_TYPES)}."
        )
    return prediction_type
