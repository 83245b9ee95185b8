"""What an editor asks of the model that draws; a further one is a file with a subclass of `Denoiser`.

`insightedit.generation.unet` and `insightedit.generation.transformer` are the two worked examples.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from insightedit.modeling.offloading import unwrapped
from insightedit.types import EditCondition, NoisePrediction

if TYPE_CHECKING:
    from insightedit.config.schema import Config


@dataclass(frozen=True)
class DenoiserInputs:
    """What a denoiser can be conditioned on; the bridge is built to it."""

    text_width: int  # D_text, of the text states that its cross-attention reads
    residual_channels: int = 0  # C_res of v' (BIM); 0 takes none
    image_embeds: bool = False  # whether it takes a CLIP image embedding (IAA)
    visual_width: int = 0  # of `patch_features`, which feature fusion reads; 0 where there are none


class Denoiser:
    """Draws: predicts the noise in z_t, given the source's latents and a condition. A mixin of diffusers models.

    Attributes:
        part: its folder in a model folder, and its name in an editor, as diffusers calls it.
    """

    part: ClassVar[str] = "transformer"
    config: Any
    dtype: torch.dtype

    @classmethod
    @abstractmethod
    def inputs_of(cls, config: Config) -> DenoiserInputs:
        """What the model that a config names takes; its weights are not read, stage 1 has no use for them."""

    @classmethod
    @abstractmethod
    def build(
        cls, config: Config, *, latent_channels: int, image_embed_dim: int, alphas_cumprod: Tensor | None
    ) -> Any:
        """The denoiser of a config, from its base model.

        Args:
            config: whole config.
            latent_channels: C, of the autoencoder.
            image_embed_dim: D_img of the image embedding; 0 without an image branch.
            alphas_cumprod: (1000,) of the noise schedule; None where the objective has none.
        """

    @property
    @abstractmethod
    def grid(self) -> int:
        """Latent cells, along one side, that a picture's latents have to be a multiple of."""

    @abstractmethod
    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        source_latents: Tensor,
        condition: EditCondition,
        *,
        mark_places: bool = False,
    ) -> NoisePrediction:
        """One call.

        Args:
            noisy_latents: (B, C, h, w) z_t, scaled as the scheduler wants it.
            timesteps: (B,), or a scalar for the whole batch.
            source_latents: (B, C_src, h, w) z_src; zeros where the picture is dropped, and for a blank canvas.
            condition: of B samples.
            mark_places: also say which patches change, if it was built with a place head; only training asks.

        Returns:
            The prediction, in the scheduler's prediction type and the denoiser's dtype.

        Raises:
            ValueError: if the condition holds what this denoiser does not take.
        """

    def patch_features(self, latents: Tensor) -> Tensor:
        """(N, C, h, w) unscaled latents -> (N, P, visual_width), what feature fusion reads of a picture."""
        raise NotImplementedError(f"{type(self).__name__} gives no patch features.")

    def set_image_prompt_scale(self, scale: float) -> None:
        """Weight lambda of the image embedding; nothing where there is no image branch."""


def predict(
    denoiser: Any, noisy_latents: Tensor, timesteps: Tensor, source_latents: Tensor, condition: EditCondition
) -> Tensor:
    """`Denoiser.predict` of one that may be compiled or behind peft: (B, C, h, w) noise."""
    # bound to the wrapper, so that the forward pass inside is the compiled one
    own = type(unwrapped(denoiser)).predict
    return own(denoiser, noisy_latents, timesteps, source_latents, condition).noise
