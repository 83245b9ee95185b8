"""Masks as COCO's compressed run lengths, the form in which AdvancedEdit publishes them.

Source: the format of COCO's annotations (cocodataset/cocoapi, maskApi); reading is
`insightedit.datasets.segmentation`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from insightedit.datasets.reading import FIELDS, ReadError
from insightedit.datasets.segmentation import coco_mask


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO writes it.

    Args:
        mask: (H, W) bool.

    Returns:
        `{"size": [H, W], "counts": text}`.
    """
    height, width = mask.shape
    flat = np.asarray(mask, dtype=bool).T.reshape(-1)  # column after column
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat.size and flat[0]:
        runs = [0, *runs]  # the first run is one of zeros
    return {"size": [height, width], "counts": compress(runs)}


def compress(runs: Sequence[int]) -> str:
    """Run lengths -> text: five bits a letter, lowest first, bit 6 = more to come; from the fourth on, differences."""
    letters = bytearray()
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        while True:
            bits = value & 0x1F
            value >>= 5
            is_last = value == (-1 if bits & 0x10 else 0)
            letters.append((bits if is_last else bits | 0x20) + 48)
            if is_last:
                break
    return letters.decode("ascii")


def decode_mask(segmentation: Any) -> np.ndarray | None:
    """(H, W) bool of a record's `segmentation`; None where there is none.

    Raises:
        ReadError: if it is of another form.
    """
    if segmentation in (None, "", [], {}):
        return None
    try:
        height, width = (int(side) for side in segmentation["size"])
        return coco_mask(segmentation, height, width)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReadError(FIELDS, f"`segmentation` is not COCO's run lengths: {error}") from None
