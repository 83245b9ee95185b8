"""How near a whole-picture edit, drawn at a model's resolution, comes to the exact operation on the photograph.

python benchmarks/tone_transfer.py PHOTOGRAPHS            # ideal drawings: the operation at 64 px
python benchmarks/tone_transfer.py PHOTOGRAPHS --disturbed  # the same through the embedded model's autoencoder

Median PSNR in dB over the photographs of a folder, by operation: of the drawing stretched, of what it changed added to
the photograph, and of the map of colours that `insightedit edit` uses.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC

from insightedit.generation.autoencoder import decode, encode_source
from insightedit.images.background import compute_edit_map, paste_edit, psnr
from insightedit.images.reading import (
    is_picture_file,
    pixels_to_tensor,
    read_picture,
    read_rgb,
    squash,
    stretch,
    tensor_to_pixels,
)
from insightedit.images.tones import OPERATIONS, apply_tone

SIDE = 64  # of the embedded model
VAE = Path(__file__).parents[1] / "insightedit/weights/default/vae"

logger = logging.getLogger(__name__)


def drawings(photo: np.ndarray, vae: AutoencoderDC | None) -> list[np.ndarray]:
    """The photograph and all operations on it, at the model's size: (S, S, 3) float32 in [0, 255]."""
    small = squash(photo, SIDE)
    exact = [small, *(apply_tone(small, phrase) for phrase in OPERATIONS)]
    if vae is None:
        return [one.astype(np.float32) for one in exact]
    pixels = torch.stack([pixels_to_tensor(one) for one in exact])
    return [tensor_to_pixels(one) for one in decode(vae, encode_source(vae, pixels, scaled=True))]


def measure(photo: np.ndarray, vae: AutoencoderDC | None) -> np.ndarray:
    """(operations, 3) in dB: drawing, change added, map of colours."""
    picture, everywhere = read_picture(photo), np.ones(photo.shape[:2], bool)
    source, *drawn = drawings(photo, vae)
    rows = []
    for phrase, drawing in zip(OPERATIONS, drawn, strict=True):
        found = [
            stretch(drawing, picture.size),
            photo + stretch(drawing - source, picture.size),
            paste_edit(picture, compute_edit_map(drawing, source, whole_picture=True), None, True)[0].colour,
        ]
        truth = apply_tone(photo, phrase)
        rows.append([psnr(np.rint(np.clip(one, 0, 255)), truth, everywhere) for one in found])
    return np.array(rows, dtype=float)


def main() -> None:
    """Measure a folder and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--disturbed", action="store_true", help="through the embedded autoencoder")
    parser.add_argument("--count", type=int, default=8, help="photographs, evenly from the folder")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(one for one in given.photographs.iterdir() if is_picture_file(one))
    vae = AutoencoderDC.from_pretrained(VAE, dtype=torch.float32) if given.disturbed else None
    chosen = files[:: max(1, len(files) // given.count)][: given.count]
    medians = np.median([measure(read_rgb(one), vae) for one in chosen], axis=0)
    for phrase, row in zip(OPERATIONS, medians, strict=True):
        logger.info("%-26s drawing %5.1f  added %5.1f  map %5.1f", phrase, *row)
    logger.info("%-26s drawing %5.1f  added %5.1f  map %5.1f", "median of all", *np.median(medians, axis=0))


if __name__ == "__main__":
    main()
