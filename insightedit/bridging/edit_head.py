"""EditHead: a small transformer turns the edit tokens into text states, without stages of its own.

Source: MGIE, section 3.2 and its released code; in structure GILL's mapper. The layers are torch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EditHead(nn.Module):
    """Linear in, encoder-decoder transformer with Q learned queries, linear out.

    The encoder reads the edit tokens' states plus their input embeddings; the decoder's queries read the encoder.
    No position code: the embeddings tell the tokens apart. Pre-norm, ReLU, a last norm on both halves, as
    `torch.nn.Transformer` has them.

    Args:
        num_queries: Q, the length of the text encoder's output; 77 for Stable Diffusion.
        text_width: D_text, 768 for Stable Diffusion 1.x.
        llm_width: D_llm, width of states and embeddings.
        width: inside the transformer.
        num_layers: of the encoder, and as many of the decoder.
        num_heads: attention heads; has to divide `width`.
        ffn_dim: inner width of the feed-forward parts.
        dropout: probability, 0-1; MGIE has none.

    Raises:
        ValueError: if `num_heads` does not divide `width`, or a size is not positive.
    """

    def __init__(
        self,
        *,
        num_queries: int,
        text_width: int,
        llm_width: int,
        width: int = 512,
        num_layers: int = 4,
        num_heads: int = 4,
        ffn_dim: int = 2048,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_queries, num_layers, num_heads) < 1:
            raise ValueError(
                f"EditHead got num_queries={num_queries}, num_layers={num_layers}, num_heads={num_heads}: "
                "each has to be at least 1."
            )
        if width % num_heads:
            raise ValueError(
                f"EditHead's width {width} is not divisible by num_heads {num_heads}: "
                "choose a number of heads that divides the width."
            )
        self.proj_in = nn.Linear(llm_width, width)
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        # built here, because nn.Transformer's own encoder asks for nested tensors, which pre-norm cannot use
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, num_heads, ffn_dim, dropout, batch_first=True, norm_first=True),
            num_layers,
            nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.transformer = nn.Transformer(
            d_model=width,
            nhead=num_heads,
            num_decoder_layers=num_layers,
            dim_feedforward=ffn_dim,
            dropout=dropout,
            custom_encoder=encoder,
            batch_first=True,
            norm_first=True,
        )
        self.proj_out = nn.Linear(width, text_width)

    def forward(self, edit_hidden_states: Tensor, edit_embeddings: Tensor) -> Tensor:
        """Read the edit tokens.

        Args:
            edit_hidden_states: (B, R, D_llm) the language model's states, any float dtype.
            edit_embeddings: (R, D_llm) the tokens' input embeddings, which are added in every row.

        Returns:
            (B, Q, D_text) text states, computed in the weights' dtype.
        """
        dtype = self.queries.dtype
        read = self.proj_in(edit_hidden_states.to(dtype) + edit_embeddings.to(dtype))  # (B, R, width)
        queries = self.queries.expand(len(read), -1, -1)
        return self.proj_out(self.transformer(read, queries))
