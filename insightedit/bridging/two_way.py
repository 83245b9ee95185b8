"""Two-way transformer: text tokens and image patches read each other in turn.

Source: Segment Anything, section A (mask decoder), in the form SmartEdit uses it; the same maths as
`transformers.models.sam.SamTwoWayTransformer`. What stands in its place when the exchange itself is ablated is below
(SmartEdit, supplement, table 1: Exp 2 self-attention, Exp 3 MLP): how those layers were built is not told, so they are
ours, of the same sizes, with no path from one side to the other.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from insightedit.bridging.attention import Attention


class FourierPositions(nn.Module):
    """Random Fourier code of the positions on a square grid: half sines, half cosines, so `width` is even.

    The random frequencies, of deviation `scale`, belong to the model: a saved buffer, not drawn anew at every start.

    Source: Tancik et al., Fourier features; Segment Anything's `PositionEmbeddingRandom`.
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"the Fourier position code needs an even width (sines and cosines), got {width}.")
        self.register_buffer("frequencies", scale * torch.randn(2, width // 2))

    def forward(self, grid_size: int) -> Tensor:
        """(grid_size * grid_size, width) code of the cell centres, rows first."""
        centres = (torch.arange(grid_size, device=self.frequencies.device, dtype=torch.float32) + 0.5) / grid_size
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        places = rearrange(torch.stack([x, y], dim=-1), "gy gx xy -> (gy gx) xy")
        angles = 2 * math.pi * (2 * places - 1).to(self.frequencies.dtype) @ self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TwoWayBlock(nn.Module):
    """Tokens read themselves, then the image; feed-forward; then the image reads the tokens. Post-norm.

    Sizes as `TwoWayTransformer`'s; the first block's self-attention has neither position code nor residual.
    """

    def __init__(self, *, width: int, num_heads: int, mlp_dim: int, downsample_rate: int, is_first: bool) -> None:
        super().__init__()
        inner_width = width // downsample_rate
        self.is_first = is_first
        self.self_attn = Attention(width, num_heads=num_heads)
        self.self_attn_norm = nn.LayerNorm(width)
        self.token_to_image = Attention(width, num_heads=num_heads, inner_width=inner_width)
        self.token_to_image_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, width))
        self.mlp_norm = nn.LayerNorm(width)
        self.image_to_token = Attention(width, num_heads=num_heads, inner_width=inner_width)
        self.image_to_token_norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One exchange of tokens (B, Q, width) and image (B, P, width).

        Their positions (B, Q, width) and (P, width) are added wherever rows are queries or keys, never to values.
        """
        if self.is_first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_positions
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.self_attn_norm(tokens)

        placed_image = image + image_positions
        attended = self.token_to_image(tokens + token_positions, placed_image, image)
        tokens = self.token_to_image_norm(tokens + attended)
        tokens = self.mlp_norm(tokens + self.mlp(tokens))

        attended = self.image_to_token(placed_image, tokens + token_positions, tokens)
        return tokens, self.image_to_token_norm(image + attended)


class TwoWayTransformer(nn.Module):
    """Blocks of exchange and one last look of the tokens at the image.

    The tokens' first values double as their position code, re-added at every attention.

    Args:
        depth: number of `TwoWayBlock`s.
        width: width of tokens and patches.
        num_heads: attention heads.
        mlp_dim: inner width of the feed-forward parts.
        downsample_rate: cross-attention works at `width // downsample_rate`.
    """

    def __init__(self, *, depth: int, width: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TwoWayBlock(
                width=width, num_heads=num_heads, mlp_dim=mlp_dim, downsample_rate=downsample_rate, is_first=index == 0
            )
            for index in range(depth)
        )
        self.final_attn = Attention(width, num_heads=num_heads, inner_width=width // downsample_rate)
        self.final_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, image: Tensor, image_positions: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens (B, Q, width) and image (B, P, width), at `image_positions` (P, width), read each other."""
        token_positions = tokens
        for block in self.blocks:
            tokens, image = block(tokens, image, token_positions, image_positions)
        attended = self.final_attn(tokens + token_positions, image + image_positions, image)
        return self.final_norm(tokens + attended), image


class OneSidedBlock(nn.Module):
    """Rows of one side read each other (unless not `attends`), then a feed-forward part; post-norm, as two-way."""

    def __init__(self, *, width: int, num_heads: int, mlp_dim: int, attends: bool) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads=num_heads) if attends else None
        self.self_attn_norm = nn.LayerNorm(width) if attends else None
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, width))
        self.mlp_norm = nn.LayerNorm(width)

    def forward(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Rows (B, N, width) -> the same; `positions` (N, width) join where rows are queries or keys."""
        if self.self_attn is not None and self.self_attn_norm is not None:
            placed = rows + positions
            rows = self.self_attn_norm(rows + self.self_attn(placed, placed, rows))
        return self.mlp_norm(rows + self.mlp(rows))


class OneSidedTransformer(nn.Module):
    """Blocks on the text tokens and blocks on the image patches, side by side; the sibling of `TwoWayTransformer`.

    With `attends` self-attention and feed-forward, else feed-forward alone (an MLP on every row).
    """

    def __init__(self, *, depth: int, width: int, num_heads: int, mlp_dim: int, attends: bool) -> None:
        super().__init__()
        sizes = {"width": width, "num_heads": num_heads, "mlp_dim": mlp_dim, "attends": attends}
        self.token_blocks = nn.ModuleList(OneSidedBlock(**sizes) for _ in range(depth))
        self.image_blocks = nn.ModuleList(OneSidedBlock(**sizes) for _ in range(depth))

    def forward(self, tokens: Tensor, image: Tensor, image_positions: Tensor) -> tuple[Tensor, Tensor]:
        """As `TwoWayTransformer.forward`, but what comes out of each side depends on that side alone."""
        token_positions = tokens
        for block in self.token_blocks:
            tokens = block(tokens, token_positions)
        for block in self.image_blocks:
            image = block(image, image_positions)
        return tokens, image
