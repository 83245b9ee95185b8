"""What a run would take: some of its inputs through all steps, in a temporary place."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import ENDING, Unit
from data_recipes.runner.folder import OutFolder
from data_recipes.runner.inputs import Input, open_input
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.run import plan_run
from data_recipes.runner.worker import READ, Task, Worker

WRITE = "write"


@dataclass(frozen=True)
class StepEstimate:
    """What a step did in the sample.

    Attributes:
        name: of the step; "read" and "write" are the runner's own.
        records: that came in.
        seconds: for one record, models loaded; None where none came in after the first input.
        rejected: of the records that came in.
        reasons: of these, the most frequent first.
    """

    name: str
    records: int
    seconds: float | None
    rejected: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """What a whole run would take.

    Attributes:
        sampled: inputs that were tried.
        inputs: of the whole run.
        pairs: of the sample.
        steps: in order.
        loading: seconds until the first input was through, beyond what later ones took: models being loaded.
        total: seconds of the whole run with `engine.workers`.
        usage: backend -> calls, tokens and cost of the whole run.
        bytes: of the whole run's files.
    """

    sampled: int
    inputs: int
    pairs: int
    steps: tuple[StepEstimate, ...]
    loading: float
    total: float
    usage: Mapping[str, Mapping[str, float]]
    bytes: float


@dataclass
class _Spread:
    """Inputs taken evenly from all over a source."""

    source: Input
    indices: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record | Rejected:
        return self.source[self.indices[index]]


def dry_run(config: RecipeConfig, sample: int = 8) -> Estimate:
    """Try a recipe on some of its inputs; nothing is written to `output.path`.

    Args:
        config: of the run.
        sample: inputs to try; the first loads the models, and where there are more its time is set apart.

    Raises:
        RunStopped: if a step gives no answer at all.
        ValueError: if the settings do not fit, or the sample is empty.
    """
    if sample < 1:
        raise ValueError(f"the sample has {sample} inputs: try at least 1.")
    plan = plan_run(config)
    tried = min(sample, plan.inputs)
    indices = [config.source.start + number * plan.inputs // tried for number in range(tried)]
    devices = config.engine.devices
    worker = Worker(config, device=devices[0] if devices else None, source=_Spread(open_input(config.source), indices))
    units = [Unit(0, 0, 1), *([Unit(1, 1, tried - 1)] if tried > 1 else [])]
    with tempfile.TemporaryDirectory() as place:
        folder = OutFolder(Path(place), config, durable=False)  # waiting belongs to a unit, not to its inputs
        reports = [_try(worker, unit, folder) for unit in units]
        size = sum(folder.shard(unit).stat().st_size for unit in units if folder.shard(unit).is_file())
    worker.drop(list(worker.backends))
    warm = reports[-1]
    counted = units[-1].count
    seconds = {name: warm["seconds_by_step"].get(name, 0.0) for name in (READ, *warm["steps"])}
    seconds[WRITE] = max(0.0, warm["seconds"] - sum(seconds.values()))
    each = sum(seconds.values()) / counted
    loading = max(0.0, reports[0]["seconds"] - each) if tried > 1 else 0.0
    bottleneck = max(seconds.values()) / counted if config.engine.name == "ray" else each
    return Estimate(
        sampled=tried,
        inputs=plan.inputs,
        pairs=sum(report["counts"]["pairs"] for report in reports),
        steps=tuple(_step(name, reports, seconds[name], counted) for name in seconds),
        loading=loading,
        total=loading + bottleneck * plan.inputs / config.engine.workers,
        usage=_usage(reports, plan.inputs / tried),
        bytes=size * plan.inputs / tried,
    )


def _try(worker: Worker, unit: Unit, folder: OutFolder) -> dict[str, Any]:
    return worker.do(Task(unit, 0, len(worker.steps)), folder, unit.count, lambda step, records: None)


def _step(name: str, reports: list[dict[str, Any]], seconds: float, counted: int) -> StepEstimate:
    rejects: Counter[str] = Counter()
    for report in reports:
        for step in (name, ENDING) if name == WRITE else (name,):
            rejects.update(report["counts"]["rejects_by_reason"].get(step, {}))
    last = reports[-1]
    if name == READ:
        entered, warm = counted + (len(reports) - 1), counted
    elif name == WRITE:
        entered, warm = sum(report["counts"]["pairs"] for report in reports), last["counts"]["pairs"]
    else:
        entered, warm = (sum(report["entered"].get(name, 0) for report in reports), last["entered"].get(name, 0))
    reasons = tuple(reason for reason, _ in rejects.most_common())
    return StepEstimate(name, entered, seconds / warm if warm else None, rejects.total(), reasons)


def _usage(reports: list[dict[str, Any]], times: float) -> dict[str, dict[str, float]]:
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        for name, used in report["usage"].items():
            total[name].update(used)
    return {name: {what: number * times for what, number in used.items()} for name, used in total.items()}
