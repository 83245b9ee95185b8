"""What a run would take: some of its inputs through all steps, in a temporary place."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import ENDING, Unit
from data_recipes.runner.folder import OutFolder
from data_recipes.runner.inputs import Input, open_input
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.run import plan_run
from data_recipes.runner.worker import READ, Report, Task, Worker

WRITE = "write"


@dataclass(frozen=True)
class StepEstimate:
    """What a step did in the sample."""

    name: str  # "read" and "write" are the runner's own
    records: int  # that came in
    seconds: float | None  # for one record, models loaded; None where none came in after the first input
    rejected: int
    reasons: tuple[str, ...]  # the most frequent first


@dataclass(frozen=True)
class Estimate:
    """What a whole run would take."""

    sampled: int  # inputs that were tried
    inputs: int  # of the whole run
    pairs: int  # of the sample
    steps: tuple[StepEstimate, ...]
    loading: float  # seconds that the first input took beyond later ones: models being loaded
    total: float  # seconds of the whole run with `engine.workers`
    usage: Mapping[str, Mapping[str, float]]  # backend -> calls, tokens and cost of the whole run
    bytes: float  # of the whole run's files


@dataclass
class _Spread:
    """Inputs taken evenly from all over a source."""

    source: Input
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record | Rejected:
        return self.source[self.indices[index]]


def dry_run(config: RecipeConfig, sample: int = 8) -> Estimate:
    """Try a recipe on some inputs, writing nothing; the first one loads the models, and its time is set apart."""
    if sample < 1:
        raise ValueError(f"the sample has {sample} inputs: try at least 1.")
    plan = plan_run(config)
    tried = min(sample, plan.inputs)
    source = _Spread(
        open_input(config.source), [config.source.start + number * plan.inputs // tried for number in range(tried)]
    )
    units = [Unit(0, 0, 1), *([Unit(1, 1, tried - 1)] if tried > 1 else [])]
    with tempfile.TemporaryDirectory() as place:
        folder = OutFolder(config, Path(place), durable=False)  # waiting belongs to a unit, not to its inputs
        worker = Worker(config, tried, folder=folder, device=next(iter(config.engine.devices), None), source=source)
        reports = [worker.do(Task(unit, 0, len(worker.steps))) for unit in units]
        size = sum(folder.shard(unit).stat().st_size for unit in units if folder.shard(unit).is_file())
    worker.drop(list(worker.backends))
    warm, counted = reports[-1], units[-1].count
    seconds = {name: warm["seconds_by_step"].get(name, 0.0) for name in (READ, *warm["steps"])}
    seconds[WRITE] = max(0.0, warm["seconds"] - sum(seconds.values()))
    each = sum(seconds.values()) / counted
    loading = max(0.0, reports[0]["seconds"] - each) if tried > 1 else 0.0
    bottleneck = max(seconds.values()) / counted if config.engine.name == "ray" else each
    usage: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        for name, used in report["usage"].items():
            usage[name].update(used)
    times = plan.inputs / tried
    return Estimate(
        sampled=tried,
        inputs=plan.inputs,
        pairs=sum(report["counts"]["pairs"] for report in reports),
        steps=tuple(_step(name, reports, units, spent) for name, spent in seconds.items()),
        loading=loading,
        total=loading + bottleneck * plan.inputs / config.engine.workers,
        usage={name: {what: number * times for what, number in used.items()} for name, used in usage.items()},
        bytes=size * times,
    )


def _step(name: str, reports: Sequence[Report], units: Sequence[Unit], seconds: float) -> StepEstimate:
    rejects: Counter[str] = Counter()
    for report in reports:
        for step in (name, ENDING) if name == WRITE else (name,):
            rejects.update(report["counts"]["rejects_by_reason"].get(step, {}))
    if name == READ:
        entered = [unit.count for unit in units]
    elif name == WRITE:
        entered = [report["counts"]["pairs"] for report in reports]
    else:
        entered = [report["entered"].get(name, 0) for report in reports]
    warm, reasons = entered[-1], tuple(reason for reason, _ in rejects.most_common())
    return StepEstimate(name, sum(entered), seconds / warm if warm else None, rejects.total(), reasons)
