"""Train the autoencoder: L1 + 0.5 MSE + a very small term that keeps the latents near unit size, on scenes.

For an AutoencoderKL that term is the KL divergence; for a deterministic AutoencoderDC the latents' mean square.

Sources are seen as they are; targets are flipped and their colour channels permuted, so that the code book of colours
and edges is wider than the scenes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoModel
from torch import Tensor
from torch.nn import functional as F

from insightedit.generation.autoencoder import encode_source
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import Part, TrainOptions
from insightedit.training.miniatures.pictures import VAL_COUNT, both_images, stack, to_vae_pixels

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
        """Mean PSNR in dB on held-out sources and targets, in float32, latents by the mode, output rounded to 8 bit."""
        scores = []
        for first in range(0, VAL_COUNT, 32):
            pixels = self._val_pixels(first, 32)
            decoded = self.model.decode(encode_source(self.model, pixels, scaled=False)).sample
            decoded = ((decoded.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
            mse = (decoded - pixels).square().mean(dim=(1, 2, 3)) / 4.0  # of values in [0, 1]
            scores.append(
                -10.0 * mse.clamp_min(1e-10).log10()
            )  # a perfect image has 100 dB, or no mean would be finite
        return {"psnr": round(float(torch.cat(scores).mean()), 3), "scaling_factor": self.model.config.scaling_factor}

    @torch.no_grad()
    def export(self) -> None:
        """Save with `scaling_factor` = 1 / deviation of the latents, which the UNet expects to be about one."""
        latents = encode_source(self.model, self._val_pixels(0, 64), scaled=False)
        self.model.register_to_config(scaling_factor=round(1.0 / max(1e-6, float(latents.std())), 5))
        with replace_folder(self.folder) as folder:
            self.model.save_pretrained(folder)

    def _val_pixels(self, first: int, count: int) -> Tensor:
        samples = [self.val[first // 2 + i] for i in range(count // 2)]
        return to_vae_pixels(both_images(samples).to(self.device))


def _augment(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8, mirrored, turned upside down and its channels permuted by chance."""
    picture = picture[:, ::-1] if random.random() < 0.5 else picture
    picture = picture[::-1] if random.random() < 0.25 else picture
    return picture[:, :, random.permutation(3)] if random.random() < 0.5 else picture
