"""Train the transformer that the `mige_mini` overlay starts from, as MIGE starts from PixArt-alpha; see `editing`.

A quarter of each batch has a blank source and a caption in place of an instruction: creation. The T5 encoder learns
along from nothing. The head that marks what changes stays with the transformer, whose further training uses it too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, T5EncoderModel

from insightedit.comprehension.prompts import TASK_PREFIXES
from insightedit.generation.transformer import EditTransformer
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.editing import SOURCE_PRIOR, EditingPart
from insightedit.training.miniatures.loop import TrainOptions
from insightedit.training.miniatures.pictures import Sampler
from insightedit.types import EditCondition

TEXT_LENGTH = 64  # tokens; the longest resolved instruction has fewer
CREATION_SHARE = 4  # one sample in so many is drawn on a blank canvas


class PixartPart(EditingPart):
    """`EditTransformer` of `<root>/pixart/transformer`; trains `<root>/t5` along."""

    name = "pixart"
    options = TrainOptions(steps=20_000, minutes=60.0, lr=5e-4, warmup_steps=200, ema_decay=0.998)

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

    @property
    def hot_modules(self) -> list[nn.Module]:
        """See `Part`."""
        return [self.transformer]

    def predict(
        self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """See `EditingPart`."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        states = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        condition = EditCondition(states, encoder_attention_mask=mask)
        prediction = self.transformer.predict(noisy, timesteps, source, condition, mark_places=True)
        assert prediction.place_logits is not None  # built with a place head
        return prediction.noise, prediction.place_logits

    def pairs(self, sampler: Sampler, first: int, count: int, *, silent: bool = False) -> dict[str, Tensor]:
        """See `EditingPart`; on a blank canvas everything is new."""
        found = super().pairs(sampler, first, count, silent=silent)
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
        encoded = self.tokenizer(
            [""] * len(texts) if silent else texts,
            padding="max_length",
            max_length=TEXT_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
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
