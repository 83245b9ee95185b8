"""Where units are worked on: in this process, in a worker, or in an actor of a cluster. All engines use it."""

from __future__ import annotations

import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.backends.base import KINDS, backend_class, load_backend
from data_recipes.recipes import build_steps
from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import Chunk, RunStopped, StepCounts, Unit, advance, finish
from data_recipes.runner.folder import OutFolder, file_entry, write_json
from data_recipes.runner.inputs import Input, open_input
from data_recipes.runner.records import Record
from data_recipes.runner.rows import PictureEncoder, open_shard, read_chunks, row_of, write_chunks
from data_recipes.runner.statistics import UnitCounts
from data_recipes.runner.steps import Context, Step
from insightedit.files import write_atomically

READ = "read"
REPLIES = "replies"  # folder of what endpoints answered: paid for, so it stays

Report = dict[str, Any]
"""What a task took, for the log and the screen; see `Worker.report`."""


@dataclass(frozen=True)
class Task:
    """A unit that shall pass some steps; behind the last one its file is written, else its records are kept."""

    unit: Unit
    first_step: int
    last_step: int


def plan_steps(config: RecipeConfig) -> list[Step]:
    """The steps of a run, with the faults that shall be planted; ValueError if recipe and settings do not fit."""
    steps = build_steps(config.recipe, config.steps)
    if config.faults:
        from data_recipes.oracle.faults import plant_faults

        steps = plant_faults(steps, config.faults)
    names = [step.name for step in steps]
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"the recipe {config.recipe} has steps named {names}: each needs a name of its own.")
    for step in steps:
        for need in step.needs:
            Context(config.seed, step.name, config.backends).backend(need)
    return steps


def backend_entry(config: RecipeConfig, name: str, device: str | None = None) -> dict[str, Any]:
    """A backend's settings, with the worker's device and the run's file of answers where it takes them."""
    entry = dict(config.backends[name])
    if name not in KINDS:
        return entry
    known = inspect.signature(backend_class(name, str(entry.get("kind")))).parameters
    out = config.output.path
    ours = {"device": device, "replies": None if out is None else str(Path(out) / REPLIES / f"{name}.jsonl")}
    return {**{key: value for key, value in ours.items() if value is not None and key in known}, **entry}


class Worker:
    """Does tasks one by one; loads each model once, when a step needs it; step by step, drops what is not needed."""

    def __init__(
        self,
        config: RecipeConfig,
        inputs: int,  # of the whole run
        *,
        folder: OutFolder | None = None,  # that units are written to, where it is not the config's
        device: str | None = None,  # for backends that take one and have none of their own
        source: Input | None = None,  # records to take instead of the config's
        passed: Callable[[str, int], object] = lambda step, records: None,  # told what a step has just been given
    ) -> None:
        self.config, self.inputs, self.device, self.passed = config, inputs, device, passed
        self.folder = folder or OutFolder(config)
        self.steps = plan_steps(config)
        self.backends: dict[str, Any] = {}
        self._input = source
        self.begin()

    def do(self, task: Task) -> Report:
        """Work a task off; its records are in the work folder unless it begins with the first step."""
        self.begin()
        work = self.folder.work(task.unit, task.first_step)
        chunks = read_chunks(work) if task.first_step else self.read(task.unit)
        passed = self.through(chunks, self.steps[task.first_step : task.last_step])
        counts = None
        if task.last_step == len(self.steps):
            counts = self.write(task.unit, passed)
        else:
            after = self.folder.work(task.unit, task.last_step)
            after.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(after, durable=True) as aside, aside.open("wb") as file:
                write_chunks(file, passed)
        if task.first_step:
            work.unlink(missing_ok=True)
        return self.report(task, counts)

    def begin(self) -> None:
        """Count time and usage from here on."""
        self.began, self.spent = time.perf_counter(), StepCounts()

    def report(self, task: Task, counts: dict[str, Any] | None) -> Report:
        """What was spent since `begin`: seconds by step, usage by backend, and `counts` if the file was written."""
        spent = self.spent
        return {
            "unit": task.unit.number,
            "steps": [step.name for step in self.steps[task.first_step : task.last_step]],
            "seconds": round(time.perf_counter() - self.began, 3),
            "seconds_by_step": {name: round(value, 4) for name, value in spent.seconds.items()},
            "entered": dict(spent.entered),
            "failed": dict(spent.failed),
            "retried": dict(spent.retried),
            "usage": {name: dict(used) for name, used in spent.usage.items() if used["calls"]},
            **({} if counts is None else {"counts": counts}),
        }

    def read(self, unit: Unit) -> Iterator[Chunk]:
        """The inputs of a unit, a batch at a time."""
        if self._input is None:
            self._input = open_input(self.config.source)
        seen: set[str] = set()
        end, size = unit.start + unit.count, self.config.engine.batch_size
        for first in range(unit.start, end, size):
            began = time.perf_counter()
            found = [self._input[index] for index in range(first, min(first + size, end))]
            self.spent.seconds[READ] += time.perf_counter() - began
            for one in found:
                if one.key in seen:
                    raise RunStopped(doubled(one.key))
                seen.add(one.key)
            self.passed(READ, len(found))
            yield Chunk(
                keys=[one.key for one in found],
                records=[one for one in found if isinstance(one, Record)],
                rejected=[one for one in found if not isinstance(one, Record)],
            )

    def through(self, chunks: Iterable[Chunk], steps: Sequence[Step]) -> Iterator[Chunk]:
        """Chunks after some steps, each passing all of them before the next one is taken."""
        contexts = [self.context(step, steps) for step in steps]
        for chunk in chunks:
            for step, context in zip(steps, contexts, strict=True):
                entered = len(chunk.records)
                before = {name: vars(backend.usage) for name, backend in context.backends.items()}
                chunk = advance(chunk, step, context, self.config.engine, self.spent)
                for name, backend in context.backends.items():
                    used = {what: number - before[name][what] for what, number in vars(backend.usage).items()}
                    self.spent.usage[name].update(used)
                self.passed(step.name, entered)
            yield chunk

    def context(self, step: Step, together: Sequence[Step]) -> Context:
        """A step's context; loads its backends."""
        if self.config.engine.is_phased:
            needed = {need for one in together for need in one.needs}
            self.drop(name for name in list(self.backends) if name not in needed)
        for name in step.needs:
            if name not in self.backends:
                self.backends[name] = load_backend(name, backend_entry(self.config, name, self.device))
        return Context(self.config.seed, step.name, {name: self.backends[name] for name in step.needs})

    def drop(self, names: Iterable[str]) -> None:
        """Forget models, and give their memory back."""
        dropped = [self.backends.pop(name) for name in names]
        for backend in dropped:
            if hasattr(backend, "close"):
                backend.close()
        if dropped:
            del dropped, backend
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def write(self, unit: Unit, chunks: Iterable[Chunk]) -> dict[str, Any]:
        """Write a unit's file, then its counts."""
        tally, encoder, folder = UnitCounts(self.config.seed, self.inputs), PictureEncoder(), self.folder
        path = folder.shard(unit)
        with (
            write_atomically(path, durable=folder.durable) as aside,
            aside.open("wb") as file,
            closing(open_shard(file, self.config.output.format)) as writer,
        ):
            for chunk in chunks:
                done = finish(chunk)
                for record in done.records:
                    name = f"{unit.number:05d}-{tally.pairs + 1:06d}"
                    writer.write(row_of(record, name, self.config.split, encoder))
                    tally.add_pair(record)
                tally.add(done)
        if not tally.pairs:
            path.unlink()  # readers stumble over files without rows
        counts = {
            "unit": unit.number,
            "inputs": [unit.start, unit.count],
            "settings": folder.digest,
            "shard": file_entry(path) if tally.pairs else None,
            **tally.result(),
        }
        write_json(folder.sidecar(unit), counts, durable=folder.durable)
        return {"pairs": tally.pairs, "rejects_by_reason": counts["rejects_by_reason"], "keys": tally.keys}


def doubled(key: str) -> str:
    """The sentence for two inputs of one key."""
    return (
        f"two inputs have the key {key}: nothing tells their pairs apart; give the files names of their own, or "
        "read one of them only."
    )
