"""Start what can start, follow it, keep account, and plan the rest anew after every part."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from insightedit.console import STOPPED, TERMINATED
from insightedit.training.default import processes
from insightedit.training.default.parts import PlannedPart, Settings, variables
from insightedit.training.default.plan import TimePlan, make_plan, runs_alone
from insightedit.training.default.state import RunState, trained, used_seconds
from insightedit.training.loop import UNFINISHED, stop_signals

TICK = 0.2  # seconds between two looks
KEEP_EVERY = 5.0  # seconds between two writings of the plan
SLOWEST, FASTEST = 10.0, 0.3  # what starts may take at most and at least, of what they are expected to take
WORTH_IT = 0.02  # share of the minutes that has to be left to train a finished run on
THREADS_BESIDE_ACCELERATOR = 4  # the cores render; a training process only starts kernels
SAVED = (STOPPED, TERMINATED, UNFINISHED, -15, -2)  # exit codes of what was asked to end


@dataclass
class Running:
    """A part at work."""

    process: multiprocessing.Process
    began: float  # of the monotonic clock
    lane: int
    earlier: float  # seconds that it had trained before this start
    asked: Literal["", "time", "stop"] = ""  # why it was asked to end: its time is over, or all have to stop


@dataclass
class DefaultRun:
    """One session of the run."""

    settings: Settings
    parts: tuple[PlannedPart, ...]
    state: RunState
    tell: Callable[[str], object]  # a line for the user
    show: Callable[[DefaultRun], object] = lambda run: None
    running: dict[str, Running] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _earlier: float = 0.0
    _beside: list[tuple[float, float]] = field(default_factory=list)  # seconds beside training: expected, taken

    def __post_init__(self) -> None:
        self._earlier = self.state.seconds

    @property
    def seconds(self) -> float:
        """Wall clock of all sessions."""
        return self._earlier + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return 60 * self.settings.minutes - self.seconds

    def open(self) -> list[PlannedPart]:
        """Parts that are not done, those at work first."""
        found = [part for part in self.parts if self.state.parts[part.name].status != "done"]
        return sorted(found, key=lambda part: part.name not in self.running)

    def reopen(self) -> bool:
        """Let parts that are done train on if minutes are left, with what follows from them.

        That is so when the run was finished, and when it was given more minutes than before.
        """
        open_now = {part.name for part in self.open()}
        grown = self.settings.minutes > (1 + WORTH_IT) * self.state.minutes
        if self.settings.steps is not None or (open_now and not grown):
            return False
        extended = {part.name for part in self.parts if part.extends} - open_now
        for part in self.parts:  # needs come before what needs them
            if extended & set(part.needs):
                extended.add(part.name)
        again = [part for part in self.parts if part.name in extended | open_now]
        used = used_seconds(self.parts, self.settings, self.state.parts)
        gain = self.left - make_plan(again, used, self.left, self.settings.lanes).least
        if gain < 60 * WORTH_IT * self.settings.minutes:
            return False
        for part in again:
            self.state.parts[part.name].status = "waiting"
        return True

    def plan(self) -> TimePlan:
        """What is left, shared out over the time that is left."""
        used = used_seconds(self.parts, self.settings, self.state.parts)
        pace, parts = self.pace(), []
        for part in self.open():
            if work := self.running.get(part.name):
                taken = time.monotonic() - work.began
                target = self.state.parts[part.name].planned - work.earlier
                # it has its minutes already: to the plan it is a length of time
                part = replace(part, share=0.0, seconds=max(1.0, target + pace * part.seconds - taken) / pace)
            parts.append(part)
        return make_plan(parts, used, self.left, self.settings.lanes, pace)

    def pace(self) -> float:
        """How long starting, measuring and writing took in this session, of what is expected."""
        expected, taken = (sum(pair[i] for pair in self._beside) for i in (0, 1))
        return min(SLOWEST, max(FASTEST, taken / expected)) if expected else 1.0

    def go(self) -> int:
        """Run until all is done, something failed, or a signal came; the exit code."""
        context, kept, failed = processes.start_method(), 0.0, False
        with stop_signals() as asked:
            while True:
                failed = self._collect() or failed
                if asked.code or failed:
                    for work in self.running.values():
                        if not work.asked:
                            processes.stop(work.process)
                            work.asked = "stop"
                else:
                    self._end_what_has_had_its_time()
                    self._start_what_can(context)
                self.state.seconds = self.seconds
                if time.monotonic() - kept > KEEP_EVERY or not self.running:
                    self.state.write(self.settings)
                    kept = time.monotonic()
                if not self.running:
                    return 2 if failed else asked.code
                self.show(self)
                time.sleep(TICK)

    def _start_what_can(self, context: object) -> None:
        waiting = [part for part in self.open() if part.name not in self.running]
        unfinished = {part.name for part in self.open()}
        for part in waiting:
            free = set(range(self.settings.lanes)) - {work.lane for work in self.running.values()}
            if not free:
                return
            if unfinished & set(part.needs):
                continue
            lane, state = min(free), self.state.parts[part.name]
            state.planned = self.plan().train[part.name]
            command = part.instead if state.is_second and part.instead else part.command
            state.command = command(self.settings, state.planned / 60)
            earlier = used_seconds((part,), self.settings, self.state.parts)[part.name]
            place = self._place(part, lane, alone=not self.running and runs_alone(part, self.parts, unfinished))
            process = processes.start(context, state.command, place)
            state.status = "running"
            self.running[part.name] = Running(process, time.monotonic(), lane, earlier)
            length = f", {(state.planned - earlier) / 60:.1f} min of training" if part.share else ""
            length = f", {self.settings.steps} steps" if part.share and self.settings.steps else length
            self.tell(f"{self.seconds / 60:6.1f} min  {part.name}: begins{length}")

    def _place(self, part: PlannedPart, lane: int, *, alone: bool) -> processes.Place:
        """Cores and threads of a part: those of its lane, or all if nothing else will run."""
        cores = self.settings.cores if alone else lane_cores(self.settings.cores, lane, self.settings.lanes)
        threads = min(len(cores), THREADS_BESIDE_ACCELERATOR) if self.settings.accelerator else len(cores)
        if hasattr(os, "getloadavg") and os.getloadavg()[0] > len(self.settings.cores) + 1:
            # others work here, too: threads would wait for the one that has to share its core
            cores, threads = self.settings.cores, 1
        return processes.Place(self.log_of(part), cores, threads, variables(self.settings))

    def log_of(self, part: PlannedPart) -> Path:
        """What a part said."""
        return self.settings.runs / "logs" / f"{part.name}.log"

    def _end_what_has_had_its_time(self) -> None:
        """Parts that have no clock of their own."""
        for part in self.parts:
            work = self.running.get(part.name)
            if work is None or part.folder is not None or not part.share or work.asked:
                continue
            if time.monotonic() - work.began > self.state.parts[part.name].planned - work.earlier + part.seconds:
                processes.stop(work.process)
                work.asked = "time"

    def _collect(self) -> bool:
        """Take up what has ended; whether something failed."""
        failed = False
        for part in self.parts:
            work = self.running.get(part.name)
            if work is None or work.process.is_alive():
                continue
            del self.running[part.name]
            state, taken, code = self.state.parts[part.name], time.monotonic() - work.began, work.process.exitcode
            state.seconds += taken
            if code == 0 or (work.asked == "time" and code in SAVED):
                state.status = "done"
                now = used_seconds((part,), self.settings, self.state.parts)[part.name] if part.folder else 0.0
                self._beside.append((part.seconds, taken - max(0.0, now - work.earlier)))
                self.tell(f"{self.seconds / 60:6.1f} min  {part.name}: done{self._numbers(part)}")
            elif work.asked and code in SAVED:
                state.status = "stopped"
                self.tell(f"{self.seconds / 60:6.1f} min  {part.name}: stopped, saved")
            else:
                log = self.log_of(part)
                self.tell(f"{part.name} failed (exit code {code}): {last_line(log)} All that it said: {log}")
                if part.instead is not None and not state.is_second:
                    state.status, state.is_second = "waiting", True
                    self.tell(f"{part.name}: tried in a simpler way")
                else:
                    state.status, failed = "failed", True
        return failed

    def _numbers(self, part: PlannedPart) -> str:
        found = trained(part, self.settings)
        losses = "".join(f", {name} {value:.3g}" for name, value in found.get("losses", {}).items() if name == "loss")
        return f", {found['step']} steps in {found['seconds'] / 60:.1f} min{losses}" if found else ""


def lane_cores(cores: Sequence[int], lane: int, lanes: int) -> tuple[int, ...]:
    """The cores of one lane: as many as of any other, the last ones left over; all where there are fewer than lanes."""
    each = len(cores) // lanes
    return tuple(cores[lane * each : (lane + 1) * each]) or tuple(cores)


def last_line(log: Path) -> str:
    """What a part said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1].strip() if lines else "it said nothing."
