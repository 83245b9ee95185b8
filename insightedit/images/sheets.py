"""Contact sheets: grids of pictures, and cards of pairs with what is said about them, as HTML or PNG.

The HTML file needs nothing else: pictures are inside it, text is escaped, and it may load nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from insightedit.files import check_others, write_atomically, write_text
from insightedit.images.picture_files import picture_address

MARGIN, INK, PAPER = 20, (25, 25, 30), (255, 255, 255)
GAP, LINE, HEADER = 4, 17, 44  # of a grid
GRID_PALE, GRID_WARN, GRID_FRAME = (110, 110, 120), (165, 60, 30), (190, 190, 200)
GRID_LINES = 3  # of an instruction, at most

ENDINGS = (".html", ".png")
SIDE = 192  # pixels of a picture's longer side on a card
WIDTH, CARD_GAP, CARD_LINE = 1200, 10, 19  # of the PNG
FAINT, FRAME = (110, 110, 118), (200, 200, 205)
GROUNDS = {"learned": (205, 238, 224), "picture": (214, 224, 255)}
MAX_LINES = 12  # of one paragraph on a PNG


@cache
def sheet_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters of all sheets."""
    return ImageFont.load_default(size)


def save_sheet(image: Image.Image, path: Path) -> None:
    """Write a drawn sheet as a PNG that says who wrote it."""
    note = PngInfo()
    note.add_text("Software", "insightedit")
    with write_atomically(path) as aside:
        image.save(aside, format="PNG", pnginfo=note)


@dataclass(frozen=True)
class GridCell:
    """Pictures (RGB) from left to right, None leaves a place free, and what is written below them."""

    images: tuple[Image.Image | None, ...]
    instruction: str  # at most three lines
    facts: str = ""  # in small letters, line by line
    warning: str = ""  # in red


def draw_grid(title: str, cells: Sequence[GridCell], tiles_in_row: int, least_width: int = 0) -> Image.Image:
    """Cells side by side below a title, RGB; about `tiles_in_row` pictures to a row.

    `least_width` are the pixels that a cell's words need.
    """
    most = max(len(cell.images) for cell in cells)
    columns = max(1, min(tiles_in_row // most, len(cells)))
    pitch = max(image.width for cell in cells for image in cell.images if image) + GAP
    width = max(most * pitch - GAP, least_width)
    words = max(len(wrap(cell.instruction, width)) for cell in cells)
    words += max(len(cell.facts.splitlines()) or 1 for cell in cells)
    below = (words + any(cell.warning for cell in cells)) * LINE + GAP + MARGIN
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    tops = [max(image.height for cell in row for image in cell.images if image) for row in rows]
    full = max(MARGIN + columns * (width + MARGIN), int(sheet_font(18).getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (full, HEADER + sum(tops) + below * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, INK, sheet_font(18))
    top = HEADER
    for row, high in zip(rows, tops, strict=True):
        for place, cell in enumerate(row):
            left = MARGIN + place * (width + MARGIN)
            for number, image in enumerate(cell.images):
                if image is not None:
                    x = left + number * pitch
                    sheet.paste(image, (x, top))
                    draw.rectangle((x - 1, top - 1, x + image.width, top + image.height), outline=GRID_FRAME)
            texts = [(line, INK, 14) for line in wrap(cell.instruction, width)]
            texts += [(line, GRID_PALE, 12) for line in cell.facts.splitlines() or [""]]
            texts.append((cell.warning, GRID_WARN, 12))
            for number, (text, ink, size) in enumerate(texts):
                draw.text((left, top + high + GAP + number * LINE), _cut(text, width, size), ink, sheet_font(size))
        top += high + below
    return sheet


def wrap(text: str, width: int) -> list[str]:
    """At most three lines of `width` pixels; what does not fit ends in dots."""
    font, lines = sheet_font(14), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if len(lines) <= GRID_LINES else [*lines[: GRID_LINES - 1], f"{lines[GRID_LINES - 1]} ..."]


def _cut(text: str, width: int, size: int) -> str:
    font = sheet_font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


@dataclass(frozen=True)
class Tile:
    """One picture: (h, w, 3) uint8 RGB, and what it is."""

    label: str
    pixels: np.ndarray

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height on the sheet: small pictures are enlarged in whole steps, large ones made smaller."""
        height, width = self.pixels.shape[:2]
        longer = max(height, width)
        if longer <= SIDE:
            times = SIDE // longer
            return width * times, height * times
        return max(1, round(width * SIDE / longer)), max(1, round(height * SIDE / longer))

    @property
    def address(self) -> str:
        """The picture as a data address."""
        image = Image.fromarray(self.pixels)
        small = max(image.size) <= SIDE
        return picture_address(image if small else image.resize(self.shown, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Run:
    """A piece of text; `style` is learned, picture, pad, or nothing."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `is_code` shows it as tokens."""

    runs: tuple[Run, ...]
    is_code: bool = False

    @classmethod
    def of(cls, text: str) -> Paragraph:
        """A paragraph of plain text."""
        return cls((Run(text),))


@dataclass(frozen=True)
class PairCard:
    """One pair: pictures from left to right, and what is said about them."""

    title: str
    tiles: tuple[Tile, ...]
    lines: tuple[Paragraph, ...] = ()


@dataclass(frozen=True)
class Section:
    """Cards under one heading."""

    title: str
    cards: tuple[PairCard, ...]
    note: str = ""


@dataclass(frozen=True)
class SheetTable:
    """Rows of texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sheet:
    """The whole: heading, remarks, tables, cards."""

    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[SheetTable, ...] = ()
    sections: tuple[Section, ...] = ()


def check_sheet_path(path: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Find what is wrong with a sheet's name before anything is read: its ending, its folder, or somebody's file."""
    if path.suffix.lower() not in endings or path.is_dir():
        raise ValueError(f"the sheet {path} has to be a file that ends in {' or '.join(endings)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} for the sheet: make it first, or write elsewhere.")
    check_others({"the sheet": path})


def write_pair_sheet(sheet: Sheet, path: Path) -> None:
    """Write a sheet as HTML or PNG, by its ending; raises what `check_sheet_path` does."""
    check_sheet_path(path)
    if path.suffix.lower() == ".png":
        save_sheet(draw(sheet), path)
    else:
        write_text(path, render(sheet))


def render(sheet: Sheet) -> str:
    """The sheet as HTML."""
    from jinja2 import Environment, StrictUndefined

    template = files("insightedit").joinpath("templates/pairs.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(template).render(sheet=sheet)


def draw(sheet: Sheet) -> Image.Image:
    """The sheet as one RGB picture, 1200 px wide; as tall as it needs."""
    measured = _Canvas(1)  # what is drawn beyond its row is lost
    measured.draw(sheet)
    canvas = _Canvas(measured.top + MARGIN)
    canvas.draw(sheet)
    return canvas.image


class _Canvas:
    """Draws from the top down."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (WIDTH, height), PAPER)
        self.pen, self.top = ImageDraw.Draw(self.image), MARGIN

    def draw(self, sheet: Sheet) -> None:
        self.text(sheet.title, 20)
        for note in sheet.notes:
            self.paragraph(Paragraph.of(note), FAINT)
        for table in sheet.tables:
            self.table(table)
        for section in sheet.sections:
            self.top += CARD_GAP
            self.text(section.title, 17)
            if section.note:
                self.paragraph(Paragraph.of(section.note), FAINT)
            for card in section.cards:
                self.card(card)

    def text(self, text: str, size: int) -> None:
        self.pen.text((MARGIN, self.top), text, INK, sheet_font(size))
        self.top += round(size * 1.6)

    def table(self, table: SheetTable) -> None:
        self.top += CARD_GAP
        self.text(table.title, 15)
        rows = [table.head, *table.rows]
        widths = [max(sheet_font(13).getlength(row[i]) for row in rows) + 24 for i in range(len(table.head))]
        for number, row in enumerate(rows):
            left = float(MARGIN)
            for cell, width in zip(row, widths, strict=True):
                self.pen.text((left, self.top), cell, INK if number else FAINT, sheet_font(13))
                left += width
            self.top += CARD_LINE
        self.top += CARD_GAP

    def card(self, card: PairCard) -> None:
        self.top += CARD_GAP
        self.text(card.title, 14)
        left, tallest = MARGIN, 0
        for tile in card.tiles:
            width, height = tile.shown
            if left + width > WIDTH - MARGIN:
                self.top, left, tallest = self.top + tallest + CARD_LINE + CARD_GAP, MARGIN, 0
            how = Image.Resampling.LANCZOS if max(tile.pixels.shape[:2]) > SIDE else Image.Resampling.NEAREST
            self.image.paste(Image.fromarray(tile.pixels).resize((width, height), how), (left, self.top))
            self.pen.rectangle((left - 1, self.top - 1, left + width, self.top + height), outline=FRAME)
            self.pen.text((left, self.top + height + 3), tile.label, FAINT, sheet_font(12))
            left, tallest = left + width + CARD_GAP, max(tallest, height)
        self.top += tallest + CARD_LINE + 4 if card.tiles else 0
        for line in card.lines:
            self.paragraph(line)
        self.top += CARD_GAP
        self.pen.line((MARGIN, self.top, WIDTH - MARGIN, self.top), fill=FRAME)

    def paragraph(self, line: Paragraph, ink: tuple[int, int, int] = INK) -> None:
        words = [(word, run.style) for run in line.runs for word in re.findall(r"\s*\S[^ ]*|\s+$", run.text)]
        left, lines, font = float(MARGIN), 1, sheet_font(14)
        for word, style in words:
            width = font.getlength(word)
            if left + width > WIDTH - MARGIN and left > MARGIN:
                left, lines = float(MARGIN), lines + 1
                self.top += CARD_LINE
                if lines > MAX_LINES:
                    self.pen.text((left, self.top), "...", ink, font)
                    break
            if style in GROUNDS:
                self.pen.rectangle((left, self.top, left + width, self.top + CARD_LINE - 2), fill=GROUNDS[style])
            self.pen.text((left, self.top), word, FAINT if style == "pad" else ink, font)
            left += width
        self.top += CARD_LINE + (2 if lines <= MAX_LINES else 0)
