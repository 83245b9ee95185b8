"""What makes a stock denoiser of diffusers read a source picture; the UNet and the transformer are built on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import Tensor

from insightedit.generation.denoiser import Denoiser
from insightedit.modeling.pretrained import load_pretrained
from insightedit.modeling.whole_model import WholeModel

TRAIN_TIMESTEPS = 1000


class SourceDenoiser(Denoiser, WholeModel):
    """A thin subclass of a stock model: every stock key keeps its name, so stock weights load.

    Attributes:
        stock: the stock class.
    """

    stock: ClassVar[Any]
    alphas_cumprod: Tensor

    @classmethod
    def stock_settings(cls) -> set[str]:
        """Names of the stock class's arguments."""
        return cls.stock._get_init_keys(cls.stock) - {"self"}

    @classmethod
    def load_either(cls, folder: str | Path, subfolder: str | None) -> Any:
        """A stock model or one of this class, whichever the folder or hub id holds."""
        saved_as = cls.load_config(folder, subfolder=subfolder).get("_class_name")
        return load_pretrained(cls if saved_as == cls.__name__ else cls.stock, folder, subfolder=subfolder)

    @staticmethod
    def _get_init_keys(input_class: Any) -> set[str]:
        """Config keys that a class is built from; diffusers would miss those behind `**stock_config`."""
        keys = ConfigMixin._get_init_keys(input_class)
        return keys | input_class.stock_settings() if issubclass(input_class, SourceDenoiser) else keys

    @torch.no_grad()
    def take_schedule(self, alphas_cumprod: Tensor | None) -> None:
        """Keep the noise schedule (1000,) that `source_prior` computes with.

        Raises:
            ValueError: if it is missing or has another length.
        """
        if alphas_cumprod is None or alphas_cumprod.shape != self.alphas_cumprod.shape:
            given = None if alphas_cumprod is None else tuple(alphas_cumprod.shape)
            raise ValueError(
                f"source_prior needs alphas_cumprod of {TRAIN_TIMESTEPS} timesteps, got {given}: give the noise "
                "scheduler's `alphas_cumprod`."
            )
        self.alphas_cumprod.copy_(alphas_cumprod)


def alpha_at(alphas_cumprod: Tensor, timestep: Tensor | float) -> Tensor:
    """The noise schedule's a at any timestep; between two whole ones, on the line from one to the other.

    Args:
        alphas_cumprod: (T,) of the training schedule.
        timestep: scalar or (B,), whole or not; what lies beyond the schedule counts as its end.

    Returns:
        (B, 1, 1, 1) float32, or (1, 1, 1, 1) of a scalar.
    """
    alphas = alphas_cumprod.float()
    # float32 holds whole timesteps exactly
    at = torch.as_tensor(timestep, device=alphas.device).float().clamp(0, len(alphas) - 1).reshape(-1, 1, 1, 1)
    low = at.floor().long()
    return torch.lerp(alphas[low], alphas[(low + 1).clamp(max=len(alphas) - 1)], at - low)


def source_prediction(
    output: Tensor, noisy_latents: Tensor, source_latents: Tensor, alpha: Tensor, prior: float | Tensor
) -> Tensor:
    """Latents from what the layers say, with the source as the first guess.

    If the edited latents were normal around the source's with deviation `prior` p, then after seeing
    z_t = sqrt(a) x + sqrt(1 - a) noise they would have mean z_src + K (z_t - sqrt(a) z_src) with
    K = sqrt(a) p^2 / (a p^2 + 1 - a), and deviation p sqrt((1 - a) / (a p^2 + 1 - a)). The layers say by how many
    deviations that guess is wrong; saying nothing copies the source.

    Args:
        output: (B, C, h, w) of the last layer.
        noisy_latents: (B, C, h, w) z_t.
        source_latents: (B, C, h, w) z_src.
        alpha: (B, 1, 1, 1) or (1, 1, 1, 1) a, cumulative product of the schedule, 0 to 1.
        prior: p > 0, latent units; a number, or (B, 1, 1, 1).

    Returns:
        (B, C, h, w) predicted latents (prediction type `sample`).

    Source: EDM preconditioning (Karras et al. 2022, section 5) with the source as the mean (ours).
    """
    variance = alpha * prior**2 + 1.0 - alpha  # of z_t around sqrt(a) z_src: the change's share and the noise's
    gain = alpha.sqrt() * prior**2 / variance  # near 1 without noise, where z_t tells the change; 0 in pure noise
    deviation = prior * ((1.0 - alpha) / variance).sqrt()  # 0 without noise: then nothing is left to say
    return source_latents + gain * (noisy_latents - alpha.sqrt() * source_latents) + deviation * output
