"""The command line of the run, and what it shows while it works."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from insightedit.console import console, titled_table
from insightedit.files import check_folder, lock_folder
from insightedit.training.default.parts import WORLDS, PlannedPart, Settings, planned_parts
from insightedit.training.default.plan import timetable
from insightedit.training.default.results import check_export, finish
from insightedit.training.default.run import DefaultRun, Running
from insightedit.training.default.state import RunState
from insightedit.training.logging import LOG, read_log
from insightedit.training.run import OneSentenceParser

TELL_EVERY = 60.0  # seconds between two lines where the output is no terminal


def _number(least: float) -> object:
    def read(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and value >= least):
            raise argparse.ArgumentTypeError(f"{text} must be a finite number from {least:g} on")
        return value

    return read


def _count(least: int) -> object:
    def read(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{text} must be at least {least}")
        return value

    return read


def read_settings(argv: Sequence[str] | None = None) -> tuple[Settings, bool]:
    """What the command line and the machine say; and whether the plan is all that is wanted."""
    parser = OneSentenceParser(prog="python -m insightedit.training.default", description=__doc__)
    parser.add_argument("--minutes", type=_number(0.1), default=60.0, help="wall clock of everything (default: 60)")  # type: ignore[arg-type]
    parser.add_argument("--runs", type=Path, default=Path("runs/default"), help="folder (default: runs/default)")
    parser.add_argument(
        "--size", choices=list(WORLDS), help="pixels of a side (default: 128 with an accelerator, 64 without)"
    )
    parser.add_argument("--workers", type=_count(0), help="processes of each part that render")  # type: ignore[arg-type]
    parser.add_argument("--lanes", type=_count(1), help="parts side by side (default: 2 on CPU cores, else 1)")  # type: ignore[arg-type]
    parser.add_argument("--pack", type=Path, help="folder with further photographs to train on")
    parser.add_argument("--export", type=Path, help="where a copy of the finished model goes")
    parser.add_argument("--shard-mb", type=_number(0.1), help="pack the results in files of at most so many MiB")  # type: ignore[arg-type]
    parser.add_argument("--steps", type=_count(1), help="steps of each training part, in place of minutes")  # type: ignore[arg-type]
    parser.add_argument("--dry-run", action="store_true", help="tell the plan and end")
    found = parser.parse_args(argv)
    if found.pack is not None and not found.pack.is_dir():
        raise ValueError(f"PACK {found.pack} is no folder: name one with photographs.")
    if found.export is not None:
        check_export(found.export)
    check_folder(found.runs)
    cores = tuple(sorted(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)))
    accelerator = _accelerator()
    workers = max(1, len(cores) - 2) if accelerator else 0  # two cores: what renders would take what trains
    return Settings(
        minutes=found.minutes,
        runs=found.runs,
        size=found.size or ("128" if accelerator else "64"),
        cores=cores,
        accelerator=accelerator,
        lanes=found.lanes or (1 if accelerator else min(2, len(cores))),
        workers=workers if found.workers is None else found.workers,
        steps=found.steps,
        pack=found.pack,
        export=found.export,
        shard_mb=found.shard_mb,
    ), found.dry_run


def _accelerator() -> str:
    """Name of the first GPU, asked without starting it where that can be; empty without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Train the embedded default from nothing, or go on with it; the exit code."""
    settings, dry = read_settings(argv)
    parts, screen = planned_parts(settings), console()
    if dry:
        run = DefaultRun(settings, parts, RunState.read(settings, parts), screen.print)
        run.reopen()
        screen.print(plan_table(run))
        return 0
    settings.runs.mkdir(parents=True, exist_ok=True)
    with lock_folder(settings.runs):
        return _go(settings, parts, screen)


def _go(settings: Settings, parts: tuple[PlannedPart, ...], screen: Console) -> int:
    state = RunState.read(settings, parts)
    with _follower(screen) as show:
        run = DefaultRun(settings, parts, state, lambda line: screen.print(line, highlight=False), show)
        run.reopen()
        if run.open():
            check_budget(run)
            screen.print(plan_table(run))
            code = run.go()
            if code:
                screen.print("The same command goes on where it was.")
                return code
    for place in finish(settings, parts, state):
        screen.print(str(place), highlight=False)
    return 0


def check_budget(run: DefaultRun) -> None:
    """Refuse a budget that is used up, or too short for what is to be started, measured and written."""
    if run.settings.steps is not None:
        return
    least = run.plan().least
    if least > run.left:
        raise ValueError(
            f"MINUTES={run.settings.minutes:g} are not enough: {run.seconds / 60:.1f} are used, and what is left takes "
            f"about {least / 60:.1f} without any training. Give MINUTES={math.ceil((run.seconds + least) / 60) + 1} or "
            "more."
        )


def plan_table(run: DefaultRun) -> Table:
    """When each part begins and ends, and how long it trains."""
    plan, settings = run.plan(), run.settings
    where = settings.accelerator or f"{len(settings.cores)} cores, {settings.lanes} side by side"
    title = f"{run.left / 60:.1f} of {settings.minutes:g} minutes are left; {WORLDS[settings.size].pixels} px; {where}"
    table = titled_table(title, ("part", "after"), ("from", "to", "training min"))
    when = timetable(run.open(), plan.lengths, settings.lanes)
    for part in run.parts:
        if part.name not in when:
            table.add_row(part.name, ", ".join(part.needs), "", "", "done")
            continue
        training = f"{plan.train[part.name] / 60:.2f}" if part.share and settings.steps is None else ""
        interval = when[part.name]
        row = (f"{interval.begin / 60:.1f}", f"{interval.end / 60:.1f}", training)
        table.add_row(part.name, ", ".join(part.needs), *row)
    return table


@contextmanager
def _follower(screen: Console) -> Iterator[object]:
    """What a session shows: a table that changes in place, or a line a minute where the output is no terminal."""
    if not sys.stdout.isatty():
        told = time.monotonic()

        def tell(run: DefaultRun) -> None:
            nonlocal told
            if time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                for part in run.parts:
                    if work := run.running.get(part.name):
                        screen.print("            ", part.name, *_progress(run, part, work), highlight=False)

        yield tell
        return
    with Live(console=screen, refresh_per_second=2, transient=True) as live:
        yield lambda run: live.update(_running_table(run))


def _running_table(run: DefaultRun) -> Table:
    title = f"{run.seconds / 60:.1f} of {run.settings.minutes:g} minutes"
    table = titled_table(title, ("part", "trained", "now"))
    for part in run.parts:
        if work := run.running.get(part.name):
            table.add_row(part.name, *_progress(run, part, work))
    waiting = [part.name for part in run.open() if part.name not in run.running]
    table.add_row("[dim]then[/dim]", f"[dim]{', '.join(waiting)}[/dim]", "")
    return table


def _progress(run: DefaultRun, part: PlannedPart, work: Running) -> tuple[str, str]:
    """How much of its minutes a part has had, and its loss and speed."""
    taken = time.monotonic() - work.began
    planned = run.state.parts[part.name].planned
    minutes = f"{(work.earlier + taken) / 60:.1f} of {planned / 60:.1f} min" if part.share else f"{taken / 60:.1f} min"
    lines = read_log(part.folder(run.settings) / LOG) if part.folder is not None else []
    if not lines:
        return minutes, ""
    last = lines[-1]
    return minutes, f"loss {last.get('loss', math.nan):.3g}, {last.get('samples_per_second', 0):.3g} samples/s"
