"""The contact sheet: what the numbers look like.

One card per sample: instruction, then references, source, output, target and where the output differs from the
source, then the verdict and the sample's numbers. A new picture shows its empty backdrop in the source's place.
Fixed sizes and Pillow's own font, so that equal input gives equal pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from insightedit.evaluation.scenes.metrics import largest_change
from insightedit.pipelines.report import heat_overlay

if TYPE_CHECKING:
    from insightedit.evaluation.core.examples import Example
    from insightedit.evaluation.core.results import SceneReport

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CELL = 128  # pixels of a side of one picture
GAP = 6  # pixels between things
LINE = 16  # pixels of a line of text
COLUMNS = 2  # cards side by side
NUM_PICTURES = 4  # of a card without references
INK, FAINT, PAPER, GOOD, BAD = (25, 25, 30), (110, 110, 118), (252, 252, 250), (20, 120, 60), (175, 40, 30)

CARD_WIDTH = NUM_PICTURES * (CELL + GAP) + GAP
CARD_HEIGHT = 2 * LINE + LINE + CELL + 2 * LINE + 2 * GAP


def contact_sheet(report: SceneReport) -> Image.Image:
    """Worst and random samples of a report on one RGB picture."""
    row = report.model
    low, high = f"{100 * row.success.low:.1f}", f"{100 * row.success.high:.1f}"
    share = f"{100 * row.success.value:.1f} % ({low} - {high})"
    title = f"{row.success.successes} of {row.success.n} edits succeed: {share}"
    blocks = [
        ("Worst: lowest relative progress", report.worst),
        ("Random: drawn by the hash of the id", report.random),
    ]
    blocks = [(name, examples) for name, examples in blocks if examples]
    num_references = max(len(e.references) for _, examples in blocks for e in examples)
    width = card_width(num_references)
    height = 2 * LINE + GAP + sum(2 * LINE + _num_lines(examples) * (CARD_HEIGHT + GAP) for _, examples in blocks)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, font=_font(15), fill=INK)
    draw.text((sheet.width - GAP, GAP), f"protocol {report.protocol.hash}", font=_font(11), fill=FAINT, anchor="ra")
    top = 2 * LINE
    for name, examples in blocks:
        draw.text((GAP, top + GAP), name, font=_font(13), fill=INK)
        top += 2 * LINE - GAP
        for position, example in enumerate(examples):
            line, column = divmod(position, COLUMNS)
            corner = (GAP + column * (width + GAP), top + line * (CARD_HEIGHT + GAP))
            sheet.paste(card(example, num_references), corner)
        top += _num_lines(examples) * (CARD_HEIGHT + GAP) + GAP
    return sheet


def _num_lines(examples: Sequence[Example]) -> int:
    return -(-len(examples) // COLUMNS)


def card_width(num_references: int) -> int:
    """Pixels that a card takes with room for so many references."""
    return CARD_WIDTH + num_references * (CELL + GAP)


def card(example: Example, num_references: int = 0) -> Image.Image:
    """One sample: (`card_width(num_references)`, `CARD_HEIGHT`) RGB; references stand on the left.

    Args:
        example: the sample.
        num_references: room for so many references, at least the sample's own.
    """
    record, width = example.record, card_width(num_references)
    picture = Image.new("RGB", (width, CARD_HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, CARD_HEIGHT - 1), outline=(222, 222, 218))
    for line, text in enumerate(wrap(record["instruction"], width - 2 * GAP, _font(13))[:2]):
        draw.text((GAP, GAP + line * LINE), text, font=_font(13), fill=INK)
    top = GAP + 2 * LINE
    missing = num_references - len(example.references)
    for position, (name, rgb) in enumerate(_pictures(example)):
        place = position + missing * (position >= len(example.references))
        left = GAP + place * (CELL + GAP)
        draw.text((left, top), name, font=_font(11), fill=FAINT)
        picture.paste(Image.fromarray(rgb).resize((CELL, CELL), Image.Resampling.NEAREST), (left, top + LINE))
    below = top + LINE + CELL + GAP // 2
    verdict = record["verdict"]
    told = "  ".join([verdict, *record.get("failures", ())])
    draw.text((GAP, below), told, font=_font(13), fill=GOOD if verdict == "success" else BAD)
    draw.text((width - GAP, below), _numbers(record), font=_font(11), fill=INK, anchor="ra")
    facts = f"{record['sample_id']}   {record['task']}, {record['category']}, {record['style']}"
    draw.text((GAP, below + LINE), facts, font=_font(11), fill=FAINT)
    return picture


def _pictures(example: Example) -> list[tuple[str, np.ndarray]]:
    """Name and (H, W, 3) uint8 of each picture on a card."""
    start = "backdrop" if example.is_new else "source"
    change = largest_change(example.source, example.output).astype(np.float32) / 255.0
    return [
        *((f"reference {number}", rgb) for number, rgb in enumerate(example.references, 1)),
        (start, example.source),
        ("output", example.output),
        ("target", example.target),
        (f"|output - {start}|", heat_overlay(example.source, change)),
    ]


def _numbers(record: dict) -> str:
    parts = [f"progress {record['progress']:.2f}"]
    if record["leak"] is not None:
        parts.append(f"leak {100 * record['leak']:.1f} %")
    if record["psnr_background"] is not None:
        parts.append(f"background {record['psnr_background']:.1f} dB")
    return "   ".join(parts)


def wrap(text: str, width: int, font: Font) -> list[str]:
    """Break text at spaces into lines of at most `width` pixels; a single longer word keeps its own line."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
