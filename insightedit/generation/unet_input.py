"""What goes into the UNet: [z_t, z_src, v'] in one tensor, and the layer that reads it."""

from __future__ import annotations

from functools import lru_cache

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn


def unet_input(
    noisy_latents: Tensor, source_latents: Tensor, spatial_residual: Tensor | None, residual_channels: int
) -> Tensor:
    """Channel concatenation [z_t, z_src, v'] that `EditUNet` reads.

    z_t (B, C, h, w), z_src (B, C_src, h, w), v' (B, residual_channels, h, w) or None where BIM did not run: then zeros.
    The result has the dtype of z_t.

    Raises:
        ValueError: if v' is given to a UNet without `residual_channels`.
    """
    # in this order, which is InstructPix2Pix's: its weights read z_t first
    parts = [noisy_latents, source_latents]
    if spatial_residual is not None and not residual_channels:
        raise ValueError(
            "the bridge made v', but this UNet has residual_channels=0 and cannot use it: build both with "
            "BIM, or switch it off (bridge.use_bim = False)."
        )
    if residual_channels:
        if spatial_residual is None:
            b, _, h, w = noisy_latents.shape
            spatial_residual = noisy_latents.new_zeros(b, residual_channels, h, w)
        parts.append(spatial_residual)
    return torch.cat([part.to(noisy_latents.dtype) for part in parts], dim=1)


class EditConvIn(nn.Conv2d):
    """The UNet's first layer, which reads [z_t, z_src, v'] and gives conv([z_t, z_src]) + v'.

    A `nn.Conv2d` of the latents alone: weight and bias keep their stock names and shapes.

    Args:
        latent_channels: channels of z_t and z_src together.
        out_channels: channels of the layer's output.
        kernel_size: odd kernel size.
        has_residual: whether `out_channels` channels of v' follow the latents in the input.
        has_positions: whether to add `positions`, so that every cell knows where it stands (ours).

    Source: SmartEdit adds v' after `conv_in`: the only reading of InsightEdit's equation 7 whose shapes fit.
    """

    def __init__(
        self,
        latent_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        has_residual: bool,
        has_positions: bool = False,
    ) -> None:
        super().__init__(latent_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.residual_channels = out_channels if has_residual else 0
        self.has_positions = has_positions

    def forward(self, input: Tensor) -> Tensor:
        """(B, latent_channels + residual_channels, h, w) -> (B, out_channels, h, w).

        Raises:
            ValueError: if the number of channels is another.
        """
        expected = self.in_channels + self.residual_channels
        if input.shape[1] != expected:
            raise ValueError(
                f"EditUNet got {input.shape[1]} input channels and takes {expected}: "
                f"{self.in_channels} of noisy and source latents, {self.residual_channels} of v'. "
                "Build the input with `unet_input`."
            )
        # v' travels in the same tensor, so that compiled, offloaded and wrapped UNets need no further argument
        latents, residual = input.split([self.in_channels, self.residual_channels], dim=1)
        features = super().forward(latents)
        if self.has_positions:
            features = features + positions(*features.shape[1:]).to(features)
        return features + residual.to(features.dtype) if self.residual_channels else features


@lru_cache(maxsize=8)
def positions(channels: int, height: int, width: int) -> Tensor:
    """Sines and cosines of every latent cell's row and column: (channels, h, w) float32 in [-1, 1] on the CPU.

    Source: diffusers' `get_2d_sincos_pos_embed`, as vision transformers have it.
    """
    table = get_2d_sincos_pos_embed(channels, (height, width), output_type="pt")
    return table.float().T.reshape(channels, height, width)
