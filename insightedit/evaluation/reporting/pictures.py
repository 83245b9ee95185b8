"""Samples as pictures: source, target with the mask's outline, every output, and where the outputs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from insightedit.evaluation.core.run_folder import RunSample
from insightedit.evaluation.photos.report import PhotoExample
from insightedit.evaluation.reporting.choice import Block
from insightedit.evaluation.reporting.runs import ReportRun
from insightedit.evaluation.reporting.tables import BINARY
from insightedit.evaluation.scenes.metrics import largest_change
from insightedit.evaluation.scenes.report import Example
from insightedit.images import sheets
from insightedit.images.picture_files import picture_address
from insightedit.images.reading import read_picture, to_rgb
from insightedit.pipelines.report import heat_overlay

SIDE = 256  # pixels of the longer side of a thumbnail, at most
SMALL = 128  # pixels of the longer side up to which pictures are kept exactly
QUALITY = 88  # of WebP, for thumbnails of larger pictures
CELL = 128  # pixels of a side of one picture on a contact sheet
COLUMNS = 2  # cards side by side
OUTLINE, RIM = (255, 225, 0), (0, 0, 0)
SMOOTH, BLOCKY = Image.Resampling.LANCZOS, Image.Resampling.NEAREST


@dataclass(frozen=True)
class Thumbnail:
    """One picture of a card."""

    label: str  # above or below it
    rgb: np.ndarray | None  # (h, w, 3) uint8, neither side above `SIDE`; None if there is no such picture
    is_exact: bool = False  # whether every pixel of the file is shown, so that it must not be compressed lossily
    times: int = 1  # how often each pixel is repeated

    @cached_property
    def address(self) -> str:
        """The picture as WebP inside a data address, "" without picture."""
        if self.rgb is None:
            return ""
        options = {"lossless": True} if self.is_exact else {"quality": QUALITY}
        return picture_address(Image.fromarray(self.rgb), "WEBP", method=4, **options)


@dataclass(frozen=True)
class SampleCard:
    """One sample of a contact sheet."""

    sample: RunSample  # what was asked
    pictures: tuple[Thumbnail, ...]  # from left to right
    numbers: tuple[tuple[str, str], ...]  # (method, "metric value, metric value")
    note: str = ""  # what the rule that chose it says


def example_card(example: Example) -> SampleCard:
    """The card of a scene that is in memory; its numbers are those of the exact metrics."""
    line, start = example.line, "backdrop" if example.is_new else "source"
    pictures = {f"reference {number}": rgb for number, rgb in enumerate(example.references, 1)}
    pictures |= {start: example.source, "output": example.output, "target": example.target}
    change = _heat(example.source, example.output)
    told = [f"progress {line['progress']:.2f}"]
    told += [] if line["leak"] is None else [f"leak {100 * line['leak']:.1f} %"]
    told += [] if line["psnr_background"] is None else [f"background {line['psnr_background']:.1f} dB"]
    return SampleCard(
        RunSample(
            line["sample_id"], line["instruction"], category=f"{line['task']}, {line['category']}, {line['style']}"
        ),
        tuple(_shown(label, rgb) for label, rgb in {**pictures, f"|output - {start}|": change}.items()),
        (("", ", ".join(told)),),
        note=", ".join([line["verdict"], *line["failures"]]),
    )


def photo_card(example: PhotoExample) -> SampleCard:
    """The card of a request on a photograph; the answer stands beside what was made of it."""
    request, facts = example.request, example.facts
    told = [] if facts.get("psnr") is None else [f"{facts['psnr']:.1f} dB, progress {facts['progress']:.2f}"]
    told += [] if facts["words"] is None else [f"understood as: {facts['words']}"]
    told += ["said so"] if facts["said_so"] else []
    pictures = {"source": example.source, "output": example.output, "right answer": example.target}
    change = _heat(example.source, example.output)
    return SampleCard(
        RunSample(request.name, request.instruction, category=request.category),
        tuple(_shown(label, rgb) for label, rgb in {**pictures, "|output - source|": change}.items()),
        (("", "; ".join(told)),),
        note=facts["verdict"],
    )


class CardMaker:
    """Makes cards of samples that several runs share: the first says what was asked, all give outputs and numbers."""

    def __init__(self, runs: Sequence[ReportRun]) -> None:
        self._runs = runs
        self._means = [
            [(one, run.column(one).means) for one in run.columns if one.heading().better != "n/a"] for run in runs
        ]
        self._made: dict[str, SampleCard] = {}

    def cards(self, block: Block) -> list[SampleCard]:
        """The cards of a block."""
        return [self.card(name, block.notes.get(name, "")) for name in block.names]

    def card(self, name: str, note: str = "") -> SampleCard:
        """The card of one sample; pictures that are gone leave an empty place."""
        if name not in self._made:
            sample = self._runs[0].samples.get(name) or RunSample(name, "")
            self._made[name] = SampleCard(sample, tuple(self._pictures(sample)), tuple(self._numbers(name)))
        return replace(self._made[name], note=note)

    def _pictures(self, sample: RunSample) -> Iterator[Thumbnail]:
        source, target, mask = (_read(path) for path in (sample.source, sample.target, sample.mask))
        yield from (_shown(f"reference {i}", _read(one)) for i, one in enumerate(sample.references, 1))
        if sample.source is not None or not sample.references:
            yield _shown("source", source)
        if target is not None:
            yield _shown("target", target, mask)
        elif mask is not None:
            yield _shown("source", source, mask)
        for run in self._runs:
            mine = f", {run.method}" if len(self._runs) > 1 else ""
            found = run.samples.get(sample.sample_id)
            output = _read(found.outputs[0]["path"]) if found and found.outputs else None  # of the first seed
            yield _shown(f"output{mine}", output)
            yield _shown(f"|output - source|{mine}", _heat(source, output))

    def _numbers(self, name: str) -> Iterator[tuple[str, str]]:
        for run, columns in zip(self._runs, self._means, strict=True):
            texts = []
            for column, means in columns:
                if name in means:
                    text = column.template.format(means[name])
                    if column.metric_name in BINARY and means[name] in (0.0, 1.0):
                        text = "yes" if means[name] else "no"
                    texts.append(f"{column.heading().label} {text}")
            yield run.method, ", ".join(texts) or "no value"


def _read(path: str | None) -> np.ndarray | None:
    """(H, W, 3) uint8; None if there is no such picture, or no longer."""
    if path is None or not Path(path).is_file():
        return None
    try:
        return to_rgb(read_picture(path))
    except ValueError:
        return None


def _heat(source: np.ndarray | None, output: np.ndarray | None) -> np.ndarray | None:
    """Where the output differs from the source, bicubically brought to the source's size where it has another."""
    if source is None or output is None:
        return None
    if output.shape != source.shape:
        size = source.shape[1], source.shape[0]
        output = np.asarray(Image.fromarray(output).resize(size, Image.Resampling.BICUBIC))
    return heat_overlay(source, largest_change(source, output).astype(np.float32) / 255.0)


def thumbnail(rgb: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(h, w, 3) uint8, neither side above `side`: larger pictures are made smaller by Lanczos, others stay."""
    height, width = rgb.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return rgb
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return np.asarray(Image.fromarray(rgb).resize(size, SMOOTH))


def enlarged(rgb: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(h, w, 3) uint8: every pixel repeated as often as fits into `side`, so that lines on it can be thin."""
    times = max(1, side // max(rgb.shape[:2]))
    return rgb.repeat(times, axis=0).repeat(times, axis=1)


def _cell(shown: Thumbnail) -> Image.Image:
    """The picture on a contact sheet: all of one size are shown in one size, enlarged before or not."""
    assert shown.rgb is not None
    native = shown.rgb[:: shown.times, :: shown.times]
    height, width = enlarged(thumbnail(native, CELL), CELL).shape[:2]
    image = Image.fromarray(shown.rgb)
    is_larger = width > image.width
    return image.resize((width, height), BLOCKY if is_larger else SMOOTH)


def _shown(label: str, rgb: np.ndarray | None, mask: np.ndarray | None = None) -> Thumbnail:
    """The picture as it is shown, with the mask's outline where there is a mask."""
    if rgb is None:
        return Thumbnail(label, None)
    small, is_exact = thumbnail(rgb), max(rgb.shape[:2]) <= SMALL
    if mask is None:
        return Thumbnail(label, small, is_exact)
    large = enlarged(small)
    height, width = large.shape[:2]
    region = np.asarray(Image.fromarray(mask).resize((width, height), BLOCKY)).mean(axis=2) >= 128
    return Thumbnail(f"{label}, mask outlined", outlined(large, region), is_exact, width // small.shape[1])


def outlined(rgb: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) uint8 with a yellow line just outside a region (H, W) bool, a black one around that."""
    near = np.asarray(binary_dilation(region), dtype=bool)
    far = np.asarray(binary_dilation(near), dtype=bool)
    drawn = rgb.copy()
    drawn[far & ~near] = RIM
    drawn[near & ~region] = OUTLINE
    return drawn


def contact_sheet(title: str, blocks: Sequence[tuple[str, Sequence[SampleCard]]]) -> Image.Image:
    """Blocks of cards below one another on one RGB image; equal input gives equal pixels."""
    wide = max((len(card.pictures) for _, cards in blocks for card in cards), default=1)
    grids = []
    for name, cards in blocks:
        cells = []
        for card in cards:
            told = [text if len(card.numbers) == 1 else f"{method}: {text}" for method, text in card.numbers]
            told += [card.note, f"{card.sample.sample_id}   {card.sample.category}"]
            facts = "\n".join(line for text in told if text for line in sheets.wrap(text, wide * (CELL + sheets.GAP)))
            words = " > ".join((*card.sample.earlier, card.sample.instruction))
            cells.append(sheets.GridCell(tuple(map(_tile, card.pictures)), words, facts))
        grids.append(sheets.draw_grid(name, cells, COLUMNS * wide))
    width = max((grid.width for grid in grids), default=wide * CELL)
    sheet = Image.new("RGB", (width, sheets.HEADER + sum(grid.height for grid in grids)), sheets.PAPER)
    ImageDraw.Draw(sheet).text((sheets.MARGIN, 12), title, sheets.INK, sheets.sheet_font(18))
    top = sheets.HEADER
    for grid in grids:
        sheet.paste(grid, (0, top))
        top += grid.height
    return sheet


def _tile(shown: Thumbnail) -> Image.Image:
    """A picture below its label."""
    tile = Image.new("RGB", (CELL, sheets.LINE + CELL), sheets.PAPER)
    draw = ImageDraw.Draw(tile)
    draw.text((2, 2), shown.label, sheets.FAINT, sheets.sheet_font(10))
    if shown.rgb is None:
        draw.rectangle((0, sheets.LINE, CELL - 1, sheets.LINE + CELL - 1), outline=sheets.FAINT)
    else:
        tile.paste(_cell(shown), (0, sheets.LINE))
    return tile


def sheet_names(categories: Sequence[str]) -> Mapping[str, str]:
    """Category -> file name, safe on every system and unique; without categories `contact_sheet.png`."""
    from insightedit.datasets.notes import as_id

    if list(categories) in ([], [""]):
        return {"": "contact_sheet.png"}
    names: dict[str, str] = {}
    for number, category in enumerate(categories):
        name = f"contact_sheets/{as_id(category)[:80] or 'none'}.png"
        names[category] = name if name not in names.values() else f"{name[:-4]}-{number}.png"
    return names
