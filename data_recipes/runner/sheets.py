"""Contact sheets: pairs as before | after | mask with their instruction, and why the refused ones were refused."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from insightedit.images.reading import read_rgb

ON_SHEET = 24
COLUMNS = 3
TILES = 3  # pictures of a cell beside references
NARROW = 300  # px that words need
GAP, MARGIN, LINE, HEADER = 4, 24, 18, 52
LINES = 3  # of an instruction, at most
INK, PALE, WARN, FRAME, PAPER = (25, 25, 30), (110, 110, 120), (165, 60, 30), (190, 190, 200), (255, 255, 255)

Cell = Mapping[str, Any]


def contact_sheet(cells: Sequence[Cell], title: str) -> bytes:
    """PNG of a sheet.

    Args:
        cells: as `measure.UnitCounts` keeps them; the first `ON_SHEET` are shown.
        title: above them.

    Raises:
        ValueError: if there is no cell.
    """
    if not cells:
        raise ValueError("a contact sheet needs at least one pair.")
    shown = cells[:ON_SHEET]
    tiles = max(len(cell["pictures"]) for cell in shown)
    columns = max(1, min(COLUMNS * TILES // max(tiles, TILES), len(shown)))
    pitch = max(_decoded(text).width for cell in shown for text in cell["pictures"]) + GAP
    width = max(tiles * pitch - GAP, NARROW)
    heights = [_height(cell) for cell in shown]
    words = max(len(_wrapped(cell["instruction"], width)) for cell in shown)
    rows = [range(first, min(first + columns, len(shown))) for first in range(0, len(shown), columns)]
    tops = [max(heights[number] for number in row) for row in rows]
    below = (words + 1 + any(cell["why"] for cell in shown)) * LINE + MARGIN
    full = max(MARGIN + columns * (width + MARGIN), int(_font(18).getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (full, HEADER + sum(tops) + below * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 16), title, INK, _font(18))
    top = HEADER
    for row, high in zip(rows, tops, strict=True):
        for place, number in enumerate(row):
            _draw(sheet, draw, (MARGIN + place * (width + MARGIN), top), shown[number], (high, pitch, width))
        top += high + below
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _draw(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], cell: Cell, sizes: tuple[int, int, int]
) -> None:
    (left, top), (high, pitch, width) = corner, sizes
    for place, text in enumerate(cell["pictures"]):
        picture = _decoded(text)
        x = left + place * pitch
        sheet.paste(picture, (x, top))
        draw.rectangle((x - 1, top - 1, x + picture.width, top + picture.height), outline=FRAME)
    y = top + high + GAP
    for line in _wrapped(cell["instruction"], width):
        draw.text((left, y), line, INK, _font(14))
        y += LINE
    scores = ", ".join(f"{name} {value:g}" for name, value in cell["scores"].items())
    facts = " · ".join(part for part in (cell["key"], cell["task"], scores) if part)
    draw.text((left, y), _cut(facts, width, 12), PALE, _font(12))
    if cell["why"]:
        why = " ".join(f"{cell['why']}: {cell['detail']}".rstrip(": ").split())
        draw.text((left, y + LINE), _cut(why, width, 12), WARN, _font(12))


def _height(cell: Cell) -> int:
    return max((_decoded(text).height for text in cell["pictures"]), default=0)


def _decoded(text: str) -> Image.Image:
    return Image.fromarray(read_rgb(base64.b64decode(text)))


def _wrapped(text: str, width: int) -> list[str]:
    """At most three lines; what does not fit ends in dots."""
    font, lines = _font(14), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1]} ..."]
    return [_cut(line, width, 14) for line in lines]


def _cut(text: str, width: int, size: int) -> str:
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
