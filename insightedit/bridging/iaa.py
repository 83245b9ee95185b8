"""IAA: predict the CLIP image embedding of the edited picture from the edit-token states.

Here is the mapper alone. The Linear to N tokens and the LayerNorm that InsightEdit draws after it are the
image projection of an IP-Adapter, and live in the UNet's `encoder_hid_proj`.

Source: InsightEdit, section 4.2, equation 5.
"""

from __future__ import annotations

from itertools import pairwise

from diffusers.models.modeling_utils import get_parameter_dtype
from torch import Tensor, nn


class IAA(nn.Module):
    """R edit-token states -> one image embedding.

    The paper says "MLP from r x 4096 to 1 x 768" and leaves open how r rows become one. Ours: an MLP on every
    row, then a learned weighted mean over the R rows (softmax of one score per row; uniform at the start),
    then a Linear. A plain mean cannot choose among rows that mean different things; flattening r x 4096 would
    cost 134 M parameters at width 1024.

    Args:
        llm_width: D_llm, width of the edit-token states.
        hidden_dim: width of the MLP.
        num_layers: Linear layers from input to output, the last one after the mean; at least 2.
        image_embed_dim: D_img, width of the CLIP image embedding.

    Raises:
        ValueError: if `num_layers` is below 2.
    """

    def __init__(
        self, *, llm_width: int, hidden_dim: int = 1024, num_layers: int = 2, image_embed_dim: int = 768
    ) -> None:
        super().__init__()
        if num_layers < 2:
            raise ValueError(f"IAA needs num_layers >= 2 (one before and one after the mean), got {num_layers}.")
        widths = [llm_width] + [hidden_dim] * (num_layers - 1)
        layers: list[nn.Module] = [nn.LayerNorm(llm_width)]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.GELU()]
        self.mlp = nn.Sequential(*layers)
        self.score = nn.Linear(hidden_dim, 1, bias=False)
        self.out = nn.Linear(hidden_dim, image_embed_dim)
        nn.init.zeros_(self.score.weight)

    def forward(self, edit_hidden_states: Tensor) -> Tensor:
        """Predict the embedding.

        Args:
            edit_hidden_states: (B, R, D_llm), any float dtype; cast to the weights' dtype.

        Returns:
            (B, D_img) embedding in CLIP's own scale, not normalised.
        """
        states = self.mlp(edit_hidden_states.to(get_parameter_dtype(self)))  # (B, R, hidden)
        weights = self.score(states).softmax(dim=1)  # (B, R, 1)
        return self.out((weights * states).sum(dim=1))
