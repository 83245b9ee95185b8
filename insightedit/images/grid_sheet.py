"""A contact sheet: cells of pictures side by side with what is said about them, several to a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN, LINE, HEADER = 4, 20, 17, 44
LINES = 3  # of an instruction, at most
INK, PALE, WARN, FRAME, PAPER = (25, 25, 30), (110, 110, 120), (165, 60, 30), (190, 190, 200), (255, 255, 255)


@dataclass(frozen=True)
class GridCell:
    """One pair.

    Attributes:
        images: RGB, from left to right; None leaves a place free.
        instruction: below them, in at most three lines.
        facts: in small letters below that.
        warning: in red at the end.
    """

    images: tuple[Image.Image | None, ...]
    instruction: str
    facts: str = ""
    warning: str = ""


def draw_grid(title: str, cells: Sequence[GridCell], tiles_in_row: int, least_width: int = 0) -> Image.Image:
    """The sheet, RGB.

    Args:
        title: above the cells.
        cells: at least one.
        tiles_in_row: about so many pictures stand side by side.
        least_width: pixels that a cell's words need.
    """
    most = max(len(cell.images) for cell in cells)
    columns = max(1, min(tiles_in_row // most, len(cells)))
    pitch = max(image.width for cell in cells for image in cell.images if image) + GAP
    width = max(most * pitch - GAP, least_width)
    words = max(len(wrap(cell.instruction, width)) for cell in cells)
    below = (words + 1 + any(cell.warning for cell in cells)) * LINE + GAP + MARGIN
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    tops = [max(image.height for cell in row for image in cell.images if image) for row in rows]
    full = max(MARGIN + columns * (width + MARGIN), int(_font(18).getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (full, HEADER + sum(tops) + below * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, INK, _font(18))
    top = HEADER
    for row, high in zip(rows, tops, strict=True):
        for place, cell in enumerate(row):
            left = MARGIN + place * (width + MARGIN)
            for number, image in enumerate(cell.images):
                if image is not None:
                    x = left + number * pitch
                    sheet.paste(image, (x, top))
                    draw.rectangle((x - 1, top - 1, x + image.width, top + image.height), outline=FRAME)
            texts = [(line, INK, 14) for line in wrap(cell.instruction, width)]
            texts += [(cell.facts, PALE, 12), (cell.warning, WARN, 12)]
            for number, (text, ink, size) in enumerate(texts):
                draw.text((left, top + high + GAP + number * LINE), _cut(text, width, size), ink, _font(size))
        top += high + below
    return sheet


def wrap(text: str, width: int) -> list[str]:
    """At most three lines of `width` pixels; what does not fit ends in dots."""
    font, lines = _font(14), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1]} ..."]


def _cut(text: str, width: int, size: int) -> str:
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
