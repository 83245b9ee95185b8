"""Pictures in [-1, 1] <-> latents, with any diffusers autoencoder.

Stable Diffusion's `AutoencoderKL` has a posterior to sample from; a deterministic one (`AutoencoderDC`, which the
miniature models use because it does nearly all its work on the small grid) has one latent per picture, and so has its
distilled stand-in (`AutoencoderTiny`), whose latents come scaled already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from insightedit.modeling.offloading import in_forward

if TYPE_CHECKING:
    from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny

    Autoencoder = AutoencoderKL | AutoencoderDC | AutoencoderTiny

TOLERANCE = 2e-3  # of the weights of two autoencoders, of which one may have been rounded to float16 or bfloat16
SD_SCALE = 0.18215  # of Stable Diffusion 1 and 2, in whose scaled latents their tiny stand-in speaks


def latent_factor(vae: Autoencoder) -> int:
    """Pixels per latent cell, along one side."""
    blocks = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
    return 2 ** (len(blocks) - 1)


def latent_scale(vae: Autoencoder) -> float:
    """What latents as the autoencoder's encoder gives them are multiplied with to have about unit variance."""
    return SD_SCALE if _is_tiny(vae) else vae.config.scaling_factor


@torch.no_grad()
def encode_moments(vae: Autoencoder, pixels: Tensor) -> Tensor:
    """All that the encoder says of pictures (B, 3, H, W) in [-1, 1], not scaled.

    (B, 2 C, h, w) mean and logarithm of the variance of each latent; of a deterministic autoencoder (B, C, h, w), the
    latents. The first C channels are the posterior's mode.

    Raises:
        ValueError: if the pixels do not fit the latent grid.
    """
    factor = latent_factor(vae)
    height, width = pixels.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(
            f"a picture of {height}x{width} pixels does not fit the latent grid: both sides have to be "
            f"multiples of {factor}. Resize it first."
        )
    with in_forward(vae):
        encoded: Any = vae.encode(pixels.to(vae.dtype))
    if _is_tiny(vae):  # speaks scaled latents; here all autoencoders give unscaled ones
        return encoded.latents / SD_SCALE
    return encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.parameters


@torch.no_grad()
def encode_source(vae: Autoencoder, pixels: Tensor, *, scaled: bool) -> Tensor:
    """Latents of the picture to edit: the posterior's mode, so that one picture has one encoding.

    (B, 3, H, W) in [-1, 1], H and W multiples of the latent factor -> (B, C, h, w) in the autoencoder's dtype, of about
    unit variance if `scaled`; InstructPix2Pix and SmartEdit do not scale these latents.

    Raises:
        ValueError: if the pixels do not fit the latent grid.
    """
    mode = encode_moments(vae, pixels)[:, : vae.config.latent_channels]
    return mode * latent_scale(vae) if scaled else mode


def draw_latents(moments: Tensor, channels: int, generator: torch.Generator | None = None) -> Tensor:
    """A sample (B, C, h, w) of the posterior that `encode_moments` tells, C = `channels`; not scaled.

    The picture to denoise is one, times `latent_scale`. The generator may be the CPU's on any device.
    """
    if moments.shape[1] == channels:
        return moments
    return DiagonalGaussianDistribution(moments).sample(generator)


@torch.no_grad()
def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) -> pictures (B, 3, H, W) float32 in [-1, 1].

    Raises:
        ValueError: if a pixel is not finite.
    """
    scale = 1.0 if _is_tiny(vae) else vae.config.scaling_factor
    with in_forward(vae):
        pixels = vae.decode(latents.to(vae.dtype) / scale).sample  # as they were encoded
    check_finite(pixels, "the autoencoder's picture")
    return pixels.float().clamp(-1, 1)  # decoders overshoot at edges


def encode_alike(one: Autoencoder, other: Autoencoder) -> bool:
    """Whether two autoencoders speak the same latents, up to rounding to half precision; decoders may differ.

    A decoder may be sharpened later (`python -m insightedit.miniatures sharpen`): what latents mean stays the same.
    """
    first, second = (
        {name: weight for name, weight in vae.state_dict().items() if not name.startswith("decoder.")}
        for vae in (one, other)
    )
    return first.keys() == second.keys() and all(
        weight.shape == second[name].shape
        and torch.allclose(weight.float(), second[name].float().to(weight.device), rtol=TOLERANCE, atol=TOLERANCE)
        for name, weight in first.items()
    )


def check_finite(values: Tensor, what: str) -> None:
    """Refuse results that are no numbers, which would pass for "nothing changed".

    Raises:
        ValueError: if a value is infinite or NaN.
    """
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"{what} holds values that are not finite: take smaller guidance scales, or float32 or bfloat16 weights; "
            "a model that gives such values with its own defaults is damaged."
        )


def _is_tiny(vae: Autoencoder) -> bool:
    return "latent_magnitude" in vae.config
