"""Records whose instructions carry pictures -> EditBatch; tasks are mixed within a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from insightedit.datasets.collate import changed_mask, resize_square, to_pixels
from insightedit.types import EditBatch, EditRecord

if TYPE_CHECKING:
    from insightedit.comprehension.interleaved_tokenization import InterleavedTokenizer

BLANK = 127  # grey stands in for a missing source, so that pictures stack; its latents become zeros


@dataclass
class InterleavedCollator:
    """Turns records of any of the three tasks into one batch.

    Attributes:
        tokenizer: the reader's.
        resolution: side in pixels of the square that the autoencoder sees.
    """

    tokenizer: InterleavedTokenizer
    resolution: int

    def __call__(self, records: Sequence[EditRecord], indices: Sequence[int]) -> EditBatch:
        """Batch `records`; their places in the stream (`indices`) do not matter here.

        Raises:
            ValueError: if a record has no picture to draw.
        """
        lacking = [record.key for record in records if record.target_image is None]
        if lacking:
            raise ValueError(
                f"record {lacking[0]} has no target picture, and everything here is drawn: let `data.sources` hold "
                "only kinds with targets (scenes, subjects, subject_edits)."
            )
        tokens = self.tokenizer.tokenize(
            [record.instruction for record in records],
            [record.source_image for record in records],
            [record.reference_images for record in records],
            shorten=True,
        )
        side = self.resolution
        blank = np.full((side, side, 3), BLANK, dtype=np.uint8)
        targets = [resize_square(record.target_image, side) for record in records]
        sources = [
            blank if record.source_image is None else resize_square(record.source_image, side) for record in records
        ]
        has_source = torch.tensor([float(record.source_image is not None) for record in records])
        changed = changed_mask(sources, targets)
        return EditBatch(
            tokens=tokens,
            source_pixels=to_pixels(sources),
            target_pixels=to_pixels(targets),
            changed_mask=changed.masked_fill(has_source[:, None, None, None] == 0, 1.0),
            is_edit=torch.ones(len(records)),
            has_source=has_source,
        )
