"""EditBridge: everything between understanding and drawing, as one diffusers component."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from insightedit.bridging.bim import BIM, BimKind
from insightedit.bridging.edit_head import EditHead
from insightedit.bridging.iaa import IAA
from insightedit.bridging.qformer import QFormer
from insightedit.modeling.offloading import in_forward
from insightedit.modeling.whole_model import WholeModel
from insightedit.types import ComprehensionStates, EditCondition

NullText = Literal["empty", "zero_states"]
NULL_TEXTS: tuple[NullText, ...] = ("empty", "zero_states")


class EditBridge(WholeModel, ConfigMixin):
    """Text branch (Q-Former or edit head, then BIM) and image branch (IAA) side by side.

    `bridge.use_bim` and `bridge.use_iaa` switch a branch off for a while (stage 2 trains without BIM); they
    are not part of the saved config. After loading, every branch that exists is on.

    Args:
        num_queries: Q, length of the text encoder's output.
        text_width: D_text, its width.
        llm_width: D_llm, width of the edit-token states.
        vision_width: D_vis, width of the vision patches before the projector.
        qformer_layers: Q-Former layers; None builds an edit head in its place.
        qformer_heads: its attention heads.
        qformer_ffn_dim: its feed-forward width.
        qformer_cross_attention_every: layers 0, n, 2n, ... read the edit-token states.
        qformer_dropout: its dropout, 0-1.
        edit_head_width: the edit head's inner width; needed without Q-Former, None with one.
        edit_head_layers: its encoder layers, and as many decoder layers.
        edit_head_heads: its attention heads.
        edit_head_ffn_dim: its feed-forward width.
        null_text: what "no text" is: the text encoder's states of the empty text, kept in `null_text_states`, or what
            the text branch makes of zero states (learned, so computed anew each time).
        token_head: build a linear layer from the text states to the text encoder's token embeddings, for a
            training loss on the words (ours).
        bim_width: BIM's inner width; None builds no BIM.
        bim_depth: two-way blocks.
        bim_heads: attention heads.
        bim_mlp_dim: feed-forward width.
        bim_downsample_rate: cross-attention works at `bim_width // bim_downsample_rate`.
        bim_text_scale: factor on what BIM adds to the text states.
        bim_place_head: let v' say which cells change, for a training loss on it.
        bim_kind: `two_way`, or what stands in its place in an ablation, see `BIM`.
        residual_channels: C_res of v'; 0 without BIM.
        iaa_hidden_dim: width of the image branch's mapper; None builds no image branch.
        iaa_layers: its Linear layers.
        image_embed_dim: D_img, width of the CLIP image embedding; needed with an image branch.

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
        vision_width: int = 1024,
        qformer_layers: int | None = 6,
        qformer_heads: int = 12,
        qformer_ffn_dim: int = 3072,
        qformer_cross_attention_every: int = 2,
        qformer_dropout: float = 0.1,
        edit_head_width: int | None = None,
        edit_head_layers: int = 4,
        edit_head_heads: int = 4,
        edit_head_ffn_dim: int = 2048,
        null_text: NullText = "empty",
        token_head: bool = False,
        bim_width: int | None = 1024,
        bim_depth: int = 2,
        bim_heads: int = 8,
        bim_mlp_dim: int = 2048,
        bim_downsample_rate: int = 2,
        bim_text_scale: float = 0.5,
        bim_place_head: bool = False,
        bim_kind: BimKind = "two_way",
        residual_channels: int = 320,
        iaa_hidden_dim: int | None = 1024,
        iaa_layers: int = 2,
        image_embed_dim: int | None = 768,
    ) -> None:
        super().__init__()
        _check_image_branch(iaa_hidden_dim, image_embed_dim)
        _check_text_branch(qformer_layers, edit_head_width, null_text)
        self.qformer: QFormer | None = None
        if qformer_layers is not None:
            self.qformer = QFormer(
                num_queries=num_queries,
                width=text_width,
                num_layers=qformer_layers,
                num_heads=qformer_heads,
                ffn_dim=qformer_ffn_dim,
                encoder_width=llm_width,
                cross_attention_every=qformer_cross_attention_every,
                dropout=qformer_dropout,
            )
        self.edit_head: EditHead | None = None
        if edit_head_width is not None:
            inner = (edit_head_width, edit_head_layers, edit_head_heads, edit_head_ffn_dim)
            self.edit_head = _build_edit_head(num_queries, text_width, llm_width, inner)
        self.bim: BIM | None = None
        if bim_width is not None:
            self.bim = BIM(
                text_width=text_width,
                vision_width=vision_width,
                width=bim_width,
                depth=bim_depth,
                num_heads=bim_heads,
                mlp_dim=bim_mlp_dim,
                downsample_rate=bim_downsample_rate,
                residual_channels=residual_channels,
                text_scale=bim_text_scale,
                place_head=bim_place_head,
                kind=bim_kind,
            )
        self.iaa: IAA | None = None
        if iaa_hidden_dim is not None and image_embed_dim is not None:
            self.iaa = IAA(
                llm_width=llm_width, hidden_dim=iaa_hidden_dim, num_layers=iaa_layers, image_embed_dim=image_embed_dim
            )
        self.token_out = nn.Linear(text_width, text_width) if token_head else None
        self.register_buffer("null_text_states", torch.zeros(num_queries, text_width))
        self._use_bim = self.bim is not None
        self._use_iaa = self.iaa is not None

    @property
    def use_bim(self) -> bool:
        """Whether `forward` runs BIM."""
        return self._use_bim

    @use_bim.setter
    def use_bim(self, value: bool) -> None:
        if value and self.bim is None:
            raise ValueError("this bridge was built without BIM: build it with bim_width set to switch BIM on.")
        self._use_bim = value

    @property
    def use_iaa(self) -> bool:
        """Whether `forward` predicts the image embedding."""
        return self._use_iaa

    @use_iaa.setter
    def use_iaa(self, value: bool) -> None:
        if value and self.iaa is None:
            raise ValueError("this bridge was built without IAA: build it with iaa_hidden_dim set to switch IAA on.")
        self._use_iaa = value

    @torch.no_grad()
    def set_null_text_states(self, states: Tensor) -> None:
        """Keep the text encoder's states of the empty text, which stand for "no text" in guidance.

        Args:
            states: (Q, D_text) last hidden state of the text encoder for "".

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


def _check_image_branch(iaa_hidden_dim: int | None, image_embed_dim: int | None) -> None:
    if iaa_hidden_dim is not None and image_embed_dim is None:
        raise ValueError(
            f"an image branch (iaa_hidden_dim={iaa_hidden_dim}) needs image_embed_dim, got {image_embed_dim}: give the "
            "CLIP image encoder's projection width, or iaa_hidden_dim=None for no image branch."
        )


def _check_text_branch(qformer_layers: int | None, edit_head_width: int | None, null_text: str) -> None:
    if (qformer_layers is None) == (edit_head_width is None):
        raise ValueError(
            f"qformer_layers={qformer_layers} and edit_head_width={edit_head_width}: the text branch is a Q-Former or "
            "an edit head, so exactly one of them has to be given."
        )
    if null_text not in NULL_TEXTS:
        raise ValueError(f"null_text is {null_text!r}; it is one of {', '.join(NULL_TEXTS)}.")


def _build_edit_head(num_queries: int, text_width: int, llm_width: int, inner: tuple[int, int, int, int]) -> EditHead:
    """An edit head of (width, layers, heads, feed-forward width)."""
    width, num_layers, num_heads, ffn_dim = inner
    return EditHead(
        num_queries=num_queries,
        text_width=text_width,
        llm_width=llm_width,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn_dim=ffn_dim,
    )


def _needed(edit_embeddings: Tensor | None) -> Tensor:
    if edit_embeddings is None:
        raise ValueError(
            "this bridge reads the edit tokens' input embeddings too: give edit_embeddings, which comprehension "
            "returns beside the states."
        )
    return edit_embeddings
