"""Train the autoencoder, then the text-to-image UNet.

The autoencoder: L1 + 0.5 MSE + a very small term that keeps the latents near unit size, on scenes; for an AutoencoderKL
the KL divergence, for a deterministic AutoencoderDC the latents' mean square. Sources are seen as they are; targets are
flipped and their colour channels permuted, so that the code book of colours and edges is wider than the scenes.

The UNet: v-prediction on the autoencoder's latents, conditioned on CLIP's text states.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from insightedit.generation.autoencoder import encode_source
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import (
    VAL_COUNT,
    Part,
    Sampler,
    TrainOptions,
    both_captions,
    both_images,
    padded,
    stack,
    to_vae_pixels,
)

DROP_CAPTION = 0.1  # share of captions replaced by the empty text, for classifier-free guidance
VAL_PICTURES = 128  # of the UNet
MSE_WEIGHT = 0.5
SIZE_WEIGHT = 1e-6  # enough to hold the latents' scale, too little to blur


class VaePart(Part):
    """The autoencoder of `<root>/sd/vae` and the scenes that train it."""

    name = "vae"
    options = TrainOptions(steps=4000, minutes=8.0, weight_decay=1e-4)
    hot: ClassVar = ("model.encoder", "model.decoder")

    def load(self) -> None:
        """See `Part`."""
        self.folder = self.root / "sd" / "vae"
        self.model = load_pretrained(AutoModel, str(self.folder))

    def batch(self, step: int) -> dict[str, Tensor]:
        """`pixels` (B, 3, H, W) uint8."""
        scenes = self.batch_size // 2
        samples = [self.train[step * scenes + i] for i in range(scenes)]
        random = np.random.default_rng([2, step])
        return {"pixels": stack([s.source for s in samples] + [_augment(s.target, random) for s in samples])}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and size terms; a posterior is sampled."""
        pixels = to_vae_pixels(batch["pixels"])
        encoded = self.model.encode(pixels)
        if hasattr(encoded, "latent"):
            latents = encoded.latent
            size = latents.float().square().mean()
        else:
            latents = encoded.latent_dist.sample(generator)
            size = encoded.latent_dist.kl().mean() / latents[0, 0].numel()
        decoded = self.model.decode(latents).sample.float()
        l1, mse = F.l1_loss(decoded, pixels), F.mse_loss(decoded, pixels)
        return {"loss": l1 + MSE_WEIGHT * mse + SIZE_WEIGHT * size, "l1": l1, "mse": mse, "size": size}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean PSNR in dB of the round trip, and the latents' scale."""
        psnr = round_trip_psnr(self.model, self.val, self.device)
        return {"psnr": round(psnr, 3), "scaling_factor": self.model.config.scaling_factor}

    @torch.no_grad()
    def export(self) -> None:
        """Save with `scaling_factor` = 1 / deviation of the latents, which the UNet expects to be about one."""
        latents = encode_source(self.model, _val_pixels(self.val, 0, 64).to(self.device), scaled=False)
        self.model.register_to_config(scaling_factor=round(1.0 / max(1e-6, float(latents.std())), 5))
        with replace_folder(self.folder) as folder:
            self.model.save_pretrained(folder)


def round_trip_psnr(autoencoder: Any, val: Sampler, device: torch.device) -> float:
    """Mean PSNR in dB on held-out sources and targets, in float32, latents by the mode, output rounded to 8 bit."""
    scores = []
    for first in range(0, VAL_COUNT, 32):
        pixels = _val_pixels(val, first, 32).to(device)
        decoded = autoencoder.decode(encode_source(autoencoder, pixels, scaled=False)).sample
        decoded = ((decoded.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        mse = (decoded - pixels).square().mean(dim=(1, 2, 3)) / 4.0  # of values in [0, 1]
        scores.append(-10.0 * mse.clamp_min(1e-10).log10())  # a perfect image has 100 dB, or no mean would be finite
    return float(torch.cat(scores).mean())


def _val_pixels(val: Sampler, first: int, count: int) -> Tensor:
    return to_vae_pixels(both_images([val[first // 2 + i] for i in range(count // 2)]))


def _augment(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8, mirrored, turned upside down and its channels permuted by chance."""
    picture = picture[:, ::-1] if random.random() < 0.5 else picture
    picture = picture[::-1] if random.random() < 0.25 else picture
    return picture[:, :, random.permutation(3)] if random.random() < 0.5 else picture


class SdPart(Part):
    """UNet2DConditionModel of `<root>/sd/unet`; autoencoder and text tower stay frozen."""

    name = "sd"
    options = TrainOptions(steps=4000, minutes=6.0, lr=8e-4, ema_decay=0.995)
    images = 2

    def load(self) -> None:
        """See `Part`."""
        self.folder = self.root / "sd"
        self.model = load_pretrained(UNet2DConditionModel, self.folder, subfolder="unet")
        self.vae = load_pretrained(AutoModel, str(self.folder / "vae")).requires_grad_(False)
        self.text_encoder = load_pretrained(CLIPTextModel, self.folder, subfolder="text_encoder").requires_grad_(False)
        self.tokenizer = load_pretrained(CLIPTokenizer, self.folder, subfolder="tokenizer")
        self.scheduler = load_pretrained(DDIMScheduler, self.folder, subfolder="scheduler")
        self.null_ids = self._ids([""])

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error of the velocity at a uniform random timestep."""
        ids, device = batch["input_ids"], batch["input_ids"].device
        dropped = torch.rand(ids.shape[0], 1, device=device, generator=generator) < DROP_CAPTION
        ids = torch.where(dropped, self.null_ids.to(device), ids)
        steps = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(steps, (ids.shape[0],), device=device, generator=generator)
        error = self._error(batch["pictures"], ids, timesteps, generator)
        return {"loss": error.mean()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out error with the right captions and with the empty text, at 16 timesteps spread evenly."""
        device = self.device
        batch = self.held_out(VAL_PICTURES)
        timesteps = torch.linspace(30, self.scheduler.config.num_train_timesteps - 1, 16, device=device).long()
        timesteps = timesteps.repeat(VAL_PICTURES // 16)
        scores = {}
        # the same noise for both, so that their difference is what the caption tells
        for name, ids in (("val_error", batch["input_ids"]), ("val_error_null", self.null_ids.to(device))):
            ids = ids.expand(VAL_PICTURES, -1)
            error = self._error(batch["pictures"], ids, timesteps, torch.Generator(device).manual_seed(0))
            scores[name] = round(float(error.mean()), 5)
        return scores

    def export(self) -> None:
        """Save the UNet where the stock pipeline looks for it."""
        with replace_folder(self.folder / "unet") as folder:
            self.model.save_pretrained(folder)

    def _error(self, pictures: Tensor, ids: Tensor, timesteps: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) float32 mean squared velocity errors."""
        with torch.no_grad():
            latents = encode_source(self.vae.to(pictures.device), to_vae_pixels(pictures), scaled=True).float()
            states = self.text_encoder.to(ids.device)(ids).last_hidden_state
            noise = torch.randn(latents.shape, device=latents.device, generator=generator)
            noisy = self.scheduler.add_noise(latents, noise, timesteps)
            velocity = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.model(noisy, timesteps, encoder_hidden_states=states).sample.float()
        return F.mse_loss(predicted, velocity, reduction="none").mean(dim=(1, 2, 3))

    def rows(self, samples: list[Any], first: int) -> dict[str, Tensor]:
        """`pictures` (B, 3, H, W) uint8 and `input_ids` (B, Q) int64, padded to the text tower's positions."""
        return {"pictures": both_images(samples), "input_ids": self._ids(both_captions(samples))}

    def _ids(self, captions: list[str]) -> Tensor:
        return padded(self.tokenizer, captions, self.text_encoder.config.max_position_embeddings).input_ids
