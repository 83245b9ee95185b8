"""What the two miniatures that edit have in common: pairs of scenes, and the error of the target's latents.

They read the noisy latents, the source's latents and text states of an instruction in which every reference is
resolved ("remove the red fox at the top left"), so they learn to draw before anyone learns to understand.

Besides drawing, a linear head on coarse features has to mark the cells that change. Where to edit is a yes-or-no
question that the drawing error asks only in passing (ours).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel, DDIMScheduler
from torch import Tensor
from torch.nn import functional as F

from insightedit.datasets.loader import changed_mask
from insightedit.generation.autoencoder import encode_source
from insightedit.generation.noise import changed_area_weights, draw_timesteps, noise_loss, relative_weights
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import Part
from insightedit.training.miniatures.pictures import Sampler, stack, to_vae_pixels

SOURCE_PRIOR = 0.25  # see EditUNet and EditTransformer
CHANGED_AREA_WEIGHT = 4.0
CHANGE_FLOOR = 0.05  # mean squared latent change below which an edit does not count more
PLACE_WEIGHT = 1.0  # of the cross-entropy of the marked cells
MIN_TIMESTEP = 800  # below, the noisy latents show the answer, and one-step sampling never goes there
VAL_PAIRS = 128


class EditingPart(Part):
    """A denoiser that edits; subclasses load it, tokenize for it and call it."""

    def load_latent_space(self, folder: Path) -> None:
        """The frozen autoencoder, and the noise schedule for predicting clean latents."""
        self.vae = load_pretrained(AutoModel, str(folder / "vae")).requires_grad_(False)
        self.scheduler = load_pretrained(
            DDIMScheduler, folder, subfolder="scheduler", prediction_type="sample", rescale_betas_zero_snr=True
        )

    def predict(
        self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Target latents (B, C, h, w), and the logits (B, 1, ?, ?) of the cells that change."""
        raise NotImplementedError

    def pairs(self, sampler: Sampler, first: int, count: int, *, silent: bool = False) -> dict[str, Tensor]:
        """Sources and targets (B, 3, H, W) uint8, changed areas (B, 1, H, W), and the tokens.

        Args:
            sampler: scenes.
            first: index of the first.
            count: B.
            silent: with empty texts.
        """
        samples = [sampler[first + i] for i in range(count)]
        sources, targets = [s.source for s in samples], [s.target for s in samples]
        pictures = {"sources": stack(sources), "targets": stack(targets), "changed": changed_mask(sources, targets)}
        return pictures | self.tokens(samples, silent)

    def tokens(self, samples: list[Any], silent: bool) -> dict[str, Tensor]:
        """What `predict` reads of the samples' texts."""
        raise NotImplementedError

    def batch(self, step: int) -> dict[str, Any]:
        """See `pairs`."""
        return self.pairs(self.train, step * self.batch_size, self.batch_size)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Error of the predicted target latents relative to a copy's, at one random timestep each."""
        steps = self.scheduler.config.num_train_timesteps
        timesteps = draw_timesteps(len(batch["input_ids"]), steps, generator, begin=MIN_TIMESTEP)
        losses = self.errors(batch, timesteps, generator)
        losses["loss"] = losses["loss"] + PLACE_WEIGHT * losses["place"]
        return losses

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out errors at the last timestep (pure noise) with the right text and with the empty one; 1 is a copy."""
        last = torch.full((VAL_PAIRS,), self.scheduler.config.num_train_timesteps - 1, device=self.device)
        scores = {}
        for name, silent in (("val", False), ("val_null", True)):
            pairs = self.pairs(self.val, 0, VAL_PAIRS, silent=silent)
            batch = {key: value.to(self.device) for key, value in pairs.items()}
            errors = self.errors(batch, last, torch.Generator(self.device).manual_seed(0))
            scores[name] = round(float(errors["loss"]), 5)
            scores[f"{name}_place"] = round(float(errors["place"]), 5)
        return scores

    def errors(self, batch: dict[str, Any], timesteps: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss`: squared error relative to a copy's; `place`: cross-entropy of the marked cells."""
        with torch.no_grad():
            pictures = to_vae_pixels(torch.cat([batch["sources"], batch["targets"]]))
            latents = encode_source(self.vae.to(pictures.device), pictures, scaled=True).float()
            source, target = latents.chunk(2)
            if "has_source" in batch:
                source = source * batch["has_source"][:, None, None, None]
            noise = torch.randn(target.shape, device=target.device, generator=generator)
            noisy = self.scheduler.add_noise(target, noise, timesteps)
            weights = changed_area_weights(batch["changed"], latent_size=target.shape[-2:], weight=CHANGED_AREA_WEIGHT)
            weights = relative_weights(source, target, weights, floor=CHANGE_FLOOR)
        prediction, marks = self.predict(noisy, timesteps, source, batch)
        changed = F.adaptive_max_pool2d(batch["changed"], marks.shape[-2:])
        return {
            "loss": noise_loss(prediction, target, weights),
            "place": F.binary_cross_entropy_with_logits(marks.float(), changed),
        }
