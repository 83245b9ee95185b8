"""Tables that look closer: one metric by category, and one method against the others on shared samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.significance import (
    METHODS,
    CategoryTable,
    Comparison,
    Interval,
    Resampling,
    by_category,
    compare_columns,
    holm,
    power_hint,
)
from insightedit.evaluation.reporting.columns import MetricValues, gather
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Cell, Column, Row, Table
from insightedit.evaluation.reporting.tables import FEW_NOTE, MetricColumn, interval_text

ONE_CLUSTER = "One source picture or session alone shows nothing about others: no interval, and p is 1."
SUMMARY = {"micro": "all samples alike (micro)", "macro": "all categories alike (macro)"}


def category_grid(
    records: Iterable[MetricRecord],
    column: MetricColumn,
    *,
    bench: str,
    binary: bool = False,
    how: Resampling | None = None,
) -> Table:
    """One metric by category, every method with n, mean and interval; small categories are marked, not hidden.

    Raises:
        ProtocolMixError: if two protocols meet.
        ValueError: if no record has the metric on the benchmark.
    """
    how = how or Resampling()
    columns = _chosen(records, bench, [column])
    tables = {one.key.method: by_category(one, binary=binary, how=how) for one in columns}
    head = column.heading()
    headings = tuple(
        Column(label, over=method, better=better)
        for method in tables
        for label, better in (("n", "n/a"), (head.label, head.better), (_confidence(how), "n/a"))
    )
    names = list(dict.fromkeys(row.name for table in tables.values() for row in table.rows))
    lines = [
        Row(name or "(none)", tuple(cell for t in tables.values() for cell in _row_cells(t, name, column)))
        for name in names
    ]
    for attribute, label in SUMMARY.items():
        cells = [
            cell
            for table in tables.values()
            for cell in _interval_cells(getattr(table, attribute), column.template, 0)
        ]
        lines.append(Row(label, tuple(cells), group="Mean"))
    first = columns[0]
    sizes = sorted({table.micro.n for table in tables.values()})
    return Table(
        title=f"{head.label} ({column.metric_variant}) by category on {bench}",
        headings=headings,
        lines=tuple(lines),
        remarks=(
            f"Protocol {first.protocol_hash}; intervals from {how.resamples:,} resamples of source pictures or "
            f"sessions, seed {how.seed}{', or by Wilson' if binary else ''}.",
            *((FEW_NOTE,) if any(row.is_small for table in tables.values() for row in table.rows) else ()),
            power_hint(sizes[0]),
        ),
        corner="Category",
    )


def _row_cells(table: CategoryTable, name: str, column: MetricColumn) -> list[Cell]:
    row = next((one for one in table.rows if one.name == name), None)
    if row is None:
        return [Cell(f"0{FEW_MARK}"), Cell(), Cell()]
    return _interval_cells(row.interval, column.template, row.failed)


def _interval_cells(interval: Interval | None, template: str, failed: int) -> list[Cell]:
    n = 0 if interval is None else interval.n
    size = f"{n}{FEW_MARK if interval is None or interval.is_small else ''}"
    if failed:
        size += f" (+{failed} failed)"
    if interval is None:
        return [Cell(size), Cell(), Cell()]
    return [Cell(size), Cell(template.format(interval.value)), Cell(interval_text(interval, template))]


def paired_table(
    records: Iterable[MetricRecord],
    first: str,
    columns: Sequence[MetricColumn],
    *,
    bench: str,
    primary: Collection[str] = (),
    how: Resampling | None = None,
) -> Table:
    """One method against every other, on the samples that both have.

    Args:
        records: of any methods, metrics and benchmarks.
        first: the method that the others are compared with.
        columns: the metrics.
        bench: the benchmark.
        primary: metric names that were fixed before looking: their p-values are corrected together by Holm's method;
            the others' are shown uncorrected.
        how: resamples, seed, method and confidence.

    Raises:
        ProtocolMixError: if two protocols meet.
        ValueError: if a metric or the method has no records, or there is nothing to compare with.
    """
    how = how or Resampling()
    chosen = _chosen(records, bench, columns)
    results: dict[tuple[str, MetricColumn], Comparison] = {}
    for column in columns:
        members = {one.key.method: one for one in chosen if _is(one, column)}
        if first not in members:
            raise ValueError(
                f"{first} has no {column.metric_name} ({column.metric_variant}) on {bench}; "
                f"{', '.join(members) or 'nobody'} has: name one of them."
            )
        for name, other in members.items():
            if name != first:
                results[name, column] = compare_columns(members[first], other, how=how)
    if not results:
        raise ValueError(f"only {first} is in the records: give those of another method too.")
    tested = {f"{name} {c}": r.p_value for (name, c), r in results.items() if c.metric_name in primary}
    corrected = holm(tested)
    lines = []
    for (name, column), result in results.items():
        p_holm = corrected.get(f"{name} {column}")
        lines.append(_comparison_line(name, column, result, p_holm))
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


def _comparison_line(name: str, column: MetricColumn, result: Comparison, p_holm: float | None) -> Row:
    difference = result.difference
    cells = (
        Cell(column.heading().text),
        Cell(f"{difference.n}{FEW_MARK if difference.is_small else ''}"),
        Cell(column.template.format(result.first)),
        Cell(column.template.format(result.second)),
        Cell(f"{difference.value:+.3f}"),
        Cell(interval_text(difference)),
        Cell(_p_text(result.p_value)),
        Cell("" if p_holm is None else _p_text(p_holm)),
    )
    return Row(name, cells)


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _confidence(how: Resampling) -> str:
    return f"{100 * how.confidence:g} % CI"


def _is(one: MetricValues, column: MetricColumn) -> bool:
    return (one.key.metric_name, one.key.metric_variant) == (column.metric_name, column.metric_variant)


def _chosen(records: Iterable[MetricRecord], bench: str, columns: Sequence[MetricColumn]) -> list[MetricValues]:
    wanted = {(column.metric_name, column.metric_variant) for column in columns}

    def part(record: MetricRecord) -> str | None:
        found = record.bench == bench and (record.metric_name, record.metric_variant) in wanted
        return bench if found else None

    chosen = list(gather(records, part=part).values())
    if not chosen:
        named = ", ".join(f"{name} ({variant})" for name, variant in sorted(wanted))
        raise ValueError(f"no record has {named} on {bench}: name what the records have.")
    return chosen
