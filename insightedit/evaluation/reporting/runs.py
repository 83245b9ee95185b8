"""What a report is made of: one run with its records, its samples and what is known about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from insightedit.evaluation.core.failures import FAILURES
from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.run_folder import RunSample
from insightedit.evaluation.reporting.columns import MetricValues, ValuesKey, gather
from insightedit.evaluation.reporting.tables import MetricColumn

if TYPE_CHECKING:
    from insightedit.evaluation.judge.votes import AlignReport

BINARY = frozenset({"success", "discriminates", "exact", "subj_found"})
JUDGES = ("VIEScore_O", "VIEScore_SC", "VIEScore", "VIEScore_PQ", "Ins_align")


@dataclass(frozen=True)
class FailureCount:
    """One line of the taxonomy.

    Attributes:
        code: "F1" to "F14".
        text: what it means.
        primary: samples that fail by it, or votes that name it.
        carried: samples that carry it, successes among them; None of votes, which name one.
    """

    code: str
    text: str
    primary: int
    carried: int | None


@dataclass(frozen=True)
class ReportRun:
    """One run, whatever wrote it.

    Attributes:
        folder: it was read from.
        method: name of its own row.
        benchmark: our name of it.
        version: of the benchmark's files.
        title: of the page.
        facts: (what, value) pairs of the page's head.
        warnings: sentences of the benchmark, the protocol and the pairing.
        records: of the method and of its controls.
        samples: id -> what was asked, with paths that can be opened; of scenes, those whose pictures were kept.
        columns: of the main table.
        protocols: hash of a column -> name of the protocol.
        headline: the metric by category and in the trade-off.
        order: the metric that tells best from worst samples.
        apart: why its numbers are not ranked, nor stand beside published ones; empty where they may.
        why_missing: what could not be measured at all -> why.
        failures: the taxonomy, empty without verdicts.
        counted: what the taxonomy counts: "samples", or raters' "votes".
        verdicts: verdict -> samples; likewise.
        image_guidance_scale: of the run, None if it has none.
    """

    folder: Path
    method: str
    benchmark: str
    version: str
    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    records: tuple[MetricRecord, ...]
    samples: Mapping[str, RunSample]
    columns: tuple[MetricColumn, ...]
    protocols: Mapping[str, str]
    headline: MetricColumn
    order: MetricColumn
    why_missing: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[FailureCount, ...] = ()
    counted: str = "samples"
    verdicts: Mapping[str, int] = field(default_factory=dict)
    image_guidance_scale: float | None = None
    apart: tuple[str, ...] = ()

    @cached_property
    def own(self) -> Mapping[tuple[str, str], MetricValues]:
        """(metric name, variant) -> the method's own numbers, in the order of the records."""
        mine = gather(record for record in self.records if record.method == self.method)
        return {(key.metric_name, key.metric_variant): column for key, column in mine.items()}

    def column(self, metric: MetricColumn) -> MetricValues:
        """The method's own numbers by one metric; an empty column if it has none."""
        key = ValuesKey(self.benchmark, metric.metric_name, metric.metric_variant, self.method)
        return self.own.get((metric.metric_name, metric.metric_variant)) or MetricValues(key, "", self.version)

    def label(self, metric: MetricColumn) -> str:
        """A metric's name, with its variant only where the run has both."""
        text = metric.heading().label
        is_one = all(one.metric_variant == "strict" for one in self.columns)
        return text.removesuffix(" strict") if is_one else text

    def ordered_by(self, wanted: str) -> ReportRun:
        """The same run, its best and worst samples told by another metric.

        Args:
            wanted: "NAME" or "NAME:VARIANT".

        Raises:
            ValueError: if the records have no such metric, or nobody said which of its ends is the good one.
        """
        name, _, variant = wanted.partition(":")
        known = self.columns
        found = [c for c in known if c.metric_name == name and variant in ("", c.metric_variant)]
        if not found:
            names = ", ".join(dict.fromkeys(f"{c.metric_name}:{c.metric_variant}" for c in known))
            raise ValueError(f"no metric {wanted!r} in {self.folder}: it has {names}.")
        if found[0].heading().better == "n/a":
            raise ValueError(f"{name} has no good and bad end: order the samples by another metric.")
        return replace(self, order=found[0])


def merge_runs(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Runs that can stand on one page: names of their own, each control once.

    Raises:
        ValueError: if benchmark or version differ.
    """
    first = runs[0]
    merged: list[ReportRun] = []
    taken: set[str] = set()
    twice = {name for name, count in Counter(run.method for run in runs).items() if count > 1}
    for run in runs:
        if (run.benchmark, run.version) != (first.benchmark, first.version):
            raise ValueError(
                f"{run.folder} was measured on {run.benchmark} {run.version}, {first.folder} on {first.benchmark} "
                f"{first.version}: make a report of each."
            )
        name = f"{run.method} ({run.folder.name})" if run.method in twice else run.method
        number = 2
        while name in taken:
            name, number = f"{run.method} ({run.folder.name}, {number})", number + 1
        records = [
            replace(r, method=name) if r.method == run.method else r
            for r in run.records
            if r.method == run.method or r.method not in taken
        ]
        taken |= {record.method for record in records}
        merged.append(replace(run, method=name, records=tuple(records)))
    return merged


def with_votes(run: ReportRun, votes: AlignReport) -> ReportRun:
    """The run with what raters say: Ins-align by sample, and why edits fail.

    Raises:
        ValueError: if the page does not hold the method.
    """
    rows = {row.method: row for row in votes.rows}
    if run.method not in rows:
        raise ValueError(f"the raters' page is about {', '.join(rows)}, not {run.method}: give the run's own votes.")
    kinds = {record.sample_id: (record.category, record.cluster) for record in run.records}
    shape = {"run_id": votes.page, "method": run.method, "bench": run.benchmark, "bench_version": run.version}
    rated = [
        MetricRecord(
            **shape,
            sample_id=name,
            metric_name="Ins_align",
            metric_variant="paper",
            value=value,
            protocol_hash=votes.page,
            category=kinds.get(name, ("", ""))[0],
            cluster=kinds.get(name, ("", ""))[1],
        )
        for name, value in votes.samples[run.method].items()
    ]
    found = rows[run.method].failures
    failures = tuple(FailureCount(code, text, found[code], None) for code, text in FAILURES.items() if code in found)
    columns = (*run.columns, MetricColumn("Ins_align"))
    return replace(run, records=(*run.records, *rated), columns=columns, failures=failures, counted="votes")
