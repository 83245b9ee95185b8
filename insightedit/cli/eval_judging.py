"""Commands of `insightedit eval` about judgements: people rate pictures, and a judge's replies are read again.

insightedit eval rate runs/eval/ours runs/eval/ultraedit --page rating/ --count 30
insightedit eval rate votes1.json votes2.json votes3.json --key rating/key.json
insightedit eval judge-replay runs/eval/judged
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.cli.eval_reading import RunsRead
from insightedit.console import MAX_SEED, console, one_sentence_errors, progress_bar, titled_table

if TYPE_CHECKING:
    from insightedit.evaluation.core.run_folder import RunSample
    from insightedit.evaluation.judge.viescore import JudgeSummary, Verdict
    from insightedit.evaluation.judge.votes import RatingItem

TOLERANCE = 1e-9  # of a replayed value


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
    with one_sentence_errors():
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
    from insightedit.evaluation.core.run_folder import locate, read_samples
    from insightedit.evaluation.judge.votes import RatingItem

    runs = RunsRead.open(folders)
    methods = [card.method for card in runs.cards]
    if len(set(methods)) < len(methods):
        raise ValueError(f"the runs' methods are {', '.join(methods)}: measure with --method to tell them apart.")
    versions = {(card.benchmark["name"], card.benchmark["version"]) for card in runs.cards}
    if len(versions) > 1:
        raise ValueError("the runs are on different benchmarks or copies of one: rate them on the same pictures.")
    lines = [{one.sample_id: one for one in read_samples(folder)} for folder in folders]
    shared = [name for name in lines[0] if all(name in one for one in lines)]
    items = []
    for name in _drawn(shared, count, seed):
        sample = lines[0][name]
        if sample.source is None:
            raise ValueError("Ins-align is about edits; this benchmark makes pictures from nothing.")
        outputs = {
            method: locate(one[name].outputs[0]["path"], folder)
            for method, one, folder in zip(methods, lines, folders, strict=True)
        }
        source = locate(sample.source, folders[0])
        items.append(RatingItem(name, _whole_instruction(sample), source, outputs, sample.category))
    return items


def _drawn(names: list[str], count: int | None, seed: int) -> list[str]:
    """So many names, whatever their order; all if None."""
    import random

    if count is None or count >= len(names):
        return names
    chosen = set(random.Random(seed).sample(sorted(names), count))
    return [name for name in names if name in chosen]


def _whole_instruction(sample: RunSample) -> str:
    return " Then: ".join((*sample.earlier, sample.instruction))


def judge_replay(
    folder: Annotated[Path, typer.Argument(help="A run with a judge.")],
    replies: Annotated[Path | None, typer.Option(help="File of replies. Default: judge.jsonl of the run.")] = None,
) -> None:
    """Judge again from the stored replies, ask nobody, and check that the run's numbers come out.

    Prints means, means over categories, missing answers and the agreement of the repeats.

    Examples:
        insightedit eval judge-replay runs/eval/judged
    """
    with one_sentence_errors():
        from insightedit.chat.clients import MissingReplyError
        from insightedit.evaluation.judge.viescore import summarise

        try:
            verdicts, differing, total = _replay(folder, replies)
        except MissingReplyError as error:
            raise ValueError(str(error)) from error
        _print_judge_summary(summarise(verdicts))
        if differing:
            raise ValueError(
                f"{differing} of {total} numbers of {folder} do not follow from the replies: measure again."
            )
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
    from insightedit.evaluation.core.run_folder import RECORDS, REPLIES, locate, read_run, read_samples
    from insightedit.images.reading import read_picture, to_rgb

    card = read_run(folder)
    if "judge" not in card.models:
        raise ValueError(f"{folder} was measured without a judge: name a run that was judged.")
    protocol = find_protocol(card.benchmark["name"], card.protocol["name"])
    rules = protocol.rules_for(card.benchmark["name"])
    judge = RecordedClient(ReplyStore(replies or folder / REPLIES), card.models["judge"]["judge"])
    told = {
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
                line.sample_id, line.instruction, line.category, locate(line.source, folder), earlier=line.earlier
            )
            for made in line.outputs:
                picture = to_rgb(read_picture(locate(made["path"], folder)))
                output = Prediction(SampleView(sample), picture, protocol, MetricModels({"judge": judge}))
                for rule, outcome in measure(output, rules).items():
                    before = told.get((line.sample_id, made["seed"], rule.name, rule.variant))
                    differing += not _is_same(before, outcome.value)
                if made["seed"] == line.outputs[0]["seed"]:
                    verdicts += output.verdicts
            if advance is not None:
                advance(1)
    return verdicts, differing, len(told)


def _is_same(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= TOLERANCE


def _print_judge_summary(summary: JudgeSummary) -> None:
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


COMMANDS = {"rate": rate, "judge-replay": judge_replay}
