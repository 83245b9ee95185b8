"""What is counted in a unit and added up over a run, and what a finished run shows of it: same run, same bytes."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.rows import instruction_of
from insightedit.images.picture_files import figure_address
from insightedit.images.reading import read_rgb
from insightedit.images.sheets import GridCell, draw_grid

COUNTED = ("tasks", "origins", "targets", "sizes", "mask_areas", "wordings", "words")
CELLS = 200  # pictures for contact sheets that a run keeps, of accepted and of refused pairs each, about
CELLS_A_UNIT = 12
CELLS_SHOWN = 48
CELL_SIDE = 160  # px
MASK_STEPS = 50  # bars between 0 and 100 % of the picture
PLACES = 2  # decimals by which scores are counted
ON_SHEET, TILES_IN_ROW, NARROW = 24, 9, 300  # pairs, pictures side by side, and pixels that words need
ON_PAGE = 36  # pairs shown of each kind
TOP = 15  # categories in a plot
BARS = 30  # of a histogram
BLUE, ORANGE, INK = "#1f5fa8", "#b5542a", "#19191e"
SHEETS = {
    "accepted": ("Pairs", "Drawn at random: references, before, after, mask, as far as there are any."),
    "refused": ("Refused pairs", "Drawn at random among what was a pair when a step refused it, and why."),
}

Counts = dict[str, Any]


class UnitCounts:
    """Counts of one unit, or of several that are added up.

    The run's seed draws the pairs that contact sheets show, a smaller share of them the more inputs the run has;
    `most_cells` are kept at most, of accepted and of refused pairs each.
    """

    def __init__(self, seed: int = 0, inputs: int = 1, most_cells: int = CELLS_A_UNIT) -> None:
        self.seed, self.most_cells = seed, most_cells
        self.share = min(1.0, CELLS / max(1, inputs))
        self.keys: list[str] = []
        self.rejects: list[Rejected] = []
        self.inputs = self.pairs = 0
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
        self.scores: dict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.steps: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.cells: dict[str, list[dict[str, Any]]] = {"accepted": [], "refused": []}

    def add(self, chunk: Chunk) -> None:
        """Count a finished chunk, apart from its pairs; rejects in the order of its inputs, however chunks are cut."""
        self.keys += chunk.keys
        self._add_passed(chunk.passed)
        places = {key: place for place, key in enumerate(chunk.keys)}

        def place(refused: Rejected) -> int:
            key = refused.key
            while key not in places:
                key = key.rpartition("/")[0]
            return places[key]

        for refused in sorted(chunk.rejected, key=place):
            self.rejects.append(refused)
            self.reasons[refused.step][refused.reason] += 1
            if refused.key in chunk.last_seen:
                self._show("refused", chunk.last_seen[refused.key], refused)

    def add_pair(self, record: Record) -> None:
        """Count a pair that was written."""
        self.pairs += 1
        assert record.target is not None, "checked before"
        height, width = record.target.shape[:2]
        self.counts["tasks"][record.task] += 1
        self.counts["sizes"][f"{width} x {height}"] += 1
        if record.class_origin:
            self.counts["origins"][record.class_origin] += 1
        if record.class_target:
            self.counts["targets"][record.class_target] += 1
        if record.mask is not None:
            step = min(MASK_STEPS - 1, int(record.mask.mean() * MASK_STEPS))
            self.counts["mask_areas"][f"{step:02d}"] += 1
        for kind, texts in record.instructions.items():
            self.counts["wordings"][kind] += len(texts)
        self.counts["words"][f"{len(instruction_of(record).split()):03d}"] += 1
        for name, score in record.scores.items():
            self.scores[name][f"{round(float(score), PLACES):g}"] += 1
        self._show("accepted", record, None)

    def add_unit(self, unit: Counts) -> None:
        """Add the `result` of another unit; its keys and rejects are only counted."""
        self.inputs += len(unit["keys"])
        self.pairs += unit["pairs"]
        self._add_passed(unit["steps"])
        for total, part in ((self.counts, "counts"), (self.scores, "scores"), (self.reasons, "rejects_by_reason")):
            for name, found in unit[part].items():
                total[name].update(found)
        for what, found in unit["cells"].items():
            self.cells[what] = _first([*self.cells[what], *found], self.most_cells)

    def result(self) -> Counts:
        """Everything counted in a unit, ready for JSON, in a fixed order."""
        return {
            "pairs": self.pairs,
            "steps": self.steps,
            "rejects_by_reason": _by_name(self.reasons),
            "counts": _by_name(self.counts),
            "scores": _by_name(dict(sorted(self.scores.items()))),
            "keys": self.keys,
            "rejects": [vars(one) for one in self.rejects],
            "cells": {what: _first(cells, self.most_cells) for what, cells in self.cells.items()},
        }

    def summary(self, steps: Sequence[str]) -> Counts:
        """The counts of a run, whose steps and rejects come in the order of its `steps`."""
        order = {step: number for number, step in enumerate(["read", *steps])}
        reasons = dict(sorted(self.reasons.items(), key=lambda one: order.get(one[0], len(order))))
        told = {"inputs": self.inputs, **self.result(), "rejects_by_reason": _by_name(reasons)}
        return {**told, "steps": {step: self.steps[step] for step in steps}}

    def _add_passed(self, passed: Mapping[str, Sequence[int]]) -> None:
        for name, (entered, left) in passed.items():
            self.steps[name] = [self.steps[name][0] + entered, self.steps[name][1] + left]

    def _show(self, what: str, record: Record, refused: Rejected | None) -> None:
        """Keep a small picture of a pair, if the draw falls on it."""
        drawn = hashlib.sha256(f"{self.seed}/{what}/{record.key}".encode()).digest()[:8]
        if int.from_bytes(drawn, "big") >= self.share * 2**64:
            return
        cells, order = self.cells[what], drawn.hex()
        if len(cells) >= self.most_cells:
            last = max(cells, key=lambda one: one["order"])
            if last["order"] <= order:
                return
            cells.remove(last)
        arrays = [*record.references[:2], record.source, record.target, record.mask]
        cell = {
            "order": order,
            "key": record.key,
            "instruction": instruction_of(record) if record.wordings else "(no instruction yet)",
            "task": record.task,
            "scores": {name: round(float(score), PLACES) for name, score in record.scores.items()},
            "why": "" if refused is None else f"{refused.step}: {refused.reason}",
            "detail": "" if refused is None else refused.detail,
            "pictures": [_small(array) for array in arrays if array is not None],
        }
        cells.append(cell)


def _by_name(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(found.items())) for name, found in counters.items()}


def _first(cells: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    return sorted(cells, key=lambda one: (one["order"], one["key"]))[:number]


def _small(array: np.ndarray) -> str:
    """A picture within a small square, as JPEG in base64."""
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    if (times := CELL_SIDE // max(picture.size)) > 1:  # in whole steps, so that pixels stay visible
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((CELL_SIDE, CELL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def contact_sheet(cells: Sequence[Mapping[str, Any]], title: str) -> Image.Image:
    """The first pairs as before | after | mask with instruction, and why they were refused; ValueError of none."""
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
    """The page as HTML, of a finished run's manifest and the counts of `UnitCounts.summary`."""
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
        if not counts[name]:
            continue
        ranked = _top(counts[name])
        names = [one if len(one) <= 28 else f"{one[:26]}..." for one, _ in ranked]
        figure, axes = _figure(f"{title} ({len(counts[name]):,} categories)", max(2.6, 0.6 + 0.26 * len(ranked)), 0.36)
        bars = axes.barh(range(len(ranked)), [number for _, number in ranked], color=BLUE, alpha=0.75)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set_yticks(range(len(ranked)), [one.replace("$", r"\$") for one in names])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)
        yield title, figure
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


def _histogram(found: Mapping[float, int], edges: np.ndarray, title: str) -> Any:
    figure, axes = _figure(title, 2.6)
    axes.hist(list(found), edges, weights=list(found.values()), rwidth=0.92, color=ORANGE, alpha=0.75)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _figure(title: str, height: float, left: float = 0.12) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, height))  # laid out by hand: a layout engine draws everything twice
    axes = figure.add_axes((left, 0.3 / height, 0.96 - left, 1 - 0.65 / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_title(title.replace("$", r"\$"), fontsize=10, color=INK, loc="left")
    return figure, axes
