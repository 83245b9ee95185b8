"""Multi-head attention as BERT and SAM write it: three projections in, one out."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax attention without mask; normalisation and residual are the caller's.

    Args:
        query_width: width of the queries and of the output.
        key_width: width of keys and values; `query_width` when None.
        inner_width: width inside the attention; `query_width` when None (SAM halves it in cross-attention).
        num_heads: heads that share `inner_width`.
        dropout: probability, 0-1, on the attention weights while training.

    Raises:
        ValueError: if `num_heads` does not divide `inner_width`.
    """

    def __init__(
        self,
        query_width: int,
        *,
        num_heads: int,
        key_width: int | None = None,
        inner_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        key_width = key_width or query_width
        inner_width = inner_width or query_width
        if inner_width % num_heads:
            raise ValueError(
                f"attention width {inner_width} is not divisible by num_heads {num_heads}: "
                "choose a number of heads that divides the width (after downsampling)."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(query_width, inner_width)
        self.k_proj = nn.Linear(key_width, inner_width)
        self.v_proj = nn.Linear(key_width, inner_width)
        self.out_proj = nn.Linear(inner_width, query_width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, N, query_width) rows read (B, M, key_width) rows by their keys -> (B, N, query_width)."""
        attended = F.scaled_dot_product_attention(
            self._split_heads(self.q_proj(query)),
            self._split_heads(self.k_proj(key)),
            self._split_heads(self.v_proj(value)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(rearrange(attended, "b heads n d -> b n (heads d)"))

    def _split_heads(self, states: Tensor) -> Tensor:
        return rearrange(states, "b n (heads d) -> b heads n d", heads=self.num_heads)
