"""Who is told how a run is going, what is shown of it, and how it is asked to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from data_recipes.runner.flow import RunStopped
from data_recipes.runner.worker import READ

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EVERY = 10.0  # seconds between lines, where nobody watches


class Interrupted(RunStopped):
    """A run that was asked to stop, and did."""


class ProgressReporter:
    """Is told how a run is going, counts, and shows it on a `console`, if there is one.

    Bars, and rejects as units end; without a `progress`, where nobody watches, a line every ten seconds.
    """

    def __init__(self, console: Console | None = None, progress: Progress | None = None) -> None:
        self.console, self.progress = console, progress
        self.units = self.done = self.pairs = self.rejected = 0
        self.last = time.monotonic()
        self.rows: dict[str, Any] = {}
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)

    def begin(self, inputs: int, units: int, steps: Sequence[str]) -> None:
        """Before anything else."""
        self.units = units
        if self.progress is not None:
            self.rows[READ] = self.progress.add_task("inputs", total=inputs, told="")
            self.rows |= {name: self.progress.add_task(f"  {name}", total=None, told="") for name in steps}

    def kept(self, inputs: int, counts: Mapping[str, Any]) -> None:
        """A unit that an earlier run has finished."""
        self.passed(READ, inputs)
        self.count(counts)

    def passed(self, step: str, records: int) -> None:
        """So many records have just passed a step; "read" is the first."""
        if self.progress is not None and step in self.rows:
            self.progress.advance(self.rows[step], records)

    def unit_done(self, report: Mapping[str, Any]) -> None:
        """A task is done; see `Worker.report`."""
        if "counts" in report:
            self.count(report["counts"])
        if self.console is not None and self.progress is None and time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            told = f"{self.done} of {self.units} units: {self.pairs:,} pairs, {self.rejected:,} rejected"
            self.console.print(told, style="dim", highlight=False)

    def count(self, counts: Mapping[str, Any]) -> None:
        """Add a finished unit's numbers."""
        self.done += 1
        self.pairs += counts["pairs"]
        self.rejected += sum(sum(found.values()) for found in counts["rejects_by_reason"].values())
        if self.progress is None:
            return
        told = f"{self.done}/{self.units} units, {self.pairs:,} pairs, {self.rejected:,} rejected"
        self.progress.update(self.rows[READ], told=told)
        for step, found in counts["rejects_by_reason"].items():
            self.reasons[step].update(found)
            if step in self.rows and step != READ:
                most, number = self.reasons[step].most_common(1)[0]
                told = f"{self.reasons[step].total():,} rejected, {most}: {number:,}"
                self.progress.update(self.rows[step], told=told)

    def say(self, text: str) -> None:
        """A sentence about what has just happened."""
        if self.console is not None:
            self.console.print(text, style="yellow", highlight=False)


@contextmanager
def watching() -> Iterator[ProgressReporter]:
    """Bars on the error stream where somebody watches it, else lines."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield ProgressReporter(console)
        return
    told = (TextColumn("{task.completed:,.0f}"), TextColumn("[dim]{task.fields[told]}"))
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), *told, TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield ProgressReporter(console, progress)


class Stopper:
    """Whether a run was `asked` to stop: within `with`, by SIGINT or SIGTERM; the second time it is interrupted."""

    def __init__(self, watch: ProgressReporter) -> None:
        self.asked = False
        self.watch = watch
        self.before: dict[int, Any] = {}

    def ask(self, number: int = 0, frame: object = None) -> None:
        """Handle a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.watch.say("stopping after the units in work; once more ends them")

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
