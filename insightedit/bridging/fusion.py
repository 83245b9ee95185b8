"""Feature fusion: what a picture means, joined with what it looks like, without a further token.

The Q-Former's tokens say what is in a picture; they forget its details. The autoencoder's latents keep them. Each
token reads the latents and adds what it found.
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from insightedit.bridging.attention import Attention
from insightedit.modeling.offloading import in_forward
from insightedit.modeling.whole_model import WholeModel
from insightedit.types import ComprehensionStates, EditCondition

NULL_SEED = 0  # the null text is part of no checkpoint: every build has to draw the same one

Activation = Literal["relu", "none"]


class FeatureFusion(nn.Module):
    """Tokens of a picture read its visual features: f_s + Linear(ReLU(Attention(f_s, f_v))), then LayerNorm.

    Queries are LayerNorm(Linear(f_s)); keys and values are two two-layer networks with LayerNorm over f_v. The last
    linear layer starts at zero, so a new module gives LayerNorm(f_s) whatever the visual features are. The paper
    names a ReLU and does not say where it stands; after a layer that starts at zero it could never learn, so it
    stands before it.

    Args:
        width: of the tokens, f_s.
        visual_width: of the visual features, f_v: the transformer's patch width.
        num_heads: attention heads; has to divide `width`.
        activation: `relu` (paper) or `none` (released code), between attention and the last linear layer.

    Source: MIGE, section 3.2.1.
    """

    def __init__(self, *, width: int, visual_width: int, num_heads: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width))
        self.key = _two_layers(visual_width, width)
        self.value = _two_layers(visual_width, width)
        self.attention = Attention(width, num_heads=num_heads)
        self.activation = nn.ReLU() if activation == "relu" else nn.Identity()
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, semantic_tokens: Tensor, visual_features: Tensor) -> Tensor:
        """f_s (N, Q, width) of the Q-Former, f_v (N, P, visual_width) of the latents -> (N, Q, width)."""
        attended = self.attention(self.query(semantic_tokens), self.key(visual_features), self.value(visual_features))
        return self.norm(semantic_tokens + self.out(self.activation(attended)))


class FusionBridge(WholeModel, ConfigMixin):
    """Between reading and drawing where instructions carry pictures, as one diffusers component.

    Holds the feature fusion and the states that stand for "no text": a fixed random buffer, never trained, all of
    whose rows count. It follows from its shape alone, so a stage's checkpoint need not hold it.

    Args:
        token_width: of the Q-Former's tokens.
        visual_width: of the transformer's patch features.
        num_heads: attention heads of the fusion.
        activation: see `FeatureFusion`.
        text_length: T, length of the text encoder's input, padding included.
        text_width: D_text, width of its states.

    Source: MIGE, section 3.2.1; PixArt-alpha draws its null text from N(0, 1 / D_text) in the same way.
    """

    null_text_states: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        token_width: int = 768,
        visual_width: int = 1152,
        num_heads: int = 8,
        activation: Activation = "relu",
        text_length: int = 256,
        text_width: int = 4096,
    ) -> None:
        super().__init__()
        self.fusion = FeatureFusion(
            width=token_width, visual_width=visual_width, num_heads=num_heads, activation=activation
        )
        generator = torch.Generator().manual_seed(NULL_SEED)
        null = torch.randn(text_length, text_width, generator=generator, device="cpu") / text_width**0.5
        self.register_buffer("null_text_states", null.to(self.fusion.out.weight.device))

    def null_states(self, edit_embeddings: Tensor | None = None) -> Tensor:
        """(T, D_text) states that stand for "no text", as `EditBridge.null_states`; nothing else is read."""
        with in_forward(self):
            return self.null_text_states.clone()  # an offloaded buffer is emptied afterwards

    def fuse(self, semantic_tokens: Tensor, visual_features: Tensor) -> Tensor:
        """(N, Q, token_width), (N, P, visual_width) -> (N, Q, token_width); see `FeatureFusion`."""
        with in_forward(self):
            return self.fusion(semantic_tokens.to(self.dtype), visual_features.to(self.dtype))

    def forward(self, states: ComprehensionStates, latent_size: tuple[int, int] | None) -> EditCondition:
        """The text encoder's states and mask, as they are: they were read with the fused pictures in them."""
        return EditCondition(states.edit_hidden_states, encoder_attention_mask=states.attention_mask)


def _two_layers(in_width: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))
