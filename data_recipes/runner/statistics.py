"""The statistics page of a run: one HTML file that needs nothing else; the same run gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

from data_recipes.runner.measure import MASK_STEPS, Counts
from insightedit.images.data_addresses import figure_address

ON_PAGE = 36  # pairs shown of each kind
TOP = 15  # categories in a plot
BARS = 30  # of a histogram
BLUE, ORANGE, INK = "#1f5fa8", "#b5542a", "#19191e"


def statistics_page(manifest: Mapping[str, Any], total: Counts, cells: Mapping[str, Sequence[Any]]) -> str:
    """The page.

    Args:
        manifest: of the finished run.
        total: counts of `measure.add_up`.
        cells: its pictures, "accepted" and "refused".
    """
    from jinja2 import Environment

    text = files("data_recipes.runner").joinpath("statistics.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    most = max((len(cell["pictures"]) for found in cells.values() for cell in found), default=3)
    return environment.from_string(text).render(
        title=f"{manifest['recipe']}: {total['pairs']:,} pairs of {total['inputs']:,} inputs",
        subtitle=f"Seed {manifest['seed']}, settings {manifest['digest']}; see manifest.json.",
        tables=list(_tables(total)),
        plots=[{"alt": alt, "address": figure_address(figure)} for alt, figure in _plots(total)],
        sheets=list(_sheets(cells)),
        share=f"{100 / max(3, most):.1f}%",
    )


def _tables(total: Counts) -> Iterator[dict[str, Any]]:
    passed = [(name, f"{a:,}", f"{b:,}", _ratio(b, a)) for name, (a, b) in total["steps"].items()]
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
        areas = {(int(step) + 0.5) * 100 / MASK_STEPS: number for step, number in counts["mask_areas"].items()}
        yield "Mask areas", _histogram(areas, 100 / MASK_STEPS, "Area of the mask, % of the picture: pairs")
    if counts["words"]:
        words = {float(key): number for key, number in counts["words"].items()}
        yield "Lengths of instructions", _histogram(words, 1.0, "Words of the instruction: pairs")
    for name, found in total["scores"].items():
        scores = {float(value): number for value, number in found.items()}
        if len(scores) == 1:  # a bar as wide as the plot tells less than a line in a table
            continue
        yield f"Score {name}", _histogram(*_binned(scores), f"Score {name}: pairs", from_zero=False)


def _sheets(cells: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    told = {
        "accepted": ("Pairs", "Drawn at random: references, before, after, mask, as far as there are any."),
        "refused": ("Refused pairs", "Drawn at random among what was a pair when a step refused it, and why."),
    }
    for what, (title, about) in told.items():
        if cells[what]:
            yield {"title": title, "about": about, "cells": cells[what][:ON_PAGE]}


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


def _histogram(found: Mapping[float, int], width: float, title: str, *, from_zero: bool = True) -> Any:
    figure, axes = _figure(2.6)
    if from_zero:
        axes.set_xlim(0, max(found) + width)
    axes.bar(list(found), list(found.values()), width=width * 0.92, color=ORANGE, alpha=0.75)
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


def _binned(scores: Mapping[float, int]) -> tuple[dict[float, int], float]:
    """Scores as at most `BARS` bars, and their width; few different values keep a bar each."""
    values = sorted(scores)
    if len(values) <= BARS:
        least = min((later - earlier for earlier, later in pairwise(values)), default=1.0)
        return dict(scores), max(least, (values[-1] - values[0]) / BARS)
    width = (values[-1] - values[0]) / BARS
    bars: dict[float, int] = {}
    for value in values:
        number = min(BARS - 1, int((value - values[0]) / width))
        middle = values[0] + (number + 0.5) * width
        bars[middle] = bars.get(middle, 0) + scores[value]
    return bars, width


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "–"
