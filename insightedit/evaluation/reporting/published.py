"""The papers' own numbers, typed: tables, rows, metrics, and which of our numbers may stand beside which of theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path(__file__).with_name("published_results.yaml")
COMPARABLE = ("same", "assumed", "never")
BETTER = {"higher": "↑", "lower": "↓", "n/a": ""}

Value = float | int | bool | str


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        name: key in records and in the file, e.g. "CLIP_I".
        label: as the papers print it, e.g. "CLIP-I".
        unit: e.g. "dB".
        better: "higher", "lower" or "n/a".
        definition: how it is computed, in a few words.
    """

    name: str
    label: str
    unit: str
    better: str
    definition: str

    @property
    def arrow(self) -> str:
        """Up, down or nothing."""
        return BETTER[self.better]


@dataclass(frozen=True)
class PublishedBenchmark:
    """What a paper measured on.

    Attributes:
        name: key in the file, e.g. "reason_edit_reasoning".
        title: as the papers print it; "" where the table has no such heading.
        bench: our name of the benchmark, "" if it has none.
        categories: patterns of our categories that belong to it; none = all.
        but_not: patterns of our categories that do not belong to it.
    """

    name: str
    title: str
    bench: str = ""
    categories: tuple[str, ...] = ()
    but_not: tuple[str, ...] = ()

    def holds(self, bench: str, category: str) -> bool:
        """Whether a record of that benchmark and category belongs here; case and "_" for "-" do not matter."""
        if not self.bench or bench.lower().replace("_", "-") != self.bench:
            return False
        if any(fnmatchcase(category.lower(), pattern) for pattern in self.but_not):
            return False
        return not self.categories or any(fnmatchcase(category.lower(), one) for one in self.categories)


@dataclass(frozen=True)
class Comparability:
    """Whether our number may stand in a published column.

    Attributes:
        status: "same" (the rule was read in the authors' script), "assumed" (inferred or partly open) or "never"
            (the rule is not published: shown at most, never ranked).
        protocol: ours that follows the rule, e.g. "smartedit_v1"; "" where there is none.
        warnings: sentences to print below a table.
    """

    status: str
    protocol: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_ranked(self) -> bool:
        """Whether ours and theirs may be ranked together."""
        return self.status != "never"


@dataclass(frozen=True)
class PublishedColumn:
    """One column as printed.

    Attributes:
        benchmark: what was measured on.
        key: metric or property, the key of `PublishedRow.values` beside the benchmark's name.
        label: header without arrow.
        span: heading above several columns, "" without.
        template: Python format of a value.
        metric: what it means; None for a property of a data set.
        comparability: whether ours may stand in it; None for what is not measured on a benchmark of ours.
    """

    benchmark: PublishedBenchmark
    key: str
    label: str
    span: str
    template: str
    metric: Metric | None
    comparability: Comparability | None

    @property
    def header(self) -> str:
        """Label with arrow."""
        return self.label + (self.metric.arrow if self.metric else "")

    def text(self, value: Value | None) -> str:
        """A value as printed; "" for None, a tick or a cross for a truth value."""
        if value is None:
            return ""
        return ("✓" if value else "✗") if isinstance(value, bool) else self.template.format(value)


@dataclass(frozen=True)
class PublishedRow:
    """One method in one table.

    Attributes:
        method: as in the file.
        group: heading beside the row, "" without.
        is_ranked: False for ablations and baselines that the paper leaves out when it marks the best.
        values: (benchmark, key) -> number or truth value.
        remarks: what else the file says, e.g. {"VIEScore_scale": "0-1"}.
    """

    method: str
    group: str
    is_ranked: bool
    values: Mapping[tuple[str, str], Value]
    remarks: Mapping[str, Value]


@dataclass(frozen=True)
class PublishedTable:
    """One table in the paper's layout.

    Attributes:
        paper: key, e.g. "insightedit".
        number: as printed, e.g. "3a".
        title: its caption.
        source: title and address of the paper.
        columns: in the printed order.
        rows: in the printed order.
        corner: head of the rows' names.
    """

    paper: str
    number: str
    title: str
    source: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]
    corner: str = "Methods"

    def row(self, method: str) -> PublishedRow:
        """The row of a method.

        Raises:
            KeyError: naming the methods there are.
        """
        return _one(self.rows, method, lambda row: row.method, f"{self.paper} table {self.number}")

    def column(self, key: str, benchmark: str | None = None) -> PublishedColumn:
        """A column by key, and by benchmark where the table has several.

        Raises:
            KeyError: naming the columns there are.
        """
        chosen = [one for one in self.columns if benchmark in (None, one.benchmark.name)]
        return _one(chosen, key, lambda one: one.key, f"{self.paper} table {self.number}")

    def value(self, method: str, key: str, benchmark: str | None = None) -> Value | None:
        """One number; None where the paper's cell is empty."""
        return self.row(method).values.get((self.column(key, benchmark).benchmark.name, key))


@dataclass(frozen=True)
class Published:
    """All that the file holds.

    Attributes:
        tables: in the file's order.
        metrics: by name.
        benchmarks: by name.
        notes: what is to be known about the numbers, as sentences.
        figures: numbers of single pictures that a paper prints.
        claims: numbers in a paper's text.
        count: rows of the file, one per method and benchmark.
    """

    tables: tuple[PublishedTable, ...]
    metrics: Mapping[str, Metric]
    benchmarks: Mapping[str, PublishedBenchmark]
    notes: tuple[str, ...]
    figures: tuple[Mapping[str, Any], ...]
    claims: tuple[Mapping[str, Any], ...]
    count: int

    def table(self, paper: str, number: str) -> PublishedTable:
        """A table by the paper's key and its printed number.

        Raises:
            KeyError: naming the tables there are.
        """
        name = f"{paper} table {number}"
        return _one(self.tables, name, lambda one: f"{one.paper} table {one.number}", "the published results")

    def tables_on(self, bench: str) -> tuple[PublishedTable, ...]:
        """The tables with a column for one of our benchmarks, e.g. "reason-edit"."""
        wanted = bench.lower().replace("_", "-")
        return tuple(one for one in self.tables if any(column.benchmark.bench == wanted for column in one.columns))

    def tables_beside(
        self, benches: Iterable[str], metrics: Collection[str], protocols: Collection[str]
    ) -> list[PublishedTable]:
        """The tables that have one of our numbers by our rule; where there is none, those that have one by any rule.

        Args:
            benches: ours.
            metrics: names of those that were measured as the papers do.
            protocols: by which.
        """
        benches = list(benches)
        found = dict.fromkeys(id(table) for bench in benches for table in self.tables_on(bench))
        tables = {id(table): table for table in self.tables}
        fitting = [tables[one] for one in found if {*metrics} & {column.key for column in tables[one].columns}]
        same_rule = [
            table
            for table in fitting
            if any(
                one.comparability.protocol in protocols and one.key in metrics
                for one in table.columns
                if one.comparability is not None and one.benchmark.bench in benches
            )
        ]
        return same_rule or fitting


def _one(entries: Iterable[Any], name: str, key: Any, where: str) -> Any:
    found = {key(entry): entry for entry in entries}
    if name not in found:
        raise KeyError(f"{where} has no {name}; it has {', '.join(found)}.")
    return found[name]


@cache
def load_published(path: Path = RESULTS) -> Published:
    """Read and check the published numbers.

    Args:
        path: a file of the same build, to add papers of your own.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if a name is not declared, a row is incomplete, or a column has no or two comparabilities.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            entries = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _Reader(entries).read()
    except KeyError as error:
        raise ValueError(f"{path.name} is damaged: it declares no {error.args[0]}.") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


@dataclass
class _Reader:
    """The file's parts, and what was used of them."""

    entries: Mapping[str, Any]
    metrics: dict[str, Metric] = field(init=False)
    benchmarks: dict[str, PublishedBenchmark] = field(init=False)
    seen: int = 0

    def read(self) -> Published:
        entries = self.entries
        self.metrics = {name: Metric(name=name, **one) for name, one in entries["metrics"].items()}
        for metric in self.metrics.values():
            if metric.better not in BETTER:
                raise ValueError(f"{metric.name} is better {metric.better!r}; it is one of {', '.join(BETTER)}.")
        self.benchmarks = {
            name: PublishedBenchmark(name, **{key: _fixed(value) for key, value in one.items()})
            for name, one in entries["benchmarks"].items()
        }
        tables = tuple(self._table(one) for one in entries["tables"])
        if self.seen != len(entries["results"]):
            raise ValueError(f"{len(entries['results'])} rows, of which the tables take {self.seen}.")
        return Published(
            tables,
            self.metrics,
            self.benchmarks,
            tuple(entries["notes"]),
            tuple(entries["per_sample_figures"]),
            tuple(entries["text_claims"]),
            len(entries["results"]),
        )

    def _table(self, layout: Mapping[str, Any]) -> PublishedTable:
        paper, number = layout["paper"], layout["table"]
        about = self.entries["papers"][paper]
        columns = tuple(
            self._column(layout, self.benchmarks[name], one)
            for name in layout["benchmarks"]
            for one in layout["columns"]
        )
        return PublishedTable(
            paper=paper,
            number=number,
            title=layout["title"],
            source=f"{about['title']}, arXiv:{about['arxiv']}, Table {number}",
            columns=columns,
            rows=self._rows(layout, columns),
            corner=layout.get("corner", "Methods"),
        )

    def _column(
        self, layout: Mapping[str, Any], benchmark: PublishedBenchmark, one: Mapping[str, Any]
    ) -> PublishedColumn:
        key = one["key"]
        metric = self.metrics.get(key)
        if metric is None and "label" not in one:
            raise ValueError(f"column {key} is no metric and has no label.")
        return PublishedColumn(
            benchmark=benchmark,
            key=key,
            label=one.get("label") or (metric.label if metric else key),
            span=one.get("span", ""),
            template=one.get("format", "{:.3f}"),
            metric=metric,
            comparability=self._comparability(layout, benchmark.name, key) if benchmark.bench else None,
        )

    def _comparability(self, layout: Mapping[str, Any], benchmark: str, key: str) -> Comparability:
        found = [
            one
            for one in self.entries["comparability"]
            if (one["paper"], one["table"]) == (layout["paper"], layout["table"])
            and key in one["metrics"]
            and one.get("benchmark", benchmark) == benchmark
        ]
        where = f"{key} of {layout['paper']} table {layout['table']} on {benchmark}"
        if len(found) != 1:
            raise ValueError(f"{where} has {len(found)} entries under comparability; it has one.")
        status = found[0]["comparable"]
        if status not in COMPARABLE:
            raise ValueError(f"{where} is comparable {status!r}; it is one of {', '.join(COMPARABLE)}.")
        sentences = tuple(self.entries["warnings"][name] for name in found[0]["warnings"])
        return Comparability(status, found[0].get("protocol", ""), sentences)

    def _rows(self, layout: Mapping[str, Any], columns: Sequence[PublishedColumn]) -> tuple[PublishedRow, ...]:
        keys = {column.key for column in columns}
        baselines = set(layout.get("unranked", ()))
        values: dict[str, dict[tuple[str, str], Value]] = {}
        groups: dict[str, str] = {}
        remarks: dict[str, dict[str, Value]] = {}
        mine = [
            one
            for one in self.entries["results"]
            if (one["paper"], one["table"]) == (layout["paper"], layout["table"])
        ]
        self.seen += len(mine)
        for one in mine:
            method, benchmark = one["method"], one["benchmark"]
            if benchmark not in layout["benchmarks"]:
                raise ValueError(f"{method}: {benchmark} is no benchmark of {one['paper']} table {one['table']}.")
            groups[method] = one.get("group", "")
            numbers = {(benchmark, key): one[key] for key in keys & set(one)}
            values.setdefault(method, {}).update(numbers)
            known = {"paper", "table", "benchmark", "method", "group"} | keys
            remarks.setdefault(method, {}).update({k: v for k, v in one.items() if k not in known})
        for method, numbers in values.items():
            missing = [f"{c.benchmark.name} {c.key}" for c in columns if (c.benchmark.name, c.key) not in numbers]
            if missing and groups[method] not in baselines:
                raise ValueError(f"{method} of {layout['paper']} table {layout['table']} lacks {', '.join(missing)}.")
        titles = {"": "", **self.entries["groups"]}
        return tuple(
            PublishedRow(name, titles[groups[name]], groups[name] not in baselines, numbers, remarks[name])
            for name, numbers in values.items()
        )


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
