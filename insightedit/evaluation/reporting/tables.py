"""Result tables: the papers' own, ours beside theirs, and ours alone; two protocols never share a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from insightedit.evaluation.core.columns import MetricValues, ValuesKey, gather
from insightedit.evaluation.core.records import VARIANTS, MetricRecord, is_control
from insightedit.evaluation.core.significance import METHODS, Interval, Resampling, mean_interval, power_hint
from insightedit.evaluation.core.statistics import FEW
from insightedit.evaluation.reporting import published
from insightedit.evaluation.reporting.published import Comparability, PublishedColumn, PublishedRow, PublishedTable
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Cell, Column, Row, Table

BETTER_OF_OURS = {
    "success": "higher", "progress": "higher", "balanced": "higher", "leak": "lower", "iou": "higher",
    "VIEScore_SC": "higher", "VIEScore_PQ": "higher", "VIEScore_O": "higher",
}  # fmt: skip
BINARY = frozenset(
    {
        "success",
        "discriminates",
        "exact",
        "subj_found",
        "understood",
        "right_degree",
        "left_alone",
        "said_so",
        "wrongly_refused",
    }
)  # fmt: skip - metrics whose values are 0 or 1
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
    """A column of our own; ValueError if the variant is unknown."""

    metric_name: str  # of the records
    metric_variant: str = "paper"  # "paper" or "strict"
    better: str | None = None  # "higher", "lower" or "n/a"; as known if not given, "n/a" for an unknown metric
    label: str | None = None  # header; from the published metrics, or the name
    template: str = "{:.3f}"  # Python format of a value

    def __post_init__(self) -> None:
        if self.metric_variant not in VARIANTS:
            raise ValueError(f"metric_variant is {self.metric_variant!r}; it is one of {', '.join(VARIANTS)}.")

    @property
    def key(self) -> tuple[str, str]:
        """Name and variant."""
        return self.metric_name, self.metric_variant

    @property
    def is_beside_paper(self) -> bool:
        """Whether it has to be told apart from a paper variant; a label of its own does that."""
        return self.metric_variant == "strict" and self.label is None

    def heading(self, over: str = "", notes: tuple[int, ...] = ()) -> Column:
        """The column's head."""
        known = published.load_published().metrics.get(self.metric_name)
        label = self.label or (known.label if known else self.metric_name) + (
            " strict" if self.is_beside_paper else ""
        )
        better = self.better or (known.better if known else BETTER_OF_OURS.get(self.metric_name, "n/a"))
        return Column(label, over, better, notes)


@dataclass(frozen=True)
class _Measured:
    """Our columns, what to do with them, and the footnotes in the order in which they are first needed."""

    columns: Mapping[ValuesKey, MetricValues]
    how: Resampling
    protocols: Mapping[str, str]
    apart: Mapping[str, Sequence[str]]
    notes: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Methods in the order of the records, those that stand apart next to last, controls last."""
        names = list(dict.fromkeys(key.method for key in self.columns))
        return sorted(names, key=lambda name: (is_control(name), bool(self.apart.get(name))))

    def group(self, method: str) -> str:
        """The heading that a row stands below."""
        return CONTROL_GROUP if is_control(method) else APART if self.apart.get(method) else OURS

    def noted(self, sentences: Iterable[str]) -> tuple[int, ...]:
        """Numbers of footnotes, which are added if they are new."""
        numbers = []
        for sentence in sentences:
            if sentence not in self.notes:
                self.notes.append(sentence)
            numbers.append(self.notes.index(sentence))
        return tuple(sorted(numbers))

    def heading(self, column: MetricColumn, over: str) -> Column:
        """The head of a column of our own."""
        return column.heading(over, self.noted([STRICT] if column.is_beside_paper else []))

    def cell(self, method: str, part: str, column: MetricColumn | PublishedColumn) -> Cell:
        """A value; ranked unless a sentence says why it is not, or it is a control's."""
        metric, rule = (column.key, None) if isinstance(column, MetricColumn) else ((column.key, "paper"), column)
        values = self.columns.get(ValuesKey(part, *metric, method))
        if values is None or not values.values or (rule and rule.comparability is None):
            return Cell()
        interval = mean_of(values, self.how)
        text = column.template.format(interval.value)
        why = self._why_unranked(values, rule.comparability if rule else None)
        return Cell(
            text=text + (FEW_MARK if interval.is_small else ""),
            interval=interval_text(interval, column.template),
            number=None if why or is_control(method) else float(text),
            notes=self.noted(why),
        )

    def _why_unranked(self, values: MetricValues, rule: Comparability | None) -> list[str]:
        key = values.key
        if reasons := self.apart.get(key.method):
            return [f"{key.method} is not ranked. {' '.join(reasons)}"]
        if rule is not None:
            if not rule.is_ranked:
                return [UNRANKED]
            if (name := self.protocols.get(values.protocol_hash, rule.protocol)) != rule.protocol:
                return [OTHER_PROTOCOL.format(wanted=rule.protocol, found=name)]
        peers = {
            frozenset(one.values)
            for other, one in self.columns.items()
            if replace(other, method="") == replace(key, method="") and self.group(other.method) == OURS
        }
        return [UNEQUAL] if len(peers) > 1 and not is_control(key.method) else []

    def remarks(self, titles: Mapping[str, str]) -> tuple[str, ...]:
        """What holds for our rows, in the parts of these titles: intervals, protocols, samples, failures, limits."""
        how, columns = self.how, list(self.columns.values())
        binary = sorted({one.key.metric_name for one in columns} & BINARY)
        wilson = f"; Wilson's for {', '.join(binary)} where samples are independent" if binary else ""
        remarks = [
            f"Below each value of ours its {100 * how.confidence:g} % interval: {METHODS[how.method]} bootstrap of "
            f"source pictures or sessions, {how.resamples:,} resamples, seed {how.seed}{wilson}."
        ]
        metrics: dict[str, dict[str, None]] = {}
        for one in columns:
            metrics.setdefault(one.protocol_hash, {})[_name(one.key)] = None
        for value, names in metrics.items():
            name = f" ({self.protocols[value]})" if value in self.protocols else ""
            remarks.append(f"Protocol {value}{name}: {', '.join(names)}.")
        remarks += [_method_remark(name, columns, titles) for name in self.methods]
        remarks += _unequal_remarks(columns, titles)
        sizes = sorted({one.n for one in columns if one.n})
        remarks += [FEW_NOTE] if sizes and sizes[0] < FEW else []
        remarks += [power_hint(n) for n in sizes[:1]]
        if {one.key.metric_name for one in columns} & PRESERVATION:
            remarks.append(PRESERVATION_NOTE)
        return tuple(remarks)


def _name(key: ValuesKey) -> str:
    return key.metric_name + (" (strict)" if key.metric_variant == "strict" else "")


def _method_remark(method: str, columns: Sequence[MetricValues], titles: Mapping[str, str]) -> str:
    """Samples, failures, caps and seeds of one method."""
    mine = [one for one in columns if one.key.method == method]
    sizes = []
    for part in dict.fromkeys(one.key.part for one in mine):
        counts = sorted({one.n for one in mine if one.key.part == part})
        where = f" ({titles[part]})" if len(titles) > 1 else ""
        sizes.append(f"n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''}{where}")
    said = [", ".join(sizes)]
    failed, capped = Counter(), Counter()
    for one in mine:
        failed[_name(one.key)] += len(one.failed)
        capped[_name(one.key)] += one.capped
    for what, counts in (("without a value", failed), ("capped", capped)):
        said += [f"{number} {what} in {name}" for name, number in counts.items() if number]
    seeds = [one.seeds_per_sample for one in mine if one.n]
    least, most = min((low for low, _ in seeds), default=1), max((high for _, high in seeds), default=1)
    if most > 1:
        said.append(f"mean of {least if least == most else f'{least} to {most}'} seeds per sample")
    return f"{method}: {'; '.join(said)}."


def _unequal_remarks(columns: Sequence[MetricValues], titles: Mapping[str, str]) -> list[str]:
    """Columns in which the methods were not measured on the same samples, or not with as many seeds."""
    groups: dict[ValuesKey, list[MetricValues]] = {}
    for one in columns:
        groups.setdefault(replace(one.key, method=""), []).append(one)

    def named(differs: Callable[[MetricValues], object]) -> str:
        keys = [key for key, members in groups.items() if len({differs(one) for one in members}) > 1]
        return ", ".join(dict.fromkeys(f"{key.metric_name} on {titles[key.part] or key.part}" for key in keys))

    remarks = []
    if samples := named(lambda one: frozenset(one.values)):
        remarks.append(f"Not all rows have the same samples in {samples}: compare them in pairs instead.")
    if seeds := named(lambda one: one.seeds_per_sample):
        remarks.append(f"Not all rows have as many seeds in {seeds}.")
    return remarks


def mean_of(column: MetricValues, how: Resampling) -> Interval:
    """The mean over the samples that have a value, with its interval."""
    values, clusters = column.take(list(column.values))
    return mean_interval(values, clusters, binary=column.key.metric_name in BINARY, how=how)


def interval_text(interval: Interval, template: str = "{:.3f}") -> str:
    """Both ends in brackets; "" without interval."""
    if interval.low is None or interval.high is None:
        return ""
    return f"[{template.format(interval.low)}, {template.format(interval.high)}]"


def published_table(table: PublishedTable) -> Table:
    """A table as the paper prints it: column order, arrows, groups; the best and second best of a column marked."""
    return Table(
        title=f"{table.title} ({table.source})",
        headings=tuple(_published_heading(table, column) for column in table.columns),
        lines=tuple(
            Row(row.method, tuple(_published_cell(row, column) for column in table.columns), row.group)
            for row in table.rows
        ),
        corner=table.corner,
    )


def _published_heading(table: PublishedTable, column: PublishedColumn, notes: tuple[int, ...] = ()) -> Column:
    several = len({one.benchmark.name for one in table.columns}) > 1
    return Column(column.label, column.benchmark.title if several else column.span, column.better, notes)


def _published_cell(row: PublishedRow, column: PublishedColumn) -> Cell:
    place = column.benchmark.name, column.key
    value = row.values.get(place)
    text = column.text(value)
    is_ranked = row.is_ranked and column.better != "n/a" and value is not None
    return Cell(text + ("+" if place in row.lower_bounds else ""), number=float(text) if is_ranked else None)


def beside_published(
    records: Iterable[MetricRecord],  # of any methods and benchmarks; what has no column here is left out
    table: PublishedTable,
    *,
    extra: Sequence[MetricColumn] = (),  # of ours to append for every benchmark; published rows are empty there
    # hash -> name of the protocol. Where it names another than the column's, our value is shown but not ranked; hashes
    # that it does not have count as the column's
    protocols: Mapping[str, str] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,  # method -> why none of its numbers is ranked (`RunCard.apart`)
    how: Resampling | None = None,
) -> Table:
    """Our rows below the published ones, in the paper's layout, with intervals, warnings and what is missing.

    A value of ours is ranked among the published ones only where the paper's rule is known or assumed, and only in
    the paper variant; controls never. ValueError if no record belongs to the table.
    """
    benchmarks = list(dict.fromkeys(column.benchmark for column in table.columns))
    wanted = {(column.key, "paper") for column in table.columns} | {column.key for column in extra}

    def part(record: MetricRecord) -> str | None:
        if (record.metric_name, record.metric_variant) not in wanted:
            return None
        return next((one.name for one in benchmarks if one.holds(record.bench, record.category)), None)

    measured = _Measured(gather(records, part=part), how or Resampling(), protocols or {}, apart or {})
    if not measured.columns:
        named = ", ".join(sorted({one.bench for one in benchmarks if one.bench})) or "none of ours"
        raise ValueError(
            f"no record belongs to {table}: its benchmark is {named}, its metrics are "
            f"{', '.join(dict.fromkeys(column.key for column in table.columns))}."
        )
    headings: list[Column] = []
    columns: list[list[Cell]] = []  # of all rows, the published ones first
    for benchmark in benchmarks:
        for column in table.columns:
            if column.benchmark == benchmark:
                warnings = column.comparability.warnings if column.comparability else ()
                headings.append(_published_heading(table, column, measured.noted(warnings)))
                cells = [_published_cell(row, column) for row in table.rows]
                columns.append(cells + [measured.cell(one, benchmark.name, column) for one in measured.methods])
        over = headings[-1].over if len(benchmarks) > 1 else ""
        for column in extra:
            headings.append(measured.heading(column, over))
            cells = [Cell()] * len(table.rows)
            columns.append(cells + [measured.cell(one, benchmark.name, column) for one in measured.methods])
    labels = [(row.method, row.group) for row in table.rows]
    labels += [(method, measured.group(method)) for method in measured.methods]
    remarks = [f"Published rows: {table.source}; they give no intervals."]
    hashes = dict.fromkeys(column.protocol_hash for column in measured.columns.values())
    if unnamed := ", ".join(value for value in hashes if value not in measured.protocols):
        remarks.append(f"No name was given for protocol {unnamed}: that it is the column's was not checked.")
    return Table(
        title=table.title,
        headings=tuple(headings),
        lines=tuple(
            Row(name, cells, group) for (name, group), cells in zip(labels, zip(*columns, strict=True), strict=True)
        ),
        notes=tuple(measured.notes),
        remarks=(*remarks, *measured.remarks({one.name: one.title for one in benchmarks})),
    )


def results_table(
    records: Iterable[MetricRecord],
    columns: Sequence[MetricColumn] | None = None,
    *,
    title: str = "Results",
    protocols: Mapping[str, str] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,
    how: Resampling | None = None,
) -> Table:
    """Our methods alone: a row each, a column for every metric, benchmark by benchmark; ValueError if there is none.

    Without `columns` all are shown that there are records of; the other arguments are those of `beside_published`.
    """
    wanted = None if columns is None else {column.key for column in columns}

    def part(record: MetricRecord) -> str | None:
        return record.bench if wanted is None or (record.metric_name, record.metric_variant) in wanted else None

    measured = _Measured(gather(records, part=part), how or Resampling(), protocols or {}, apart or {})
    found = dict.fromkeys((key.part, key.metric) for key in measured.columns)
    if not found:
        named = ", ".join(f"{one.metric_name} ({one.metric_variant})" for one in columns or ()) or "any metric"
        raise ValueError(f"no record has {named}: name metrics of the records.")
    parts = list(dict.fromkeys(part for part, _ in found))
    chosen = columns or [MetricColumn(*key) for key in dict.fromkeys(key for _, key in found)]
    places = [(part, column) for part in parts for column in chosen if (part, column.key) in found]
    headings = tuple(measured.heading(column, part if len(parts) > 1 else "") for part, column in places)
    lines = tuple(
        Row(method, tuple(measured.cell(method, *place) for place in places), measured.group(method))
        for method in measured.methods
    )
    return Table(title, headings, lines, tuple(measured.notes), measured.remarks({part: part for part in parts}))
