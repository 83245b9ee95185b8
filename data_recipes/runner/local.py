"""The engine of one machine: this process, or several that each have their models.

A worker that dies takes nothing with it: its unit is given to another one, and files appear only when they are whole.
"""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import RunStopped, one_line
from data_recipes.runner.folder import OutFolder
from data_recipes.runner.progress import ProgressReporter, Stopper
from data_recipes.runner.worker import Task, Worker

DEATHS = 3  # of workers over one unit
Report = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What all workers of a run are told."""

    config: RecipeConfig
    path: Path
    inputs: int
    only_needed: bool


class RunEngine(ABC):
    """Works units off."""

    def __init__(self, job: Job, watch: ProgressReporter, stopper: Stopper) -> None:
        self.job, self.watch, self.stopper = job, watch, stopper

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """Reports of tasks as they are done; ends early if asked to stop.

        Raises:
            RunStopped: if a step was stopped, or the engine gives up; units in work are finished first.
        """

    def close(self) -> None:  # noqa: B027 - most keep nothing open
        """Let go of models and processes."""


class InProcess(RunEngine):
    """Works units off one by one in this process."""

    def __init__(self, job: Job, watch: ProgressReporter, stopper: Stopper) -> None:
        super().__init__(job, watch, stopper)
        devices = job.config.engine.devices
        self.worker = Worker(job.config, device=devices[0] if devices else None, only_needed=job.only_needed)
        self.folder = OutFolder(job.path, job.config)

    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """See `RunEngine`."""
        for task in tasks:
            if self.stopper.asked:
                return
            yield self.worker.do(task, self.folder, self.job.inputs, self.watch.passed)

    def close(self) -> None:
        """Forget the models."""
        self.worker.drop(list(self.worker.backends))


class ProcessPool(RunEngine):
    """Works units off in several processes."""

    def __init__(self, job: Job, watch: ProgressReporter, stopper: Stopper) -> None:
        super().__init__(job, watch, stopper)
        self.workers: list[_Process] = []
        self.deaths: Counter[int] = Counter()
        self.problem: str | None = None

    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """See `RunEngine`; also stops where three workers died over one unit."""
        waiting = deque(tasks)
        while True:
            self._give(waiting)
            busy = [worker for worker in self.workers if worker.task is not None]
            if not busy:
                break
            ready = set(wait([one for worker in busy for one in (worker.pipe, worker.process.sentinel)]))
            for worker in busy:
                if worker.pipe in ready:
                    yield from self._hear(worker, waiting)
                elif worker.process.sentinel in ready and not worker.pipe.poll():
                    self._bury(worker, waiting)
        if self.problem is not None:
            raise RunStopped(self.problem)

    def close(self) -> None:
        """Send the workers home; those that still work are ended."""
        for worker in self.workers:
            if worker.task is None:
                with suppress(OSError):
                    worker.pipe.send(None)
            else:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self.workers.clear()

    def _give(self, waiting: deque[Task]) -> None:
        """Give tasks to idle workers; start workers as long as there are tasks for them."""
        while waiting and not self.stopper.asked and self.problem is None:
            worker = next((one for one in self.workers if one.task is None), None)
            if worker is None:
                if len(self.workers) == self.job.config.engine.workers:
                    return
                worker = self._start()
            worker.task = waiting.popleft()
            with suppress(OSError):  # a worker that died idle is noticed by its sentinel
                worker.pipe.send(worker.task)

    def _start(self) -> _Process:
        places = {worker.place for worker in self.workers}
        place = next(number for number in range(len(places) + 1) if number not in places)
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self.job, place, theirs), daemon=True)
        process.start()
        theirs.close()
        worker = _Process(place, process, ours)
        self.workers.append(worker)
        return worker

    def _hear(self, worker: _Process, waiting: deque[Task]) -> Iterator[Report]:
        try:
            what, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker, waiting)
            return
        if what == "passed":
            self.watch.passed(*value)
            return
        worker.task = None
        if what == "done":
            yield value
        else:
            self.problem = self.problem or value

    def _bury(self, worker: _Process, waiting: deque[Task]) -> None:
        """Give a dead worker's unit back."""
        worker.process.join(10)
        worker.pipe.close()
        self.workers.remove(worker)
        task = worker.task
        assert task is not None, "only busy workers are listened to"
        code = worker.process.exitcode
        why = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        number = task.unit.number
        self.deaths[number] += 1
        self.watch.worker_died(number, why)
        if self.deaths[number] < DEATHS:
            waiting.appendleft(task)
            return
        self.problem = self.problem or (
            f"{DEATHS} workers died over unit {number} (inputs {task.unit.start} to "
            f"{task.unit.start + task.unit.count - 1}), the last one {why}: perhaps memory did not suffice; choose a "
            "smaller engine.batch_size or fewer engine.workers, and run the same command again."
        )


@dataclass
class _Process:
    place: int
    process: Any
    pipe: Connection
    task: Task | None = None


def _work(job: Job, place: int, pipe: Connection) -> None:
    """What a worker does: tasks until it is given None."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # both reach the whole group of processes; whether to go on is the first one's to decide, by its pipe
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    engine = job.config.engine
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // engine.workers)))
    device = engine.devices[place % len(engine.devices)] if engine.devices else None
    folder = OutFolder(job.path, job.config)
    worker: Worker | None = None

    def passed(step: str, records: int) -> None:
        pipe.send(("passed", (step, records)))

    while (task := pipe.recv()) is not None:
        try:
            worker = worker or Worker(job.config, device=device, only_needed=job.only_needed)
            answer = ("done", worker.do(task, folder, job.inputs, passed))
        except BrokenPipeError:
            return
        except Exception as error:
            answer = ("stopped", one_line(error))
        pipe.send(answer)


def _die_with_parent() -> None:
    """End this worker when the process that started it is gone, however that happened."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
