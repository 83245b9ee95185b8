"""A sheet of pairs to look at: cards with pictures side by side and what is said about them, as HTML or PNG.

The HTML file needs nothing else: pictures are inside it, text is escaped, and it may load nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from insightedit.files import check_others, write_atomically, write_text
from insightedit.images.data_addresses import picture_address

SIDE = 192  # pixels of a picture's longer side on a sheet
ENDINGS = (".html", ".png")
WIDTH, MARGIN, GAP, LINE = 1200, 20, 10, 19  # of the PNG
INK, FAINT, PAPER, FRAME = (25, 25, 30), (110, 110, 118), (255, 255, 255), (200, 200, 205)
GROUNDS = {"learned": (205, 238, 224), "picture": (214, 224, 255), "pad": None, "": None}
MAX_LINES = 12  # of one paragraph on a PNG


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
        if max(image.size) > SIDE:
            image = image.resize(self.shown, Image.Resampling.LANCZOS)
        return picture_address(image)


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


def check_sheet_path(path: Path) -> None:
    """Find what is wrong with a sheet's name before anything is read.

    Raises:
        ValueError: if it ends in something else than .html or .png, is a folder, or somebody's file.
        FileNotFoundError: if its folder is missing.
    """
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise ValueError(f"the sheet {path} has to be a file that ends in {' or '.join(ENDINGS)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} for the sheet: make it first, or write elsewhere.")
    check_others({"the sheet": path})


def write_pair_sheet(sheet: Sheet, path: Path) -> None:
    """Write a sheet as HTML or PNG, by its ending.

    Raises:
        ValueError, FileNotFoundError: as `check_sheet_path`.
    """
    check_sheet_path(path)
    if path.suffix.lower() == ".png":
        save_sheet(draw(sheet), path)
    else:
        write_text(path, render(sheet))


def save_sheet(image: Image.Image, path: Path) -> None:
    """Write a drawn sheet as a PNG that says who wrote it."""
    note = PngInfo()
    note.add_text("Software", "insightedit")
    with write_atomically(path) as aside:
        image.save(aside, format="PNG", pnginfo=note)


def render(sheet: Sheet) -> str:
    """The sheet as HTML."""
    from jinja2 import Environment, StrictUndefined

    template = files("insightedit").joinpath("templates/pairs.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(template).render(sheet=sheet)


def draw(sheet: Sheet) -> Image.Image:
    """The sheet as one RGB picture, 1200 px wide; as tall as it needs."""
    measured = _Canvas(None)
    measured.draw(sheet)
    image = Image.new("RGB", (WIDTH, measured.top + MARGIN), PAPER)
    _Canvas(image).draw(sheet)
    return image


class _Canvas:
    """Draws from the top down; without an image it only measures."""

    def __init__(self, image: Image.Image | None) -> None:
        self.image = image
        self.pen = None if image is None else ImageDraw.Draw(image)
        self.top = MARGIN

    def draw(self, sheet: Sheet) -> None:
        self.text(sheet.title, 20)
        for note in sheet.notes:
            self.paragraph(Paragraph.of(note), 14, FAINT)
        for table in sheet.tables:
            self.table(table)
        for section in sheet.sections:
            self.top += GAP
            self.text(section.title, 17)
            if section.note:
                self.paragraph(Paragraph.of(section.note), 14, FAINT)
            for card in section.cards:
                self.card(card)

    def text(self, text: str, size: int) -> None:
        if self.pen is not None:
            self.pen.text((MARGIN, self.top), text, INK, _font(size))
        self.top += round(size * 1.6)

    def table(self, table: SheetTable) -> None:
        self.top += GAP
        self.text(table.title, 15)
        rows = [table.head, *table.rows]
        widths = [max(_font(13).getlength(row[i]) for row in rows) + 24 for i in range(len(table.head))]
        for number, row in enumerate(rows):
            left = float(MARGIN)
            for cell, width in zip(row, widths, strict=True):
                if self.pen is not None:
                    self.pen.text((left, self.top), cell, INK if number else FAINT, _font(13))
                left += width
            self.top += LINE
        self.top += GAP

    def card(self, card: PairCard) -> None:
        self.top += GAP
        self.text(card.title, 14)
        left, tallest = MARGIN, 0
        for tile in card.tiles:
            width, height = tile.shown
            if left + width > WIDTH - MARGIN:
                self.top, left, tallest = self.top + tallest + LINE + GAP, MARGIN, 0
            if self.image is not None and self.pen is not None:
                how = Image.Resampling.LANCZOS if max(tile.pixels.shape[:2]) > SIDE else Image.Resampling.NEAREST
                self.image.paste(Image.fromarray(tile.pixels).resize((width, height), how), (left, self.top))
                self.pen.rectangle((left - 1, self.top - 1, left + width, self.top + height), outline=FRAME)
                self.pen.text((left, self.top + height + 3), tile.label, FAINT, _font(12))
            left, tallest = left + width + GAP, max(tallest, height)
        self.top += tallest + LINE + 4 if card.tiles else 0
        for line in card.lines:
            self.paragraph(line, 14)
        self.top += GAP
        if self.pen is not None:
            self.pen.line((MARGIN, self.top, WIDTH - MARGIN, self.top), fill=FRAME)

    def paragraph(self, line: Paragraph, size: int, ink: tuple[int, int, int] = INK) -> None:
        left, lines = float(MARGIN), 1
        font = _font(size)
        for run in line.runs:
            for word in _pieces(run.text):
                width = font.getlength(word)
                if left + width > WIDTH - MARGIN and left > MARGIN:
                    left, lines = float(MARGIN), lines + 1
                    self.top += LINE
                    if lines > MAX_LINES:
                        self._word("...", MARGIN, ink, "", size)
                        self.top += LINE
                        return
                self._word(word, left, FAINT if run.style == "pad" else ink, run.style, size)
                left += width
        self.top += LINE + 2

    def _word(self, word: str, left: float, ink: tuple[int, int, int], style: str, size: int) -> None:
        if self.pen is None:
            return
        ground = GROUNDS.get(style)
        if ground is not None:
            right = left + _font(size).getlength(word)
            self.pen.rectangle((left, self.top, right, self.top + LINE - 2), fill=ground)
        self.pen.text((left, self.top), word, ink, _font(size))


def _pieces(text: str) -> Sequence[str]:
    """Words with the blanks before them."""
    pieces, word = [], ""
    for letter in text:
        if letter == " " and word.strip():
            pieces.append(word)
            word = ""
        word += letter
    return [*pieces, word] if word else pieces


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
