"""Commands of `insightedit eval` that read what benchmark runs wrote.

insightedit eval table runs/eval/ours runs/eval/ultraedit --published
insightedit eval table runs/eval/ours --category PSNR --format latex
insightedit eval paired runs/eval/ours runs/eval/ultraedit --primary CLIP_I
insightedit eval report runs/eval                             # OUT/report.html and a contact sheet per category
insightedit eval report runs/eval/a runs/eval/b --out ab.html # side by side, with tests and a trade-off
insightedit eval report runs/eval --by LPIPS:strict           # best and worst by another metric
insightedit eval report runs/eval --votes a.json --votes b.json --votes c.json --key rating/key.json
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.cli.options import Resamples
from insightedit.console import MAX_SEED, one_sentence_errors
from insightedit.files import check_others

if TYPE_CHECKING:
    from insightedit.evaluation.core.records import MetricRecord
    from insightedit.evaluation.core.run_folder import RunCard
    from insightedit.evaluation.core.significance import Resampling
    from insightedit.evaluation.reporting.table_formatting import Table
    from insightedit.evaluation.reporting.tables import MetricColumn

FORMATS = ("markdown", "latex")
NOT_BESIDE = "These numbers do not stand beside the published ones: the notes say why."

Runs = Annotated[list[Path], typer.Argument(help="Folders that `insightedit eval BENCHMARK` wrote.")]
Format = Annotated[str, typer.Option("--format", help="markdown or latex.")]


@dataclass(frozen=True)
class RunsRead:
    """Several runs: their cards, and their records as one stream without what no table can use.

    Attributes:
        folders: of the runs.
        cards: one for each folder.
    """

    folders: tuple[Path, ...]
    cards: tuple[RunCard, ...]

    @classmethod
    def open(cls, folders: Sequence[Path]) -> RunsRead:
        """Read the cards.

        Raises:
            FileNotFoundError, ValueError: if a folder holds no run.
        """
        from insightedit.evaluation.core.run_folder import read_run

        return cls(tuple(folders), tuple(read_run(folder) for folder in folders))

    def records(self) -> Iterator[MetricRecord]:
        """Records of all runs, one at a time; a control row that several runs have comes from the first of them.

        Columns that a run could not measure because a network was missing are left out.
        """
        from insightedit.evaluation.core.records import read_records
        from insightedit.evaluation.core.run_folder import RECORDS

        controls: dict[tuple[str, str, str, str], Path] = {}
        for folder, card in zip(self.folders, self.cards, strict=True):
            for record in read_records(folder / RECORDS):
                if record.error is not None and record.error.startswith("not measured"):
                    continue
                if record.method in card.controls:
                    place = (record.method, record.bench, record.metric_name, record.metric_variant)
                    if controls.setdefault(place, folder) != folder:
                        continue
                yield record

    @property
    def protocols(self) -> dict[str, str]:
        """Hash of a record -> name of its protocol."""
        return {column["hash"]: card.protocol["name"] for card in self.cards for column in card.protocol["columns"]}

    @property
    def apart(self) -> dict[str, tuple[str, ...]]:
        """Method -> why it may not be ranked; none of those that may."""
        return {card.method: card.apart for card in self.cards if card.apart}

    def part(self, *, apart: bool) -> RunsRead | None:
        """Only those runs that may be ranked, or only those that may not; None where there are none."""
        pairs = [(f, c) for f, c in zip(self.folders, self.cards, strict=True) if bool(c.apart) == apart]
        return RunsRead(*zip(*pairs, strict=True)) if pairs else None

    def columns(self) -> list[MetricColumn]:
        """All columns of the runs that could be measured, in their order."""
        from insightedit.evaluation.reporting.tables import MetricColumn

        found = {
            (column["metric_name"], column["metric_variant"]): column["better"]
            for card in self.cards
            for column in card.protocol["columns"]
        }
        there = {(record.metric_name, record.metric_variant) for record in self.records()}
        return [
            MetricColumn(name, variant, better=better)
            for (name, variant), better in found.items()
            if (name, variant) in there
        ]

    def notes(self) -> list[str]:
        """What has to stand below every table: runs that are not finished, networks that were missing, licences."""
        lines = []
        for folder, card in zip(self.folders, self.cards, strict=True):
            if card.finished is None:
                lines.append(f"{folder} is not finished: run the same command again.")
            lines += [f"{folder}, not measured: {reason}" for reason in card.missing.values()]
        licences = {card.benchmark["title"]: card.benchmark for card in self.cards}
        lines += [
            f"The licence of {title} excludes commercial use: {about['licence']}."
            for title, about in licences.items()
            if about["is_non_commercial"]
        ]
        return lines


def table_of(folders: Sequence[Path], how: Resampling | None = None) -> Table:
    """Runs as one table, controls below.

    Raises:
        ProtocolMixError: if two protocols meet in a column.
        FileNotFoundError, ValueError: if a folder holds no run, or nothing was measured.
    """
    return _own_grid(RunsRead.open(folders), how)


def _own_grid(runs: RunsRead, how: Resampling | None, remark: str = "") -> Table:
    from insightedit.evaluation.reporting.tables import results_table

    columns = runs.columns()
    if not columns:
        raise ValueError(f"nothing was measured: {' '.join(runs.notes()) or 'the runs have no records.'}")
    named = list(dict.fromkeys(card.benchmark["title"] for card in runs.cards))
    grid = results_table(
        runs.records(),
        columns,
        title=", ".join(named),
        binary=("subj_found",),
        protocols=runs.protocols,
        apart=runs.apart,
        how=how,
    )
    return replace(grid, remarks=(*((remark,) if remark else ()), *grid.remarks, *runs.notes()))


def published_tables(folders: Sequence[Path], how: Resampling | None = None) -> list[Table]:
    """Runs below the papers' rows: each table whose rule is ours, or, if there is none, each on the same pictures.

    Runs that are not finished, on other data or warned of do not stand beside the papers': they have a table of their
    own, the last one.

    Raises:
        ProtocolMixError: if two protocols meet in a column.
        ValueError: if no published table has a column for what was measured.
    """
    from insightedit.evaluation.reporting.published import load_published
    from insightedit.evaluation.reporting.tables import beside_published

    every = RunsRead.open(folders)
    runs, others = every.part(apart=False), every.part(apart=True)
    left = [] if others is None else [_own_grid(others, how, NOT_BESIDE)]
    if runs is None:
        return left
    columns = runs.columns()
    grids = []
    benches = dict.fromkeys(card.benchmark["name"] for card in runs.cards)
    mine = {column.metric_name for column in columns if column.metric_variant == "paper"}
    for table in load_published().tables_beside(benches, mine, set(runs.protocols.values())):
        known = {column.key for column in table.columns}
        extra = [one for one in columns if one.metric_variant == "strict" or one.metric_name not in known]
        grid = beside_published(runs.records(), table, extra=extra, protocols=runs.protocols, how=how)
        grids.append(replace(grid, remarks=(*grid.remarks, *runs.notes())))
    if not grids:
        benches = ", ".join(dict.fromkeys(card.benchmark["title"] for card in runs.cards))
        raise ValueError(f"no published table has a column for what was measured on {benches}: leave --published out.")
    return grids + left


def table(
    folders: Runs,
    form: Format = "markdown",
    published: Annotated[bool, typer.Option("--published", help="Below the papers' own rows.")] = False,
    category: Annotated[
        str | None, typer.Option(help="Metric to split by category, e.g. PSNR or PSNR:strict.")
    ] = None,
    resamples: Resamples = 10_000,
) -> None:
    """Print runs as a table with intervals; numbers of two protocols are refused in one column.

    Examples:
        insightedit eval table runs/eval/ours runs/eval/ultraedit
        insightedit eval table runs/eval/ours --published --format latex
        insightedit eval table runs/eval/ours --category PSNR:strict
    """
    with one_sentence_errors():
        from insightedit.evaluation.core.significance import Resampling
        from insightedit.evaluation.reporting.table_formatting import to_latex, to_markdown

        if form not in FORMATS:
            raise ValueError(f"--format is {form!r}; it is one of {', '.join(FORMATS)}.")
        if published and category:
            raise ValueError("--published and --category exclude each other: name one of them.")
        how = Resampling(resamples=resamples)
        if published:
            grids = published_tables(folders, how)
        elif category:
            grids = tables_by_category(folders, category, how)
        else:
            grids = [table_of(folders, how)]
        for grid in grids:
            typer.echo(to_latex(grid) if form == "latex" else to_markdown(grid))


def tables_by_category(folders: Sequence[Path], category: str, how: Resampling | None = None) -> list[Table]:
    """A metric by category, with the mean over all samples and over all categories; one grid per benchmark.

    Raises:
        ValueError: if there is no such column.
    """
    from insightedit.evaluation.reporting.category_tables import category_grid

    runs = RunsRead.open(folders)
    (column,) = _chosen(runs.columns(), [category])
    benches = dict.fromkeys(card.benchmark["name"] for card in runs.cards)
    return [
        category_grid(runs.records(), column, bench=bench, binary=column.metric_name == "subj_found", how=how)
        for bench in benches
    ]


def _chosen(columns: Sequence[MetricColumn], names: Sequence[str]) -> list[MetricColumn]:
    """Columns by NAME or NAME:VARIANT, "paper" if none is named.

    Raises:
        ValueError: if there is no such column; with those that are there.
    """
    known = {f"{one.metric_name}:{one.metric_variant}": one for one in columns}
    wanted = [name if ":" in name else f"{name}:paper" for name in names]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"there is no column {', '.join(unknown)}: there are {', '.join(known)}.")
    return [known[name] for name in wanted]


def paired(
    first: Annotated[Path, typer.Argument(help="Run that the other is compared with.")],
    second: Annotated[Path, typer.Argument(help="The other run, on the same benchmark by the same protocol.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME:strict; repeat it. Default: all that both have.")
    ] = None,
    primary: Annotated[
        list[str] | None,
        typer.Option(help="Metric that was fixed before looking; their p-values are corrected together."),
    ] = None,
    form: Format = "markdown",
    resamples: Resamples = 10_000,
) -> None:
    """Test two runs against each other on the samples that both have, by pairs.

    Source pictures or sessions are resampled together.

    Examples:
        insightedit eval paired runs/eval/ours runs/eval/ultraedit
        insightedit eval paired runs/eval/ours runs/eval/ultraedit --primary CLIP_I --metric CLIP_I --metric L1
    """
    with one_sentence_errors():
        from insightedit.evaluation.core.significance import Resampling
        from insightedit.evaluation.reporting.category_tables import paired_table
        from insightedit.evaluation.reporting.table_formatting import to_latex, to_markdown

        if form not in FORMATS:
            raise ValueError(f"--format is {form!r}; it is one of {', '.join(FORMATS)}.")
        runs = [RunsRead.open([folder]) for folder in (first, second)]
        cards = [run.cards[0] for run in runs]
        benches = [card.benchmark["name"] for card in cards]
        if benches[0] != benches[1]:
            raise ValueError(f"{first} is on {benches[0]}, {second} on {benches[1]}: compare on one benchmark.")
        names = [card.method for card in cards]
        if names[0] == names[1]:
            names = [f"{cards[0].method} ({first})", f"{cards[1].method} ({second})"]

        def records() -> Iterator[MetricRecord]:
            for run, name in zip(runs, names, strict=True):
                for record in run.records():
                    if record.method == run.cards[0].method:
                        yield replace(record, method=name)

        shared = [column for column in runs[0].columns() if column in runs[1].columns()]
        columns = _chosen(shared, metric) if metric else shared
        if not columns:
            raise ValueError(f"{first} and {second} share no column that was measured in both.")
        _chosen(columns, primary or [])
        grid = paired_table(
            records(), names[0], columns, bench=benches[0], primary=primary or (), how=Resampling(resamples=resamples)
        )
        told = [f"{name}: {' '.join(card.apart)}" for name, card in zip(names, cards, strict=True) if card.apart]
        grid = replace(grid, remarks=(*grid.remarks, *told))
        typer.echo(to_latex(grid) if form == "latex" else to_markdown(grid))


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `insightedit eval` wrote; the first one leads.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file. Default: report.html in the first folder.")] = None,
    by: Annotated[str | None, typer.Option(help="Metric that tells best from worst, NAME or NAME:VARIANT.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Of the hash that draws random samples, and of intervals.")
    ] = 0,
    resamples: Resamples = 10_000,
    votes: Annotated[
        list[Path] | None, typer.Option(help="A rater's file of `insightedit eval rate`; repeat it.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="key.json of the raters' page.")] = None,
    sheets: Annotated[bool, typer.Option(help="Also write a contact sheet of each category.")] = True,
) -> None:
    """Tables, plots, failures and contact sheets of a run as one HTML file that loads nothing."""
    with one_sentence_errors():
        from insightedit.evaluation.core.significance import Resampling
        from insightedit.evaluation.reporting.html_report import write_html_report

        if out is not None and out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out {out}: name a file that ends in .html.")
        check_others({"--out": out})
        if bool(votes) != (key is not None):
            raise ValueError("--votes and --key go together: name the raters' files and their page's key.json.")
        align = None
        if votes and key is not None:
            from insightedit.evaluation.judge.votes import count_votes, read_key, read_votes

            align = count_votes(read_key(key), [read_votes(path) for path in votes])
        how = Resampling(resamples=resamples, seed=seed)
        chosen = {"order": by, "seed": seed, "with_sheets": sheets, "votes": align}
        for path in write_html_report(folders, out, how=how, **chosen):
            typer.echo(path)


COMMANDS = {"table": table, "paired": paired}
