"""What is counted in a unit, small enough to keep for every unit, and added up over a run."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.rows import instruction_of

COUNTED = ("tasks", "origins", "targets", "sizes", "mask_areas", "wordings", "words")
CELLS = 200  # pictures for contact sheets that a run keeps, of accepted and of refused pairs each, about
CELLS_A_UNIT = 12
CELLS_SHOWN = 48
CELL_SIDE = 160  # px
MASK_STEPS = 50  # bars between 0 and 100 % of the picture
PLACES = 2  # decimals by which scores are counted

Counts = dict[str, Any]


class UnitCounts:
    """Counts of one unit, or of several that are added up.

    Args:
        seed: of the run; draws the pairs that contact sheets show.
        inputs: of the run; the more there are, the smaller the share that is kept for contact sheets.
        most_cells: that are kept, of accepted and of refused pairs each.
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
        """Count a finished chunk, apart from its pairs.

        Rejects come in the order of its inputs, of one input in the order of steps: however chunks are cut.
        """
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
