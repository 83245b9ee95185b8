"""A labelled contact sheet: references, source, target and mask of some samples, with their instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from insightedit.files import check_others
from insightedit.images.pair_sheet import save_sheet
from insightedit.scenes.sampler import EditSample
from insightedit.scenes.subjects import SubjectSample

Sample = EditSample | SubjectSample

COLUMNS = 4
TILE = 128  # px; smaller pictures are enlarged in whole steps, so that their pixels stay visible
GAP = 4
MARGIN = 20
LINE = 17
LINES = 3  # of an instruction, at most
HEADER = 44
INK, PALE, FRAME, PAPER = (25, 25, 30), (120, 120, 130), (190, 190, 200), (255, 255, 255)


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
    num_tiles = len(tiles(samples[0], num_references))
    width = num_tiles * side + (num_tiles - 1) * GAP
    lines = max(len(wrap(sample.instruction, width)) for sample in samples)
    cell = (width, side + (lines + 1) * LINE + GAP)
    columns = min(COLUMNS * 3 // num_tiles, len(samples))
    rows = -(-len(samples) // columns)
    sheet_size = (MARGIN + columns * (cell[0] + MARGIN), HEADER + rows * (cell[1] + MARGIN))
    sheet = Image.new("RGB", sheet_size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, INK, _font(18))
    for number, sample in enumerate(samples):
        row, column = divmod(number, columns)
        corner = MARGIN + column * (cell[0] + MARGIN), HEADER + row * (cell[1] + MARGIN)
        _draw_cell(sheet, draw, corner, side, sample, num_references)
    return sheet


def tiles(sample: Sample, num_references: int = 0) -> list[np.ndarray | None]:
    """Pictures of one cell, (H, W, 3) or (H, W) uint8; None where another sample has one reference more."""
    missing = [None] * (num_references - len(sample.references))
    source = [] if sample.source is None else [sample.source]
    return [*sample.references, *missing, *source, sample.target, sample.mask.astype(np.uint8) * 255]


def tile_side(size: int) -> int:
    """Pixels that a picture of `size` takes on the sheet."""
    return size * max(1, TILE // size) if size <= 2 * TILE else TILE * 2


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    side: int,
    sample: Sample,
    num_references: int,
) -> None:
    left, top = corner
    pictures = tiles(sample, num_references)
    for place, pixels in enumerate(pictures):
        if pixels is None:
            continue
        tile = Image.fromarray(pixels).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
        x = left + place * (side + GAP)
        sheet.paste(tile, (x, top))
        draw.rectangle((x - 1, top - 1, x + side, top + side), outline=FRAME)  # white masks on white paper
    text = top + side + GAP
    for line in wrap(sample.instruction, len(pictures) * (side + GAP) - GAP):
        draw.text((left, text), line, INK, _font(14))
        text += LINE
    kind = f"#{sample.index}  {sample.task}, {sample.category}, {sample.style}".replace("_", " ")
    draw.text((left, text), kind, PALE, _font(12))


def wrap(text: str, width: int) -> list[str]:
    """At most three lines of `width` pixels; what does not fit ends in dots."""
    font = _font(14)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1]} ..."]
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
