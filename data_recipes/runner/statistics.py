"""What a finished run shows: contact sheets, and a statistics page that needs nothing else; same run, same bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.runner.measure import MASK_STEPS, Counts
from insightedit.images.data_addresses import figure_address
from insightedit.images.reading import read_rgb
from insightedit.images.sheets import GridCell, draw_grid

ON_SHEET, TILES_IN_ROW, NARROW = 24, 9, 300  # pairs, pictures side by side, and pixels that words need
ON_PAGE = 36  # pairs shown of each kind
TOP = 15  # categories in a plot
BARS = 30  # of a histogram
BLUE, ORANGE, INK = "#1f5fa8", "#b5542a", "#19191e"
SHEETS = {
    "accepted": ("Pairs", "Drawn at random: references, before, after, mask, as far as there are any."),
    "refused": ("Refused pairs", "Drawn at random among what was a pair when a step refused it, and why."),
}


def contact_sheet(cells: Sequence[Mapping[str, Any]], title: str) -> Image.Image:
    """Pairs as before | after | mask with their instruction, and why the refused ones were refused.

    Args:
        cells: as `measure.UnitCounts` keeps them; the first `ON_SHEET` are drawn.
        title: above them.

    Raises:
        ValueError: if there is no cell.
    """
    if not cells:
        raise ValueError("a contact sheet needs at least one pair.")
    drawn = []
    for cell in cells[:ON_SHEET]:
        images = tuple(Image.fromarray(read_rgb(base64.b64decode(text))) for text in cell["pictures"])
        scores = ", ".join(f"{name} {value:g}" for name, value in cell["scores"].items())
        facts = " · ".join(part for part in (cell["key"], cell["task"], scores) if part)
        why = " ".join(f"{cell['why']}: {cell['detail']}".split()).strip(": ")
        drawn.append(GridCell(images, cell["instruction"], facts, why))
    return draw_grid(title, drawn, TILES_IN_ROW, NARROW)


def statistics_page(manifest: Mapping[str, Any], total: Counts) -> str:
    """The page as HTML.

    Args:
        manifest: of the finished run.
        total: its counts, of `UnitCounts.summary`.
    """
    from jinja2 import Environment

    text = files("data_recipes.runner").joinpath("statistics.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    cells = total["cells"]
    most = max((len(cell["pictures"]) for found in cells.values() for cell in found), default=3)
    sheets = [
        {"title": title, "about": about, "cells": cells[what][:ON_PAGE]}
        for what, (title, about) in SHEETS.items()
        if cells[what]
    ]
    return environment.from_string(text).render(
        title=f"{manifest['recipe']}: {total['pairs']:,} pairs of {total['inputs']:,} inputs",
        subtitle=f"Seed {manifest['seed']}, settings {manifest['digest']}; see manifest.json.",
        tables=list(_tables(total)),
        plots=[{"alt": alt, "address": figure_address(figure)} for alt, figure in _plots(total)],
        sheets=sheets,
        share=f"{100 / max(3, most):.1f}%",
    )


def _tables(total: Counts) -> Iterator[dict[str, Any]]:
    passed = [
        (name, f"{entered:,}", f"{left:,}", f"{left / entered:.2f}" if entered else "–")
        for name, (entered, left) in total["steps"].items()
    ]
    yield {"caption": "Records by step", "head": ("step", "in", "out", "out / in"), "rows": passed}
    rejects = [
        (step, reason, f"{number:,}")
        for step, reasons in total["rejects_by_reason"].items()
        for reason, number in sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    ]
    if rejects:
        yield {"caption": "Rejected", "head": ("step", "reason", "records"), "rows": rejects, "texts": True}
    names = {"tasks": "Pairs by task", "wordings": "Instructions by kind", "sizes": "Pairs by size"}
    for name, caption in names.items():
        rows = [(key, f"{number:,}") for key, number in _top(total["counts"][name])]
        if rows:
            yield {"caption": caption, "head": ("", "number"), "rows": rows}
    same = [(name, next(iter(found))) for name, found in total["scores"].items() if len(found) == 1]
    if same:
        yield {"caption": "Scores that are the same for all pairs", "head": ("", "score"), "rows": same}


def _plots(total: Counts) -> Iterator[tuple[str, Any]]:
    counts = total["counts"]
    for name, title in (("origins", "What is edited"), ("targets", "What comes in its place")):
        if counts[name]:
            yield title, _bars(_top(counts[name]), f"{title} ({len(counts[name]):,} categories)")
    if counts["mask_areas"]:
        width = 100 / MASK_STEPS
        areas = {(int(step) + 0.5) * width: number for step, number in counts["mask_areas"].items()}
        edges = np.arange(0, max(areas) + width, width)
        yield "Mask areas", _histogram(areas, edges, "Area of the mask, % of the picture: pairs")
    if counts["words"]:
        words = {float(key): number for key, number in counts["words"].items()}
        edges = np.arange(0.5, max(words) + 1)
        yield "Lengths of instructions", _histogram(words, edges, "Words of the instruction: pairs")
    for name, found in total["scores"].items():
        scores = {float(value): number for value, number in sorted(found.items(), key=lambda one: float(one[0]))}
        if len(scores) == 1:  # a bar as wide as the plot tells less than a line in a table
            continue
        low, high = min(scores), max(scores)
        # few different values keep a bar each
        width = max((high - low) / BARS, min(later - earlier for earlier, later in pairwise(scores)))
        edges = np.arange(low - width / 2, high + width, width)
        yield f"Score {name}", _histogram(scores, edges, f"Score {name}: pairs")


def _top(found: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent, and how many the others are together."""
    ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    others = sum(number for _, number in ranked[TOP:])
    return ranked[:TOP] + ([(f"{len(ranked) - TOP:,} others", others)] if others else [])


def _bars(ranked: Sequence[tuple[str, int]], title: str) -> Any:
    figure, axes = _figure(max(2.6, 0.6 + 0.26 * len(ranked)), 0.36)
    names = [name if len(name) <= 28 else f"{name[:26]}..." for name, _ in ranked]
    places = range(len(ranked))
    bars = axes.barh(places, [number for _, number in ranked], color=BLUE, alpha=0.75)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.set_yticks(places, [name.replace("$", r"\$") for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _histogram(found: Mapping[float, int], edges: np.ndarray, title: str) -> Any:
    figure, axes = _figure(2.6)
    axes.hist(list(found), edges, weights=list(found.values()), rwidth=0.92, color=ORANGE, alpha=0.75)
    axes.set_title(title.replace("$", r"\$"), fontsize=10, color=INK, loc="left")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _figure(height: float, left: float = 0.12) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, height))  # laid out by hand: a layout engine draws everything twice
    axes = figure.add_axes((left, 0.3 / height, 0.96 - left, 1 - 0.65 / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes
