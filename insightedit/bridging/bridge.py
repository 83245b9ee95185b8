"""EditBridge: everything between understanding and drawing, as one diffusers component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from insightedit.bridging.bim import BIM
from insightedit.bridging.edit_head import EditHead
from insightedit.bridging.iaa import IAA
from insightedit.bridging.qformer import QFormer
from insightedit.modeling.offloading import in_forward
from insightedit.modeling.whole_model import WholeModel
from insightedit.types import ComprehensionStates, EditCondition

NullText = Literal["empty", "zero_states"]
NULL_TEXTS: tuple[NullText, ...] = ("empty", "zero_states")
FLAT_0_1 = {
    "qformer_config": {
        "num_layers": "qformer_layers", "num_heads": "qformer_heads", "ffn_dim": "qformer_ffn_dim",
        "cross_attention_every": "qformer_cross_attention_every", "dropout": "qformer_dropout",
    },
    "edit_head_config": {
        "width": "edit_head_width", "num_layers": "edit_head_layers", "num_heads": "edit_head_heads",
        "ffn_dim": "edit_head_ffn_dim",
    },
    "bim_config": {
        "width": "bim_width", "depth": "bim_depth", "num_heads": "bim_heads", "mlp_dim": "bim_mlp_dim",
        "downsample_rate": "bim_downsample_rate", "text_scale": "bim_text_scale", "kind": "bim_kind",
        "place_head": "bim_place_head", "vision_width": "vision_width", "residual_channels": "residual_channels",
    },
    "iaa_config": {
        "hidden_dim": "iaa_hidden_dim", "num_layers": "iaa_layers", "image_embed_dim": "image_embed_dim",
    },
}  # fmt: skip
"""Branch -> its argument -> key of version 0.1's bridge/config.json; the first is null without the branch."""


class EditBridge(WholeModel, ConfigMixin):
    """Text branch (Q-Former or edit head, then BIM) and image branch (IAA) side by side.

    `bridge.use_bim` and `bridge.use_iaa` switch a branch off for a while (stage 2 trains without BIM); they
    are not part of the saved config. After loading, every branch that exists is on.

    Args:
        num_queries: Q, length of the text encoder's output.
        text_width: D_text, its width.
        llm_width: D_llm, width of the edit-token states.
        qformer_config: `QFormer`'s further arguments, and `token_head`; None builds an edit head in its place.
        edit_head_config: `EditHead`'s further arguments, and `token_head`: a linear layer from text states to the text
            encoder's token embeddings, for a training loss on the words (ours).
        bim_config: `BIM`'s further arguments; None builds no BIM.
        iaa_config: `IAA`'s further arguments; None builds no image branch.
        null_text: what "no text" is: the text encoder's states of the empty text, kept in `null_text_states`, or what
            the text branch makes of zero states (learned, so computed anew each time).

    Raises:
        ValueError: if the sizes do not fit each other.

    Source: InsightEdit, section 4.2; edit head and learned null: MGIE, section 3.2 and released code.
    """

    _skip_layerwise_casting_patterns = ("norm", "edit_head")  # torch's transformer reads its layers' weights itself
    null_text_states: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        num_queries: int = 77,
        text_width: int = 768,
        llm_width: int = 4096,
        qformer_config: Mapping[str, Any] | None = None,
        edit_head_config: Mapping[str, Any] | None = None,
        bim_config: Mapping[str, Any] | None = None,
        iaa_config: Mapping[str, Any] | None = None,
        null_text: NullText = "empty",
    ) -> None:
        super().__init__()
        if (qformer_config is None) == (edit_head_config is None):
            raise ValueError(
                f"qformer_config={qformer_config} and edit_head_config={edit_head_config}: the text branch is a "
                "Q-Former or an edit head, so exactly one of them has to be given."
            )
        if null_text not in NULL_TEXTS:
            raise ValueError(f"null_text is {null_text!r}; it is one of {', '.join(NULL_TEXTS)}.")
        text = dict(qformer_config if qformer_config is not None else edit_head_config or {})
        token_head = text.pop("token_head", False)
        sizes = {"num_queries": num_queries, "llm_width": llm_width}
        self.qformer: QFormer | None = None
        self.edit_head: EditHead | None = None
        if qformer_config is not None:
            self.qformer = _build("qformer_config", QFormer, text, width=text_width, **sizes)
        else:
            self.edit_head = _build("edit_head_config", EditHead, text, text_width=text_width, **sizes)
        self.bim: BIM | None = None
        if bim_config is not None:
            self.bim = _build("bim_config", BIM, bim_config, text_width=text_width)
        self.iaa: IAA | None = None
        if iaa_config is not None:
            self.iaa = _build("iaa_config", IAA, iaa_config, llm_width=llm_width)
        self.token_out = nn.Linear(text_width, text_width) if token_head else None
        self.register_buffer("null_text_states", torch.zeros(num_queries, text_width))
        self._use_bim = self.bim is not None
        self._use_iaa = self.iaa is not None

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any:
        """As in diffusers; also of the flat settings that version 0.1 wrote."""
        return super().from_config(nested_settings(config), **options)

    @property
    def use_bim(self) -> bool:
        """Whether `forward` runs BIM."""
        return self._use_bim

    @use_bim.setter
    def use_bim(self, value: bool) -> None:
        if value and self.bim is None:
            raise ValueError("this bridge was built without BIM: build it with bim_config to switch BIM on.")
        self._use_bim = value

    @property
    def use_iaa(self) -> bool:
        """Whether `forward` predicts the image embedding."""
        return self._use_iaa

    @use_iaa.setter
    def use_iaa(self, value: bool) -> None:
        if value and self.iaa is None:
            raise ValueError("this bridge was built without IAA: build it with iaa_config to switch IAA on.")
        self._use_iaa = value

    @torch.no_grad()
    def set_null_text_states(self, states: Tensor) -> None:
        """Keep the text encoder's states (Q, D_text) of the empty text, which stand for "no text" in guidance.

        Raises:
            ValueError: if the shape is another.
        """
        if states.shape != self.null_text_states.shape:
            raise ValueError(
                f"null text states have shape {tuple(states.shape)}, this bridge needs "
                f"(num_queries, text_width) = {tuple(self.null_text_states.shape)}: use the text "
                "encoder that the bridge was sized for."
            )
        self.null_text_states.copy_(states)

    def text_states(self, edit_hidden_states: Tensor, edit_embeddings: Tensor | None = None) -> Tensor:
        """The text branch alone: what the edit tokens say, before BIM.

        Args:
            edit_hidden_states: (B, R, D_llm) states of the edit tokens.
            edit_embeddings: (R, D_llm) their input embeddings; only an edit head reads them.

        Returns:
            (B, Q, D_text) text states.

        Raises:
            ValueError: if an edit head is given no embeddings.
        """
        with in_forward(self):
            return self._text_states(edit_hidden_states, edit_embeddings)

    def null_states(self, edit_embeddings: Tensor | None = None) -> Tensor:
        """(Q, D_text) states that stand for "no text" in condition dropout and guidance.

        Args:
            edit_embeddings: (R, D_llm) input embeddings of the edit tokens; needed with `null_text="zero_states"`,
                where gradients flow through them and through the text branch.

        Raises:
            ValueError: if the text branch has to be computed and the embeddings are missing.
        """
        with in_forward(self):
            if self.config["null_text"] == "empty":
                return self.null_text_states.clone()  # an offloaded buffer is emptied afterwards
            embeddings = _needed(edit_embeddings)
            return self._text_states(torch.zeros_like(embeddings)[None], embeddings)[0]

    def forward(self, states: ComprehensionStates, latent_size: tuple[int, int] | None) -> EditCondition:
        """Turn what was understood into the generator's condition.

        Args:
            states: at the edit tokens (B, R, D_llm); vision patches (B, P, D_vis), or None for text only, where BIM is
                skipped; the edit tokens' input embeddings, which an edit head needs.
            latent_size: (h, w) of the latent grid; may be None where BIM does not run.

        Returns:
            Text states, v' (None where BIM did not run), image embedding (None without image branch).

        Raises:
            ValueError: if BIM runs and `latent_size` is None, or an edit head is given no embeddings.
        """
        text_states = self._text_states(states.edit_hidden_states, states.edit_embeddings)
        spatial_residual = None
        if self.bim is not None and self.use_bim and states.image_features is not None:
            if latent_size is None:
                raise ValueError("BIM makes v' at the size of the latent grid: give latent_size=(h, w), got None.")
            text_states, spatial_residual = self.bim(text_states, states.image_features, latent_size)
        image_embeds = self.iaa(states.edit_hidden_states) if self.iaa is not None and self.use_iaa else None
        return EditCondition(text_states, spatial_residual, image_embeds)

    def _text_states(self, edit_hidden_states: Tensor, edit_embeddings: Tensor | None) -> Tensor:
        if self.qformer is not None:
            return self.qformer(edit_hidden_states)
        assert self.edit_head is not None, "exactly one of the two is built"
        return self.edit_head(edit_hidden_states, _needed(edit_embeddings))


def _build(name: str, part: Any, given: Mapping[str, Any], **sizes: int) -> Any:
    try:
        return part(**sizes, **given)
    except TypeError as error:
        raise ValueError(f"{name}={dict(given)} does not fit {part.__name__}: {error}.") from error


def nested_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A bridge's settings as `EditBridge` takes them, also of those that version 0.1 wrote, which were flat."""
    if "bim_width" not in config:
        return dict(config)
    old = {"token_head"} | {key for names in FLAT_0_1.values() for key in names.values()}
    settings = {key: value for key, value in config.items() if key not in old}
    for branch, names in FLAT_0_1.items():
        given = {name: config[key] for name, key in names.items() if key in config}
        if branch in ("qformer_config", "edit_head_config"):
            given["token_head"] = config.get("token_head", False)
        settings[branch] = given if config.get(next(iter(names.values()))) is not None else None
    return settings


def _needed(edit_embeddings: Tensor | None) -> Tensor:
    if edit_embeddings is None:
        raise ValueError(
            "this bridge reads the edit tokens' input embeddings too: give edit_embeddings, which comprehension "
            "returns beside the states."
        )
    return edit_embeddings
