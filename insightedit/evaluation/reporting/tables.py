"""Result tables: the papers' own, ours beside theirs, ours alone, by category, and one method against others.

Every number of ours derives from records and has its interval; numbers of two protocols never share a column. Print
a table with `insightedit.evaluation.reporting.table_formatting`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from insightedit.evaluation.core.records import VARIANTS, MetricRecord
from insightedit.evaluation.core.significance import METHODS, Interval, Resampling, mean_interval, power_hint
from insightedit.evaluation.core.statistics import FEW
from insightedit.evaluation.reporting.columns import MetricValues, ValuesKey, gather
from insightedit.evaluation.reporting.published import (
    Metric,
    PublishedColumn,
    PublishedRow,
    PublishedTable,
    load_published,
)
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Cell, Column, Row, Table

CONTROLS = (
    "copy_source",
    "no_op",
    "blank_canvas",
    "copy_reference",
    "empty_backdrop",
    "oracle",
    "oracle_target",
    "autoencoder_source",
    "autoencoder_target",
    "wrong_object",
    "wrong_subject",
    "constant_tint",
)
BETTER_OF_OURS = {
    "success": "higher", "progress": "higher", "balanced": "higher", "leak": "lower", "iou": "higher",
    "VIEScore_SC": "higher", "VIEScore_PQ": "higher", "VIEScore_O": "higher",
}  # fmt: skip
PRESERVATION = frozenset({"PSNR", "SSIM", "LPIPS", "L1", "L2", "DINO", "CLIP_I"})
OURS, APART, CONTROL_GROUP = "Measured here", "Not comparable", "Controls"
UNRANKED = "Shown, but not ranked beside the published rows: the rule behind them is not published."
OTHER_PROTOCOL = (
    "Shown, but not ranked beside the published rows, which follow {wanted}: ours were measured by {found}."
)
UNEQUAL = "Not ranked: the rows measured here do not have the same samples; compare them in pairs instead."
STRICT = "Strict variant: what we hold to be right; no paper reports it."
FEW_NOTE = f"{FEW_MARK}: fewer than {FEW} samples."
PRESERVATION_NOTE = (
    "A copy of the source does well on PSNR, SSIM, LPIPS, L1, L2, DINO and CLIP-I against the source or target: never "
    "rank on preservation alone."
)


@dataclass(frozen=True)
class MetricColumn:
    """A column of our own.

    Attributes:
        metric_name: of the records.
        metric_variant: "paper" or "strict".
        better: "higher", "lower" or "n/a"; as known if not given, "n/a" for an unknown metric.
        label: header; from the published metrics, or the name.
        template: Python format of a value.

    Raises:
        ValueError: if the variant is unknown.
    """

    metric_name: str
    metric_variant: str = "paper"
    better: str | None = None
    label: str | None = None
    template: str = "{:.3f}"

    def __post_init__(self) -> None:
        if self.metric_variant not in VARIANTS:
            raise ValueError(f"metric_variant is {self.metric_variant!r}; it is one of {', '.join(VARIANTS)}.")

    def heading(self, over: str = "", notes: tuple[int, ...] = ()) -> Column:
        """The column's head."""
        known: Metric | None = load_published().metrics.get(self.metric_name)
        label = self.label or (known.label if known else self.metric_name)
        if self.metric_variant == "strict":
            label += " strict"
        better = self.better or (known.better if known else BETTER_OF_OURS.get(self.metric_name, "n/a"))
        return Column(label, over, better, notes)


@dataclass
class _Notes:
    """Footnotes in the order in which they are first needed."""

    sentences: list[str] = field(default_factory=list)

    def number(self, sentence: str) -> int:
        if sentence not in self.sentences:
            self.sentences.append(sentence)
        return self.sentences.index(sentence)

    def numbers(self, sentences: Iterable[str]) -> tuple[int, ...]:
        return tuple(sorted(self.number(sentence) for sentence in sentences))


@dataclass(frozen=True)
class _Measured:
    """Our columns, what to do with them, and what was said about them."""

    columns: Mapping[ValuesKey, MetricValues]
    binary: Collection[str]
    how: Resampling
    protocols: Mapping[str, str]
    apart: Mapping[str, Sequence[str]]
    notes: _Notes = field(default_factory=_Notes)

    @property
    def methods(self) -> list[str]:
        """Methods in the order of the records, those that stand apart next to last, controls last."""
        names = list(dict.fromkeys(key.method for key in self.columns))
        return sorted(names, key=lambda name: (is_control(name), bool(self.apart.get(name))))

    def group(self, method: str) -> str:
        """The heading that a row stands below."""
        return CONTROL_GROUP if is_control(method) else APART if self.apart.get(method) else OURS

    def why_unranked(self, column: MetricValues) -> list[str]:
        """Sentences on why one of our numbers may not be ranked; none where it may, or is a control's."""
        key = column.key
        if is_control(key.method):
            return []
        if reasons := self.apart.get(key.method):
            return [f"{key.method} is not ranked. {' '.join(reasons)}"]
        peers = [
            frozenset(one.values)
            for other, one in self.columns.items()
            if replace(other, method="") == replace(key, method="") and self.group(other.method) == OURS
        ]
        return [UNEQUAL] if len(set(peers)) > 1 else []

    def column(self, method: str, part: str, metric_name: str, variant: str) -> MetricValues | None:
        return self.columns.get(ValuesKey(part, metric_name, variant, method))

    def interval(self, column: MetricValues) -> Interval | None:
        if not column.values:
            return None
        values, clusters = column.take(list(column.values))
        return mean_interval(values, clusters, binary=column.key.metric_name in self.binary, how=self.how)

    def cell(self, column: MetricValues | None, template: str, *, why_not: Sequence[str] = ()) -> Cell:
        """A value; ranked unless a sentence says why it is not, or it is a control's."""
        interval = None if column is None else self.interval(column)
        if interval is None or column is None:
            return Cell()
        text = template.format(interval.value)
        why = self.why_unranked(column)
        if not self.apart.get(column.key.method):
            why = list(why_not) or why
        return Cell(
            text=text + (FEW_MARK if interval.is_small else ""),
            interval=interval_text(interval, template),
            number=None if why or is_control(column.key.method) else float(text),
            notes=self.notes.numbers(why),
        )


def is_control(method: str) -> bool:
    """Whether a row is a control (copy of the source, oracle, ...), which no ranking counts."""
    return method.lower().replace("-", "_").replace(" ", "_") in CONTROLS


def interval_text(interval: Interval, template: str = "{:.3f}") -> str:
    """Both ends in brackets; "" without interval."""
    if interval.low is None or interval.high is None:
        return ""
    return f"[{template.format(interval.low)}, {template.format(interval.high)}]"


def published_table(table: PublishedTable) -> Table:
    """A table as the paper prints it: column order, arrows, groups; the best and second best of a column marked."""
    return Table(
        title=f"{table.title} ({table.source})",
        headings=tuple(_published_heading(table, column, ()) for column in table.columns),
        corner=table.corner,
        lines=tuple(Row(row.method, _published_cells(table, row), row.group) for row in table.rows),
    )


def _published_heading(table: PublishedTable, column: PublishedColumn, notes: tuple[int, ...]) -> Column:
    several = len({one.benchmark.name for one in table.columns}) > 1
    over = column.benchmark.title if several else column.span
    return Column(column.label, over, column.metric.better if column.metric else "n/a", notes)


def _published_cells(table: PublishedTable, row: PublishedRow) -> tuple[Cell, ...]:
    cells = []
    for column in table.columns:
        value = row.values.get((column.benchmark.name, column.key))
        text = column.text(value)
        if row.remarks.get(f"{column.key}_is_lower_bound"):
            text += "+"
        is_ranked = row.is_ranked and column.metric is not None and column.metric.better != "n/a"
        cells.append(Cell(text, number=float(text) if is_ranked and value is not None else None))
    return tuple(cells)


def beside_published(
    records: Iterable[MetricRecord],
    table: PublishedTable,
    *,
    extra: Sequence[MetricColumn] = (),
    binary: Collection[str] = (),
    protocols: Mapping[str, str] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,
    how: Resampling | None = None,
) -> Table:
    """Our rows below the published ones, in the paper's layout, with intervals, warnings and what is missing.

    A value of ours is ranked among the published ones only where the paper's rule is known or assumed, and only in
    the paper variant; controls never.

    Args:
        records: of any methods and benchmarks; what has no column here is left out.
        table: from `load_published`.
        extra: columns of ours to append for every benchmark, e.g. a strict variant; the published rows are empty there.
        binary: names of metrics whose values are 0 or 1.
        protocols: hash -> name of the protocol, e.g. {"0123...": "smartedit_v1"}. Where it names another protocol than
            the column's, our value is shown but not ranked; hashes that it does not have count as the column's.
        apart: method -> why none of its numbers is ranked (`RunCard.apart`); it stands in a group of its own, marked.
        how: resamples, seed, method and confidence.

    Raises:
        ProtocolMixError: if two protocols meet in a column.
        ValueError: if no record belongs to the table.
    """
    benchmarks = list(dict.fromkeys(column.benchmark for column in table.columns))
    wanted = {(column.key, "paper") for column in table.columns}
    wanted |= {(column.metric_name, column.metric_variant) for column in extra}

    def part(record: MetricRecord) -> str | None:
        if (record.metric_name, record.metric_variant) not in wanted:
            return None
        return next((one.name for one in benchmarks if one.holds(record.bench, record.category)), None)

    measured = _Measured(gather(records, part=part), binary, how or Resampling(), protocols or {}, apart or {})
    if not measured.columns:
        named = ", ".join(sorted({one.bench for one in benchmarks if one.bench})) or "none of ours"
        raise ValueError(
            f"no record belongs to {table.paper} table {table.number}: its benchmark is {named}, its metrics are "
            f"{', '.join(dict.fromkeys(column.key for column in table.columns))}."
        )
    notes = measured.notes
    headings: list[Column] = []
    lines: dict[str, list[Cell]] = {row.method: [] for row in table.rows}
    ours: dict[str, list[Cell]] = {method: [] for method in measured.methods}
    for benchmark in benchmarks:
        chosen = [place for place, one in enumerate(table.columns) if one.benchmark == benchmark]
        for place in chosen:
            column = table.columns[place]
            warnings = column.comparability.warnings if column.comparability else ()
            headings.append(_published_heading(table, column, notes.numbers(warnings)))
            for row in table.rows:
                lines[row.method].append(_published_cells(table, row)[place])
            for method, cells in ours.items():
                cells.append(_cell_beside(measured, method, column))
        over = headings[-1].over if len(benchmarks) > 1 else ""
        for column in extra:
            strict = (STRICT,) if column.metric_variant == "strict" else ()
            headings.append(column.heading(over, notes.numbers(strict)))
            for cells in lines.values():
                cells.append(Cell())
            for method, cells in ours.items():
                found = measured.column(method, benchmark.name, column.metric_name, column.metric_variant)
                cells.append(measured.cell(found, column.template))
    printed = [Row(row.method, tuple(lines[row.method]), row.group) for row in table.rows]
    remarks = [f"Published rows: {table.source}; they give no intervals.", *_unnamed_remarks(measured)]
    titles = {one.name: one.title for one in benchmarks}
    return Table(
        title=table.title,
        headings=tuple(headings),
        lines=(*printed, *_our_lines(ours, measured)),
        notes=tuple(notes.sentences),
        remarks=(*remarks, *_remarks(measured, titles)),
    )


def _cell_beside(measured: _Measured, method: str, column: PublishedColumn) -> Cell:
    found = measured.column(method, column.benchmark.name, column.key, "paper")
    rule = column.comparability
    if found is None or rule is None:
        return Cell()
    why = []
    if not rule.is_ranked:
        why = [UNRANKED]
    elif (name := measured.protocols.get(found.protocol_hash, rule.protocol)) != rule.protocol:
        why = [OTHER_PROTOCOL.format(wanted=rule.protocol, found=name)]
    return measured.cell(found, column.template, why_not=why)


def _unnamed_remarks(measured: _Measured) -> list[str]:
    hashes = dict.fromkeys(column.protocol_hash for column in measured.columns.values())
    unnamed = [value for value in hashes if value not in measured.protocols]
    if not unnamed:
        return []
    return [f"No name was given for protocol {', '.join(unnamed)}: that it is the column's was not checked."]


def _our_lines(ours: Mapping[str, Sequence[Cell]], measured: _Measured) -> list[Row]:
    return [Row(method, tuple(cells), measured.group(method)) for method, cells in ours.items()]


def results_table(
    records: Iterable[MetricRecord],
    columns: Sequence[MetricColumn] | None = None,
    *,
    title: str = "Results",
    binary: Collection[str] = (),
    protocols: Mapping[str, str] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,
    how: Resampling | None = None,
) -> Table:
    """Our methods alone: a row each, a column for every metric, benchmark by benchmark.

    Raises:
        ProtocolMixError: if two protocols meet in a column.
        ValueError: if no record has one of the metrics.
    """
    measured = _Measured(gather(records), binary, how or Resampling(), protocols or {}, apart or {})
    found = dict.fromkeys((key.part, key.metric_name, key.metric_variant) for key in measured.columns)
    parts = list(dict.fromkeys(part for part, _, _ in found))
    chosen = columns or [MetricColumn(*place) for place in dict.fromkeys(place[1:] for place in found)]
    places = [
        (part, column)
        for part in parts
        for column in chosen
        if (part, column.metric_name, column.metric_variant) in found
    ]
    if not places:
        named = ", ".join(f"{one.metric_name} ({one.metric_variant})" for one in chosen) or "any metric"
        raise ValueError(f"no record has {named}: name metrics of the records.")
    notes = measured.notes
    headings = tuple(
        column.heading(
            part if len(parts) > 1 else "", notes.numbers((STRICT,) if column.metric_variant == "strict" else ())
        )
        for part, column in places
    )
    ours = {
        method: [
            measured.cell(measured.column(method, part, column.metric_name, column.metric_variant), column.template)
            for part, column in places
        ]
        for method in measured.methods
    }
    keys = {(part, column.metric_name, column.metric_variant) for part, column in places}
    kept = {k: v for k, v in measured.columns.items() if (k.part, k.metric_name, k.metric_variant) in keys}
    titles = {part: part for part in parts}
    return Table(
        title,
        headings,
        tuple(_our_lines(ours, measured)),
        tuple(notes.sentences),
        _remarks(replace(measured, columns=kept), titles),
    )


def _remarks(measured: _Measured, titles: Mapping[str, str]) -> tuple[str, ...]:
    """What holds for our rows: intervals, protocols, samples, failures, and what so few samples cannot show."""
    how, columns = measured.how, list(measured.columns.values())
    method = f"{METHODS[how.method]} bootstrap"
    binary = sorted({one.key.metric_name for one in columns} & set(measured.binary))
    wilson = f"; Wilson's for {', '.join(binary)} where samples are independent" if binary else ""
    remarks = [
        f"Below each value of ours its {100 * how.confidence:g} % interval: {method} of source pictures or sessions, "
        f"{how.resamples:,} resamples, seed {how.seed}{wilson}.",
        *_protocol_remarks(measured),
        *(_method_remark(name, columns, titles) for name in measured.methods),
        *_unequal_remarks(columns, titles),
    ]
    sizes = sorted({one.n for one in columns if one.n})
    if sizes and sizes[0] < FEW:
        remarks.append(FEW_NOTE)
    remarks += [power_hint(n) for n in sizes[:1]]
    if {one.key.metric_name for one in columns} & PRESERVATION:
        remarks.append(PRESERVATION_NOTE)
    return tuple(remarks)


def _protocol_remarks(measured: _Measured) -> list[str]:
    metrics: dict[str, dict[str, None]] = {}
    for column in measured.columns.values():
        variant = " (strict)" if column.key.metric_variant == "strict" else ""
        metrics.setdefault(column.protocol_hash, {})[column.key.metric_name + variant] = None
    remarks = []
    for value, names in metrics.items():
        name = f" ({measured.protocols[value]})" if value in measured.protocols else ""
        remarks.append(f"Protocol {value}{name}: {', '.join(names)}.")
    return remarks


def _method_remark(method: str, columns: Sequence[MetricValues], titles: Mapping[str, str]) -> str:
    """Samples, failures, caps and seeds of one method."""
    mine = [one for one in columns if one.key.method == method]
    sizes = []
    for part in dict.fromkeys(one.key.part for one in mine):
        counts = sorted({one.n for one in mine if one.key.part == part})
        where = f" ({titles[part]})" if len(titles) > 1 else ""
        sizes.append(f"n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''}{where}")
    said = [", ".join(sizes)]
    for what, count in (("without a value", lambda one: len(one.failed)), ("capped", lambda one: one.capped)):
        totals: dict[str, int] = {}
        for one in mine:
            name = one.key.metric_name + (" (strict)" if one.key.metric_variant == "strict" else "")
            totals[name] = totals.get(name, 0) + count(one)
        said += [f"{number} {what} in {name}" for name, number in totals.items() if number]
    seeds = [one.seeds_per_sample for one in mine if one.n]
    least, most = min((low for low, _ in seeds), default=1), max((high for _, high in seeds), default=1)
    if most > 1:
        said.append(f"mean of {least if least == most else f'{least} to {most}'} seeds per sample")
    return f"{method}: {'; '.join(said)}."


def _unequal_remarks(columns: Sequence[MetricValues], titles: Mapping[str, str]) -> list[str]:
    """Columns in which the methods were not measured on the same samples, or not with as many seeds."""
    groups: dict[tuple[str, str, str], list[MetricValues]] = {}
    for one in columns:
        groups.setdefault((one.key.part, one.key.metric_name, one.key.metric_variant), []).append(one)

    def named(differs: Callable[[MetricValues], object]) -> str:
        keys = [key for key, members in groups.items() if len({differs(one) for one in members}) > 1]
        return ", ".join(dict.fromkeys(f"{name} on {titles[part] or part}" for part, name, _ in keys))

    remarks = []
    if samples := named(lambda one: frozenset(one.values)):
        remarks.append(f"Not all rows have the same samples in {samples}: compare them in pairs instead.")
    if seeds := named(lambda one: one.seeds_per_sample):
        remarks.append(f"Not all rows have as many seeds in {seeds}.")
    return remarks
