"""Who is told how a run is going, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from data_recipes.runner.flow import RunStopped


class Interrupted(RunStopped):
    """A run that was asked to stop, and did."""


class ProgressReporter:
    """Is told how a run is going; this one keeps it to itself."""

    def begin(self, inputs: int, units: int, steps: Sequence[str]) -> None:
        """Before anything else."""

    def kept(self, inputs: int, counts: Mapping[str, Any]) -> None:
        """A unit that an earlier run has finished."""

    def passed(self, step: str, records: int) -> None:
        """So many records have just passed a step; "read" is the first."""

    def unit_done(self, report: Mapping[str, Any]) -> None:
        """A task is done; see `Worker.report`."""

    def worker_died(self, unit: int, why: str) -> None:
        """A unit is given to another worker."""

    def stopping(self) -> None:
        """The run was asked to stop and finishes the units in work."""


class Stopper:
    """Whether a run was asked to stop.

    Attributes:
        asked: by SIGINT or SIGTERM. The second time `KeyboardInterrupt` is raised.
    """

    def __init__(self, watch: ProgressReporter) -> None:
        self.asked = False
        self.watch = watch

    def ask(self, number: int = 0, frame: object = None) -> None:
        """Handle a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.watch.stopping()


@contextmanager
def stopping_on_signals(watch: ProgressReporter) -> Iterator[Stopper]:
    """Take SIGINT and SIGTERM as a wish to stop; only in the main thread, where Python allows it."""
    stopper = Stopper(watch)
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    before = {number: signal.signal(number, stopper.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
