"""Train CLIP: first its vision tower by what covers each patch, then the whole by contrast of images and captions.

Where is ours; a real CLIP learns it from hundreds of millions of captions. A contrastive loss alone leaves the patches
of a miniature CLIP blind: after 18 minutes of LLaVA training on top of it, a linear probe still found no object in its
patches, where two minutes of these labels gave 29 % of the object patches their right class out of 60.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from insightedit.miniatures.builders import text_tower
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.scenes import COLOURS, Assets
from insightedit.training.miniatures.loop import (
    VAL_COUNT,
    Part,
    TrainOptions,
    both_captions,
    both_images,
    to_clip_pixels,
)

CLASS_LABELS = {name: number for number, name in enumerate(Assets.embedded().seen_classes, start=1)}  # 0: background
COLOUR_LABELS = {name: number for number, name in enumerate(COLOURS, start=1)}  # 0 is untinted or background
BOX_SHARE = 0.42  # of an object's height, to each side of its centre: sprites rarely reach their boxes' corners
MAX_LOGIT_SCALE = 4.6052  # ln 100, CLIP's own bound


class _OfClip(Part):
    """A part that trains `<root>/clip`."""

    images = 2

    def load(self) -> None:
        """See `Part`."""
        kinds = CLIPModel, CLIPTokenizer, CLIPImageProcessor
        self.model, self.tokenizer, self.image_processor = (load_pretrained(k, self.root / "clip") for k in kinds)
        self.clip = self.model

    def export(self) -> None:
        """Save CLIP."""
        with replace_folder(self.root / "clip") as folder:
            for part in (self.clip, self.tokenizer, self.image_processor):
                part.save_pretrained(folder)


class VisionPart(_OfClip):
    """The vision tower under two linear heads, which are thrown away; `clip` starts from it."""

    name = "vision"
    options = TrainOptions(steps=4000, minutes=6.0, batch_size=64, lr=1e-3, weight_decay=0.05)
    trainable: ClassVar = ["*", "!tower.post_layernorm.*"]  # which serves the class token only

    def load(self) -> None:
        """See `Part`."""
        super().load()
        config = self.clip.config.vision_config
        self.grid = int(config.image_size) // int(config.patch_size)  # type: ignore[arg-type]
        heads = {
            "classes": nn.Linear(config.hidden_size, len(CLASS_LABELS) + 1),
            "colours": nn.Linear(config.hidden_size, len(COLOUR_LABELS) + 1),
        }
        for head in heads.values():
            for parameter in head.parameters():  # undecided, the same in every run
                nn.init.zeros_(parameter)
        self.model = nn.ModuleDict({"tower": self.clip.vision_model, **heads})

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of both heads over all patches, and how many object patches are named right."""
        classes, colours = self._logits(batch)
        loss = F.cross_entropy(classes, batch["classes"].flatten())
        loss = loss + 0.5 * F.cross_entropy(colours, batch["colours"].flatten())
        return {"loss": loss, "class_accuracy": _accuracy(classes, batch["classes"])}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Share of held-out object patches with the right class, and of tinted patches with the right colour."""
        batch = self.held_out(VAL_COUNT)
        logits = self._logits(batch)
        return {
            f"{name}_accuracy": round(float(_accuracy(values, batch[key])), 4)
            for name, key, values in zip(("class", "colour"), ("classes", "colours"), logits, strict=True)
        }

    def rows(self, samples: list[Any], first: int) -> dict[str, Tensor]:
        """`pictures` (B, 3, H, W) uint8, `classes` and `colours` (B, P) int64."""
        scenes = [s.scene for s in samples] + [s.target_scene for s in samples]
        classes, colours, _ = zip(*(patch_labels(scene, self.grid) for scene in scenes), strict=True)
        return {
            "pictures": both_images(samples),
            "classes": torch.from_numpy(np.stack(classes)),
            "colours": torch.from_numpy(np.stack(colours)),
        }

    def _logits(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B * P, K) float32 logits of classes and of colours."""
        states = self.model["tower"](pixel_values=to_clip_pixels(batch["pictures"])).last_hidden_state[:, 1:]
        states = states.flatten(0, 1)
        return self.model["classes"](states).float(), self.model["colours"](states).float()


class ClipPart(_OfClip):
    """Images against captions, where a scene's source and target are hard negatives of each other."""

    name = "clip"
    options = TrainOptions(steps=2000, minutes=3.0, batch_size=64, lr=1e-3, weight_decay=0.05)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Symmetric cross-entropy; pictures of one batch that share a caption are positives of each other."""
        logits, same = self._compare(batch)
        # captions repeat in a batch of simple scenes: a twin as negative would teach that equal texts differ
        positive = same.float() / same.sum(dim=1, keepdim=True)
        loss = 0.5 * (F.cross_entropy(logits, positive) + F.cross_entropy(logits.T, positive))
        return {"loss": loss, "recall": _recall(logits, same)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """How often a held-out picture's caption is the nearest of all, and nearer than its scene's other one."""
        logits, same = self._compare(self.held_out(VAL_COUNT))
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
        super().export()
        with replace_folder(self.root / "sd" / "text_encoder") as folder:
            text_tower(self.model).save_pretrained(folder)

    def rows(self, samples: list[Any], first: int) -> dict[str, Tensor]:
        """`pictures` (B, 3, H, W) uint8 and `input_ids` (B, T) int64."""
        captions = both_captions(samples)
        ids = self.tokenizer(captions, padding="longest", truncation=True, pad_to_multiple_of=8, return_tensors="pt")
        limit = self.model.config.text_config.max_position_embeddings
        return {"pictures": both_images(samples), "input_ids": ids.input_ids[:, :limit]}

    def _compare(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, B) float32 logits, pictures x captions, and (B, B) bool: do two rows share their caption."""
        ids = batch["input_ids"]
        output = self.model(input_ids=ids, pixel_values=to_clip_pixels(batch["pictures"]))
        images = F.normalize(output.image_embeds.float(), dim=-1)
        texts = F.normalize(output.text_embeds.float(), dim=-1)
        # in float32: a hundredfold logit in bfloat16 has steps of a half
        scale = self.model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        with torch.autocast(ids.device.type, enabled=False):
            return scale * images @ texts.T, (ids[:, None] == ids[None]).all(dim=-1)


def patch_labels(scene: Any, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, colour and place numbers (grid * grid,) int64 of what covers each patch, row by row; 0 for none.

    The place is that of the whole thing, one of nine, counted from 1.
    """
    classes, colours, places = np.zeros((3, grid, grid), dtype=np.int64)
    centres = (np.arange(grid) + 0.5) * 1000 / grid
    for thing in scene.objects:
        near_x = np.abs(centres - thing.x) < BOX_SHARE * thing.height
        near_y = np.abs(centres - thing.y) < BOX_SHARE * thing.height
        covered = np.ix_(near_y, near_x)
        classes[covered] = CLASS_LABELS.get(thing.name, 0)
        colours[covered] = COLOUR_LABELS.get(thing.colour, 0)
        places[covered] = thing.slot + 1
    return classes.ravel(), colours.ravel(), places.ravel()


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the labels above 0 that are met; 0 if there are none."""
    labels = labels.flatten()
    return (logits.argmax(dim=-1) == labels)[labels > 0].float().sum() / (labels > 0).sum().clamp_min(1)


def _recall(logits: Tensor, same: Tensor) -> Tensor:
    """Share of pictures whose nearest caption is their own."""
    nearest = logits.argmax(dim=1, keepdim=True)
    return same.gather(1, nearest).float().mean()
