"""Records -> EditBatch. The last place where pictures are numpy and texts are strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from insightedit.types import EditBatch, EditRecord, TokenBatch

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor, CLIPTokenizer


class Tokenizes(Protocol):
    """An MLLM, or its tokenizer alone: `EditTokenizer.tokenize`."""

    def tokenize(self, instructions: Sequence[str], images: Sequence[np.ndarray] | None, **options: Any) -> TokenBatch:
        """Prompt, reply and edit tokens."""
        ...


@dataclass
class Collator:
    """Turns records of one kind into tensors.

    Attributes:
        comprehension: tokenises prompts and pictures.
        resolution: side in pixels of the square that the autoencoder sees.
        tokenizer: CLIP tokenizer of the text to align with; None outside stage 1.
        clip_image_processor: prepares targets for the CLIP image encoder; None without image branch.
        max_length: longest sequence for the MLLM, in tokens.
    """

    comprehension: Tokenizes
    resolution: int
    tokenizer: CLIPTokenizer | None = None
    clip_image_processor: CLIPImageProcessor | None = None
    max_length: int | None = None

    def __call__(self, records: Sequence[EditRecord], indices: Sequence[int]) -> EditBatch:
        """Batch `records`; `indices` are their places in the stream and choose the prompt templates."""
        if self.tokenizer is not None:
            return self._texts(records, indices)
        sources = [resize_square(r.source_image, self.resolution) for r in records]
        targets = [
            s if r.target_image is None else resize_square(r.target_image, self.resolution)
            for r, s in zip(records, sources, strict=True)
        ]
        tokens = self.comprehension.tokenize(
            [r.instruction for r in records],
            [r.source_image for r in records],
            replies=[r.reply for r in records] if any(r.reply for r in records) else None,
            chats=[r.reply is not None and not r.is_edit for r in records],
            template_indices=list(indices),
            max_length=self.max_length,
        )
        return EditBatch(
            tokens=tokens,
            source_pixels=to_pixels(sources),
            target_pixels=to_pixels(targets),
            changed_mask=changed_mask(sources, targets),
            clip_target_pixels=self._clip_pixels(targets),
            is_edit=torch.tensor([float(r.is_edit) for r in records]),
        )

    def _texts(self, records: Sequence[EditRecord], indices: Sequence[int]) -> EditBatch:
        """Stage 1: captions alone, or pictures with instructions whose meaning `caption` spells out."""
        texts = [r.caption or r.instruction for r in records]
        has_images = records[0].source_image is not None
        if any((r.source_image is not None) != has_images for r in records):
            raise ValueError(
                "stage 1 was given records with and without pictures in one batch: let `data.sources` hold only "
                "kinds with pictures (resolved) or only kinds without (captions)."
            )
        tokens = self.comprehension.tokenize(
            [r.instruction for r in records] if has_images else texts,
            [r.source_image for r in records] if has_images else None,
            replies=[r.reply for r in records] if any(r.reply for r in records) else None,
            caption=not has_images,
            template_indices=list(indices),
            max_length=self.max_length,
        )
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return EditBatch(tokens=tokens, text_target_ids=ids, changed_mask=self._changed(records))

    def _changed(self, records: Sequence[EditRecord]) -> Tensor | None:
        """Where the edits are, if every record has both pictures."""
        if any(r.source_image is None or r.target_image is None for r in records):
            return None
        before, after = (
            [resize_square(image, self.resolution) for image in images]
            for images in zip(*((r.source_image, r.target_image) for r in records), strict=True)
        )
        return changed_mask(before, after)

    def _clip_pixels(self, images: list[np.ndarray]) -> Tensor | None:
        if self.clip_image_processor is None:
            return None
        return self.clip_image_processor(images=images, return_tensors="pt").pixel_values


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8, bicubic, aspect ratio not kept (SmartEdit, lineage of Reason-Edit)."""
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """B x (H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images))
    return rearrange(stacked, "b h w c -> b c h w").float().div(127.5).sub(1.0)


def changed_mask(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], threshold: int = 2) -> Tensor:
    """(B, 1, H, W) float32: 1 where any channel differs by more than `threshold` of 255."""
    difference = np.abs(np.stack(sources).astype(np.int16) - np.stack(targets).astype(np.int16)).max(axis=-1)
    return torch.from_numpy((difference > threshold).astype(np.float32))[:, None]
