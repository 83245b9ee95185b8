"""What stands in BIM's place when the exchange itself is ablated: each side works on its own.

Source: SmartEdit, supplement, table 1 (Exp 2 self-attention, Exp 3 MLP); how their layers were built is not told, so
the layers are ours: the two-way transformer's sizes, and no path from one side to the other.
"""

from __future__ import annotations

from torch import Tensor, nn

from insightedit.bridging.attention import Attention


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
