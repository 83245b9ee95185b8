"""Eight fixed outputs with a known order: what the metrics of scenes say when the truth is known.

No single column orders all rows: copying is perfect on the background, a tint is nearly perfect on the edit, a half-way
blend leaks nothing. Only together they tell.

Source: the project's prototype study of these metrics (128 px, 60 recolour edits a row, threshold of 20 of 255 levels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from insightedit.console import titled_table
from insightedit.evaluation.core.statistics import Rate, mean, rate
from insightedit.evaluation.scenes import metrics
from insightedit.evaluation.scenes.benchmark import case_of, tinted
from insightedit.evaluation.scenes.details import DetailCase
from insightedit.evaluation.scenes.scoring import EditCase, score_edit
from insightedit.scenes import TASKS as SCENE_TASKS
from insightedit.scenes import EditSample, SceneSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

NOISE = 12.0  # grey levels, standard deviation
BLUR = 1.0  # pixels at 128 px, standard deviation
TASKS = ("recolour",)
OBJECT_TASKS = "name tasks that mean an object (remove, replace, recolour, resize)"
MAX_TRIES = 200  # scenes looked at for each that is kept


@dataclass(frozen=True)
class BaselineRow:
    """One line of the table: rates and means over the same scenes."""

    name: str  # of the output
    exact: Rate  # ESR, see `insightedit.evaluation.scenes.graph.Agreement`
    success: Rate  # by the rule of the protocol
    psnr_background: float  # strict, dB
    leak: float  # at 20 grey levels, 0..1
    raw_iou: float  # overlap without the smoothing box, 0..1
    iou: float  # with it
    progress: float  # RPS
    balanced: float  # BES
    discriminates: float  # TDA, 0..1
    chance: float  # of TDA
    predicate_f1: float  # see `insightedit.evaluation.scenes.graph.Agreement`


def baseline_outputs(sample: EditSample, case: EditCase) -> dict[str, np.ndarray]:
    """Name -> (H, W, 3) uint8 output, in the table's order; chance depends on the sample's number alone."""
    source, target = case.source.astype(np.float64), case.target.astype(np.float64)
    rng = np.random.default_rng(sample.index)
    width = BLUR * len(target) / metrics.REFERENCE_SIZE
    wrong = next(picture for name, picture in case.rivals.items() if name.startswith("wrong_object:"))
    return {
        "oracle": case.target,
        "copy source": case.source,
        "wrong object": wrong,
        "oracle blurred": _to_bytes(ndimage.gaussian_filter(target, (width, width, 0))),
        "oracle tinted": tinted(case.target),
        "oracle with noise": _to_bytes(target + rng.normal(0, NOISE, target.shape)),
        "half blend": _to_bytes((source + target) / 2),
        "uniform noise": rng.integers(0, 256, target.shape, dtype=np.uint8),
    }


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def measure_baselines(
    *,
    count: int = 60,
    size: int = 128,
    tasks: Sequence[str] = TASKS,
    split: str = "test",
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[BaselineRow, ...]:
    """Score the eight outputs on scenes in which another object could be edited by mistake.

    Raises:
        ValueError: if `count` is below 1, or if too few scenes fit, as with a task that does not exist.
    """
    if count < 1:
        raise ValueError(f"count is {count}: it has to be at least 1.")
    if unknown := [task for task in tasks if task not in SCENE_TASKS]:
        raise ValueError(f"there is no task {unknown[0]!r}: {OBJECT_TASKS}.")
    scored: dict[str, list[dict]] = {}
    for sample, case in islice(_fitting(SceneSampler(split, size, seed), count, tasks), count):
        truth = DetailCase(sample, case)
        largest = int(metrics.largest_change(case.source, case.target).max())
        for name, output in baseline_outputs(sample, case).items():
            scores = score_edit(case, output)
            change = metrics.largest_change(case.source, output)
            raw_iou, _, _ = metrics.localisation_of(change, largest, case.changed, width=1)
            more = {"raw_iou": raw_iou, "chance": scores.discrimination_chance}
            scored.setdefault(name, []).append({**vars(scores), **truth.of(scores, output), **more})
        if progress is not None:
            progress(1)
    found = len(scored["oracle"]) if scored else 0
    if found < count:
        raise ValueError(
            f"{found} of {MAX_TRIES * count} scenes are a {' or '.join(tasks)} edit of one object among others: "
            f"{OBJECT_TASKS}."
        )
    return tuple(
        BaselineRow(
            name,
            rate(record["exact"] for record in records),
            rate(record["success"] for record in records),
            **{one.name: mean(record[one.name] for record in records) or 0.0 for one in fields(BaselineRow)[3:]},
        )
        for name, records in scored.items()
    )


def _fitting(sampler: SceneSampler, count: int, tasks: Sequence[str]) -> Iterator[tuple[EditSample, EditCase]]:
    """Scenes of the wanted tasks with a wrong object and a background."""
    for sample in map(sampler.__getitem__, range(MAX_TRIES * count)):
        if sample.task in tasks:
            case = case_of(sample)
            if case.background.any() and any(name.startswith("wrong_object:") for name in case.rivals):
                yield sample, case


def baselines_table(rows: Sequence[BaselineRow]) -> Table:
    """The rows as they are printed."""
    n, chance = rows[0].exact.n, rows[0].chance
    title = f"fixed outputs on {n} scenes; TDA by chance {chance:.2f}"
    numbers = ["ESR", "BG-PSNR", "leak", "raw IoU", "RPS", "TDA", "BES", "IoU", "F1", "success"]
    table = titled_table(title, ["output"], numbers)
    for row in rows:
        capped = " (cap)" if row.psnr_background >= metrics.PSNR_CAP else ""
        parts = (row.raw_iou, row.progress, row.discriminates, row.balanced, row.iou, row.predicate_f1)
        table.add_row(
            row.name,
            f"{row.exact.value:.2f}",
            f"{row.psnr_background:.1f}{capped}",
            f"{row.leak:.3f}",
            *(f"{number:.2f}" for number in parts),
            f"{row.success.value:.2f}",
        )
    return table
