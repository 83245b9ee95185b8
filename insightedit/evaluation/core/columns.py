"""Records gathered into columns: the numbers of one method by one metric, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from insightedit.evaluation.core.records import MetricRecord


class ProtocolMixError(ValueError):
    """Numbers of two protocols, or of two versions of a benchmark, were about to share a column."""


@dataclass(frozen=True)
class ValuesKey:
    """What may be averaged: one method, one metric."""

    part: str  # benchmark, or the part of it that has a column of its own
    metric_name: str  # see `MetricRecord`
    metric_variant: str  # "paper" or "strict"
    method: str  # row of the table

    @property
    def metric(self) -> tuple[str, str]:
        """Name and variant."""
        return self.metric_name, self.metric_variant

    def __str__(self) -> str:
        return f"{self.method}'s {self.metric_name} ({self.metric_variant}) on {self.part}"


@dataclass
class MetricValues:
    """The numbers behind one cell of a table."""

    key: ValuesKey  # whose they are
    protocol_hash: str  # one for all
    bench_version: str  # one for all
    # sample -> its values, one per seed that gave one, in the order of the records
    values: dict[str, list[float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)  # sample -> what it is resampled with
    categories: dict[str, str] = field(default_factory=dict)  # sample -> category
    failed: list[tuple[str, int | None]] = field(default_factory=list)  # (sample, seed) without a value
    capped: int = 0  # number of values brought down to a limit
    seeds: set[tuple[str, int | None]] = field(default_factory=set)  # (sample, seed) that have been seen

    @property
    def n(self) -> int:
        """Samples with at least one value."""
        return len(self.values)

    @property
    def means(self) -> dict[str, float]:
        """Sample -> mean over its seeds."""
        return {name: sum(values) / len(values) for name, values in self.values.items()}

    @property
    def seeds_per_sample(self) -> tuple[int, int]:
        """Least and most values of a sample; (0, 0) of an empty column."""
        counts = [len(values) for values in self.values.values()]
        return (min(counts), max(counts)) if counts else (0, 0)

    def add(self, record: MetricRecord) -> None:
        """Take one record in; a ValueError for a sample and seed that is there, or another category or cluster."""
        name = record.sample_id
        if (name, record.seed) in self.seeds:
            seed = "" if record.seed is None else f" with seed {record.seed}"
            raise ValueError(f"{self.key} has sample {name}{seed} twice: give each run's records once.")
        self.seeds.add((name, record.seed))
        for kind, known, given in (
            ("category", self.categories, record.category),
            ("cluster", self.units, record.unit),
        ):
            if known.setdefault(name, given) != given:
                raise ValueError(
                    f"{self.key} has sample {name} with the {kind} {known[name]!r} and {given!r}: a sample has one."
                )
        self.capped += record.capped
        if record.value is None:
            self.failed.append((name, record.seed))
        else:
            self.values.setdefault(name, []).append(record.value)

    def take(self, names: Sequence[str]) -> tuple[list[list[float]], list[str]]:
        """Values and clusters of these samples, in this order."""
        return [self.values[name] for name in names], [self.units[name] for name in names]


def gather(
    records: Iterable[MetricRecord], *, part: Callable[[MetricRecord], str | None] | None = None
) -> dict[ValuesKey, MetricValues]:
    """Records as columns, in the order of their first record; read once, one at a time.

    Args:
        records: of any methods, metrics and benchmarks.
        part: column of the table that a record belongs to, None to leave it out; its benchmark if not given.

    Raises:
        ProtocolMixError: if two protocols, or two versions of the benchmark, meet in one part and metric, be it
            within a method or between two.
        ValueError: see `MetricValues.add`.
    """
    columns: dict[ValuesKey, MetricValues] = {}
    leaders: dict[tuple[str, str, str], MetricValues] = {}
    for record in records:
        place = record.bench if part is None else part(record)
        if place is None:
            continue
        key = ValuesKey(place, record.metric_name, record.metric_variant, record.method)
        if key not in columns:
            columns[key] = MetricValues(key, record.protocol_hash, record.bench_version)
        leader = leaders.setdefault((place, *key.metric), columns[key])
        for what, first, second, cure in (
            ("protocols", leader.protocol_hash, record.protocol_hash, "evaluate all by the same protocol"),
            ("versions of the benchmark", leader.bench_version, record.bench_version, "take the same files"),
        ):
            if first != second:
                raise ProtocolMixError(
                    f"{key.metric_name} ({key.metric_variant}) on {place} follows two {what}: {first} "
                    f"({leader.key.method}) and {second} ({record.method}): {cure}, or make two tables."
                )
        columns[key].add(record)
    return columns
