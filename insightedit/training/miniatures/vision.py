"""Teach CLIP's vision tower what is where: each patch names the object and the tint that covers it.

Ours; a real CLIP learns this from hundreds of millions of captions. A contrastive loss alone leaves the patches of a
miniature CLIP blind: after 18 minutes of LLaVA training on top of it, a linear probe still found no object in its
patches, where two minutes of these labels gave 29 % of the object patches their right class out of 60.

Run it before `clip`, which starts from its tower. The two linear heads are thrown away.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.scenes import CLASSES, COLOURS
from insightedit.training.miniatures.loop import Part, TrainOptions
from insightedit.training.miniatures.pictures import VAL_COUNT, Sampler, stack, to_clip_pixels

CLASS_LABELS = {name: number for number, name in enumerate(CLASSES, start=1)}  # 0 is background
COLOUR_LABELS = {name: number for number, name in enumerate(COLOURS, start=1)}  # 0 is untinted or background
BOX_SHARE = 0.42  # of an object's height, to each side of its centre: sprites rarely reach their boxes' corners


class VisionPart(Part):
    """The vision tower of `<root>/clip` under two linear heads."""

    name = "vision"
    options = TrainOptions(steps=4000, minutes=6.0, batch_size=64, lr=1e-3, weight_decay=0.05)
    trainable: ClassVar = ["*", "!tower.post_layernorm.*"]  # which serves the class token only

    def load(self) -> None:
        """See `Part`."""
        self.folder = self.root / "clip"
        self.clip = load_pretrained(CLIPModel, self.folder)
        config = self.clip.config.vision_config
        self.grid = int(config.image_size) // int(config.patch_size)  # type: ignore[arg-type]
        self.model = nn.ModuleDict(
            {
                "tower": self.clip.vision_model,
                "classes": _zero_linear(config.hidden_size, len(CLASS_LABELS) + 1),
                "colours": _zero_linear(config.hidden_size, len(COLOUR_LABELS) + 1),
            }
        )

    def batch(self, step: int) -> dict[str, Tensor]:
        """`pictures` (B, 3, H, W) uint8, `classes` and `colours` (B, P) int64."""
        return self._labelled(self.train, step * (self.batch_size // 2), self.batch_size)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of both heads over all patches, and how many object patches are named right."""
        classes, colours = self._logits(batch)
        loss = F.cross_entropy(classes, batch["classes"].flatten())
        loss = loss + 0.5 * F.cross_entropy(colours, batch["colours"].flatten())
        return {"loss": loss, "class_accuracy": _accuracy(classes, batch["classes"])}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Share of held-out object patches with the right class, and of tinted patches with the right colour."""
        batch = {k: v.to(self.device) for k, v in self._labelled(self.val, 0, VAL_COUNT).items()}
        logits = self._logits(batch)
        return {
            f"{name}_accuracy": round(float(_accuracy(values, batch[key])), 4)
            for name, key, values in zip(("class", "colour"), ("classes", "colours"), logits, strict=True)
        }

    def export(self) -> None:
        """Save CLIP with its new vision tower."""
        tokenizer = load_pretrained(CLIPTokenizer, self.folder)
        processor = load_pretrained(CLIPImageProcessor, self.folder)
        with replace_folder(self.folder) as folder:
            self.clip.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            processor.save_pretrained(folder)

    def _labelled(self, sampler: Sampler, first: int, count: int) -> dict[str, Tensor]:
        samples = [sampler[first + i] for i in range(count // 2)]
        scenes = [s.scene for s in samples] + [s.target_scene for s in samples]
        classes, colours = zip(*(patch_labels(scene, self.grid) for scene in scenes), strict=True)
        return {
            "pictures": stack([s.source for s in samples] + [s.target for s in samples]),
            "classes": torch.from_numpy(np.stack(classes)),
            "colours": torch.from_numpy(np.stack(colours)),
        }

    def _logits(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B * P, K) float32 logits of classes and of colours."""
        states = self.model["tower"](pixel_values=to_clip_pixels(batch["pictures"])).last_hidden_state[:, 1:]
        states = states.flatten(0, 1)
        return self.model["classes"](states).float(), self.model["colours"](states).float()


def patch_labels(scene: Any, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """What covers each patch of a scene.

    Args:
        scene: a `data_recipes.scenes.Scene`; positions in thousandths of its side.
        grid: patches along one side.

    Returns:
        Class and colour numbers, (grid * grid,) int64, row by row; 0 where there is no object, or no tint. Objects
        in front hide those behind.
    """
    classes, colours = np.zeros((2, grid, grid), dtype=np.int64)
    centres = (np.arange(grid) + 0.5) * 1000 / grid
    for thing in scene.objects:
        near_x = np.abs(centres - thing.x) < BOX_SHARE * thing.height
        near_y = np.abs(centres - thing.y) < BOX_SHARE * thing.height
        covered = np.ix_(near_y, near_x)
        classes[covered] = CLASS_LABELS.get(thing.name, 0)
        colours[covered] = COLOUR_LABELS.get(thing.colour, 0)
    return classes.ravel(), colours.ravel()


def _zero_linear(width: int, outputs: int) -> nn.Linear:
    """A head that starts undecided, the same in every run."""
    head = nn.Linear(width, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the labels above 0 that are met; 0 if there are none."""
    labels = labels.flatten()
    return (logits.argmax(dim=-1) == labels)[labels > 0].float().sum() / (labels > 0).sum().clamp_min(1)
