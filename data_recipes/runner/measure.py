"""What is counted in a unit, small enough to keep for every unit, and added up over a run."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
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
    """Counts of one unit.

    Args:
        seed: of the run; draws the pairs that contact sheets show.
        inputs: of the run; the more there are, the smaller the share that is kept for contact sheets.
    """

    def __init__(self, seed: int, inputs: int) -> None:
        self.seed = seed
        self.share = min(1.0, CELLS / max(1, inputs))
        self.keys: list[str] = []
        self.pairs = 0
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
        self.scores: dict[str, Counter[str]] = defaultdict(Counter)
        self.steps: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.rejects: list[Rejected] = []
        self.cells: dict[str, list[dict[str, Any]]] = {"accepted": [], "refused": []}

    def add(self, chunk: Chunk) -> None:
        """Count a finished chunk, apart from its pairs."""
        self.keys += chunk.keys
        for name, (entered, left) in chunk.passed.items():
            self.steps[name] = [self.steps[name][0] + entered, self.steps[name][1] + left]
        refusals = _in_order(chunk)
        self.rejects += refusals
        for refused in refusals:
            if refused.key in chunk.last_seen:
                self._show("refused", chunk.last_seen[refused.key], refused)

    def result(self) -> Counts:
        """Everything counted, ready for JSON, in a fixed order."""
        return {
            "pairs": self.pairs,
            "steps": self.steps,
            "rejects_by_reason": by_reason(self.rejects),
            "counts": _by_name(self.counts),
            "scores": _by_name(dict(sorted(self.scores.items()))),
            "keys": self.keys,
            "rejects": [vars(one) for one in self.rejects],
            "cells": {what: _first(cells, CELLS_A_UNIT) for what, cells in self.cells.items()},
        }

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

    def _show(self, what: str, record: Record, refused: Rejected | None) -> None:
        drawn = hashlib.sha256(f"{self.seed}/{what}/{record.key}".encode()).digest()[:8]
        if int.from_bytes(drawn, "big") >= self.share * 2**64:
            return
        cell = {
            "order": drawn.hex(),
            "key": record.key,
            "instruction": instruction_of(record) if record.wordings else "(no instruction yet)",
            "task": record.task,
            "scores": {name: round(float(score), PLACES) for name, score in record.scores.items()},
            "why": "" if refused is None else f"{refused.step}: {refused.reason}",
            "detail": "" if refused is None else refused.detail,
        }
        if len(self.cells[what]) >= CELLS_A_UNIT:
            last = max(self.cells[what], key=lambda one: one["order"])
            if last["order"] <= cell["order"]:
                return
            self.cells[what].remove(last)
        self.cells[what].append({**cell, "pictures": _pictures(record)})


def _in_order(chunk: Chunk) -> list[Rejected]:
    """A chunk's rejects in the order of its inputs, of one input in the order of steps: however chunks are cut."""
    places = {key: place for place, key in enumerate(chunk.keys)}

    def place(refused: Rejected) -> int:
        key = refused.key
        while key not in places:
            key = key.rpartition("/")[0]
        return places[key]

    return sorted(chunk.rejected, key=place)


def by_reason(rejects: Iterable[Rejected]) -> dict[str, dict[str, int]]:
    """step -> reason -> number, steps in order of their first reject, reasons by name."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in rejects:
        found[one.step][one.reason] += 1
    return _by_name(found)


def _by_name(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(found.items())) for name, found in counters.items()}


def add_up(units: Iterable[Mapping[str, Any]], steps: Iterable[str]) -> Counts:
    """Counts of many units as those of one; keys and rejects are left out.

    Args:
        units: results of `UnitCounts`.
        steps: names in their order, which rejects are then told in.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    scores: dict[str, Counter[str]] = defaultdict(Counter)
    rejects: dict[str, Counter[str]] = defaultdict(Counter)
    passed: dict[str, list[int]] = {name: [0, 0] for name in steps}
    cells: dict[str, list[dict[str, Any]]] = {"accepted": [], "refused": []}
    pairs = inputs = 0
    for unit in units:
        pairs += unit["pairs"]
        inputs += len(unit["keys"])
        for total, part in ((counts, "counts"), (scores, "scores"), (rejects, "rejects_by_reason")):
            for name, found in unit[part].items():
                total[name].update(found)
        for name, (entered, left) in unit["steps"].items():
            passed[name] = [passed[name][0] + entered, passed[name][1] + left]
        for what, found in unit["cells"].items():
            cells[what] = _first([*cells[what], *found], CELLS_SHOWN)
    order = ["read", *passed]
    known = sorted(rejects, key=lambda step: order.index(step) if step in order else len(order))
    return {
        "inputs": inputs,
        "pairs": pairs,
        "steps": passed,
        "rejects_by_reason": _by_name({step: rejects[step] for step in known}),
        "counts": _by_name(counts),
        "scores": _by_name(dict(sorted(scores.items()))),
        "cells": cells,
    }


def _first(cells: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    return sorted(cells, key=lambda one: (one["order"], one["key"]))[:number]


def _pictures(record: Record) -> list[str]:
    """References, before, after and mask, each within a small square, as JPEG in base64."""
    arrays = [*record.references[:2], record.source, record.target, record.mask]
    return [_small(array) for array in arrays if array is not None]


def _small(array: np.ndarray) -> str:
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    if (times := CELL_SIDE // max(picture.size)) > 1:  # in whole steps, so that pixels stay visible
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((CELL_SIDE, CELL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
