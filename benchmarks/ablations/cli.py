"""`python -m benchmarks.ablations`: train the papers' ablations in miniature, and tabulate them."""

from __future__ import annotations

import logging
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.console import MAX_BATCH, MAX_SCENES, MAX_TRAINING_STEPS, Command, finite, one_sentence_errors

if TYPE_CHECKING:
    from benchmarks.ablations.comparisons import Measured
    from benchmarks.ablations.experiment import Experiment, Run
    from benchmarks.ablations.runner import Runner
    from benchmarks.ablations.studies import Study

PROGRAM = "python -m benchmarks.ablations"

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def ablations(
    studies: Annotated[
        str,
        typer.Option(
            help="Names, with commas between them; core (iaa, bim, joint) or all. --dry-run lists what each trains."
        ),
    ] = "core",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Training seeds: 0, 1, ...")] = 3,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_TRAINING_STEPS, help="Optimiser steps of a row. Default: 200, or as the folder has it."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=MAX_BATCH, help="Samples a step. Default: 16.")] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-9, max=1, callback=finite, help="Peak learning rate. Default: 5e-4.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=MAX_SCENES, help="Scenes of each task. Default: 200.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Scenes that are measured on. Default: test.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="mini, or tiny: toy models with random weights, to try the command.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs; the same command goes on there.")] = Path(
        "runs/ablations"
    ),
    model: Annotated[
        Path | None,
        typer.Option(help="Exported model whose language model and text branch rows start from. Default: embedded."),
    ] = None,
    foundation: Annotated[
        Path | None, typer.Option(help="Folder of the miniature base models. Default: runs/miniatures/mini.")
    ] = None,
    mige_foundation: Annotated[
        Path | None, typer.Option(help="The same for rows of the recipe mige, if it is another folder.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained, and how long it takes.")
    ] = False,
    table: Annotated[bool, typer.Option("--table", help="Only print what is there; trains nothing.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write tables and text to this Markdown file at the end.")] = None,
) -> None:
    """Train rows that differ in one part, from the same weights and on the same budget; measure them on scenes.

    Everything goes on where it was stopped. Seconds in estimates are of one core.
    """
    with one_sentence_errors("the same command goes on where it was."):
        from benchmarks.ablations.experiment import Experiment
        from benchmarks.ablations.studies import find_studies
        from insightedit.files import check_others

        check_others({"--write": write})
        chosen = find_studies(tuple(name.strip() for name in studies.split(",") if name.strip()))
        given = {"scale": scale, "steps": steps, "batch_size": batch_size, "lr": lr, "count": count, "split": split}
        command = shlex.join([*shlex.split(PROGRAM), *sys.argv[1:]])
        experiment = Experiment.open(out, given, command)
        if dry_run:
            _tell_plan(experiment, chosen, range(seeds))
            return
        if not table:
            experiment = _run_all(experiment, chosen, range(seeds), (model, foundation, mige_foundation))
        _tell_tables(experiment, chosen, range(seeds), write, studies)


def _tell_plan(experiment: Experiment, studies: Sequence[Study], seeds: Sequence[int]) -> None:
    from benchmarks.ablations.experiment import estimate
    from benchmarks.ablations.studies import rows_of

    runs = experiment.runs(rows_of(studies), seeds)
    records = {run.name: run.record() for run in runs}
    done = [record for record in records.values() if record is not None]
    todo = [run for run in runs if records[run.name] is None]
    told = estimate(todo, experiment.settings, done)
    shared = ", ".join(f"{name} {value}" for name, value in vars(experiment.settings).items())
    typer.echo(f"{experiment.folder}: {shared}")
    for study in studies:
        typer.echo(f"\n{study.name}: {study.title} ({study.source})")
        for row in study.rows:
            own = [run for run in runs if run.row == row]
            left = sum(told.seconds.get(run.name, 0.0) for run in own)
            finished = sum(records[run.name] is not None for run in own)
            typer.echo(f"  {row.label} [{row.name}]: {finished} of {len(own)} done, {_minutes(left)} left")
    origin = "finished runs" if told.measured else "the table in studies.py"
    typer.echo(
        f"\n{len(todo)} of {len(runs)} runs to do, about {_minutes(told.total)} on one core (from {origin}; rows of "
        "several studies are trained once)."
    )


def _run_all(
    experiment: Experiment, studies: Sequence[Study], seeds: Sequence[int], places: tuple[Path | None, ...]
) -> Experiment:
    """Carry out what is missing; the experiment with the weights that its runs start from."""
    from benchmarks.ablations.studies import rows_of

    runs = experiment.runs(rows_of(studies), seeds)
    todo = [run for run in runs if run.record() is None]
    if not todo:
        typer.echo(f"All {len(runs)} runs in {experiment.folder} are done.", err=True)
        return experiment
    with _quiet():
        from benchmarks.ablations.runner import Places, Runner

        runner = Runner(experiment, Places(*places))
        runner.experiment = experiment.keep(runner.bases(rows_of(studies)))
        _carry_out(runner, runs)
    return runner.experiment


def _carry_out(runner: Runner, runs: Sequence[Run]) -> None:
    from benchmarks.ablations.experiment import estimate
    from benchmarks.ablations.runner import StoppedError

    settings = runner.experiment.settings
    for number, run in enumerate(runs, start=1):
        if run.record() is not None:
            runner.carry_out(run)  # checks that it is of these settings
            continue
        done = [record for record in (other.record() for other in runs) if record is not None]
        todo = [other for other in runs if other.record() is None]
        left = estimate(todo, settings, done).total
        typer.echo(f"[{number} of {len(runs)}] {run.name}; about {_minutes(left)} left on one core", err=True)
        began = time.perf_counter()
        try:
            runner.carry_out(run)
        except StoppedError as stopped:
            typer.echo(f"{stopped}; the same command goes on.", err=True)
            raise typer.Exit(130) from None
        typer.echo(f"    done in {_minutes(time.perf_counter() - began)}: {_result(run)}", err=True)


def _result(run: Run) -> str:
    from insightedit.evaluation.reporting.report import read_report

    told = []
    for task in run.row.tasks:
        row = read_report(run.report(task))[0]["rows"][0]
        progress = row["means"]["progress"]
        told.append(f"{task} success {100 * row['success']['value']:.1f} %, progress {progress:.3f}")
    return "; ".join(told)


def _tell_tables(
    experiment: Experiment, studies: Sequence[Study], seeds: Sequence[int], write: Path | None, named: str
) -> None:
    from benchmarks.ablations.comparisons import measured
    from benchmarks.ablations.document import tables_text, write_document
    from insightedit.files import write_text

    tables: list[Measured] = [one for study in studies for one in measured(experiment, study, seeds)]
    if not any(one.records for one in tables):
        raise ValueError(f"{experiment.folder} holds no finished run of these studies: run without --table.")
    typer.echo(tables_text(tables))
    if write is not None:
        by = f"{PROGRAM} --studies {named} --table --write {write}"
        text = write_document(experiment, tables, seeds=seeds, written_by=by)
        write_text(write, text)
        typer.echo(write)


def _minutes(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of libraries off; what training says on the error stream."""
    from insightedit.console import quiet_libraries

    quiet_libraries()
    logging.basicConfig(level=logging.WARNING, format="    %(message)s")
    own: Any = logging.getLogger("insightedit")
    before = own.level
    own.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        try:
            yield
        finally:
            own.setLevel(before)
