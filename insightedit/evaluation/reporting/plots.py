"""Plots of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.evaluation.core.significance import CategoryTable, Interval
from insightedit.evaluation.reporting.table_formatting import FEW_MARK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#14783c", "#1f5fa8", "#b5542a", "#7a3f98", "#8a7a10", "#0f7f86")  # one per run
INK, FAINT = "#19191e", "#8a8a92"
PER_ROW = 3  # distributions side by side
BINS = 24


@dataclass(frozen=True)
class Spot:
    """A run in the trade-off."""

    name: str  # of the run
    kept: Interval  # mean of the preservation metric
    edited: Interval  # mean of the headline metric
    scale: float | None  # of image guidance, None if the run has none


def distributions(columns: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> Figure:
    """A histogram per (label, method -> one value per sample), one outline per method; dashed lines mark means."""
    rows = -(-len(columns) // PER_ROW)
    figure, places = _figure(10.5, 2.5 * rows + 0.4, rows, PER_ROW)
    for axes, (title, values) in zip(places, columns, strict=False):
        present = {name: np.asarray(v, dtype=float) for name, v in values.items() if len(v)}
        together = np.concatenate(list(present.values()))
        low, high = float(together.min()), float(together.max())
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
        for number, (name, chosen) in enumerate(present.items()):
            colour = COLOURS[number % len(COLOURS)]
            counts, _ = np.histogram(chosen, edges)
            axes.stairs(counts, edges, fill=True, alpha=0.25 if len(present) > 1 else 0.45, color=colour)
            axes.stairs(counts, edges, color=colour, linewidth=1.2, label=_plain(name))
            axes.axvline(chosen.mean(), color=colour, linewidth=1, linestyle="--")
        axes.set_title(_plain(title), fontsize=9, color=INK)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=0)
        axes.yaxis.get_major_locator().set_params(integer=True)
    for axes in places[len(columns) :]:
        axes.set_visible(False)
    figure.supylabel("samples", fontsize=9, color=INK)
    if len(next(iter(columns))[1]) > 1:
        handles, labels = places[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def category_bars(label: str, tables: Mapping[str, CategoryTable]) -> Figure:
    """One metric by category: a bar per method with its 95 % interval, small categories marked."""
    names = list(dict.fromkeys(row.name for table in tables.values() for row in table.rows))
    sizes = dict.fromkeys(names, "0")  # those of the first method that has the category
    for table in reversed(tables.values()):
        sizes |= {row.name: f"{row.n}{FEW_MARK if row.is_small else ''}" for row in table.rows}
    thick = 0.8 / len(tables)
    figure, (axes,) = _figure(8.4, 1.1 + len(names) * max(0.34, 0.22 * len(tables)), 1, 1)
    for number, (method, table) in enumerate(tables.items()):
        colour = COLOURS[number % len(COLOURS)]
        found = {row.name: row.interval for row in table.rows if row.interval is not None}
        for place, name in enumerate(names):
            if name not in found:
                continue
            where = place - 0.4 + thick * (number + 0.5)
            named = _plain(method) if name == next(iter(found)) else None
            axes.barh(where, found[name].value, thick, color=colour, alpha=0.6, label=named)
            ends = found[name].low, found[name].high
            if None not in ends:
                axes.plot(ends, [where, where], color=INK, linewidth=1)
                axes.plot(ends, [where, where], "|", color=INK, markersize=5)
        axes.axvline(table.micro.value, color=colour, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), [f"{_plain(name) or '(none)'}  n = {sizes[name]}" for name in names])
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.set_xlabel(f"{_plain(label)} (dashed: all samples alike)", fontsize=9, color=INK)
    if len(tables) > 1:
        axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return figure


def tradeoff(kept: str, edited: str, spots: Sequence[Spot]) -> Figure:
    """Runs as points with both intervals, joined by image guidance, as in InstructPix2Pix and figure 3 of MGIE."""
    figure, (axes,) = _figure(7.2, 4.6, 1, 1)
    scaled = sorted((one for one in spots if one.scale is not None), key=lambda one: one.scale or 0.0)
    if len({one.scale for one in scaled}) > 1:
        axes.plot([one.kept.value for one in scaled], [one.edited.value for one in scaled], color=FAINT, linewidth=1)
    for number, one in enumerate(spots):
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(
            one.kept.value, one.edited.value, xerr=_ends(one.kept), yerr=_ends(one.edited), color=colour,
            marker="o", linewidth=0.8, capsize=2, label=_plain(one.name),
        )  # fmt: skip
        if one.scale is not None:
            axes.annotate(
                f"{one.scale:g}", (one.kept.value, one.edited.value), textcoords="offset points",
                xytext=(6, 6 if number % 2 == 0 else -13), fontsize=8, color=colour,
            )  # fmt: skip
    title = "beside the points: scale of image guidance" if scaled else None
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False, title=title, title_fontsize=8)
    axes.set_xlabel(_plain(kept), fontsize=9, color=INK)
    axes.set_ylabel(_plain(edited), fontsize=9, color=INK)
    axes.margins(0.2)
    axes.tick_params(labelsize=8)
    return figure


def _ends(interval: Interval) -> list[list[float]] | None:
    if interval.low is None or interval.high is None:
        return None
    return [[max(0.0, interval.value - interval.low)], [max(0.0, interval.high - interval.value)]]


def _plain(text: str) -> str:
    """Text that matplotlib takes literally, not as formulae."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, places
