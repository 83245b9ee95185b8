"""Numbers of rows and of their differences, with intervals over scenes and over training seeds.

Training seeds are crossed with scenes: a seed's model meets all scenes at once, so what a seed does is shared by its
scenes. Resampling therefore draws seeds and scenes each as a whole. (`insightedit.evaluation.core.significance`
draws seeds within each scene, which is right for generation seeds and would make the intervals of trained models
too narrow.) With three seeds such an interval is still too narrow rather than too wide: three models say little about
the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.evaluation.core.significance import RESAMPLES, paired_difference
from insightedit.evaluation.reporting.report import read_report

if TYPE_CHECKING:
    from benchmarks.ablations.experiment import Experiment
    from benchmarks.ablations.studies import Column, Row, Study

Values = dict[int, dict[str, float]]  # seed -> scene -> value


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and scenes.

    Attributes:
        value: mean; every scene and every seed counts the same.
        low: lower end of the 95 % interval.
        high: upper end.
        by_seed: the mean of each seed.
        scenes: number of scenes.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    scenes: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """The reference minus a row, on the seeds and scenes that both have.

    Attributes:
        difference: with interval over seeds and scenes.
        p_value: two-sided sign-flip test over scenes of the differences averaged over seeds: of these trained models,
            not of the next ones.
    """

    difference: Estimate
    p_value: float


@dataclass(frozen=True)
class Measured:
    """What was measured of one task of a study.

    Attributes:
        study: which.
        task: which.
        records: row -> seed -> the model's records on the task's scenes.
        controls: name -> metric means of a control row, the same for all rows.
        protocol: of the scenes.
    """

    study: Study
    task: str
    records: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]
    controls: Mapping[str, Mapping[str, Any]]
    protocol: Mapping[str, Any]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of the study that are measured on this task."""
        return tuple(row for row in self.study.rows if self.task in row.tasks)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of which any row was measured."""
        return tuple(sorted({seed for by_seed in self.records.values() for seed in by_seed}))

    def values(self, row: str, column: Column) -> Values:
        """Values of a column, times its factor; scenes without a value are left out."""
        found: Values = {}
        for seed, records in self.records.get(row, {}).items():
            chosen = (r for r in records if column.where is None or r[column.where[0]] == column.where[1])
            present = {
                r["sample_id"]: column.factor * float(r[column.metric]) for r in chosen if r[column.metric] is not None
            }
            if present:
                found[seed] = present
        return found

    def estimate(self, row: str, column: Column) -> Estimate | None:
        """Mean of a row; None if there is nothing to average."""
        table = _table(self.values(row, column))
        return None if table is None else crossed(table)

    def compare(self, row: str, column: Column) -> Comparison | None:
        """The reference minus a row; None for the reference itself and where one of them was not measured."""
        if row == self.study.reference:
            return None
        tables = _shared(self.values(self.study.reference, column), self.values(row, column))
        if tables is None:
            return None
        first, second = tables
        test = paired_difference(first.mean(axis=0), second.mean(axis=0))
        return Comparison(crossed(first - second), test.p_value)


def crossed(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean with a percentile interval of the crossed bootstrap: seeds and scenes drawn with replacement.

    Args:
        values: (S, N) finite, one row per seed.
        resamples: at least 1.
        seed: of the resampling.

    Raises:
        ValueError: if there is no value, or one is not finite.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"values have the shape {values.shape}: give one finite number for each seed and scene.")
    num_seeds, num_scenes = values.shape
    rng = np.random.default_rng(seed)
    seed_counts = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples)
    scene_counts = rng.multinomial(num_scenes, np.full(num_scenes, 1 / num_scenes), size=resamples)
    means = ((seed_counts @ values) * scene_counts).sum(axis=1) / values.size
    low, high = np.quantile(means, (0.025, 0.975))
    by_seed = tuple(float(mean) for mean in values.mean(axis=1))
    return Estimate(float(values.mean()), float(low), float(high), by_seed, num_scenes)


def measured(experiment: Experiment, study: Study, seeds: Sequence[int]) -> list[Measured]:
    """What finished runs of a study hold, task by task.

    Raises:
        ValueError: if runs followed different protocols; FileNotFoundError if a finished run lost its reports.
    """
    tasks = list(dict.fromkeys(task for row in study.rows for task in row.tasks))
    found = []
    for task in tasks:
        records: dict[str, dict[int, list[dict[str, Any]]]] = {}
        controls: dict[str, Mapping[str, Any]] = {}
        protocols: dict[str, Mapping[str, Any]] = {}
        for row in (row for row in study.rows if task in row.tasks):
            for run in (experiment.run(row, seed) for seed in seeds):
                if run.record() is None:
                    continue
                report, all_records = read_report(run.report(task))
                protocols[report["protocol"]["hash"]] = report["protocol"]
                controls = controls or {
                    r["name"]: {**r["means"], "success": r["success"]["value"]} for r in report["rows"][1:]
                }
                own = [r for r in all_records if r["row"] == "model"]
                records.setdefault(row.name, {})[run.seed] = own
        if len(protocols) > 1:
            raise ValueError(
                f"{study.name}, {task}: runs were measured by different protocols ({', '.join(protocols)}): delete the "
                "folders `eval` and `run.json` of all runs; the next call measures them anew."
            )
        protocol = next(iter(protocols.values()), {})
        found.append(Measured(study, task, records, controls, protocol))
    return found


def _table(values: Values) -> np.ndarray | None:
    """(S, N) of the scenes that every seed has; None if there are none."""
    if not values:
        return None
    scenes = _common(values)
    return np.array([[own[scene] for scene in scenes] for own in values.values()]) if scenes else None


def _shared(first: Values, second: Values) -> tuple[np.ndarray, np.ndarray] | None:
    """Two (S, N) tables of the same seeds and scenes; None if they share none."""
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return None
    scenes = _common(dict(enumerate([v[s] for v in (first, second) for s in seeds])))
    if not scenes:
        return None
    tables = [np.array([[values[s][scene] for scene in scenes] for s in seeds]) for values in (first, second)]
    return tables[0], tables[1]


def _common(values: Values) -> list[str]:
    """Scenes that all have, in the order of the first."""
    first, *others = values.values()
    return [scene for scene in first if all(scene in other for other in others)]
