"""EditUNet: the stock UNet with a source picture, a spatial residual and an image prompt as further inputs.

A thin subclass, because a plain `UNet2DConditionModel` would drop the image-attention weights on reload as
unexpected. Every stock key keeps its name, so stock weights load.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0, IPAdapterXFormersAttnProcessor
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from insightedit.generation.denoiser import DenoiserInputs
from insightedit.generation.source_denoiser import TRAIN_TIMESTEPS, SourceDenoiser, alpha_at, source_prediction
from insightedit.generation.unet_input import EditConvIn, unet_input
from insightedit.modeling.pretrained import open_base_model
from insightedit.types import EditCondition, NoisePrediction

if TYPE_CHECKING:
    from insightedit.config.schema import Config, UNetConfig

IMAGE_PROCESSORS = (IPAdapterAttnProcessor2_0, IPAdapterXFormersAttnProcessor)


class EditUNet(SourceDenoiser, UNet2DConditionModel):
    """Denoiser of [z_t, z_src], with v' after `conv_in` and an image prompt by decoupled cross-attention.

    `config.in_channels` stays what it is in a text-to-image UNet, the number of channels of z_t; a pipeline
    draws that many channels of noise. `forward` has the stock signature: `sample` is (B, in_channels +
    source_channels + residual_channels, h, w) as `unet_input` makes it, and the image prompt is
    `added_cond_kwargs={"image_embeds": (B, D_img)}`. Without an image prompt a call is text-only attention,
    exactly.

    Args:
        source_channels: channels of z_src, the source picture's latents.
        residual_channels: channels of v'; 0 for none, else `block_out_channels[0]`.
        image_tokens: N, cross-attention tokens made of one image embedding; 0 for no image branch.
        image_embed_dim: D_img, width of the image embedding; needed with an image branch.
        source_prior: expected size of the change in latent units; above 0 the output is the predicted latents,
            composed by `source_prediction` (ours; for scheduler prediction type `sample`). The papers start from
            UNets that can already copy their source; one trained from nothing copies by construction this way.
        position_embedding: add sines and cosines of each cell's place to the output of `conv_in` (ours). A UNet
            trained from nothing learns "at the top left" two to three times sooner with it (docs/lab-notes.md).
        **stock_config: the arguments of `diffusers.UNet2DConditionModel`.

    Raises:
        ValueError: if `residual_channels` or `image_embed_dim` does not fit.

    Source: InsightEdit, section 4.3; the image branch is diffusers' IP-Adapter.
    """

    part: ClassVar[str] = "unet"
    stock: ClassVar[Any] = UNet2DConditionModel
    _skip_layerwise_casting_patterns = ("norm", "encoder_hid_proj")  # diffusers reads the latter's dtype itself

    def __init__(
        self,
        *,
        source_channels: int = 4,
        residual_channels: int = 0,
        image_tokens: int = 0,
        image_embed_dim: int = 0,
        source_prior: float = 0.0,
        position_embedding: bool = False,
        **stock_config: Any,
    ) -> None:
        if stock_config.get("encoder_hid_dim_type") == "ip_image_proj":
            stock_config["encoder_hid_dim_type"] = None  # built below; the stock class cannot build it
        super().__init__(**stock_config)
        self._check_sizes(residual_channels, image_tokens, image_embed_dim)
        if source_prior and source_channels != self.config.out_channels:
            raise ValueError(
                f"source_prior compares the {source_channels} channels of z_src with {self.config.out_channels} "
                "channels of output: give both the same number, or leave source_prior at 0."
            )
        self.register_to_config(
            source_channels=source_channels,
            residual_channels=residual_channels,
            image_tokens=image_tokens,
            image_embed_dim=image_embed_dim,
            source_prior=source_prior,
            position_embedding=position_embedding,
        )
        # wider than the stock layer, which was built for z_t alone; v' bypasses the convolution
        self.conv_in = EditConvIn(
            self.config.in_channels + source_channels,
            self.config.block_out_channels[0],
            kernel_size=self.config.conv_in_kernel,
            has_residual=residual_channels > 0,
            has_positions=position_embedding,
        )
        if source_prior:
            self.register_buffer("alphas_cumprod", torch.ones(TRAIN_TIMESTEPS))
        if image_tokens:
            self._add_image_branch(image_tokens, image_embed_dim)

    @classmethod
    def from_unet(
        cls,
        unet_or_folder: UNet2DConditionModel | str | Path,
        *,
        source_channels: int,
        residual_channels: int,
        image_tokens: int,
        image_embed_dim: int,
        source_prior: float = 0.0,
        alphas_cumprod: Tensor | None = None,
        position_embedding: bool | None = None,
        subfolder: str | None = None,
    ) -> EditUNet:
        """Start from a text-to-image UNet, an InstructPix2Pix UNet, or an `EditUNet` with fewer branches.

        Input channels that the given UNet does not have start at zero, image keys and values as copies of the
        text ones, the image projection at random. So the new UNet first does what the given one did.

        Args:
            unet_or_folder: a UNet, or a folder or hub id to load it from; its dtype is kept.
            source_channels: as the class's.
            residual_channels: as the class's.
            image_tokens: as the class's.
            image_embed_dim: as the class's.
            source_prior: see the class; the last convolution then starts at zero, so that the new UNet copies.
            alphas_cumprod: (1000,) of the noise schedule; needed with `source_prior`.
            position_embedding: see the class; None for what the given UNet has.
            subfolder: where the UNet lies inside the folder.

        Raises:
            ValueError: if the given UNet reads neither z_t alone nor [z_t, z_src].
        """
        unet = unet_or_folder
        if not isinstance(unet, UNet2DConditionModel):
            unet = cls.load_either(unet_or_folder, subfolder)
        # what it writes is z_t's; what it reads may already hold a source (InstructPix2Pix) or a mask (inpainting)
        latent_channels = unet.config.out_channels
        given_channels = unet.conv_in.in_channels
        if given_channels not in (latent_channels, latent_channels + source_channels):
            raise ValueError(
                f"the given UNet reads {given_channels} channels and writes {latent_channels}: from_unet "
                f"takes one that reads {latent_channels} (text-to-image) or "
                f"{latent_channels + source_channels} (with source latents). Use text-to-image or "
                "InstructPix2Pix weights, not an inpainting UNet."
            )
        if position_embedding is None:
            position_embedding = bool(unet.config.get("position_embedding"))
        # a given `EditUNet` tells its own settings, too: they are taken from the arguments instead
        config = {k: v for k, v in unet.config.items() if k in cls.stock_settings()}
        config.update(
            in_channels=latent_channels,
            source_channels=source_channels,
            residual_channels=residual_channels,
            image_tokens=image_tokens,
            image_embed_dim=image_embed_dim,
            source_prior=source_prior,
            position_embedding=position_embedding,
        )
        edit_unet = cls(**config)
        _copy_weights(unet, edit_unet)
        if source_prior and not unet.config.get("source_prior"):
            edit_unet.take_schedule(alphas_cumprod)
            nn.init.zeros_(edit_unet.conv_out.weight)  # it says that nothing changes
            nn.init.zeros_(edit_unet.conv_out.bias)
        return edit_unet if edit_unet.dtype == unet.dtype else edit_unet.to(unet.dtype)

    @classmethod
    def inputs_of(cls, config: Config) -> DenoiserInputs:
        """See `Denoiser`: v' joins behind `conv_in`, so it has that layer's channels."""
        with _open_unet(config) as folder:
            own: Any = cls.load_config(folder, subfolder="unet")
        return DenoiserInputs(own["cross_attention_dim"], own["block_out_channels"][0], image_embeds=True)

    @classmethod
    def build(
        cls, config: Config, *, latent_channels: int, image_embed_dim: int, alphas_cumprod: Tensor | None
    ) -> EditUNet:
        """See `Denoiser`."""
        bim, iaa = config.bridge.bim, config.bridge.iaa
        with _open_unet(config) as folder:
            unet = cls.from_unet(
                folder,
                subfolder="unet",
                source_channels=latent_channels,
                residual_channels=cls.inputs_of(config).residual_channels if bim else 0,
                image_tokens=iaa.image_tokens if iaa else 0,
                image_embed_dim=image_embed_dim,
                source_prior=config.generation.source_prior,
                alphas_cumprod=alphas_cumprod,
            )
        unet.set_image_prompt_scale(config.generation.image_prompt_scale)
        return unet

    @property
    def grid(self) -> int:
        """Cells that become one on the coarsest level, along one side."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        source_latents: Tensor,
        condition: EditCondition,
        *,
        mark_places: bool = False,
    ) -> NoisePrediction:
        """See `Denoiser`; a UNet marks no places."""
        residual = condition.spatial_residual
        embeds = condition.image_embeds
        # everything that stands beside z_t enters here once; attention reads text and image embedding at each level
        (noise,) = self(
            unet_input(noisy_latents.to(self.dtype), source_latents, residual, self.config.residual_channels),
            timesteps,
            encoder_hidden_states=condition.encoder_hidden_states.to(self.dtype),
            added_cond_kwargs=None if embeds is None else {"image_embeds": embeds},
            return_dict=False,
        )
        return NoisePrediction(noise)

    def forward(self, sample: Tensor, timestep: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        """As the stock UNet, on channels [z_t, z_src, v']; with `source_prior`, see `source_prediction`."""
        (output,) = super().forward(sample, timestep, *args, return_dict=False, **kwargs)
        # the layers have answered in deviations from a copy; what leaves is latents, as a scheduler of `sample` wants
        if self.config.source_prior:
            first, last = self.config.in_channels, self.config.in_channels + self.config.source_channels
            alpha = alpha_at(self.alphas_cumprod, timestep)
            output = source_prediction(
                output, sample[:, :first], sample[:, first:last], alpha, self.config.source_prior
            )
        return UNet2DConditionOutput(sample=output) if return_dict else (output,)

    def image_attentions(self) -> list[tuple[str, Attention]]:
        """The cross-attentions with an image branch, by name; none where the UNet has no image branch."""
        return [
            (name, module)
            for name, module in self.named_modules()
            if isinstance(module, Attention) and isinstance(module.processor, IMAGE_PROCESSORS)
        ]

    def set_image_prompt_scale(self, scale: float) -> None:
        """Weight lambda of the image attention (InsightEdit eq. 6); 0 is text-only attention, exactly."""
        for _, attention in self.image_attentions():
            # a list, because diffusers lets several image prompts share an attention
            attention.processor.scale = [float(scale)]

    def set_attn_processor(self, processor: Any) -> None:
        """As in diffusers, but image attentions, whose processor holds trained weights, keep it.

        So do they under all that diffusers builds on this: `set_default_attn_processor`, `fuse_qkv_projections`.
        An image attention takes another image processor only.
        """
        # diffusers replaces processors freely, and those of image attentions hold weights that would be lost
        with self._image_branch_kept():
            super().set_attn_processor(processor)

    def set_attention_slice(self, slice_size: str | int | list[int] | None = "auto") -> None:
        """As in diffusers, but image attentions, whose processor holds trained weights, are not sliced."""
        with self._image_branch_kept():
            super().set_attention_slice(slice_size)  # type: ignore[arg-type]

    def unfuse_qkv_projections(self) -> None:
        """As in diffusers, and the fused copies go, so that the UNet can be saved again."""
        super().unfuse_qkv_projections()
        for attention in (module for module in self.modules() if isinstance(module, Attention)):
            for copied in ("to_qkv", "to_kv"):
                if hasattr(attention, copied):
                    delattr(attention, copied)
            attention.fused_projections = False

    @contextmanager
    def _image_branch_kept(self) -> Iterator[None]:
        held = [(attention, attention.processor) for _, attention in self.image_attentions()]
        yield
        for attention, processor in held:
            if not isinstance(attention.processor, IMAGE_PROCESSORS):
                attention.set_processor(processor)

    def process_encoder_hidden_states(
        self, encoder_hidden_states: Tensor, added_cond_kwargs: dict[str, Any] | None
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Put the image prompt's tokens beside the text states, as the stock forward expects it.

        Args:
            encoder_hidden_states: (B, Q, D_text).
            added_cond_kwargs: may hold `image_embeds`: (B, D_img) or (B, 1, D_img), alone or in a list.

        Returns:
            The text states, or the pair of text states and list of (B, 1, N, D_text) image tokens.

        Raises:
            ValueError: if an image prompt is given to a UNet without image branch, or its shape does not fit.
        """
        image_embeds = (added_cond_kwargs or {}).get("image_embeds")
        if not self.config.image_tokens:
            if image_embeds is not None:
                raise ValueError(
                    "image_embeds was given to an EditUNet without image branch (image_tokens=0), which "
                    "cannot use it: leave image_embeds out, or build the UNet with image_tokens > 0."
                )
            return super().process_encoder_hidden_states(encoder_hidden_states, added_cond_kwargs)
        if image_embeds is None:  # no image tokens, which is not the same as tokens of a zero embedding
            return encoder_hidden_states, []
        return encoder_hidden_states, self.encoder_hid_proj([self._as_image_prompt(image_embeds)])

    def _check_sizes(self, residual_channels: int, image_tokens: int, image_embed_dim: int) -> None:
        width = self.config.block_out_channels[0]
        if residual_channels not in (0, width):
            raise ValueError(
                f"residual_channels is {residual_channels}, but v' is added to the output of conv_in, which "
                f"has block_out_channels[0] = {width} channels: use {width}, or 0 for no v'."
            )
        if image_tokens and image_embed_dim < 1:
            raise ValueError(
                f"image_tokens={image_tokens} needs image_embed_dim > 0, got {image_embed_dim}: "
                "give the width of the CLIP image embedding."
            )

    def _add_image_branch(self, image_tokens: int, image_embed_dim: int) -> None:
        cross_attention_dim = self.config.cross_attention_dim
        projection = ImageProjection(
            image_embed_dim=image_embed_dim,
            cross_attention_dim=cross_attention_dim,
            num_image_text_embeds=image_tokens,
        )
        # the Linear and the LayerNorm that InsightEdit draws behind IAA, as an IP-Adapter has them
        self.encoder_hid_proj = MultiIPAdapterImageProjection([projection])
        self.register_to_config(encoder_hid_dim_type="ip_image_proj")
        for attention in (m for m in self.modules() if isinstance(m, Attention) and m.is_cross_attention):
            attention.set_processor(
                IPAdapterAttnProcessor2_0(
                    hidden_size=attention.to_q.out_features,
                    cross_attention_dim=attention.to_k.in_features,
                    num_tokens=(image_tokens,),
                )
            )

    def _as_image_prompt(self, image_embeds: Tensor | list[Tensor]) -> Tensor:
        """(B, 1, D_img) of any accepted form."""
        if isinstance(image_embeds, list):
            (image_embeds,) = image_embeds
        if image_embeds.ndim == 2:
            image_embeds = image_embeds[:, None]
        if image_embeds.shape[1:] != (1, self.config.image_embed_dim):
            raise ValueError(
                f"image_embeds has shape {tuple(image_embeds.shape)}, expected "
                f"(B, {self.config.image_embed_dim}): one projected CLIP image embedding per sample, from "
                "the encoder that the UNet was built for."
            )
        return image_embeds


def _open_unet(config: Config) -> AbstractContextManager[str]:
    named = cast("UNetConfig", config.generation.denoiser).model
    key = "generation.denoiser.model" if named else "generation.model"
    what = "a folder whose unet/ fits this config" if named else "a Stable Diffusion pipeline in diffusers' format"
    return open_base_model(key, named or config.generation.model, what)


@torch.no_grad()
def _copy_weights(unet: UNet2DConditionModel, edit_unet: EditUNet) -> None:
    """Take over all that `unet` has, and start the rest as the papers do."""
    given = unet.state_dict()
    # new input channels start at zero: the source is seen as soon as training says so, and not before
    weight = given.pop("conv_in.weight")
    edit_unet.conv_in.weight.zero_()
    edit_unet.conv_in.weight[:, : weight.shape[1]] = weight
    missing, unexpected = edit_unet.load_state_dict(given, strict=False)
    new = set(missing) - {"conv_in.weight", "alphas_cumprod"}
    for name, attention in edit_unet.image_attentions():
        # a picture is first read as if it were text of the same width (IP-Adapter)
        for source, copies in ((attention.to_k, "to_k_ip"), (attention.to_v, "to_v_ip")):
            key = f"{name}.processor.{copies}.0.weight"
            if key in new:
                getattr(attention.processor, copies)[0].weight.copy_(source.weight)
                new.remove(key)
    # the image projection alone may be new and random; all else has to come from the given UNet
    unexplained = sorted(key for key in new if not key.startswith("encoder_hid_proj."))
    if unexpected or unexplained:
        raise ValueError(
            f"the given UNet does not fit: it has {sorted(unexpected)[:4]} too much and lacks "
            f"{unexplained[:4]}. Drop no branch that its weights hold."
        )
