"""Records -> batches, in an order whose state is three integers: batch `step` of rank r is a pure function of the seed.

The collator is the last place where images are numpy and texts are strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from insightedit.config.load import ConfigError
from insightedit.datasets.mixture import Mixture
from insightedit.types import EditBatch, EditRecord, TokenBatch

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor, PreTrainedTokenizerBase

    from insightedit.comprehension.base import RecordTokenizer

BLANK = 127  # grey stands in for a missing source, so that pictures stack; its latents become zeros


@dataclass
class Collator:
    """Turns records into tensors; tasks may be mixed within a batch."""

    tokenizer: RecordTokenizer  # comprehension's
    resolution: int  # side in pixels of the square that the autoencoder sees
    # of the text encoder whose states stage 1 aligns with; None outside stage 1
    text_tokenizer: PreTrainedTokenizerBase | None = None
    # prepares targets for IAA's CLIP image encoder; None without that branch
    clip_image_processor: CLIPImageProcessor | None = None

    def __call__(self, records: Sequence[EditRecord], indices: Sequence[int]) -> EditBatch:
        """Batch `records`; `indices` are their places in the stream and choose the prompt templates."""
        align = self.text_tokenizer is not None
        tokens = self.tokenizer.tokenize_records(records, indices, align=align)
        if align:
            return self._texts(tokens, records)
        side = self.resolution
        blank = np.full((side, side, 3), BLANK, dtype=np.uint8)
        sources = [blank if r.source_image is None else resize_square(r.source_image, side) for r in records]
        targets = [
            source if r.target_image is None else resize_square(r.target_image, side)
            for r, source in zip(records, sources, strict=True)
        ]
        changed = changed_mask(sources, targets)
        clip_pixels = None
        if self.clip_image_processor is not None:
            clip_pixels = self.clip_image_processor(images=targets, return_tensors="pt").pixel_values
        has_source = torch.tensor([float(record.source_image is not None) for record in records])
        return EditBatch(
            tokens=tokens,
            source_pixels=to_pixels(sources),
            target_pixels=to_pixels(targets),
            changed_mask=changed.masked_fill(has_source[:, None, None, None] == 0, 1.0),
            clip_target_pixels=clip_pixels,
            is_edit=torch.tensor([float(r.is_edit) for r in records]),
            has_source=None if bool(has_source.all()) else has_source,
        )

    def _texts(self, tokens: TokenBatch, records: Sequence[EditRecord]) -> EditBatch:
        """Stage 1: captions alone, or pictures with instructions whose meaning `caption` spells out."""
        assert self.text_tokenizer is not None
        texts = [record.caption or record.instruction for record in records]
        ids = self.text_tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        images = [
            [resize_square(image, self.resolution) for image in (r.source_image, r.target_image) if image is not None]
            for r in records
        ]
        is_known = all(len(pair) == 2 for pair in images)
        changed = changed_mask(*zip(*images, strict=True)) if is_known else None
        return EditBatch(tokens=tokens, text_target_ids=ids, changed_mask=changed)


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


class StepLoader:
    """Endless batches of `batch_size` samples per process and micro-step, with an exact position.

    `num_workers` processes render and tokenise `prefetch_factor` batches ahead; 0 = none does.
    """

    def __init__(
        self,
        mixture: Mixture,
        collate: Collator,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 4,
    ) -> None:
        self.batches = _StepBatches(mixture, collate, batch_size, rank, world_size)
        self.stride = batch_size * world_size
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        self.position = 0  # batches handed out

    def __iter__(self) -> Iterator[EditBatch]:
        """Batches from the current position on."""
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=count(self.position),
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
            multiprocessing_context="fork" if self.num_workers else None,
        )
        for batch in loader:
            if isinstance(batch, ConfigError):  # raised in a worker, it would carry the worker's traceback
                raise batch
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position of the next batch, and of the first one among the samples; samples of all processes a batch."""
        return {"position": self.position, "offset": self.batches.offset, "stride": self.stride}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the stored position; with another number of processes or batch size, at the next sample."""
        position, offset = int(state["position"]), int(state.get("offset", 0))
        stride = int(state.get("stride", self.stride))
        is_same = stride == self.stride
        self.position = position if is_same else 0
        self.batches.offset = offset if is_same else offset + position * stride


class _StepBatches(Dataset):
    def __init__(self, mixture: Mixture, collate: Collator, batch_size: int, rank: int, world_size: int) -> None:
        self.mixture, self.collate = mixture, collate
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.offset = 0  # samples before batch 0, drawn by another number of processes

    def __getitem__(self, step: int) -> EditBatch | ConfigError:
        start = self.offset + (step * self.world_size + self.rank) * self.batch_size
        indices = list(range(start, start + self.batch_size))
        try:
            records = [self.mixture[i] for i in indices]
        except ConfigError as error:
            return error
        return self.collate(records, indices)
