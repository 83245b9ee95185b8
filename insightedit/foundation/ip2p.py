"""Train the editing UNet that the three stages start from, as the papers start from InstructPix2Pix.

It reads the noisy latents, the source's latents and CLIP text states of an instruction in which every reference is
resolved ("remove the red fox at the top left"), so it learns to draw before anyone learns to understand. Stage 1 then
teaches the Q-Former to say just these states.

The text tower learns along for the first `TEXT_STEPS` steps and is frozen from then on, so that stage 1 has a fixed
target while the UNet goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from insightedit.data.collate import changed_mask
from insightedit.foundation.folders import replace_folder
from insightedit.foundation.loop import TrainOptions
from insightedit.foundation.pictures import Sampler, stack, to_vae_pixels
from insightedit.generation.autoencoder import encode_source
from insightedit.generation.noise import changed_area_weights, draw_timesteps, noise_loss
from insightedit.generation.unet import EditUNet

BATCH_SIZE = 16
OPTIONS = TrainOptions(steps=20_000, minutes=60.0, lr=8e-4, warmup_steps=100, ema_decay=0.998)
TEXT_STEPS = 1600  # the text tower is frozen from here on
SOURCE_PRIOR = 0.25  # see EditUNet
CHANGED_AREA_WEIGHT = 4.0
MIN_TIMESTEP = 400  # below, the noisy latents already show the answer; few-step sampling never goes there
DROP_TEXT = 0.03  # share of empty texts, for classifier-free guidance
VAL_PAIRS = 128


class Ip2pPart:
    """`EditUNet` of `<root>/ip2p/unet`, started from `<root>/sd/unet`; trains `<root>/sd/text_encoder` along.

    Args:
        root: folder of the miniature models; train `clip` and `vae` first.
        train: training scenes.
        val: held-out scenes.
        batch_size: pairs a step.
    """

    name = "ip2p"

    def __init__(self, root: Path, train: Sampler, val: Sampler, batch_size: int = BATCH_SIZE) -> None:
        self.root = root
        self.train, self.val, self.batch_size = train, val, batch_size
        folder = root / "sd"
        self.vae = AutoModel.from_pretrained(str(folder / "vae")).requires_grad_(False)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        self.scheduler = DDIMScheduler.from_pretrained(
            folder, subfolder="scheduler", prediction_type="sample", rescale_betas_zero_snr=True
        )
        self.unet = EditUNet.from_unet(
            folder,
            subfolder="unet",
            source_channels=self.vae.config.latent_channels,
            residual_channels=0,
            image_tokens=0,
            image_embed_dim=0,
            source_prior=SOURCE_PRIOR,
            alphas_cumprod=self.scheduler.alphas_cumprod,
            position_embedding=True,
        )
        self.text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
        self.model = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})
        self.hot_modules = [self.unet]
        self.null_ids = self._ids([""])

    def batch(self, step: int) -> dict[str, Any]:
        """Sources and targets (B, 3, H, W) uint8, changed areas, token ids (B, Q), and whether the text tower learns."""
        pairs = self._pairs(self.train, step * self.batch_size, self.batch_size)
        return {**pairs, "train_text": step < TEXT_STEPS}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Squared error of the predicted target latents, changed areas weighted, at one random timestep each."""
        ids, device = batch["input_ids"], batch["input_ids"].device
        dropped = torch.rand(len(ids), 1, device=device, generator=generator) < DROP_TEXT
        ids = torch.where(dropped, self.null_ids.to(device), ids)
        steps = self.scheduler.config.num_train_timesteps
        timesteps = draw_timesteps(len(ids), steps, generator, begin=MIN_TIMESTEP)
        with torch.set_grad_enabled(batch["train_text"]):
            states = self.text_encoder(ids).last_hidden_state
        return self._errors(batch, states, timesteps, generator)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out errors at the last timestep (pure noise): right text, empty text, and a mere copy of the source."""
        device = self.unet.device
        batch = {k: v.to(device) for k, v in self._pairs(self.val, 0, VAL_PAIRS).items()}
        last = torch.full((VAL_PAIRS,), self.scheduler.config.num_train_timesteps - 1, device=device)
        scores = {}
        for name, ids in (("val", batch["input_ids"]), ("val_null", self.null_ids.to(device))):
            states = self.text_encoder(ids.expand(VAL_PAIRS, -1)).last_hidden_state
            errors = self._errors(batch, states, last, torch.Generator(device).manual_seed(0))
            scores[name], scores["val_copy"] = round(float(errors["loss"]), 5), round(float(errors["copy"]), 5)
        return scores

    def export(self) -> None:
        """Save the UNet as an editing pipeline's subfolder, and the text tower beside the autoencoder."""
        with replace_folder(self.root / "ip2p" / "unet") as folder:
            self.unet.save_pretrained(folder)
        with replace_folder(self.root / "sd" / "text_encoder") as folder:
            self.text_encoder.save_pretrained(folder)

    def _errors(
        self, batch: dict[str, Any], states: Tensor, timesteps: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Weighted squared errors of the prediction (`loss`) and of the source itself (`copy`)."""
        with torch.no_grad():
            pictures = to_vae_pixels(torch.cat([batch["sources"], batch["targets"]]))
            latents = encode_source(self.vae.to(pictures.device), pictures, scaled=True).float()
            source, target = latents.chunk(2)
            noise = torch.randn(target.shape, device=target.device, generator=generator)
            noisy = self.scheduler.add_noise(target, noise, timesteps)
            weights = changed_area_weights(
                batch["changed"], latent_size=target.shape[-2:], weight=CHANGED_AREA_WEIGHT
            )
        prediction = self.unet(
            torch.cat([noisy, source], dim=1), timesteps, encoder_hidden_states=states
        ).sample
        return {
            "loss": noise_loss(prediction, target, weights),
            "copy": noise_loss(source, target, weights),
        }

    def _pairs(self, sampler: Sampler, first: int, count: int) -> dict[str, Tensor]:
        samples = [sampler[first + i] for i in range(count)]
        sources, targets = [s.source for s in samples], [s.target for s in samples]
        return {
            "sources": stack(sources),
            "targets": stack(targets),
            "changed": changed_mask(sources, targets),
            "input_ids": self._ids([s.expressive_instruction for s in samples]),
        }

    def _ids(self, texts: list[str]) -> Tensor:
        length = self.text_encoder.config.max_position_embeddings
        return self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
