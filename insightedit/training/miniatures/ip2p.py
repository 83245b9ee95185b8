"""Train the editing UNet that the three stages start from, as the papers start from InstructPix2Pix; see `editing`.

Stage 1 then teaches the Q-Former to say just the text states that it reads. The head that marks what changes is thrown
away afterwards. The text tower learns along for the first `TEXT_STEPS` steps and is frozen from then on, so that stage
1 has a fixed target while the UNet goes on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from insightedit.generation.unet import EditUNet
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.editing import SOURCE_PRIOR, EditingPart
from insightedit.training.miniatures.loop import TrainOptions

TEXT_STEPS = 1000  # the text tower is frozen from here on
DROP_TEXT = 0.03  # share of empty texts, for classifier-free guidance


class Ip2pPart(EditingPart):
    """`EditUNet` of `<root>/ip2p/unet`, started from `<root>/sd/unet`; trains `<root>/sd/text_encoder` along."""

    name = "ip2p"
    options = TrainOptions(steps=20_000, minutes=60.0, lr=8e-4, warmup_steps=100, ema_decay=0.998)

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

    @property
    def hot_modules(self) -> list[nn.Module]:
        """See `Part`."""
        return [self.unet]

    def batch(self, step: int) -> dict[str, Any]:
        """See `EditingPart.pairs`; and does the text tower learn?"""
        return {**super().batch(step), "train_text": step < TEXT_STEPS}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """See `EditingPart`; some texts are empty."""
        ids, device = batch["input_ids"], batch["input_ids"].device
        dropped = torch.rand(len(ids), 1, device=device, generator=generator) < DROP_TEXT
        ids = torch.where(dropped, self._ids([""]).to(device), ids)
        return super().loss({**batch, "input_ids": ids}, generator)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, source: Tensor, batch: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
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
        length = self.text_encoder.config.max_position_embeddings
        return self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
