"""A labelled contact sheet: references, source, target and mask of some samples, with their instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from insightedit.files import check_others
from insightedit.images.sheets import GridCell, draw_grid
from insightedit.scenes.sampler import EditSample
from insightedit.scenes.subjects import SubjectSample

Sample = EditSample | SubjectSample

TILES_IN_ROW = 12
TILE = 128  # px; smaller pictures are enlarged in whole steps, so that their pixels stay visible


def check_sheet_path(path: Path) -> None:
    """Find what is wrong with the name of a sheet before anything is rendered.

    Raises:
        ValueError: if it does not end in .png, or is somebody's file.
        OSError: if it is a folder, or its folder is missing.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"--sheet {path} does not end in .png: sheets are PNG pictures.")
    if path.is_dir():
        raise IsADirectoryError(f"--sheet {path} is a folder: name a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} for --sheet: make it first, or write elsewhere.")
    check_others({"--sheet": path})


def contact_sheet(samples: Sequence[Sample], title: str) -> Image.Image:
    """Cells of references | source | target | mask, as far as there are any, with instruction and kind below.

    Cells stand four in a row, or fewer where references make them wider. All samples are of one sampler.

    Raises:
        ValueError: if there is no sample.
    """
    if not samples:
        raise ValueError("a contact sheet needs at least one sample.")
    side = tile_side(samples[0].target.shape[0])
    num_references = max(len(sample.references) for sample in samples)
    cells = []
    for sample in samples:
        images = [
            None if one is None else Image.fromarray(one).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            for one in tiles(sample, num_references)
        ]
        kind = f"#{sample.index}  {sample.task}, {sample.category}, {sample.style}".replace("_", " ")
        cells.append(GridCell(tuple(images), sample.instruction, kind))
    return draw_grid(title, cells, TILES_IN_ROW)


def tiles(sample: Sample, num_references: int = 0) -> list[np.ndarray | None]:
    """Pictures of one cell, (H, W, 3) or (H, W) uint8; None where another sample has one reference more."""
    missing = [None] * (num_references - len(sample.references))
    source = [] if sample.source is None else [sample.source]
    return [*sample.references, *missing, *source, sample.target, sample.mask.astype(np.uint8) * 255]


def tile_side(size: int) -> int:
    """Pixels that a picture of `size` takes on the sheet."""
    return size * max(1, TILE // size) if size <= 2 * TILE else TILE * 2
