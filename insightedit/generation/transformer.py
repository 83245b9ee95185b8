"""EditTransformer: the stock PixArt transformer with a source picture as further input.

A thin subclass. Every stock key keeps its name, so stock weights load; the first layer alone is wider.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from diffusers import PixArtTransformer2DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from einops import rearrange
from torch import Tensor, nn

from insightedit.config.load import ConfigError
from insightedit.generation.denoiser import DenoiserInputs
from insightedit.generation.source_denoiser import TRAIN_TIMESTEPS, SourceDenoiser, alpha_at, source_prediction
from insightedit.modeling.offloading import in_forward
from insightedit.modeling.pretrained import open_base_model
from insightedit.types import EditCondition, NoisePrediction

if TYPE_CHECKING:
    from insightedit.config.schema import Config, PixArtConfig

PIXART = "a PixArt pipeline (transformer/)"
PLACE_KEYS = ("place_out.weight", "place_out.bias")
BLANK_PRIOR = 1.0  # latents of a whole picture have about unit variance


class EditTransformer(SourceDenoiser, PixArtTransformer2DModel):
    """Denoiser of [z_t, z_src] by text states of any length, with a mask over them.

    `config.in_channels` stays the number of channels of z_t. `forward` has the stock signature and output: with a
    learned variance that is 2 * in_channels channels, the noise and then the variance. `predict` gives the noise
    alone: training leaves the variance half as it was loaded, and DPM-Solver++ never reads it.

    Args:
        source_channels: channels of z_src, the source picture's latents.
        source_prior: expected size of the change in latent units; above 0 the output is the predicted latents,
            composed by `source_prediction` (ours, for a transformer trained from nothing and scheduler prediction
            type `sample`). A sample with a blank source is expected to differ from it by a whole picture.
        place_head: build a linear layer that reads from the features half-way which patches change; only training
            uses it (ours).
        **stock_config: the arguments of `diffusers.PixArtTransformer2DModel`.

    Raises:
        ValueError: if `source_channels` is negative.

    Source: MIGE, section 3.1.2.
    """

    stock: ClassVar[Any] = PixArtTransformer2DModel

    def __init__(
        self, *, source_channels: int = 4, source_prior: float = 0.0, place_head: bool = False, **stock_config: Any
    ) -> None:
        super().__init__(**stock_config)
        if source_channels < 0:
            raise ValueError(
                f"source_channels is {source_channels}: give the number of the autoencoder's latent channels, 0 for "
                "no source."
            )
        self.register_to_config(source_channels=source_channels, source_prior=source_prior, place_head=place_head)
        # the patch embedder alone is wider; positions are added behind it and stay
        stock = self.pos_embed.proj
        self.pos_embed.proj = nn.Conv2d(
            stock.in_channels + source_channels, stock.out_channels, stock.kernel_size, stock.stride
        )
        if source_prior:
            self.register_buffer("alphas_cumprod", torch.ones(TRAIN_TIMESTEPS))
        self.place_out: nn.Linear | None = None
        if place_head:  # it marks nothing yet, the same in every run, and draws no random number
            self.place_out = nn.utils.skip_init(nn.Linear, self.inner_dim, 1)  # type: ignore[assignment]
            for zero in self.place_out.parameters():
                nn.init.zeros_(zero)

    @classmethod
    def from_transformer(
        cls,
        transformer_or_folder: PixArtTransformer2DModel | str | Path,
        *,
        source_channels: int,
        source_prior: float = 0.0,
        place_head: bool = False,
        alphas_cumprod: Tensor | None = None,
        subfolder: str | None = None,
    ) -> EditTransformer:
        """Start from a text-to-image transformer, or from one that reads a source already.

        Input channels and a place head that the given one does not have start at zero, so the new one first does
        what it did.

        Args:
            transformer_or_folder: a transformer, or a folder or hub id to load it from; its dtype is kept.
            source_channels: as the class's.
            source_prior: as the class's.
            place_head: as the class's.
            alphas_cumprod: (1000,) of the noise schedule; needed with `source_prior`.
            subfolder: where the transformer lies inside the folder.

        Raises:
            ValueError: if the given transformer reads neither z_t alone nor [z_t, z_src], or the noise schedule is
                missing.
        """
        given = transformer_or_folder
        if not isinstance(given, PixArtTransformer2DModel):
            given = cls.load_either(given, subfolder)
        weights = given.state_dict()
        projection = weights.pop("pos_embed.proj.weight")
        channels = given.config.in_channels
        if projection.shape[1] not in (channels, channels + source_channels):
            raise ValueError(
                f"the given transformer reads {projection.shape[1]} channels, {channels} of them noisy latents: "
                f"from_transformer takes one that reads {channels} (text-to-image) or {channels + source_channels} "
                "(with source latents)."
            )
        config = {key: value for key, value in given.config.items() if key in cls.stock_settings()}
        new = cls(source_channels=source_channels, source_prior=source_prior, place_head=place_head, **config)
        new = new if new.dtype == given.dtype else new.to(given.dtype)
        with torch.no_grad():
            widened = torch.zeros_like(new.pos_embed.proj.weight)
            widened[:, : projection.shape[1]] = projection
        weights["pos_embed.proj.weight"] = widened
        weights.pop("alphas_cumprod", None)
        if source_prior:
            new.take_schedule(alphas_cumprod)
            weights["alphas_cumprod"] = new.alphas_cumprod
        # of a place head: what the given one has of it, else what the new one has, or neither
        weights = {key: value for key, value in weights.items() if key not in PLACE_KEYS or place_head}
        head = {key: value for key, value in new.state_dict().items() if key in PLACE_KEYS}
        new.load_state_dict(head | weights)
        if source_prior and not given.config.get("source_prior"):
            nn.init.zeros_(new.proj_out.weight)  # it says that nothing changes
            nn.init.zeros_(new.proj_out.bias)
        return new

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        *args: Any,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As the stock transformer, on channels [z_t, z_src]; with `source_prior` it gives latents alone."""
        layers = super().forward
        (output,) = layers(
            hidden_states.to(self.dtype), encoder_hidden_states, timestep, *args, return_dict=False, **kwargs
        )
        if self.config.source_prior:
            channels = self.config.in_channels
            noisy, source = hidden_states.split([channels, self.config.source_channels], dim=1)
            # no source to start from (a subject drawn on a blank canvas): a whole picture is to be expected
            is_blank = (source == 0).flatten(1).all(dim=1)[:, None, None, None]
            prior = torch.where(is_blank, BLANK_PRIOR, self.config.source_prior)
            alpha = alpha_at(self.alphas_cumprod, timestep)
            # of a learned variance, which follows the latents, nothing is read
            output = source_prediction(output[:, :channels], noisy, source, alpha, prior)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    @classmethod
    def inputs_of(cls, config: Config) -> DenoiserInputs:
        """See `Denoiser`: text states of any length, nothing else; and patch features for fusion."""
        part = cast("PixArtConfig", config.generation.denoiser)
        with open_base_model("generation.denoiser.model", part.model, PIXART) as folder:
            own: Any = cls.load_config(folder, subfolder="transformer")
        width = own["num_attention_heads"] * own["attention_head_dim"]
        return DenoiserInputs(text_width=own["caption_channels"], visual_width=width)

    @classmethod
    def build(
        cls, config: Config, *, latent_channels: int, image_embed_dim: int, alphas_cumprod: Tensor | None
    ) -> EditTransformer:
        """See `Denoiser`.

        Raises:
            ConfigError: if the base model denoises other latents than the autoencoder makes.
        """
        generation, part = config.generation, cast("PixArtConfig", config.generation.denoiser)
        with open_base_model("generation.denoiser.model", part.model, PIXART) as folder:
            transformer = cls.from_transformer(
                folder,
                subfolder="transformer",
                source_channels=latent_channels,
                source_prior=generation.source_prior,
                place_head=part.place_head,
                alphas_cumprod=alphas_cumprod,
            )
        if transformer.config.in_channels != latent_channels:
            raise ConfigError(
                f"generation.denoiser.model {part.model} denoises {transformer.config.in_channels} channels, the "
                f"autoencoder of generation.model {generation.model} has {latent_channels}: name two that belong "
                "together."
            )
        return transformer

    @property
    def grid(self) -> int:
        """Cells of one patch, along one side."""
        return self.config.patch_size

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        source_latents: Tensor,
        condition: EditCondition,
        *,
        mark_places: bool = False,
    ) -> NoisePrediction:
        """See `Denoiser`; a place head marks (B, 1, h / patch, w / patch) logits."""
        if condition.spatial_residual is not None or condition.image_embeds is not None:
            raise ValueError(
                "the condition holds v' or an image embedding, which a transformer has no place for: build the "
                "bridge without BIM and IAA (bridge.fusion)."
            )
        with self._half_way(mark_places) as features:
            (output,) = self(
                torch.cat([noisy_latents, source_latents], dim=1),
                encoder_hidden_states=condition.encoder_hidden_states.to(self.dtype),
                timestep=timesteps.expand(len(noisy_latents)),  # a sampler gives one for all
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},  # stock forward asks for the keys
                encoder_attention_mask=condition.encoder_attention_mask,
                return_dict=False,
            )
        noise = output[:, : self.config.in_channels]  # a learned variance follows, which nothing here reads
        if not features or self.place_out is None:
            return NoisePrediction(noise)
        width = noise.shape[-1] // self.config.patch_size
        return NoisePrediction(noise, rearrange(self.place_out(features[0]), "b (h w) c -> b c h w", w=width))

    def patch_features(self, latents: Tensor) -> Tensor:
        """Latents as this transformer's own patch embedder sees them, without position: a picture's visual features.

        (N, C, h, w), as the autoencoder gives them, not scaled -> (N, P, D), P = (h / patch) * (w / patch).

        Source: MIGE's released code: the channels of the source are zeros here.
        """
        blank = latents.new_zeros(len(latents), self.config.source_channels, *latents.shape[2:])
        # a part of the model runs outside its forward: an offloaded one has to be brought first
        with in_forward(self):
            patches = self.pos_embed.proj(torch.cat([latents, blank], dim=1).to(self.dtype))
        return patches.flatten(2).transpose(1, 2)

    @contextmanager
    def _half_way(self, wanted: bool) -> Iterator[list[Tensor]]:
        """Collect the features (B, P, D) behind the block half-way, where a place head wants them."""
        features: list[Tensor] = []
        if self.place_out is None or not wanted:
            yield features
            return
        # early enough to steer the second half, late enough to have read the text
        block = self.transformer_blocks[len(self.transformer_blocks) // 2]
        hook = block.register_forward_hook(lambda module, given, output: features.append(output))
        try:
            yield features
        finally:
            hook.remove()
