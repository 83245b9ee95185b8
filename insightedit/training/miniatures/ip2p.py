"""Train the editing UNet that the three stages start from, as the papers start from InstructPix2Pix.

It reads the noisy latents, the source's latents and CLIP text states of an instruction in which every reference is
resolved ("remove the red fox at the top left"), so it learns to draw before anyone learns to understand. Stage 1 then
teaches the Q-Former to say just these states.

Besides drawing, a linear head on the decoder's coarse features has to mark the cells that change; it is thrown away
afterwards. Where to edit is a yes-or-no question that the drawing error asks only in passing (ours).

The text tower learns along for the first `TEXT_STEPS` steps and is frozen from then on, so that stage 1 has a fixed
target while the UNet goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel, DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from insightedit.datasets.collate import changed_mask
from insightedit.generation.autoencoder import encode_source
from insightedit.generation.noise import changed_area_weights, draw_timesteps, noise_loss, relative_weights
from insightedit.generation.unet import EditUNet
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import TrainOptions
from insightedit.training.miniatures.pictures import Sampler, stack, to_vae_pixels

BATCH_SIZE = 16
OPTIONS = TrainOptions(steps=20_000, minutes=60.0, lr=8e-4, warmup_steps=100, ema_decay=0.998)
TEXT_STEPS = 1000  # the text tower is frozen from here on
SOURCE_PRIOR = 0.25  # see EditUNet
CHANGED_AREA_WEIGHT = 4.0
CHANGE_FLOOR = 0.05  # mean squared latent change below which an edit does not count more
PLACE_WEIGHT = 1.0  # of the cross-entropy of the marked cells
MIN_TIMESTEP = 800  # below, the noisy latents show the answer, and one-step sampling never goes there
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
        self.vae = load_pretrained(AutoModel, str(folder / "vae")).requires_grad_(False)
        self.tokenizer = load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")
        self.scheduler = load_pretrained(
            DDIMScheduler, folder, subfolder="scheduler", prediction_type="sample", rescale_betas_zero_snr=True
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
        self.text_encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder")
        decoder = self.unet.up_blocks[0]
        self.model = nn.ModuleDict(
            {
                "unet": self.unet,
                "text_encoder": self.text_encoder,
                "place": nn.Conv2d(self.unet.config.block_out_channels[-1], 1, kernel_size=1),
            }
        )
        for parameter in self.model["place"].parameters():  # undecided, the same in every run
            nn.init.zeros_(parameter)
        self._features: Tensor | None = None
        decoder.register_forward_hook(self._keep_features)
        self.hot_modules = [self.unet]
        self.null_ids = self._ids([""])

    def batch(self, step: int) -> dict[str, Any]:
        """Sources and targets (B, 3, H, W) uint8, changed areas, token ids (B, Q); does the text tower learn?"""
        pairs = self._pairs(self.train, step * self.batch_size, self.batch_size)
        return {**pairs, "train_text": step < TEXT_STEPS}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Error of the predicted target latents relative to a copy's, at one random timestep each."""
        ids, device = batch["input_ids"], batch["input_ids"].device
        dropped = torch.rand(len(ids), 1, device=device, generator=generator) < DROP_TEXT
        ids = torch.where(dropped, self.null_ids.to(device), ids)
        steps = self.scheduler.config.num_train_timesteps
        timesteps = draw_timesteps(len(ids), steps, generator, begin=MIN_TIMESTEP)
        with torch.set_grad_enabled(batch["train_text"]):
            states = self.text_encoder(ids).last_hidden_state
        losses = self._errors(batch, states, timesteps, generator)
        losses["loss"] = losses["loss"] + PLACE_WEIGHT * losses["place"]
        return losses

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out errors at the last timestep (pure noise) with the right text and with the empty one; 1 is a copy."""
        device = self.unet.device
        batch = {k: v.to(device) for k, v in self._pairs(self.val, 0, VAL_PAIRS).items()}
        last = torch.full((VAL_PAIRS,), self.scheduler.config.num_train_timesteps - 1, device=device)
        scores = {}
        for name, ids in (("val", batch["input_ids"]), ("val_null", self.null_ids.to(device))):
            states = self.text_encoder(ids.expand(VAL_PAIRS, -1)).last_hidden_state
            errors = self._errors(batch, states, last, torch.Generator(device).manual_seed(0))
            scores[name] = round(float(errors["loss"]), 5)
            scores[f"{name}_place"] = round(float(errors["place"]), 5)
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
        """`loss`: squared error relative to a copy's; `place`: cross-entropy of the marked cells."""
        with torch.no_grad():
            pictures = to_vae_pixels(torch.cat([batch["sources"], batch["targets"]]))
            latents = encode_source(self.vae.to(pictures.device), pictures, scaled=True).float()
            source, target = latents.chunk(2)
            noise = torch.randn(target.shape, device=target.device, generator=generator)
            noisy = self.scheduler.add_noise(target, noise, timesteps)
            weights = changed_area_weights(batch["changed"], latent_size=target.shape[-2:], weight=CHANGED_AREA_WEIGHT)
            weights = relative_weights(source, target, weights, floor=CHANGE_FLOOR)
        prediction = self.unet(torch.cat([noisy, source], dim=1), timesteps, encoder_hidden_states=states).sample
        marks = self.model["place"](self._features)
        changed = F.adaptive_max_pool2d(batch["changed"], marks.shape[-2:])
        return {
            "loss": noise_loss(prediction, target, weights),
            "place": F.binary_cross_entropy_with_logits(marks.float(), changed),
        }

    def _keep_features(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._features = output

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
