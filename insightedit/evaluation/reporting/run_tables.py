"""The tables of runs, as commands print them and as a report shows them: all rows, by category, in pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from insightedit.evaluation.core import significance
from insightedit.evaluation.core.columns import MetricValues, gather
from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.significance import METHODS, CategoryTable, Comparison, Interval, Resampling
from insightedit.evaluation.reporting.plots import Spot
from insightedit.evaluation.reporting.published import load_published
from insightedit.evaluation.reporting.runs import ReportRun, all_records
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Cell, Column, Row, Table
from insightedit.evaluation.reporting.tables import (
    BINARY,
    FEW_NOTE,
    MetricColumn,
    beside_published,
    interval_text,
    mean_of,
    results_table,
)

NOT_BESIDE = "These numbers do not stand beside the published ones: the notes say why."
REASON_LENGTH = 300  # letters of a reason that are shown
KEPT = ("psnr_background", "PSNR", "SSIM", "CLIP_I", "DINO", "LPIPS", "L1")  # of a trade-off's horizontal axis
ONE_CLUSTER = "One source picture or session alone shows nothing about others: no interval, and p is 1."
SUMMARY = {"micro": "all samples alike (micro)", "macro": "all categories alike (macro)"}


@dataclass(frozen=True)
class Gap:
    """Values that are missing for one reason."""

    method: str
    metric: str
    reason: str
    count: int


def columns_of(runs: Sequence[ReportRun]) -> list[MetricColumn]:
    """All columns of the runs, in their order."""
    return list(dict.fromkeys(column for run in runs for column in run.columns))


def notes_on(runs: Sequence[ReportRun]) -> list[str]:
    """What has to stand below every table: runs that are not finished, networks that were missing, licences."""
    lines = []
    for run in runs:
        if run.card.finished is None:
            lines.append(f"{run.folder} is not finished: run the same command again.")
        lines += [f"{run.folder}, not measured: {reason}" for reason in run.card.missing.values()]
    benchmarks = {run.card.benchmark["title"]: run.card.benchmark for run in runs}
    lines += [
        f"The licence of {title} excludes commercial use: {about['licence']}."
        for title, about in benchmarks.items()
        if about["is_non_commercial"]
    ]
    return lines


def table_of_runs(runs: Sequence[ReportRun], how: Resampling | None = None, title: str | None = None) -> Table:
    """Every method, control rows below, with intervals; a ValueError if nothing was measured."""
    columns = columns_of(runs)
    if not columns:
        raise ValueError(f"nothing was measured: {' '.join(notes_on(runs)) or 'the runs have no records.'}")
    return results_table(
        all_records(runs, columns),
        columns,
        title=title or ", ".join(dict.fromkeys(run.card.benchmark["title"] for run in runs)),
        protocols=protocol_names(runs),
        apart={run.method: run.card.apart for run in runs},
        how=how,
    )


def main_table(runs: Sequence[ReportRun], how: Resampling) -> Table:
    """The table of a report's head, whose page says by itself what cannot be shown."""
    grid = table_of_runs(runs, how, f"Results on {runs[0].benchmark}")
    return replace(grid, remarks=tuple(remark for remark in grid.remarks if "a gap under" not in remark))


def protocol_names(runs: Sequence[ReportRun]) -> dict[str, str]:
    """Hash of a record -> name of its protocol."""
    return {column["hash"]: run.card.protocol["name"] for run in runs for column in run.card.protocol["columns"]}


def published_tables(runs: Sequence[ReportRun], how: Resampling | None, *, only_theirs: bool = False) -> list[Table]:
    """The papers' tables that our numbers belong to: each whose rule is ours, or else each on the same pictures.

    Runs that are not finished, on other data or warned of do not stand there. `only_theirs` leaves our other metrics
    out, not the strict variants of the papers'.
    """
    runs = [run for run in runs if not run.card.apart]
    columns, protocols = columns_of(runs), protocol_names(runs)
    mine = {column.metric_name for column in columns if column.metric_variant == "paper"}
    benches = dict.fromkeys(run.benchmark for run in runs)
    tables = []
    for table in load_published().tables_beside(benches, mine, set(protocols.values())):
        theirs = {column.key for column in table.columns}
        extra = [one for one in columns if one.metric_variant == "strict" or one.metric_name not in theirs]
        if only_theirs:
            extra = [one for one in extra if one.metric_name in theirs]
        records = all_records(runs, columns)
        tables.append(beside_published(records, table, extra=extra, protocols=protocols, how=how))
    return tables


def paired_runs(
    runs: Sequence[ReportRun], columns: Sequence[MetricColumn], primary: Collection[str], how: Resampling
) -> Table:
    """The first run against the others on shared samples, without control rows; see `paired_table`."""
    own = {run.method for run in runs}
    records = (record for record in all_records(runs) if record.method in own)
    return paired_table(records, runs[0].method, columns, bench=runs[0].benchmark, primary=primary, how=how)


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
    kept = shared[0]
    found = []
    for run in runs:
        scale = run.card.settings.get("image_guidance_scale")
        found.append(Spot(run.method, *(mean_of(run.column(one), how) for one in (kept, edited)), scale))
    return kept, edited, found


def metrics_by_category(method: str, tables: Mapping[MetricColumn, CategoryTable], n: int) -> Table:
    """One method of `n` samples: categories down, metrics across; small categories are marked, not hidden."""
    rows: list[tuple[str, str, int, str, list[Interval | None]]] = []
    by_name = [{row.name: row for row in table.rows} for table in tables.values()]
    for name in dict.fromkeys(name for found in by_name for name in found):
        found = [one.get(name) for one in by_name]
        count = max(row.n + row.failed for row in found if row is not None)
        few = FEW_MARK if any(row is None or row.is_small for row in found) else ""
        rows.append((name or "(none)", "", count, few, [row and row.interval for row in found]))
    for attribute, label in SUMMARY.items():
        rows.append((label, "Mean", n, "", [getattr(table, attribute) for table in tables.values()]))

    def cell(interval: Interval | None, metric: MetricColumn, count: int) -> Cell:
        if interval is None:
            return Cell()
        few = FEW_MARK if interval.is_small else ""
        behind = f" (n = {interval.n})" if interval.n != count else ""
        below = interval_text(interval, metric.template) + behind
        return Cell(metric.template.format(interval.value) + few, below.strip())

    lines = [
        Row(name, (Cell(f"{count}{few}"), *(cell(*one, count) for one in zip(found, tables, strict=True))), group)
        for name, group, count, few, found in rows
    ]
    headings = Column("n"), *(metric.heading() for metric in tables)
    remark = f"{FEW_NOTE[:-1]}, in the category or behind the number."
    return Table(f"{method} by category", headings, tuple(lines), remarks=(remark,), corner="Category")


def category_grid(
    records: Iterable[MetricRecord], column: MetricColumn, *, bench: str, how: Resampling | None = None
) -> Table:
    """One metric by category, every method with n, mean and interval; small categories are marked, not hidden."""
    how = how or Resampling()
    columns = _chosen(records, bench, [column])
    tables = [table_by_category(one, how) for one in columns]
    head = column.heading()
    headings = tuple(
        Column(label, over=one.key.method, better=better)
        for one in columns
        for label, better in (("n", "n/a"), (head.label, head.better), (_confidence(how), "n/a"))
    )

    def cells(interval: Interval | None, failed: int = 0) -> list[Cell]:
        size = f"{interval.n if interval else 0}{FEW_MARK if interval is None or interval.is_small else ''}"
        size += f" (+{failed} failed)" if failed else ""
        if interval is None:
            return [Cell(size), Cell(), Cell()]
        mean = column.template.format(interval.value)
        return [Cell(size), Cell(mean), Cell(interval_text(interval, column.template))]

    by_name = [{row.name: (row.interval, row.failed) for row in table.rows} for table in tables]
    lines = [
        Row(name or "(none)", tuple(cell for rows in by_name for cell in cells(*rows.get(name, (None,)))))
        for name in dict.fromkeys(name for rows in by_name for name in rows)
    ]
    for attribute, label in SUMMARY.items():
        means = tuple(cell for table in tables for cell in cells(getattr(table, attribute)))
        lines.append(Row(label, means, group="Mean"))
    wilson = ", or by Wilson" if column.metric_name in BINARY else ""
    return Table(
        title=f"{head.label} ({column.metric_variant}) by category on {bench}",
        headings=headings,
        lines=tuple(lines),
        remarks=(
            f"Protocol {columns[0].protocol_hash}; intervals from {how.resamples:,} resamples of source pictures or "
            f"sessions, seed {how.seed}{wilson}.",
            *((FEW_NOTE,) if any(row.is_small for table in tables for row in table.rows) else ()),
            significance.power_hint(min(table.micro.n for table in tables)),
        ),
        corner="Category",
    )


def table_by_category(column: MetricValues, how: Resampling) -> CategoryTable:
    """One method's numbers by one metric, by category."""
    return significance.by_category(column, binary=column.key.metric_name in BINARY, how=how)


def paired_table(
    records: Iterable[MetricRecord],
    first: str,
    columns: Sequence[MetricColumn],
    *,
    bench: str,
    primary: Collection[str] = (),
    how: Resampling | None = None,
) -> Table:
    """The first method against every other, on the samples that both have; ValueError if there is nothing to compare.

    P-values of `primary` metrics, which were fixed before looking, are corrected together by Holm's method, others
    not.
    """
    how = how or Resampling()
    chosen = _chosen(records, bench, columns)
    results: dict[tuple[str, MetricColumn], Comparison] = {}
    for column in columns:
        members = {one.key.method: one for one in chosen if one.key.metric == column.key}
        if first not in members:
            raise ValueError(
                f"{first} has no {column.metric_name} ({column.metric_variant}) on {bench}; "
                f"{', '.join(members) or 'nobody'} has: name one of them."
            )
        for name, other in members.items():
            if name != first:
                results[name, column] = significance.compare_columns(members[first], other, how=how)
    if not results:
        raise ValueError(f"only {first} is in the records: give those of another method too.")
    corrected = significance.holm(
        {f"{name} {c}": one.p_value for (name, c), one in results.items() if c.metric_name in primary}
    )
    lines = []
    for (name, column), result in results.items():
        difference, p_holm = result.difference, corrected.get(f"{name} {column}")
        texts = (
            column.heading().text,
            f"{difference.n}{FEW_MARK if difference.is_small else ''}",
            column.template.format(result.first),
            column.template.format(result.second),
            f"{difference.value:+.3f}",
            interval_text(difference),
            _p_text(result.p_value),
            "" if p_holm is None else _p_text(p_holm),
        )
        lines.append(Row(name, tuple(map(Cell, texts))))
    missing = sum(one.only_first + one.only_second for one in results.values())
    return Table(
        title=f"{first} against others on {bench}, on shared samples",
        headings=tuple(map(Column, ("metric", "n", first, "other", "difference", _confidence(how), "p", "p (Holm)"))),
        lines=tuple(lines),
        remarks=(
            f"Difference: {first} minus the other. Interval: {METHODS[how.method]} bootstrap of source pictures or "
            f"sessions, {how.resamples:,} resamples, seed {how.seed}; p: sign flips of the same.",
            f"Holm's correction over the primary metrics: {', '.join(primary) or 'none was named'}.",
            *((ONE_CLUSTER,) if any(one.difference.clusters < 2 for one in results.values()) else ()),
            *((f"Left out as only one of two has them: {missing} values.",) if missing else ()),
        ),
        corner="against",
    )


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _confidence(how: Resampling) -> str:
    return f"{100 * how.confidence:g} % CI"


def _chosen(records: Iterable[MetricRecord], bench: str, columns: Sequence[MetricColumn]) -> list[MetricValues]:
    wanted = {column.key for column in columns}

    def part(record: MetricRecord) -> str | None:
        return bench if record.bench == bench and (record.metric_name, record.metric_variant) in wanted else None

    chosen = list(gather(records, part=part).values())
    if not chosen:
        named = ", ".join(f"{name} ({variant})" for name, variant in sorted(wanted))
        raise ValueError(f"no record has {named} on {bench}: name what the records have.")
    return chosen
