"""Train CLIP: contrast pictures and captions, where a scene's source and target are hard negatives of each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from insightedit.miniatures.builders import text_tower
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.miniatures.loop import Part, TrainOptions
from insightedit.training.miniatures.pictures import VAL_COUNT, Sampler, captioned_pictures, to_clip_pixels

MAX_LOGIT_SCALE = 4.6052  # ln 100, CLIP's own bound


class ClipPart(Part):
    """CLIPModel of `<root>/clip`; exports its text tower to `<root>/sd/text_encoder` too."""

    name = "clip"
    options = TrainOptions(steps=2000, minutes=3.0, batch_size=64, lr=1e-3, weight_decay=0.05)

    def load(self) -> None:
        """See `Part`."""
        kinds = CLIPModel, CLIPTokenizer, CLIPImageProcessor
        self.model, self.tokenizer, self.image_processor = (load_pretrained(k, self.root / "clip") for k in kinds)

    def batch(self, step: int) -> dict[str, Tensor]:
        """`pictures` (B, 3, H, W) uint8 and `input_ids` (B, T) int64."""
        return self._pairs(self.train, step * (self.batch_size // 2), self.batch_size)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Symmetric cross-entropy; pictures of one batch that share a caption are positives of each other."""
        logits, same = self._compare(batch)
        positive = same.float() / same.sum(dim=1, keepdim=True)
        loss = 0.5 * (F.cross_entropy(logits, positive) + F.cross_entropy(logits.T, positive))
        return {"loss": loss, "recall": _recall(logits, same)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """How often a held-out picture's caption is the nearest of all, and nearer than its scene's other one."""
        batch = self._pairs(self.val, 0, VAL_COUNT)
        logits, same = self._compare({k: v.to(self.device) for k, v in batch.items()})
        own = logits.diagonal()
        other = logits.diagonal(VAL_COUNT // 2)
        own, distinct = own[: VAL_COUNT // 2], ~same.diagonal(VAL_COUNT // 2)
        right = (own > other)[distinct].float().mean() if distinct.any() else torch.tensor(float("nan"))
        return {
            "recall_at_1_of_256": round(float(_recall(logits, same)), 4),
            "source_or_target": round(float(right), 4),
        }

    def export(self) -> None:
        """Save CLIP, and its text tower where the text-to-image pipeline looks for it."""
        with replace_folder(self.root / "clip") as folder:
            for part in (self.model, self.tokenizer, self.image_processor):
                part.save_pretrained(folder)
        with replace_folder(self.root / "sd" / "text_encoder") as folder:
            text_tower(self.model).save_pretrained(folder)

    def _pairs(self, sampler: Sampler, first: int, count: int) -> dict[str, Tensor]:
        pictures, captions = captioned_pictures(sampler, first, count)
        ids = self.tokenizer(captions, padding="longest", truncation=True, pad_to_multiple_of=8, return_tensors="pt")
        limit = self.model.config.text_config.max_position_embeddings
        return {"pictures": pictures, "input_ids": ids.input_ids[:, :limit]}

    def _compare(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, B) float32 logits, pictures x captions, and (B, B) bool: do two rows share their caption."""
        ids = batch["input_ids"]
        output = self.model(input_ids=ids, pixel_values=to_clip_pixels(batch["pictures"]))
        images = F.normalize(output.image_embeds.float(), dim=-1)
        texts = F.normalize(output.text_embeds.float(), dim=-1)
        scale = self.model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        with torch.autocast(ids.device.type, enabled=False):
            return scale * images @ texts.T, (ids[:, None] == ids[None]).all(dim=-1)


def _recall(logits: Tensor, same: Tensor) -> Tensor:
    """Share of pictures whose nearest caption is their own."""
    nearest = logits.argmax(dim=1, keepdim=True)
    return same.gather(1, nearest).float().mean()
