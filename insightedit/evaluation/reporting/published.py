"""The papers' own numbers, typed: tables, rows, metrics, and which of our numbers may stand beside which of theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from insightedit.evaluation.reporting.table_formatting import ARROWS

RESULTS = Path(__file__).with_name("published_results.yaml")
COMPARABLE = ("same", "assumed", "never")

Value = float | int | bool | str


@dataclass(frozen=True)
class Metric:
    """What a number means."""

    name: str  # key in records and in the file, e.g. "CLIP_I"
    label: str  # as the papers print it, e.g. "CLIP-I"
    unit: str  # e.g. "dB"
    better: str  # "higher", "lower" or "n/a"
    definition: str  # how it is computed, in a few words

    def __post_init__(self) -> None:
        if self.better not in ARROWS:
            raise ValueError(f"{self.name} is better {self.better!r}; it is one of {', '.join(ARROWS)}.")


@dataclass(frozen=True)
class PublishedBenchmark:
    """What a paper measured on."""

    name: str  # key in the file, e.g. "reason_edit_reasoning"
    title: str  # as the papers print it; "" where the table has no such heading
    bench: str = ""  # our name of the benchmark, "" if it has none
    categories: tuple[str, ...] = ()  # patterns of our categories that belong to it; none = all
    but_not: tuple[str, ...] = ()  # patterns of our categories that do not belong to it

    def holds(self, bench: str, category: str) -> bool:
        """Whether a record of that benchmark and category belongs here; case and "_" for "-" do not matter."""
        if not self.bench or bench.lower().replace("_", "-") != self.bench:
            return False
        if any(fnmatchcase(category.lower(), pattern) for pattern in self.but_not):
            return False
        return not self.categories or any(fnmatchcase(category.lower(), one) for one in self.categories)


@dataclass(frozen=True)
class Comparability:
    """Whether our number may stand in a published column."""

    # "same" (the rule was read in the authors' script), "assumed" (inferred or partly open) or "never" (the rule is
    # not published: shown at most, never ranked)
    status: str
    protocol: str  # ours that follows the rule, e.g. "smartedit_v1"; "" where there is none
    warnings: tuple[str, ...]  # sentences to print below a table

    @property
    def is_ranked(self) -> bool:
        """Whether ours and theirs may be ranked together."""
        return self.status != "never"


@dataclass(frozen=True)
class PublishedColumn:
    """One column as printed."""

    benchmark: PublishedBenchmark  # what was measured on
    key: str  # metric or property, the key of `PublishedRow.values` beside the benchmark's name
    label: str  # header without arrow
    span: str  # heading above several columns, "" without
    template: str  # Python format of a value
    better: str  # which end is the good one; "n/a" for a property of a data set
    # whether ours may stand in it; None for what is not measured on a benchmark of ours
    comparability: Comparability | None

    def text(self, value: Value | None) -> str:
        """A value as printed; "" for None, a tick or a cross for a truth value."""
        if value is None:
            return ""
        return ("✓" if value else "✗") if isinstance(value, bool) else self.template.format(value)


@dataclass(frozen=True)
class PublishedRow:
    """One method in one table."""

    method: str  # as in the file
    group: str  # heading beside the row, "" without
    is_ranked: bool  # False for ablations and baselines that the paper leaves out when it marks the best
    values: Mapping[tuple[str, str], Value]  # (benchmark, key) -> number or truth value
    lower_bounds: Collection[tuple[str, str]]  # (benchmark, key) of numbers that are printed with a plus sign


@dataclass(frozen=True)
class PublishedTable:
    """One table in the paper's layout."""

    paper: str  # key, e.g. "insightedit"
    number: str  # as printed, e.g. "3a"
    title: str  # its caption
    source: str  # title and address of the paper
    columns: tuple[PublishedColumn, ...]  # in the printed order, as are the rows
    rows: tuple[PublishedRow, ...]
    corner: str  # head of the rows' names

    def __str__(self) -> str:
        return f"{self.paper} table {self.number}"


@dataclass(frozen=True)
class Published:
    """What the file holds: tables in its order, metrics and benchmarks by name."""

    tables: tuple[PublishedTable, ...]
    metrics: Mapping[str, Metric]
    benchmarks: Mapping[str, PublishedBenchmark]

    def table(self, paper: str, number: str) -> PublishedTable:
        """A table by the paper's key and its printed number; a KeyError names the tables there are."""
        found = {str(one): one for one in self.tables}
        if (name := f"{paper} table {number}") not in found:
            raise KeyError(f"the published results have no {name}; they have {', '.join(found)}.")
        return found[name]

    def tables_beside(
        self, benches: Iterable[str], metrics: Collection[str], protocols: Collection[str]
    ) -> list[PublishedTable]:
        """The tables that have one of our numbers by our rule; where there is none, those that have one by any rule.

        Our `benches` are measured by `protocols`, and as the papers do in these `metrics`.
        """
        wanted = [bench.lower().replace("_", "-") for bench in benches]
        tables = [t for bench in wanted for t in self.tables if any(c.benchmark.bench == bench for c in t.columns)]
        fitting = {str(t): t for t in tables if any(column.key in metrics for column in t.columns)}

        def is_ours(one: PublishedColumn) -> bool:
            is_measured = one.benchmark.bench in wanted and one.key in metrics
            return is_measured and one.comparability is not None and one.comparability.protocol in protocols

        same_rule = [table for table in fitting.values() if any(map(is_ours, table.columns))]
        return same_rule or list(fitting.values())


@cache
def load_published(path: Path = RESULTS) -> Published:
    """Read and check the published numbers, or those of another file of the same build, with papers of your own.

    ValueError if a name is not declared, a row is incomplete, or a column has no or two comparabilities.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            entries = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        metrics = {name: Metric(name, **one) for name, one in entries["metrics"].items()}
        benchmarks = {
            name: PublishedBenchmark(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()})
            for name, one in entries["benchmarks"].items()
        }
        tables = tuple(_table(layout, entries, metrics, benchmarks) for layout in entries["tables"])
        places = {(table.paper, table.number) for table in tables}
        taken = sum((one["paper"], one["table"]) in places for one in entries["results"])
        if taken != len(entries["results"]):
            raise ValueError(f"{len(entries['results'])} rows, of which the tables take {taken}.")
        return Published(tables, metrics, benchmarks)
    except KeyError as error:
        raise ValueError(f"{path.name} is damaged: it declares no {error.args[0]}.") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def _table(
    layout: Mapping[str, Any],
    entries: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    benchmarks: Mapping[str, PublishedBenchmark],
) -> PublishedTable:
    about = entries["papers"][layout["paper"]]
    columns = []
    for benchmark in map(benchmarks.__getitem__, layout["benchmarks"]):
        for one in layout["columns"]:
            metric = metrics.get(one["key"])
            label = one.get("label") or (metric and metric.label)
            if label is None:
                raise ValueError(f"column {one['key']} is no metric and has no label.")
            rule = _comparability(layout, entries, benchmark.name, one["key"]) if benchmark.bench else None
            better = metric.better if metric else "n/a"
            look = one.get("span", ""), one.get("format", "{:.3f}")
            columns.append(PublishedColumn(benchmark, one["key"], label, *look, better, rule))
    return PublishedTable(
        paper=layout["paper"],
        number=layout["table"],
        title=layout["title"],
        source=f"{about['title']}, arXiv:{about['arxiv']}, Table {layout['table']}",
        columns=tuple(columns),
        rows=_rows(layout, entries, columns),
        corner=layout.get("corner", "Methods"),
    )


def _comparability(layout: Mapping[str, Any], entries: Mapping[str, Any], benchmark: str, key: str) -> Comparability:
    found = [
        one
        for one in entries["comparability"]
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
    warnings = tuple(entries["warnings"][name] for name in found[0]["warnings"])
    return Comparability(status, found[0].get("protocol", ""), warnings)


def _rows(
    layout: Mapping[str, Any], entries: Mapping[str, Any], columns: Sequence[PublishedColumn]
) -> tuple[PublishedRow, ...]:
    """The rows of a table; the file has one entry for each benchmark of a row."""
    name = f"{layout['paper']} table {layout['table']}"
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for one in entries["results"]:
        if (one["paper"], one["table"]) == (layout["paper"], layout["table"]):
            if one["benchmark"] not in layout["benchmarks"]:
                raise ValueError(f"{one['method']}: {one['benchmark']} is no benchmark of {name}.")
            methods.setdefault(one["method"], []).append(one)
    titles = {"": "", **entries["groups"]}
    rows = []
    for method, found in methods.items():
        group = found[-1].get("group", "")
        is_ranked = group not in layout.get("unranked", ())
        places = {(one["benchmark"], key): value for one in found for key, value in one.items()}
        wanted = [(column.benchmark.name, column.key) for column in columns]
        missing = [" ".join(place) for place in wanted if place not in places]
        if missing and is_ranked:
            raise ValueError(f"{method} of {name} lacks {', '.join(missing)}.")
        values = {place: places[place] for place in wanted if place in places}
        bounds = [place for place in values if places.get((place[0], f"{place[1]}_is_lower_bound"))]
        rows.append(PublishedRow(method, titles[group], is_ranked, values, bounds))
    return tuple(rows)
