"""Train the transformer that the `mige_mini` overlay starts from, as MIGE starts from PixArt-alpha.

It reads the noisy latents, the source's latents and T5 states of an instruction in which every reference is resolved
("remove the red fox at the top left"), so it learns to draw before anyone learns to read pictures within a text. A
quarter of each batch has a blank source and a caption instead: creation. The T5 encoder learns along from nothing.

As in `ip2p`, a linear head on the features half-way has to mark the patches that change; here it stays with the
transformer, whose further training uses it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel, DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, T5EncoderModel

from insightedit.comprehension.interleaved_prompts import TASK_PREFIXES
from insightedit.datasets.collate import changed_mask
from insightedit.generation.autoencoder import encode_source
from insightedit.generation.noise import changed_area_weights, draw_timesteps, noise_loss, relative_weights
from insightedit.generation.transformer import EditTransformer
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import TrainOptions
from insightedit.training.miniatures.pictures import Sampler, stack, to_vae_pixels
from insightedit.types import EditCondition

BATCH_SIZE = 16
OPTIONS = TrainOptions(steps=20_000, minutes=60.0, lr=5e-4, warmup_steps=200, ema_decay=0.998)
TEXT_LENGTH = 64  # tokens; the longest resolved instruction has fewer
SOURCE_PRIOR = 0.25  # see EditTransformer
CHANGED_AREA_WEIGHT = 4.0
CHANGE_FLOOR = 0.05  # mean squared latent change below which an edit does not count more
PLACE_WEIGHT = 1.0  # of the cross-entropy of the marked patches
MIN_TIMESTEP = 800  # below, the noisy latents show the answer, and one-step sampling never goes there
CREATION_SHARE = 4  # one sample in so many is drawn on a blank canvas
VAL_PAIRS = 128


class PixartPart:
    """`EditTransformer` of `<root>/pixart/transformer`; trains `<root>/t5` along.

    Args:
        root: folder of the miniature models; train `vae` first.
        train: training scenes.
        val: held-out scenes.
        batch_size: pairs a step.
    """

    name = "pixart"

    def __init__(self, root: Path, train: Sampler, val: Sampler, batch_size: int = BATCH_SIZE) -> None:
        self.root = root
        self.train, self.val, self.batch_size = train, val, batch_size
        self.vae = load_pretrained(AutoModel, str(root / "sd" / "vae")).requires_grad_(False)
        self.tokenizer = load_pretrained(AutoTokenizer, root / "t5")
        self.text_encoder = load_pretrained(T5EncoderModel, root / "t5")
        self.scheduler = load_pretrained(
            DDIMScheduler, root / "sd", subfolder="scheduler", prediction_type="sample", rescale_betas_zero_snr=True
        )
        self.transformer = EditTransformer.from_transformer(
            root / "pixart",
            subfolder="transformer",
            source_channels=self.vae.config.latent_channels,
            source_prior=SOURCE_PRIOR,
            place_head=True,
            alphas_cumprod=self.scheduler.alphas_cumprod,
        )
        self.model = nn.ModuleDict({"transformer": self.transformer, "text_encoder": self.text_encoder})
        self.hot_modules = [self.transformer]

    def batch(self, step: int) -> dict[str, Tensor]:
        """Sources and targets (B, 3, H, W) uint8, changed areas, which rows have a source, ids and mask (B, T)."""
        return self._pairs(self.train, step * self.batch_size, self.batch_size)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Error of the predicted target latents relative to a copy's, at one random timestep each."""
        steps = self.scheduler.config.num_train_timesteps
        timesteps = draw_timesteps(len(batch["input_ids"]), steps, generator, begin=MIN_TIMESTEP)
        losses = self._errors(batch, timesteps, generator)
        losses["loss"] = losses["loss"] + PLACE_WEIGHT * losses["place"]
        return losses

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out errors at the last timestep (pure noise) with the right text and with none; 1 is a copy."""
        device = self.transformer.device
        last = torch.full((VAL_PAIRS,), self.scheduler.config.num_train_timesteps - 1, device=device)
        scores = {}
        for name, silent in (("val", False), ("val_null", True)):
            pairs = self._pairs(self.val, 0, VAL_PAIRS, silent=silent)
            batch = {key: value.to(device) for key, value in pairs.items()}
            errors = self._errors(batch, last, torch.Generator(device).manual_seed(0))
            scores[name] = round(float(errors["loss"]), 5)
            scores[f"{name}_place"] = round(float(errors["place"]), 5)
        return scores

    def export(self) -> None:
        """Save the transformer as a PixArt pipeline's subfolder, and the text encoder with its tokenizer."""
        with replace_folder(self.root / "pixart") as folder:
            self.transformer.save_pretrained(folder / "transformer")
        with replace_folder(self.root / "t5") as folder:
            self.text_encoder.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _errors(self, batch: dict[str, Any], timesteps: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss`: squared error relative to a copy's; `place`: cross-entropy of the marked patches."""
        with torch.no_grad():
            pictures = to_vae_pixels(torch.cat([batch["sources"], batch["targets"]]))
            latents = encode_source(self.vae.to(pictures.device), pictures, scaled=True).float()
            source, target = latents.chunk(2)
            source = source * batch["has_source"][:, None, None, None]
            noise = torch.randn(target.shape, device=target.device, generator=generator)
            noisy = self.scheduler.add_noise(target, noise, timesteps)
            weights = changed_area_weights(batch["changed"], latent_size=target.shape[-2:], weight=CHANGED_AREA_WEIGHT)
            weights = relative_weights(source, target, weights, floor=CHANGE_FLOOR)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        states = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        condition = EditCondition(states, encoder_attention_mask=mask)
        prediction = self.transformer.predict(noisy, timesteps, source, condition, mark_places=True)
        marks = prediction.place_logits
        assert marks is not None  # built with a place head
        changed = F.adaptive_max_pool2d(batch["changed"], marks.shape[-2:])
        return {
            "loss": noise_loss(prediction.noise, target, weights),
            "place": F.binary_cross_entropy_with_logits(marks.float(), changed),
        }

    def _pairs(self, sampler: Sampler, first: int, count: int, *, silent: bool = False) -> dict[str, Tensor]:
        samples = [sampler[first + i] for i in range(count)]
        is_new = [i % CREATION_SHARE == CREATION_SHARE - 1 for i in range(count)]
        sources, targets = [s.source for s in samples], [s.target for s in samples]
        has_source = torch.tensor([float(not new) for new in is_new])
        changed = changed_mask(sources, targets)
        texts = [
            f"{TASK_PREFIXES['subject']} {s.caption_target}"
            if new
            else f"{TASK_PREFIXES['editing']} {s.expressive_instruction}"
            for s, new in zip(samples, is_new, strict=True)
        ]
        encoded = self.tokenizer(
            [""] * count if silent else texts,
            padding="max_length",
            max_length=TEXT_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        return {
            "sources": stack(sources),
            "targets": stack(targets),
            "changed": changed.masked_fill(has_source[:, None, None, None] == 0, 1.0),
            "has_source": has_source,
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
        }
