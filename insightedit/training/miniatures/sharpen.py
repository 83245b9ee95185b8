"""Sharpen the autoencoder's decoder, by itself or on what a trained editor draws.

A squared error is least at the mean of all that could be there, and a mean is blurred: in the autoencoder a little, in
an editor of one step much. A discriminator that sees pieces of pictures tells the mean from any one answer. The encoder
stays as it is, and with it the meaning of every latent, so nothing else has to be trained again.

With an editor most pieces are decoded from latents that it has drawn, around what the edit changes, and are to look
like the true target there; the rest from latents of the encoder, so that what is not edited comes back as before.

Source: the relativistic loss and the penalties R1 and R2 are R3GAN's (Huang et al., The GAN is dead; long live the
GAN!, 2024, section 2). The weight is fixed: VQGAN's, which brings both gradients to one length, let the decoder follow
a weak discriminator's noise as far as a strong one's advice, and the discriminator gave up (docs/lab-notes.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from insightedit.datasets.loader import changed_mask
from insightedit.files import write_atomically
from insightedit.generation.autoencoder import decode, encode_alike, encode_source, latent_factor, latent_scale
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.pipelines.loading import load_pipeline
from insightedit.training.miniatures.loop import Part, Sampler, TrainOptions, both_images, stack, to_vae_pixels
from insightedit.training.miniatures.sd import MSE_WEIGHT, round_trip_psnr

ADVERSARIAL_WEIGHT = 0.15  # 0.3 shows a pattern of dots in what is still a guess, 0.5 draws it (docs/lab-notes.md)
KEPT_WEIGHT = 0.15  # share of it where nothing was edited: more costs the background's PSNR
HEAD_START = 30  # steps that the discriminator learns before the decoder listens to it
TEXTURE_WEIGHT = 1.0  # what an editor draws is .69 as crisp as the truth with it, .56 without (docs/lab-notes.md)
TEXTURE_WINDOW = 8  # pixels; the windows overlap by half
PENALTY = 0.02  # gamma of R1 and R2; pieces overlap, so that a pixel answers for some forty logits at once
DRAWN_SHARE = 0.6  # of a batch, where there is an editor
DRAWN_SCENES = 2000  # that it draws, once
DRAW_TOGETHER = 16  # scenes
VAL_SCENES = 96
DRAWN = "drawn.safetensors"  # beside the checkpoints


class PieceDiscriminator(nn.Sequential):
    """Says of each piece of a picture, 4 pixels apart and 26 wide, how real it looks: four convolutions, no norms.

    (B, 3, H, W) pictures in [-1, 1], sides multiples of 4 -> (B, 1, H / 4, W / 4) logits.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(
            nn.Conv2d(3, width // 2, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, width, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, kernel_size=3, padding=1),
        )


def discriminator_loss(discriminator: nn.Module, real: Tensor, drawn: Tensor, penalty: float) -> Tensor:
    """softplus(D(drawn) - D(real)) + penalty / 2 (R1 + R2): what the discriminator minimises on (B, 3, H, W) pictures.

    Each picture is compared with its own truth. R1 and R2 are the squared gradients of the logits by the real and by
    the drawn pictures; without them the game does not converge.
    """
    real, drawn = (pictures.detach().requires_grad_() for pictures in (real, drawn))
    logits = discriminator(real).float(), discriminator(drawn).float()
    penalties = []
    for pictures, own in zip((real, drawn), logits, strict=True):
        (gradient,) = torch.autograd.grad(own.sum(), pictures, create_graph=True)
        penalties.append(gradient.float().square().sum() / own.numel())
    return F.softplus(logits[1] - logits[0]).mean() + penalty / 2 * sum(penalties)


def adversarial_loss(discriminator: nn.Module, real: Tensor, drawn: Tensor, weights: Tensor) -> Tensor:
    """softplus(D(real) - D(drawn)): what the decoder minimises; the discriminator's weights get no gradient of it.

    `weights` (B, 1, h, w) say how much the pieces count; their grid may be coarser than the logits'.
    """
    frozen = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    logits = [functional_call(discriminator, frozen, (pictures,)).float() for pictures in (real, drawn)]
    return (F.interpolate(weights, size=logits[0].shape[-2:]) * F.softplus(logits[0] - logits[1])).mean()


def texture_loss(real: Tensor, drawn: Tensor, weights: Tensor) -> Tensor:
    """How far the local gradient energies of (B, 3, H, W) pictures are apart; `weights` (B, 1, h, w) as above.

    A squared error draws a mean, whose edges are weak; where exactly they lie this leaves to the other losses, how
    strong they are it says directly, and it pulls from the first step.
    """
    means = [F.avg_pool2d(_gradients(one), TEXTURE_WINDOW, TEXTURE_WINDOW // 2) for one in (real, drawn)]
    wanted, found = ((mean + 1e-4).sqrt() for mean in means)
    return (F.interpolate(weights, size=wanted.shape[-2:]) * (wanted - found).abs()).mean()


class SharpenPart(Part):
    """The decoder of `<root>/sd/vae`, on pictures and, after `draw`, on what an editor makes of scenes."""

    name = "sharpen"
    options = TrainOptions(
        steps=1500, minutes=5.0, batch_size=24, lr=3e-4, warmup_steps=20, weight_decay=1e-4, ema_decay=0.99,
        betas=(0.5, 0.99),
    )  # fmt: skip
    trainable: ClassVar = ["autoencoder.decoder.*", "discriminator.*"]
    hot: ClassVar = ("autoencoder.decoder",)

    def load(self) -> None:
        """See `Part`; train `vae` first."""
        self.folder = self.root / "sd" / "vae"
        self.autoencoder: Any = load_pretrained(AutoModel, str(self.folder))
        self.model = nn.ModuleDict({"autoencoder": self.autoencoder, "discriminator": PieceDiscriminator()})
        self.drawn: dict[str, Tensor] = {}

    def draw(self, editor: Path, folder: Path, count: int = DRAWN_SCENES) -> None:
        """Let the editor of a model folder draw `count` training scenes and some held-out ones; kept in `folder`.

        Where an editor says what it will do, only scenes that it understood are kept: there the truth is what it drew,
        only sharper.

        Raises:
            ValueError: if the editor draws on another autoencoder, or understood nothing.
        """
        path = folder / DRAWN
        if not path.is_file():
            pipeline: Any = load_pipeline(editor, self.device)
            pipeline.set_progress_bar_config(disable=True)
            if not encode_alike(pipeline.vae, self.autoencoder):
                raise ValueError(
                    f"{editor} draws on another autoencoder than {self.folder}: name an editor that was trained on "
                    "this one, or copy its vae/ there."
                )
            found = {"train": _drawn(pipeline, self.train, count), "val": _drawn(pipeline, self.val, VAL_SCENES)}
            if not all(found.values()):
                raise ValueError(f"{editor} understood none of {count} scenes: train it longer before this.")
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(path) as place:
                save_file({f"{split}.{name}": v for split, all_ in found.items() for name, v in all_.items()}, place)
        self.drawn = load_file(path)

    def batch(self, step: int) -> dict[str, Any]:
        """Training batch number `step`.

        `pixels` (B, 3, H, W) uint8; `latents` (D, C, h, w) float16 that an editor drew for the first D <= B of them;
        `changed` (B, 1, h, w) float, 1 in the cells around what it had to edit; `corners` (B, 2) int64, latent cells of
        the upper left corners of the pieces that count.
        """
        random = np.random.default_rng([3, step])
        count = round(DRAWN_SHARE * self.batch_size) if self.drawn else 0
        scenes = -(-(self.batch_size - count) // 2)
        pixels = both_images([self.train[step * scenes + i] for i in range(scenes)])[: self.batch_size - count]
        side = pixels.shape[-1] // latent_factor(self.autoencoder)
        changed = torch.zeros(len(pixels), side, side, dtype=torch.bool)
        batch = {}
        if count:
            rows = torch.from_numpy(random.integers(len(self.drawn["train.latents"]), size=count))
            batch["latents"] = self.drawn["train.latents"][rows]
            changed = torch.cat([self.drawn["train.changed"][rows], changed])
            pixels = torch.cat([self.drawn["train.targets"][rows], pixels])
        corners = torch.tensor([_corner(cells, random) for cells in changed])
        around = F.max_pool2d(changed[:, None].float(), kernel_size=3, stride=1, padding=1)
        return {**batch, "pixels": pixels, "changed": around, "corners": corners, "step": step}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """L1 + 0.5 MSE + the adversarial loss + that of textures; and the discriminator's own."""
        pixels, scale = to_vae_pixels(batch["pixels"]), latent_scale(self.autoencoder)
        drawn = batch.get("latents", pixels.new_zeros(0))
        latents = encode_source(self.autoencoder, pixels[len(drawn) :], scaled=True)
        latents = torch.cat([drawn.to(latents), latents]) if len(drawn) else latents
        side, factor = latents.shape[-1] // 2, latent_factor(self.autoencoder)
        wanted = _pieces(pixels, factor * batch["corners"], factor * side)
        decoded = self.autoencoder.decode(_pieces(latents, batch["corners"], side) / scale).sample.float()
        changed = _pieces(batch["changed"], batch["corners"], side)
        l1, mse = F.l1_loss(decoded, wanted), F.mse_loss(decoded, wanted)
        discriminator = self.model["discriminator"]
        judged = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * changed
        adversarial = adversarial_loss(discriminator, wanted, decoded, judged)
        weight = ADVERSARIAL_WEIGHT if batch["step"] >= HEAD_START else 0.0
        texture = texture_loss(wanted, decoded, judged)
        own = discriminator_loss(discriminator, wanted, decoded, PENALTY)
        total = l1 + MSE_WEIGHT * mse + weight * adversarial + TEXTURE_WEIGHT * texture + own
        losses = {"l1": l1, "mse": mse, "adversarial": adversarial, "texture": texture, "discriminator": own}
        return {"loss": total, **losses}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out: PSNR in dB of the round trip, and how crisp it and an editor's changed areas are (1: the truth)."""
        pixels = to_vae_pixels(both_images([self.val[i] for i in range(VAL_SCENES // 2)]).to(self.device))
        decoded = decode(self.autoencoder, encode_source(self.autoencoder, pixels, scaled=True))
        everywhere = torch.ones_like(pixels[:, :1])
        scores = {"psnr": round_trip_psnr(self.autoencoder, self.val, self.device)}
        scores["crispness"] = _energy(decoded, everywhere) / _energy(pixels, everywhere)
        if self.drawn:
            latents, targets, changed = (
                self.drawn[f"val.{name}"].to(self.device) for name in ("latents", "targets", "changed")
            )
            where = F.interpolate(changed[:, None].float(), scale_factor=latent_factor(self.autoencoder))
            decoded = decode(self.autoencoder, latents.float())
            scores["drawn_crispness"] = _energy(decoded, where) / _energy(to_vae_pixels(targets), where)
        return {name: round(float(value), 3) for name, value in scores.items()}

    def export(self) -> None:
        """Save the autoencoder, its scale as it was: the encoder's latents are the same."""
        with replace_folder(self.folder) as folder:
            self.autoencoder.save_pretrained(folder)


def _drawn(pipeline: Any, sampler: Sampler, count: int) -> dict[str, Tensor]:
    """What the pipeline makes of the first scenes, as far as it understood them; empty if it understood none.

    `latents` (N, C, h, w) float16, `targets` (N, 3, H, W) uint8, `changed` (N, h, w) bool, cells that differ.
    """
    found: dict[str, list[Tensor]] = {"latents": [], "targets": [], "changed": []}
    for first in range(0, count, DRAW_TOGETHER):
        numbered = [(i, sampler[i]) for i in range(first, min(first + DRAW_TOGETHER, count))]
        numbered = [(i, sample) for i, sample in numbered if not np.array_equal(sample.source, sample.target)]
        if not numbered:
            continue
        seeds, samples = [i for i, _ in numbered], [sample for _, sample in numbered]
        sources, targets = [s.source for s in samples], [s.target for s in samples]
        texts = [s.instruction for s in samples]
        result = pipeline(sources, texts, seed=seeds, batch_size=DRAW_TOGETHER, output_type="latent")
        told = zip(result.expressive_instructions, samples, strict=True)
        right = [said is None or said.lower() == s.expressive_instruction.lower() for said, s in told]
        changed = F.adaptive_max_pool2d(changed_mask(sources, targets), result.images.shape[-2:])[:, 0] > 0
        for name, values in (("latents", result.images.half()), ("targets", stack(targets)), ("changed", changed)):
            found[name].append(values.cpu()[torch.tensor(right)])
    together = {name: torch.cat(values) for name, values in found.items() if values}
    return together if together and len(together["latents"]) else {}


def _corner(changed: Tensor, random: np.random.Generator) -> tuple[int, int]:
    """Upper left corner of a window half as wide as the grid, with a cell of `changed` (h, w) bool if it has any."""
    side = changed.shape[-1] // 2
    cells = changed.nonzero() if changed.any() else (~changed).nonzero()
    cell = cells[int(random.integers(len(cells)))]
    row, column = (int(place) - int(random.integers(side)) for place in cell)
    return min(max(row, 0), side), min(max(column, 0), side)


def _pieces(values: Tensor, corners: Tensor, side: int) -> Tensor:
    """(B, C, side, side) windows of (B, C, H, W) values."""
    pairs = zip(values, corners.tolist(), strict=True)
    return torch.stack([one[:, row : row + side, column : column + side] for one, (row, column) in pairs])


def _gradients(pictures: Tensor) -> Tensor:
    """(B, 1, H - 1, W - 1) squared differences of neighbouring pixels, summed over channels."""
    rows, columns = pictures.diff(dim=2)[..., :-1], pictures.diff(dim=3)[:, :, :-1]
    return (rows.square() + columns.square()).sum(dim=1, keepdim=True)


def _energy(pictures: Tensor, where: Tensor) -> Tensor:
    """Sum of squared differences of neighbouring pixels in an area (B, 1, H, W): what blur takes away."""
    rows, columns = pictures.diff(dim=2), pictures.diff(dim=3)
    return (rows.square() * where[:, :, 1:]).sum() + (columns.square() * where[:, :, :, 1:]).sum()
