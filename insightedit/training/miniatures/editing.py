"""Train the two miniatures that edit, a UNet and a transformer, on pairs of scenes: the error of the target's latents.

They read the noisy latents, the source's latents and text states of an instruction in which every reference is
resolved ("remove the red fox at the top left"), so they learn to draw before anyone learns to understand.

Besides drawing, a linear head on coarse features has to mark the cells that change. Where to edit is a yes-or-no
question that the drawing error asks only in passing (ours).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoModel, DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel

from insightedit.comprehension.prompts import TASK_PREFIXES
from insightedit.datasets.loader import changed_mask
from insightedit.generation.autoencoder import encode_source
from insightedit.generation.noise import changed_area_weights, draw_timesteps, noise_loss, relative_weights
from insightedit.generation.transformer import EditTransformer
from insightedit.generation.unet import EditUNet
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import Part, TrainOptions, padded, stack, to_vae_pixels
from insightedit.types import EditCondition

Batch = dict[str, Any]
SOURCE_PRIOR = 0.25  # see EditUNet and EditTransformer
CHANGED_AREA_WEIGHT = 4.0
CHANGE_FLOOR = 0.05  # mean squared latent change below which an edit does not count more
PLACE_WEIGHT = 1.0  # of the cross-entropy of the marked cells
MIN_TIMESTEP = 800  # below, the noisy latents show the answer, and one-step sampling never goes there
VAL_PAIRS = 128
TEXT_STEPS = 1000  # ip2p: the text tower is frozen from here on
DROP_TEXT = 0.03  # ip2p: share of empty texts, for classifier-free guidance
TEXT_LENGTH = 64  # pixart: tokens; the longest resolved instruction has fewer
CREATION_SHARE = 4  # pixart: one sample in so many is drawn on a blank canvas


class EditingPart(Part):
    """A denoiser that edits; subclasses load it, tokenize for it and call it."""

    def load_latent_space(self, folder: Path) -> None:
        """The frozen autoencoder, and the noise schedule for predicting clean latents."""
        self.vae = load_pretrained(AutoModel, str(folder / "vae")).requires_grad_(False)
        self.scheduler = load_pretrained(
            DDIMScheduler, folder, subfolder="scheduler", prediction_type="sample", rescale_betas_zero_snr=True
        )

    def predict(self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Target latents (B, C, h, w), and the logits (B, 1, ?, ?) of the cells that change."""
        raise NotImplementedError

    def rows(self, samples: list[Any], first: int, *, silent: bool = False) -> dict[str, Any]:
        """Sources and targets (B, 3, H, W) uint8, changed areas (B, 1, H, W), and the tokens, `silent` of no text."""
        sources, targets = [s.source for s in samples], [s.target for s in samples]
        pictures = {"sources": stack(sources), "targets": stack(targets), "changed": changed_mask(sources, targets)}
        return pictures | self.tokens(samples, silent)

    def tokens(self, samples: list[Any], silent: bool) -> dict[str, Tensor]:
        """What `predict` reads of the samples' texts."""
        raise NotImplementedError

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
            batch = self.held_out(VAL_PAIRS, silent=silent)
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
            # in units of a copy's error: most cells do not change, and a copy would look nearly right
            weights = relative_weights(source, target, weights, floor=CHANGE_FLOOR)
        prediction, marks = self.predict(noisy, timesteps, source, batch)
        changed = F.adaptive_max_pool2d(batch["changed"], marks.shape[-2:])
        return {
            "loss": noise_loss(prediction, target, weights),
            "place": F.binary_cross_entropy_with_logits(marks.float(), changed),
        }


class Ip2pPart(EditingPart):
    """`EditUNet` of `<root>/ip2p/unet` from `<root>/sd/unet`: the three stages start there, as the papers' do.

    Stage 1 then teaches the Q-Former to say just the text states that it reads. So the text tower learns along for the
    first `TEXT_STEPS` steps and is frozen from then on: stage 1 has a fixed target while the UNet goes on. The head
    that marks what changes is thrown away.
    """

    name = "ip2p"
    options = TrainOptions(steps=20_000, minutes=60.0, lr=8e-4, warmup_steps=100, ema_decay=0.998)
    hot: ClassVar = ("unet",)

    def load(self) -> None:
        """See `Part`; train `clip` and `vae` first."""
        folder = self.root / "sd"
        self.load_latent_space(folder)
        self.tokenizer = load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")
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
        place = nn.Conv2d(self.unet.config.block_out_channels[-1], 1, kernel_size=1)
        for parameter in place.parameters():  # undecided, the same in every run
            nn.init.zeros_(parameter)
        self.model = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder, "place": place})
        self._features: Tensor | None = None
        self.unet.up_blocks[0].register_forward_hook(self._keep_features)

    def batch(self, step: int) -> dict[str, Any]:
        """See `Part`; and does the text tower learn?"""
        return {**super().batch(step), "train_text": step < TEXT_STEPS}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """See `EditingPart`; some texts are empty."""
        ids, device = batch["input_ids"], batch["input_ids"].device
        dropped = torch.rand(len(ids), 1, device=device, generator=generator) < DROP_TEXT
        ids = torch.where(dropped, self._ids([""]).to(device), ids)
        return super().loss({**batch, "input_ids": ids}, generator)

    def predict(self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `EditingPart`."""
        learns = torch.is_grad_enabled() and batch.get("train_text", False)
        with torch.set_grad_enabled(learns):
            states = self.text_encoder(batch["input_ids"]).last_hidden_state
        latents = torch.cat([noisy, source], dim=1)
        prediction = self.unet(latents, timesteps, encoder_hidden_states=states).sample
        return prediction, self.model["place"](self._features)

    def tokens(self, samples: list[Any], silent: bool) -> dict[str, Tensor]:
        """`input_ids` (B, Q) int64, padded to the text tower's positions."""
        return {"input_ids": self._ids(["" if silent else s.expressive_instruction for s in samples])}

    def export(self) -> None:
        """Save the UNet as an editing pipeline's subfolder, and the text tower beside the autoencoder."""
        with replace_folder(self.root / "ip2p" / "unet") as folder:
            self.unet.save_pretrained(folder)
        with replace_folder(self.root / "sd" / "text_encoder") as folder:
            self.text_encoder.save_pretrained(folder)

    def _keep_features(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._features = output

    def _ids(self, texts: list[str]) -> Tensor:
        return padded(self.tokenizer, texts, self.text_encoder.config.max_position_embeddings).input_ids


class PixartPart(EditingPart):
    """`EditTransformer` of `<root>/pixart/transformer`, for recipe mige; trains `<root>/t5` along, from nothing.

    A quarter of each batch has a blank source and a caption in place of an instruction: creation. The head that marks
    what changes stays with the transformer, whose further training uses it too.
    """

    name = "pixart"
    options = TrainOptions(steps=20_000, minutes=60.0, lr=5e-4, warmup_steps=200, ema_decay=0.998)
    hot: ClassVar = ("transformer",)

    def load(self) -> None:
        """See `Part`; train `vae` first."""
        self.load_latent_space(self.root / "sd")
        self.tokenizer = load_pretrained(AutoTokenizer, self.root / "t5")
        self.text_encoder = load_pretrained(T5EncoderModel, self.root / "t5")
        self.transformer = EditTransformer.from_transformer(
            self.root / "pixart",
            subfolder="transformer",
            source_channels=self.vae.config.latent_channels,
            source_prior=SOURCE_PRIOR,
            place_head=True,
            alphas_cumprod=self.scheduler.alphas_cumprod,
        )
        self.model = nn.ModuleDict({"transformer": self.transformer, "text_encoder": self.text_encoder})

    def predict(self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `EditingPart`."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        states = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        condition = EditCondition(states, encoder_attention_mask=mask)
        prediction = self.transformer.predict(noisy, timesteps, source, condition, mark_places=True)
        assert prediction.place_logits is not None  # built with a place head
        return prediction.noise, prediction.place_logits

    def rows(self, samples: list[Any], first: int, *, silent: bool = False) -> dict[str, Any]:
        """See `EditingPart`; on a blank canvas everything is new."""
        found = super().rows(samples, first, silent=silent)
        is_blank = found["has_source"][:, None, None, None] == 0
        return {**found, "changed": found["changed"].masked_fill(is_blank, 1.0)}

    def tokens(self, samples: list[Any], silent: bool) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (B, T) int64, and `has_source` (B,): 0 for a blank canvas."""
        is_new = [i % CREATION_SHARE == CREATION_SHARE - 1 for i in range(len(samples))]
        texts = [
            f"{TASK_PREFIXES['subject']} {s.caption_target}"
            if new
            else f"{TASK_PREFIXES['editing']} {s.expressive_instruction}"
            for s, new in zip(samples, is_new, strict=True)
        ]
        encoded = padded(self.tokenizer, [""] * len(texts) if silent else texts, TEXT_LENGTH)
        return {
            "has_source": torch.tensor([float(not new) for new in is_new]),
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
        }

    def export(self) -> None:
        """Save the transformer as a PixArt pipeline's subfolder, and the text encoder with its tokenizer."""
        with replace_folder(self.root / "pixart") as folder:
            self.transformer.save_pretrained(folder / "transformer")
        with replace_folder(self.root / "t5") as folder:
            self.text_encoder.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
