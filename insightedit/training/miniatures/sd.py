"""Train the text-to-image UNet: v-prediction on the autoencoder's latents, conditioned on CLIP's text states."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from insightedit.generation.autoencoder import encode_source
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import Part, TrainOptions
from insightedit.training.miniatures.pictures import both_captions, both_images, padded, to_vae_pixels

DROP_CAPTION = 0.1  # share of captions replaced by the empty text, for classifier-free guidance
VAL_PICTURES = 128


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
