"""The tables of a report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.significance import (
    CategoryTable,
    Interval,
    Resampling,
    by_category,
    mean_interval,
    power_hint,
)
from insightedit.evaluation.reporting.category_tables import SUMMARY, paired_table
from insightedit.evaluation.reporting.columns import gather
from insightedit.evaluation.reporting.plots import Spot
from insightedit.evaluation.reporting.published import PublishedTable, load_published
from insightedit.evaluation.reporting.runs import BINARY, ReportRun
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Cell, Column, Row, Table
from insightedit.evaluation.reporting.tables import (
    APART,
    CONTROL_GROUP,
    FEW_NOTE,
    OURS,
    STRICT,
    MetricColumn,
    beside_published,
    interval_text,
    results_table,
)

REASON_LENGTH = 300  # letters of a reason that are shown
KEPT = ("psnr_background", "PSNR", "SSIM", "CLIP_I", "DINO", "LPIPS", "L1")  # of a trade-off's horizontal axis


@dataclass(frozen=True)
class Gap:
    """Values that are missing for one reason."""

    method: str
    metric: str
    reason: str
    count: int


def all_records(runs: Sequence[ReportRun]) -> list[MetricRecord]:
    """Records of all runs, each run's own rows first."""
    return [record for run in runs for record in run.records]


def main_table(runs: Sequence[ReportRun], how: Resampling) -> Table:
    """Every method beside the control rows, with intervals.

    Raises:
        ProtocolMixError: if the runs follow different protocols.
    """
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    names = {value: name for run in runs for value, name in run.protocols.items()}
    title = f"Results on {runs[0].benchmark}"
    apart = {run.method: run.apart for run in runs}
    grid = results_table(all_records(runs), columns, title=title, binary=BINARY, protocols=names, apart=apart, how=how)
    own = {run.method: APART if run.apart else OURS for run in runs}
    lines = [
        replace(
            line,
            group=own.get(line.label, CONTROL_GROUP),
            cells=line.cells if line.label in own else tuple(replace(one, number=None) for one in line.cells),
        )
        for line in grid.lines
    ]
    order = list(dict.fromkeys(record.method for record in all_records(runs)))
    groups = (OURS, APART, CONTROL_GROUP)
    lines.sort(key=lambda line: (groups.index(line.group), order.index(line.label)))
    told = tuple(remark for remark in grid.remarks if "a gap under" not in remark)  # stands below the table
    grid = replace(grid, lines=tuple(lines), remarks=told)
    return _without_strict(grid) if all(one.metric_variant == "strict" for one in columns) else grid


def power(run: ReportRun) -> str:
    """What so few samples cannot show."""
    return power_hint(max(1, run.column(run.headline).n))


def _without_strict(grid: Table) -> Table:
    """Where there is one variant only, headings need not say which."""
    headings = tuple(replace(one, label=re.sub(" strict$", "", one.label)) for one in grid.headings)
    if grid.notes != (STRICT,):
        return replace(grid, headings=headings)
    return replace(grid, headings=tuple(replace(one, notes=()) for one in headings), notes=())


def category_tables(run: ReportRun, how: Resampling) -> dict[MetricColumn, CategoryTable]:
    """Each metric by category; those without any value are left out."""
    found = {}
    for metric in run.columns:
        column = run.column(metric)
        if column.values:
            found[metric] = by_category(column, binary=metric.metric_name in BINARY, how=how)
    return found


def category_grid(run: ReportRun, tables: Mapping[MetricColumn, CategoryTable]) -> Table:
    """Categories down, metrics across; small categories are marked, not hidden."""
    names = list(dict.fromkeys(row.name for table in tables.values() for row in table.rows))
    headings = [Column("n")]
    headings += [replace(metric.heading(), label=run.label(metric)) for metric in tables]
    lines = []
    for name in names:
        found = [next((row for row in table.rows if row.name == name), None) for table in tables.values()]
        n = max((row.n + row.failed for row in found if row is not None), default=0)
        cells = [
            _cell(None if row is None else row.interval, metric, n) for row, metric in zip(found, tables, strict=True)
        ]
        small = any(row is None or row.is_small for row in found)
        lines.append(Row(name or "(none)", (Cell(f"{n}{FEW_MARK if small else ''}"), *cells)))
    n = len(run.column(run.headline).categories)
    for attribute, label in SUMMARY.items():
        means = [_cell(getattr(table, attribute), metric, n) for metric, table in tables.items()]
        lines.append(Row(label, (Cell(str(n)), *means), group="Mean"))
    remarks = (f"{FEW_NOTE[:-1]}, in the category or behind the number.",)
    return Table(f"{run.method} by category", tuple(headings), tuple(lines), (), remarks, "Category")


def _cell(interval: Interval | None, metric: MetricColumn, n: int) -> Cell:
    """A mean with its interval; the number of samples behind it where that is another."""
    if interval is None:
        return Cell()
    few = FEW_MARK if interval.is_small else ""
    behind = f" (n = {interval.n})" if interval.n != n else ""
    below = interval_text(interval, metric.template) + behind
    return Cell(metric.template.format(interval.value) + few, below.strip())


def published_tables(runs: Sequence[ReportRun], how: Resampling) -> list[Table]:
    """The papers' tables that our numbers belong to, ours beside theirs where protocol and data allow."""
    runs = [run for run in runs if not run.apart]
    if not runs:
        return []
    names = {value: name for run in runs for value, name in run.protocols.items()}
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    places = {(column.metric_name, column.metric_variant) for column in columns}
    mine = {name for name, variant in places if variant == "paper"}
    records = [one for one in all_records(runs) if (one.metric_name, one.metric_variant) in places]
    return [
        beside_published(
            records,
            table,
            extra=[one for one in columns if one.metric_variant == "strict" and _has(table, one.metric_name)],
            binary=BINARY,
            protocols=names,
            how=how,
        )
        for table in load_published().tables_beside([runs[0].benchmark], mine, set(names.values()))
    ]


def _has(table: PublishedTable, name: str) -> bool:
    return any(column.key == name for column in table.columns)


def pair_table(runs: Sequence[ReportRun], how: Resampling) -> Table | None:
    """The first run against the others on shared samples; None for one run."""
    if len(runs) < 2:
        return None
    own = {run.method for run in runs}
    records = [record for record in all_records(runs) if record.method in own]
    shared = [
        one for one in runs[0].columns if one.heading().better != "n/a" and all(run.column(one).values for run in runs)
    ]
    if not shared:
        return None
    primary = (runs[0].headline.metric_name,)
    bench = runs[0].benchmark
    return paired_table(records, runs[0].method, shared, bench=bench, primary=primary, how=how)


def gaps(runs: Sequence[ReportRun]) -> list[Gap]:
    """Missing values, counted by method, metric and reason; most first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for record in all_records(runs):
        if record.value is None:
            reason = " ".join(str(record.error).split())[:REASON_LENGTH]
            counts[record.method, f"{record.metric_name} ({record.metric_variant})", reason] += 1
    return [Gap(*place, count) for place, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def spots(runs: Sequence[ReportRun], how: Resampling) -> tuple[MetricColumn, MetricColumn, list[Spot]] | None:
    """What the trade-off needs: (preserved, edited, runs); None for one run, or without a preservation metric."""
    edited = runs[0].headline
    known = {one.metric_name: one for one in reversed(runs[0].columns)}
    preserving = [known[name] for name in KEPT if name in known and name != edited.metric_name]
    shared = [one for one in preserving if all(run.column(one).values for run in runs)]
    if len(runs) < 2 or not shared or not all(run.column(edited).values for run in runs):
        return None
    found = []
    for run in runs:
        pair = [_mean(run, one, how) for one in (shared[0], edited)]
        found.append(Spot(run.method, *pair, run.image_guidance_scale))
    return shared[0], edited, found


def _mean(run: ReportRun, metric: MetricColumn, how: Resampling) -> Interval:
    column = run.column(metric)
    values, clusters = column.take(list(column.values))
    return mean_interval(values, clusters, binary=metric.metric_name in BINARY, how=how)


def check_same_protocol(runs: Sequence[ReportRun]) -> None:
    """Refuse runs of several protocols before anything is computed.

    Raises:
        ProtocolMixError: naming both.
    """
    gather(all_records(runs))
