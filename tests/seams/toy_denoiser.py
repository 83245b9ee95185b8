"""A further denoiser, whole in one file: two convolutions and the mean of the text states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from insightedit.config.schema import DenoiserConfig
from insightedit.generation.denoiser import Denoiser, DenoiserInputs
from insightedit.types import EditCondition, NoisePrediction

TEXT_WIDTH = 32  # of the tiny CLIP


@dataclass
class ToySettings(DenoiserConfig):
    """What stands below `generation.denoiser` where the kind is the toy."""

    kind: str = "tests.seams.toy_denoiser:ToyDenoiser"
    hidden: int = 16


class ToyDenoiser(Denoiser, ModelMixin, ConfigMixin):
    """Draws, badly."""

    part = "transformer"
    settings = ToySettings

    @register_to_config
    def __init__(self, in_channels: int = 4, text_width: int = TEXT_WIDTH, hidden: int = 16) -> None:
        super().__init__()
        self.before = nn.Conv2d(2 * in_channels, hidden, 3, padding=1)
        self.words = nn.Linear(text_width, hidden)
        self.time = nn.Linear(1, hidden)
        self.after = nn.Conv2d(hidden, in_channels, 3, padding=1)

    @classmethod
    def inputs_of(cls, config: Any) -> DenoiserInputs:
        return DenoiserInputs(text_width=TEXT_WIDTH)

    @classmethod
    def build(cls, config: Any, *, latent_channels: int, image_embed_dim: int, alphas_cumprod: Any) -> ToyDenoiser:
        return cls(in_channels=latent_channels, hidden=config.generation.denoiser.hidden)

    @property
    def grid(self) -> int:
        return 1

    def forward(self, latents: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        times = timesteps.to(latents.dtype).expand(len(latents))[:, None] / 1000
        told = self.words(states.mean(dim=1)) + self.time(times)
        return self.after(torch.relu(self.before(latents) + told[..., None, None]))

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        source_latents: Tensor,
        condition: EditCondition,
        *,
        mark_places: bool = False,
    ) -> NoisePrediction:
        latents = torch.cat([noisy_latents, source_latents], dim=1).to(self.dtype)
        return NoisePrediction(self(latents, timesteps, condition.encoder_hidden_states.to(self.dtype)))
