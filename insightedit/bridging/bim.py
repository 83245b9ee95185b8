"""BIM: bidirectional interaction of what was understood (text states) and what was seen (vision patches).

Source: SmartEdit, section 3.3; InsightEdit, equation 4.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from diffusers.models.modeling_utils import get_parameter_dtype
from einops import rearrange
from torch import Tensor, nn

from insightedit.bridging.two_way import FourierPositions, OneSidedTransformer, TwoWayTransformer

BimKind = Literal["two_way", "self_attention", "mlp"]
BIM_KINDS: tuple[BimKind, ...] = ("two_way", "self_attention", "mlp")


class BIM(nn.Module):
    """Text states and vision patches read each other; both leave through zero-initialised layers.

    At the first step BIM is therefore an identity: the text states pass unchanged and v' is zero.

    Args:
        text_width: D_text, width of the text states.
        vision_width: D_vis, width of the vision encoder's patches, before the MLLM's projector.
        width: inner width; patches of another width are projected first (SmartEdit: both 1024).
        depth: number of two-way blocks.
        num_heads: attention heads.
        mlp_dim: inner width of the feed-forward parts.
        downsample_rate: cross-attention works at `width // downsample_rate`.
        residual_channels: C_res, channels of v' = output channels of the UNet's `conv_in`.
        text_scale: factor on what BIM adds to the text states.
        place_head: build a linear layer that reads from v' which cells change; only training uses it (ours).
        kind: `two_way` is BIM; `self_attention` and `mlp` put layers without any exchange in its place, to ablate it.

    Raises:
        ValueError: if `width` is odd or not divisible by the heads, `residual_channels` is not positive, or `kind` is
            unknown.
    """

    def __init__(
        self,
        *,
        text_width: int,
        vision_width: int = 1024,
        width: int = 1024,
        depth: int = 2,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        downsample_rate: int = 2,
        residual_channels: int = 320,
        text_scale: float = 0.5,
        place_head: bool = False,
        kind: BimKind = "two_way",
    ) -> None:
        super().__init__()
        if residual_channels < 1:
            raise ValueError(
                f"BIM needs residual_channels > 0, got {residual_channels}: "
                "give the output channels of the UNet's conv_in, block_out_channels[0]."
            )
        if kind not in BIM_KINDS:
            raise ValueError(f"BIM's kind is {kind!r}; it is one of {', '.join(BIM_KINDS)}.")
        self.text_scale = text_scale
        self.text_in = nn.Linear(text_width, width)
        self.image_in = nn.Identity() if vision_width == width else nn.Linear(vision_width, width)
        self.positions = FourierPositions(width)
        sizes = {"depth": depth, "width": width, "num_heads": num_heads, "mlp_dim": mlp_dim}
        self.two_way = self.one_sided = None
        if kind == "two_way":
            self.two_way = TwoWayTransformer(**sizes, downsample_rate=downsample_rate)
        else:
            self.one_sided = OneSidedTransformer(**sizes, attends=kind == "self_attention")
        self.text_out = nn.Linear(width, text_width)
        self.image_out = nn.Conv2d(width, residual_channels, kernel_size=1)
        for zero in (self.text_out, self.image_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)
        self.place_out = nn.Conv2d(residual_channels, 1, kernel_size=1) if place_head else None

    def forward(
        self, text_states: Tensor, image_features: Tensor, latent_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Exchange, once.

        Args:
            text_states: (B, Q, D_text) from the Q-Former.
            image_features: (B, P, D_vis) patches of the source picture, rows first, no class token.
            latent_size: (h, w) of the latent grid.

        Returns:
            Text states (B, Q, D_text) and v' (B, C_res, h, w).

        Raises:
            ValueError: if P is not a square number.
        """
        num_patches = image_features.shape[1]
        grid_size = math.isqrt(num_patches)
        if grid_size * grid_size != num_patches:
            raise ValueError(
                f"BIM needs a square patch grid, got {num_patches} patches ({grid_size}x{grid_size} would be "
                f"{grid_size * grid_size}): drop the class token, and give the vision encoder square pictures."
            )
        dtype = get_parameter_dtype(self)  # not a layer's, which may store fewer bits than it computes in
        exchange = self.one_sided if self.two_way is None else self.two_way
        tokens, image = exchange(
            self.text_in(text_states.to(dtype)), self.image_in(image_features.to(dtype)), self.positions(grid_size)
        )
        image = rearrange(image, "b (gy gx) d -> b d gy gx", gy=grid_size)
        image = F.interpolate(image, size=latent_size, mode="bilinear", align_corners=False)
        return text_states + self.text_scale * self.text_out(tokens), self.image_out(image)

    def place(self, spatial_residual: Tensor) -> Tensor | None:
        """Which cells change, read from v' (B, C_res, h, w): (B, 1, h, w) logits, or None without `place_head`."""
        return None if self.place_out is None else self.place_out(spatial_residual)
