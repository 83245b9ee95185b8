"""A labelled contact sheet: references, source, target and mask of some samples, with their instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from insightedit.files import check_others
from insightedit.images.sheets import GridCell, draw_grid, save_sheet
from insightedit.scenes.sampler import EditSample
from insightedit.scenes.subjects import SubjectSample

Sample = EditSample | SubjectSample

TILES_IN_ROW = 12
TILE = 128  # px; smaller pictures are enlarged in whole steps, so that their pixels stay visible


def write_sheet(path: Path, samples: Sequence[Sample], title: str) -> None:
    """Write a contact sheet as PNG.

    Raises:
        ValueError: if there is no sample, or `path` does not end in .png.
        FileNotFoundError: if the folder of `path` is missing.
    """
    check_sheet_path(path)
    save_sheet(contact_sheet(samples, title), path)


def check_sheet_path(path: Path) -> None:
    """Find what is wrong with the name of a sheet before anything is rendered; raises what `write_sheet` does."""
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
    return draw_grid(title, [_cell(sample, side, num_references) for sample in samples], TILES_IN_ROW)


def _cell(sample: Sample, side: int, num_references: int) -> GridCell:
    images = [
        None if one is None else Image.fromarray(one).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
        for one in tiles(sample, num_references)
    ]
    kind = f"#{sample.index}  {sample.task}, {sample.category}, {sample.style}".replace("_", " ")
    return GridCell(tuple(images), sample.instruction, kind)


def tiles(sample: Sample, num_references: int = 0) -> list[np.ndarray | None]:
    """Pictures of one cell, (H, W, 3) or (H, W) uint8; None where another sample has one reference more."""
    missing = [None] * (num_references - len(sample.references))
    source = [] if sample.source is None else [sample.source]
    return [*sample.references, *missing, *source, sample.target, sample.mask.astype(np.uint8) * 255]


def tile_side(size: int) -> int:
    """Pixels that a picture of `size` takes on the sheet."""
    return size * max(1, TILE // size) if size <= 2 * TILE else TILE * 2
