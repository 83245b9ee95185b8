"""Pictures in [-1, 1] <-> latents, with any diffusers autoencoder.

Stable Diffusion's `AutoencoderKL` has a posterior to sample from; a deterministic one (`AutoencoderDC`, which the
miniature models use because it does nearly all its work on the small grid) has one latent per picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import AutoencoderDC, AutoencoderKL

    Autoencoder = AutoencoderKL | AutoencoderDC


def latent_factor(vae: Autoencoder) -> int:
    """Pixels per latent cell, along one side."""
    blocks = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
    return 2 ** (len(blocks) - 1)


@torch.no_grad()
def encode_target(vae: Autoencoder, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Latents of the picture to denoise: a sample of the posterior, scaled.

    Args:
        vae: the frozen autoencoder.
        pixels: (B, 3, H, W) in [-1, 1]; H and W multiples of the latent factor.
        generator: where the sample comes from; the CPU is fine for any device.

    Returns:
        (B, C, h, w) latents of about unit variance, in the autoencoder's dtype.

    Raises:
        ValueError: if the pixels do not fit the latent grid.
    """
    return _encode(vae, pixels, generator, sample=True) * vae.config.scaling_factor


@torch.no_grad()
def encode_source(vae: Autoencoder, pixels: Tensor, *, scaled: bool) -> Tensor:
    """Latents of the picture to edit: the posterior's mode, so that one picture has one encoding.

    Args:
        vae: the frozen autoencoder.
        pixels: (B, 3, H, W) in [-1, 1]; H and W multiples of the latent factor.
        scaled: whether to multiply by the scaling factor. InstructPix2Pix and SmartEdit do not.

    Returns:
        (B, C, h, w) latents in the autoencoder's dtype.

    Raises:
        ValueError: if the pixels do not fit the latent grid.
    """
    mode = _encode(vae, pixels, None, sample=False)
    return mode * vae.config.scaling_factor if scaled else mode


@torch.no_grad()
def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Scaled latents -> picture.

    Args:
        vae: the frozen autoencoder.
        latents: (B, C, h, w) as `encode_target` makes them.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
    return pixels.float().clamp(-1, 1)


def _encode(vae: Autoencoder, pixels: Tensor, generator: torch.Generator | None, *, sample: bool) -> Tensor:
    factor = latent_factor(vae)
    height, width = pixels.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(
            f"a picture of {height}x{width} pixels does not fit the latent grid: both sides have to be "
            f"multiples of {factor}. Resize it first."
        )
    encoded = vae.encode(pixels.to(vae.dtype))
    if hasattr(encoded, "latent"):
        return encoded.latent
    return encoded.latent_dist.sample(generator) if sample else encoded.latent_dist.mode()
