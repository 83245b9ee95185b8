"""The engine of one machine: this process, or several with models of their own; a dead one's unit is not lost."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import RunStopped, one_line
from data_recipes.runner.progress import ProgressReporter, Stopper
from data_recipes.runner.worker import Report, Task, Worker

DEATHS = 3  # of workers over one unit

Phases = Iterable[Sequence[Task]]
"""Tasks of one phase can be done in any order; those of the next need them all."""


def run_in_process(
    config: RecipeConfig, inputs: int, phases: Phases, watch: ProgressReporter, stopper: Stopper
) -> Iterator[Report]:
    """Reports of tasks, done one by one in this process; ends early if asked to stop."""
    worker = make_worker(config, inputs, 0, watch.passed)
    try:
        for task in chain.from_iterable(phases):
            if stopper.asked:
                return
            yield worker.do(task)
    finally:
        worker.drop(list(worker.backends))


def make_worker(config: RecipeConfig, inputs: int, place: int, passed: Any) -> Worker:
    """The worker at a place among those of this machine, which take the devices in turn."""
    devices = config.engine.devices
    device = devices[place % len(devices)] if devices else None
    return Worker(config, inputs, device=device, passed=passed)


def run_in_processes(
    config: RecipeConfig, inputs: int, phases: Phases, watch: ProgressReporter, stopper: Stopper
) -> Iterator[Report]:
    """Reports of tasks from several processes; RunStopped if a step stopped or workers died, others being done."""
    pool = _Pool(config, inputs, watch, stopper)
    try:
        for tasks in phases:
            yield from pool.run(tasks)
    finally:
        pool.close()


@dataclass
class _Process:
    place: int
    process: Any
    pipe: Connection
    task: Task | None = None


class _Pool:
    def __init__(self, config: RecipeConfig, inputs: int, watch: ProgressReporter, stopper: Stopper) -> None:
        self.config, self.inputs, self.watch, self.stopper = config, inputs, watch, stopper
        self.workers: list[_Process] = []
        self.deaths: Counter[int] = Counter()
        self.problem: str | None = None

    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        waiting = deque(tasks)
        while True:
            self._give(waiting)
            busy = [worker for worker in self.workers if worker.task is not None]
            if not busy:
                break
            ready = set(wait([one for worker in busy for one in (worker.pipe, worker.process.sentinel)]))
            for worker in busy:
                if worker.pipe not in ready:
                    if worker.process.sentinel in ready and not worker.pipe.poll():
                        self._bury(worker, waiting)
                    continue
                try:
                    what, value = worker.pipe.recv()
                except (EOFError, OSError):
                    self._bury(worker, waiting)
                    continue
                if what == "passed":
                    self.watch.passed(*value)
                    continue
                worker.task = None
                if what == "done":
                    yield value
                else:
                    self.problem = self.problem or value
        if self.problem is not None:
            raise RunStopped(self.problem)

    def close(self) -> None:
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

    def _give(self, waiting: deque[Task]) -> None:
        """Give tasks to idle workers; start workers as long as there are tasks for them."""
        while waiting and not self.stopper.asked and self.problem is None:
            worker = next((one for one in self.workers if one.task is None), None)
            if worker is None:
                if len(self.workers) == self.config.engine.workers:
                    return
                places = {one.place for one in self.workers}
                place = next(number for number in range(len(places) + 1) if number not in places)
                context = get_context("spawn")
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(self.config, self.inputs, place, theirs), daemon=True)
                process.start()
                theirs.close()
                worker = _Process(place, process, ours)
                self.workers.append(worker)
            worker.task = waiting.popleft()
            with suppress(OSError):  # a worker that died idle is noticed by its sentinel
                worker.pipe.send(worker.task)

    def _bury(self, worker: _Process, waiting: deque[Task]) -> None:
        """Give a dead worker's unit back."""
        worker.process.join(10)
        worker.pipe.close()
        self.workers.remove(worker)
        task = worker.task
        assert task is not None, "only busy workers are listened to"
        code, unit = worker.process.exitcode, task.unit
        why = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        self.deaths[unit.number] += 1
        self.watch.say(f"a worker was lost ({why}); unit {unit.number} is given to another one")
        if self.deaths[unit.number] < DEATHS:
            waiting.appendleft(task)
            return
        self.problem = self.problem or (
            f"{DEATHS} workers died over unit {unit.number} (inputs {unit.start} to {unit.start + unit.count - 1}), "
            f"the last one {why}: perhaps memory did not suffice; choose a smaller engine.batch_size or fewer "
            "engine.workers, and run the same command again."
        )


def _work(config: RecipeConfig, inputs: int, place: int, pipe: Connection) -> None:
    """What a process does: tasks until it is given None."""
    # both signals reach the whole group of processes; whether to go on is the first one's to decide, by its pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = parent_process()

    def die_with_parent() -> None:
        if parent is not None:  # gone, however that happened
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // config.engine.workers)))
    worker: Worker | None = None
    while (task := pipe.recv()) is not None:
        try:
            if worker is None:
                worker = make_worker(config, inputs, place, lambda step, count: pipe.send(("passed", (step, count))))
            answer = ("done", worker.do(task))
        except BrokenPipeError:
            return
        except Exception as error:
            answer = ("stopped", one_line(error))
        pipe.send(answer)
