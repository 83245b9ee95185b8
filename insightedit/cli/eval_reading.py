"""`insightedit eval` on what runs wrote: tables, tests, reports, raters' votes, a judge's replies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.cli.options import Resamples
from insightedit.console import MAX_SEED, console, progress_bar, titled_table
from insightedit.evaluation.reporting.table_formatting import Table, to_latex, to_markdown
from insightedit.files import check_others

if TYPE_CHECKING:
    from insightedit.evaluation.core.significance import Resampling
    from insightedit.evaluation.judge.viescore import Verdict
    from insightedit.evaluation.judge.votes import RatingItem
    from insightedit.evaluation.reporting.runs import ReportRun
    from insightedit.evaluation.reporting.tables import MetricColumn

FORMATS = {"markdown": to_markdown, "latex": to_latex}
TOLERANCE = 1e-9  # of a replayed value

Format = Annotated[str, typer.Option("--format", help="markdown or latex.")]


def table(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `insightedit eval BENCHMARK` wrote.")],
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
    from insightedit.evaluation.core.significance import Resampling
    from insightedit.evaluation.reporting import run_tables
    from insightedit.evaluation.reporting.runs import read_report_run

    write = _writer(form)
    if published and category:
        raise ValueError("--published and --category exclude each other: name one of them.")
    how = Resampling(resamples=resamples)
    runs = [read_report_run(folder) for folder in folders]
    if published:
        # those that do not stand beside the papers' rows have a table of their own, the last one
        beside, apart = ([run for run in runs if bool(run.card.apart) is one] for one in (False, True))
        papers = run_tables.published_tables(beside, how)
        grids = [replace(one, remarks=(*one.remarks, *run_tables.notes_on(beside))) for one in papers]
        if beside and not grids:
            benches = ", ".join(dict.fromkeys(run.card.benchmark["title"] for run in beside))
            raise ValueError(
                f"no published table has a column for what was measured on {benches}: leave --published out."
            )
        grids += [noted_table(apart, how, run_tables.NOT_BESIDE)] if apart else []
    elif category:
        grids = category_tables(runs, category, how)
    else:
        grids = [noted_table(runs, how)]
    for grid in grids:
        typer.echo(write(grid))


def _writer(form: str) -> Callable[[Table], str]:
    if form not in FORMATS:
        raise ValueError(f"--format is {form!r}; it is one of {', '.join(FORMATS)}.")
    return FORMATS[form]


def noted_table(runs: Sequence[ReportRun], how: Resampling | None = None, *remarks: str) -> Table:
    """Runs as one table, controls below, and what has to be known of them."""
    from insightedit.evaluation.reporting.run_tables import notes_on, table_of_runs

    grid = table_of_runs(runs, how)
    return replace(grid, remarks=(*remarks, *grid.remarks, *notes_on(runs)))


def category_tables(runs: Sequence[ReportRun], category: str, how: Resampling | None = None) -> list[Table]:
    """A metric by category, with the mean over all samples and over all categories; one table per benchmark."""
    from insightedit.evaluation.reporting.run_tables import category_grid, columns_of
    from insightedit.evaluation.reporting.runs import all_records

    (column,) = _chosen(columns_of(runs), [category])
    benches = dict.fromkeys(run.benchmark for run in runs)
    return [category_grid(all_records(runs), column, bench=bench, how=how) for bench in benches]


def _chosen(columns: Sequence[MetricColumn], names: Sequence[str]) -> list[MetricColumn]:
    """Columns by NAME or NAME:VARIANT, "paper" if none is named."""
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
    from insightedit.evaluation.core.significance import Resampling
    from insightedit.evaluation.reporting.run_tables import paired_runs
    from insightedit.evaluation.reporting.runs import read_report_run

    write = _writer(form)
    runs = [read_report_run(folder) for folder in (first, second)]
    benches = [run.benchmark for run in runs]
    if benches[0] != benches[1]:
        raise ValueError(f"{first} is on {benches[0]}, {second} on {benches[1]}: compare on one benchmark.")
    if runs[0].method == runs[1].method:
        runs = [run.renamed(f"{run.method} ({run.folder})") for run in runs]
    shared = [column for column in runs[0].columns if column in runs[1].columns]
    columns = _chosen(shared, metric) if metric else shared
    if not columns:
        raise ValueError(f"{first} and {second} share no column that was measured in both.")
    _chosen(columns, primary or [])
    grid = paired_runs(runs, columns, primary or (), Resampling(resamples=resamples))
    told = [f"{run.method}: {' '.join(run.card.apart)}" for run in runs if run.card.apart]
    typer.echo(write(replace(grid, remarks=(*grid.remarks, *told))))


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


def rate(
    inputs: Annotated[list[Path], typer.Argument(help="Runs to be rated; with --key: the raters' files.")],
    page: Annotated[Path | None, typer.Option(help="Folder for rate.html and key.json.")] = None,
    key: Annotated[Path | None, typer.Option(help="The page's key.json, to count votes.")] = None,
    raters: Annotated[int, typer.Option(min=1, max=1000, help="People who will rate.")] = 3,
    count: Annotated[
        int | None, typer.Option(min=1, help="Samples, drawn by the seed. Default: all that all runs have.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the drawing and shuffling.")] = 0,
) -> None:
    """Ins-align: write a blinded page for raters, or count their votes.

    Examples:
        insightedit eval rate runs/eval/ours runs/eval/ultraedit --page rating/ --count 30
        insightedit eval rate votes1.json votes2.json votes3.json --key rating/key.json
    """
    from insightedit.evaluation.judge import votes

    if (page is None) == (key is None):
        raise ValueError("--page FOLDER writes a page, --key key.json counts votes: name one of them.")
    if key is not None:
        report = votes.count_votes(votes.read_key(key), [votes.read_votes(path) for path in inputs])
        console().print(votes.votes_table(report))
        return
    assert page is not None
    items = _rating_items(inputs, count, seed)
    html, secret = votes.write_rating_page(page, items, seed=seed, raters=raters)
    typer.echo(f"{html}  {len(items)} samples; send it to the raters")
    typer.echo(f"{secret}  keep it from them; then: insightedit eval rate VOTES... --key {secret}")


def _rating_items(folders: Sequence[Path], count: int | None, seed: int) -> list[RatingItem]:
    """Samples that all runs have, with each method's first picture."""
    from insightedit.evaluation.core.run_folder import read_run, read_samples
    from insightedit.evaluation.judge.votes import RatingItem

    cards = [read_run(folder) for folder in folders]
    methods = [card.method for card in cards]
    if len(set(methods)) < len(methods):
        raise ValueError(f"the runs' methods are {', '.join(methods)}: measure with --method to tell them apart.")
    if len({(card.benchmark["name"], card.benchmark["version"]) for card in cards}) > 1:
        raise ValueError("the runs are on different benchmarks or copies of one: rate them on the same pictures.")
    lines = [{one.sample_id: one for one in read_samples(folder)} for folder in folders]
    names = [name for name in lines[0] if all(name in one for one in lines)]
    if count is not None and count < len(names):  # drawn alike, whatever their order
        drawn = set(random.Random(seed).sample(sorted(names), count))
        names = [name for name in names if name in drawn]
    items = []
    for name in names:
        sample = lines[0][name]
        if sample.source is None:
            raise ValueError("Ins-align is about edits; this benchmark makes pictures from nothing.")
        outputs = {
            method: folder / one[name].outputs[0]["path"]
            for method, one, folder in zip(methods, lines, folders, strict=True)
        }
        instruction = " Then: ".join((*sample.earlier, sample.instruction))
        items.append(RatingItem(name, instruction, folders[0] / sample.source, outputs, sample.category))
    return items


def judge_replay(
    folder: Annotated[Path, typer.Argument(help="A run with a judge.")],
    replies: Annotated[Path | None, typer.Option(help="File of replies. Default: judge.jsonl of the run.")] = None,
) -> None:
    """Judge again from the stored replies, ask nobody, and check that the run's numbers come out.

    Prints means, means over categories, missing answers and the agreement of the repeats.

    Examples:
        insightedit eval judge-replay runs/eval/judged
    """
    from insightedit.chat.clients import MissingReplyError
    from insightedit.evaluation.judge.viescore import summarise

    try:
        verdicts, differing, total = _replay(folder, replies)
    except MissingReplyError as error:
        raise ValueError(str(error)) from error
    summary = summarise(verdicts)
    days = " to ".join(dict.fromkeys(day for day in summary.dates if day)) or "unknown"
    title = f"{summary.judge}, rubric {summary.rubric} {summary.rubric_hash}, replies of {days}"
    shown = titled_table(title, [""], ["n", "mean", "missing as 0", "mean of categories"])
    for name, column in summary.columns.items():
        means = (column.mean, column.pessimistic, summary.macro[name].mean)
        shown.add_row(name, str(column.n), *("-" if value is None else f"{value:.3f}" for value in means))
    screen = console()
    screen.print(shown)
    missing = f"{summary.missing_samples} of {summary.n} samples without an answer"
    reasons = ", ".join(f"{name} {count}" for name, count in summary.reasons.items())
    screen.print(f"{missing}{f' ({reasons})' if reasons else ''}.", highlight=False)
    for name, kappa in summary.repeat_kappa.items():
        agreement = "undefined" if kappa is None else f"{kappa:.2f}"
        screen.print(f"Agreement of the repeats, {name}: kappa {agreement}.", highlight=False)
    if differing:
        raise ValueError(f"{differing} of {total} numbers of {folder} do not follow from the replies: measure again.")
    typer.echo(f"All {total} numbers of {folder} follow from the replies.")


def _replay(folder: Path, replies: Path | None) -> tuple[list[Verdict], int, int]:
    """Verdicts from stored replies, numbers that differ from the records, numbers in all."""
    from insightedit.chat.clients import RecordedClient
    from insightedit.chat.replies import ReplyStore
    from insightedit.evaluation.benchmarks.base import BenchmarkSample
    from insightedit.evaluation.core.measure import Prediction, SampleView, measure
    from insightedit.evaluation.core.metric_models import MetricModels
    from insightedit.evaluation.core.protocols import find_protocol
    from insightedit.evaluation.core.records import read_records
    from insightedit.evaluation.core.run_folder import RECORDS, REPLIES, read_run, read_samples
    from insightedit.images.reading import read_picture, to_rgb

    card = read_run(folder)
    if "judge" not in card.models:
        raise ValueError(f"{folder} was measured without a judge: name a run that was judged.")
    protocol = find_protocol(card.benchmark["name"], card.protocol["name"])
    rules = protocol.rules_for(card.benchmark["name"])
    judge = RecordedClient(ReplyStore(replies or folder / REPLIES), card.models["judge"]["judge"])
    before = {
        (record.sample_id, record.seed, record.metric_name, record.metric_variant): record.value
        for record in read_records(folder / RECORDS)
        if record.method == card.method
    }
    verdicts: list[Verdict] = []
    differing = 0
    with progress_bar(card.benchmark["samples"], "Judging") as advance:
        for line in read_samples(folder):
            if line.source is None:
                continue
            sample = BenchmarkSample(
                line.sample_id, line.instruction, line.category, folder / line.source, earlier=line.earlier
            )
            for made in line.outputs:
                picture = to_rgb(read_picture(folder / made["path"]))
                output = Prediction(SampleView(sample), picture, protocol, MetricModels({"judge": judge}))
                for rule in rules:
                    old = before.get((line.sample_id, made["seed"], rule.name, rule.variant))
                    new = measure(output, rule).value
                    differing += old is not new if old is None or new is None else abs(old - new) > TOLERANCE
                if made["seed"] == line.outputs[0]["seed"]:
                    verdicts += output.verdicts
            if advance is not None:
                advance(1)
    return verdicts, differing, len(before)


COMMANDS = (table, paired, rate, judge_replay, report)
