"""Q-Former: learned queries read the states at the edit tokens and speak CLIP text.

Source: SmartEdit, section 3.2; InsightEdit, equation 3; the layer is BLIP-2's (transformers'
`Blip2QFormerModel`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from insightedit.bridging.attention import Attention

BERT_NORM_EPS = 1e-12
BERT_INIT_STD = 0.02


class QFormerLayer(nn.Module):
    """Self-attention over the queries, cross-attention to the encoder, feed-forward; post-norm.

    `encoder_width=None` builds a layer without cross-attention.
    """

    def __init__(self, *, width: int, num_heads: int, ffn_dim: int, encoder_width: int | None, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads=num_heads, dropout=dropout)
        self.self_attn_norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)
        self.cross_attn: Attention | None = None
        if encoder_width is not None:
            self.cross_attn = Attention(width, key_width=encoder_width, num_heads=num_heads, dropout=dropout)
            self.cross_attn_norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)
        self.ffn = nn.Sequential(nn.Linear(width, ffn_dim), nn.GELU(), nn.Linear(ffn_dim, width))
        self.ffn_norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, encoder_states: Tensor) -> Tensor:
        """(B, Q, width), (B, R, encoder_width) -> (B, Q, width)."""
        attended = self.self_attn(queries, queries, queries)
        queries = self.self_attn_norm(queries + self.dropout(attended))
        if self.cross_attn is not None:
            attended = self.cross_attn(queries, encoder_states, encoder_states)
            queries = self.cross_attn_norm(queries + self.dropout(attended))
        return self.ffn_norm(queries + self.dropout(self.ffn(queries)))


class QFormer(nn.Module):
    """Turn R edit-token states into Q text states in the space of the generator's text encoder.

    No position code (the queries are learned and distinct) and no output projection.

    Args:
        num_queries: Q, the length of the text encoder's output; 77 for Stable Diffusion.
        width: D_text, 768 for Stable Diffusion 1.x.
        num_layers: number of layers.
        num_heads: attention heads; has to divide `width`.
        ffn_dim: inner width of the feed-forward part.
        llm_width: D_llm, width of the edit-token states.
        cross_attention_every: layers 0, n, 2n, ... read the edit-token states.
        dropout: probability, 0-1, as in bert-base.

    Raises:
        ValueError: if `num_heads` does not divide `width`, or a size is not positive.
    """

    def __init__(
        self,
        *,
        num_queries: int,
        width: int,
        llm_width: int,
        num_layers: int = 6,
        num_heads: int = 12,
        ffn_dim: int = 3072,
        cross_attention_every: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(num_queries, num_layers, cross_attention_every) < 1:
            raise ValueError(
                f"QFormer got num_queries={num_queries}, num_layers={num_layers}, "
                f"cross_attention_every={cross_attention_every}: each has to be at least 1."
            )
        self.queries = nn.Parameter(torch.empty(num_queries, width))
        self.norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            QFormerLayer(
                width=width,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                encoder_width=llm_width if index % cross_attention_every == 0 else None,
                dropout=dropout,
            )
            for index in range(num_layers)
        )
        self.apply(_init_as_bert)
        nn.init.normal_(self.queries, std=BERT_INIT_STD)

    def forward(self, edit_hidden_states: Tensor) -> Tensor:
        """Read the edit tokens.

        Args:
            edit_hidden_states: (B, R, D_llm), any float dtype; cast to the weights' dtype.

        Returns:
            (B, Q, D_text) text states.
        """
        encoder_states = edit_hidden_states.to(self.queries.dtype)
        queries = self.queries.expand(len(encoder_states), -1, -1)
        queries = self.dropout(self.norm(queries))
        for layer in self.layers:
            queries = layer(queries, encoder_states)
        return queries


def spread(text_states: Tensor) -> Tensor:
    """How different the Q rows of the text states are: 0 when all are the same, 1 when they share nothing.

    A Q-Former can collapse silently to identical rows; this is the number to watch. It is the share of the
    states' energy that is not in their common mean, and does not depend on their scale:
    sqrt(sum |row - mean row|^2 / sum |row|^2), averaged over the batch. (B, Q, D_text) of any float dtype -> scalar
    float32 in [0, 1].
    """
    states = text_states.float()
    deviation = (states - states.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2))
    energy = states.square().sum(dim=(1, 2))
    return (deviation / energy.clamp(min=torch.finfo(torch.float32).tiny)).sqrt().mean()


def _init_as_bert(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=BERT_INIT_STD)
        nn.init.zeros_(module.bias)
