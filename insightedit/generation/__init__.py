"""Generation: the denoiser, its autoencoder, guidance and sampling."""

from __future__ import annotations

from insightedit.generation.unet import EditUNet

__all__ = ["EditUNet"]
