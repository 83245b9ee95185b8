"""Contact sheets: pairs as before | after | mask with their instruction, and why the refused ones were refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from insightedit.images.reading import read_rgb
from insightedit.images.sheets import GridCell, draw_grid

ON_SHEET = 24
TILES_IN_ROW = 9
NARROW = 300  # px that words need


def contact_sheet(cells: Sequence[Mapping[str, Any]], title: str) -> Image.Image:
    """Cells as `measure.UnitCounts` keeps them, the first `ON_SHEET` of them.

    Raises:
        ValueError: if there is no cell.
    """
    if not cells:
        raise ValueError("a contact sheet needs at least one pair.")
    return draw_grid(title, [_cell(cell) for cell in cells[:ON_SHEET]], TILES_IN_ROW, NARROW)


def _cell(cell: Mapping[str, Any]) -> GridCell:
    images = tuple(Image.fromarray(read_rgb(base64.b64decode(text))) for text in cell["pictures"])
    scores = ", ".join(f"{name} {value:g}" for name, value in cell["scores"].items())
    facts = " · ".join(part for part in (cell["key"], cell["task"], scores) if part)
    return GridCell(
        images, cell["instruction"], facts, " ".join(f"{cell['why']}: {cell['detail']}".split()).strip(": ")
    )
