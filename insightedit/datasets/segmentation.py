"""Segmentation as editing: "colour the dog red" -> the dog's pixels blended half and half with red.

Source: InstructDiffusion's idea in SmartEdit's numbers (50 %, eight named colours, eleven instructions); the wordings
and the shades are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from insightedit.datasets.random_choice_dataset import choose
from insightedit.datasets.reading import FIELDS, ReadError
from insightedit.types import EditRecord

BLEND = 0.5  # SmartEdit
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255),
    "magenta": (255, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0),
}  # fmt: skip
TEMPLATES = (
    "Colour {thing} {colour} and leave the rest as it is.",
    "Lay a {colour} veil over {thing}.",
    "Mark {thing} in {colour}.",
    "Where is {thing}? Show it in {colour}.",
    "Tint the pixels of {thing} {colour}.",
    "Make {thing} shine through in {colour}.",
    "Highlight {thing} with {colour}, nothing else.",
    "Find {thing} and shade it {colour}.",
    "Cover {thing} with half-transparent {colour}.",
    "Segment {thing}; use {colour}.",
    "Give {thing} a {colour} overlay.",
)


def paint(image: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """Blend a region, (H, W) bool, of an (H, W, 3) uint8 picture with a named colour; the rest stays, byte for byte.

    Raises:
        ValueError: if picture and mask are not of one size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"the mask is {mask.shape}, its picture {image.shape[:2]}: they must be of one size.")
    painted = image.copy()
    blended = (1 - BLEND) * image[mask] + BLEND * np.array(COLOURS[colour])
    painted[mask] = np.round(blended).astype(np.uint8)
    return painted


def painting_record(key: str, image: np.ndarray, mask: np.ndarray, thing: str, rng: np.random.Generator) -> EditRecord:
    """An editing record; wording and colour are drawn. With an empty mask nothing is painted, and target = source.

    Args:
        key: name of the record.
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        thing: what the mask covers, with its article, e.g. `the left dog`.
        rng: of this visit.
    """
    colour = choose(tuple(COLOURS), rng)
    instruction = choose(TEMPLATES, rng).format(thing=thing, colour=colour)
    return EditRecord(key, instruction, source_image=image, target_image=paint(image, mask, colour))


def polygon_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Polygons [x, y, x, y, ...] in pixels -> (H, W) bool, all of them filled.

    Raises:
        ValueError: if a polygon has fewer than three corners.
    """
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers: it takes x and y of three corners or more.")
        pen.polygon([(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1)
    return np.asarray(canvas, dtype=bool)


def run_length_mask(counts: str | Sequence[int], height: int, width: int) -> np.ndarray:
    """COCO's run lengths -> (H, W) bool.

    `counts` are lengths of runs of 0 and 1 in turn, column after column, as numbers or as COCO's compressed text.

    Raises:
        ValueError: if the runs do not fill the picture.
    """
    runs = _decompress(counts) if isinstance(counts, str) else list(counts)
    if sum(runs) != height * width or min(runs, default=-1) < 0:
        raise ValueError(f"the runs of a mask fill {sum(runs)} pixels of {height} x {width}.")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def coco_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """COCO's `segmentation` in any of its forms -> (H, W) bool.

    Raises:
        ValueError: if it has another form.
    """
    if isinstance(segmentation, dict):
        return run_length_mask(segmentation["counts"], height, width)
    if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], dict):
        masks = [run_length_mask(part["counts"], height, width) for part in segmentation]
        return np.logical_or.reduce(masks)
    if isinstance(segmentation, list) and segmentation:
        return polygon_mask(segmentation, height, width)
    raise ValueError(f"a segmentation is {segmentation!r}: it is polygons or run lengths.")


def _decompress(text: str) -> list[int]:
    """COCO's text: five bits a letter, lowest first, bit 6 = more to come; from the fourth run on, differences."""
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """An (H, W) bool mask as COCO writes it: `{"size": [H, W], "counts": text}`."""
    height, width = mask.shape
    flat = np.asarray(mask, dtype=bool).T.reshape(-1)  # column after column
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat.size and flat[0]:
        runs = [0, *runs]  # the first run is one of zeros
    return {"size": [height, width], "counts": _compress(runs)}


def _compress(runs: Sequence[int]) -> str:
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
