"""Where units are worked on: in this process, in a worker, or in an actor of a cluster. All engines use it."""

from __future__ import annotations

import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from data_recipes.backends.base import Usage
from data_recipes.backends.registry import KINDS, backend_class, load_backend
from data_recipes.recipes import build_steps
from data_recipes.runner.codec import read_chunks, write_chunks
from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import Chunk, RetryPolicy, RunStopped, StepCounts, Unit, advance, finish
from data_recipes.runner.folder import OutFolder, describe, write_json
from data_recipes.runner.inputs import Input, open_input
from data_recipes.runner.measure import UnitCounts
from data_recipes.runner.records import Record
from data_recipes.runner.rows import PictureEncoder, open_shard, row_of
from data_recipes.runner.steps import Context, Step
from insightedit.files import write_atomically

READ = "read"
REPLIES = "replies"  # folder of what endpoints answered: paid for, so it stays

Progress = Callable[[str, int], None]  # a step's name, and how many records it has just been given


@dataclass(frozen=True)
class Task:
    """A unit that shall pass some steps; behind the last one its file is written, else its records are kept."""

    unit: Unit
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Account:
    """When a task began, and what the backends had used by then."""

    began: float
    usage: Mapping[str, Usage]


def plan_steps(config: RecipeConfig) -> list[Step]:
    """The steps of a run, with the faults that shall be planted.

    Raises:
        ValueError: for an unknown recipe, step or setting; two steps of one name; or a missing backend.
    """
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


def needed_backends(steps: Iterable[Step]) -> list[str]:
    """Names of the backends that steps call, each once."""
    return list(dict.fromkeys(need for step in steps for need in step.needs))


class Worker:
    """Does tasks one after the other; loads each model once, and only when a step needs it.

    Args:
        config: of the run.
        device: for backends that take one and have none of their own.
        only_needed: drop the models that the steps of a task do not need, so that one step's are in memory at a time.
        source: records to take instead of the config's source.
    """

    def __init__(
        self,
        config: RecipeConfig,
        *,
        device: str | None = None,
        only_needed: bool = False,
        source: Input | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.only_needed = only_needed
        self.steps = plan_steps(config)
        self.backends: dict[str, Any] = {}
        engine = config.engine
        self.retry = RetryPolicy(engine.batch_size, engine.retries, engine.backoff, engine.max_failed)
        self.step_counts = StepCounts()
        self.spent: dict[str, Usage] = {}
        self._input = source

    @property
    def input(self) -> Input:
        """Where records come from, opened with the first use."""
        if self._input is None:
            self._input = open_input(self.config.source)
        return self._input

    def do(self, task: Task, folder: OutFolder, inputs: int, progress: Progress) -> dict[str, Any]:
        """Work a task off.

        Args:
            task: what to do; its records are in the work folder unless it begins with the first step.
            folder: of the run.
            inputs: of the whole run.
            progress: told what passes.

        Returns:
            For the log and the screen: seconds by step, usage by backend, and `counts` if the file was written.

        Raises:
            RunStopped: see `flow.advance`, and for two inputs of one key.
        """
        account = self.begin()
        work = folder.work(task.unit, task.first_step)
        chunks = self.read(task.unit, progress) if task.first_step == 0 else read_chunks(work)
        passed = self.through(chunks, range(task.first_step, task.last_step), progress)
        counts = None
        if task.last_step == len(self.steps):
            counts = self.write(task.unit, folder, inputs, passed)
        else:
            after = folder.work(task.unit, task.last_step)
            after.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(after, durable=True) as aside, aside.open("wb") as file:
                write_chunks(file, passed)
        if task.first_step:
            work.unlink(missing_ok=True)
        return self.report(task, account, counts)

    def begin(self) -> Account:
        """Where the counting of time and usage begins."""
        self.step_counts = StepCounts()
        return Account(time.perf_counter(), self.usage())

    def report(self, task: Task, account: Account, counts: dict[str, Any] | None) -> dict[str, Any]:
        """What was spent since `begin`, as a line for the log."""
        spent, before = self.step_counts, account.usage
        usage = {name: asdict(_minus(now, before.get(name, Usage()))) for name, now in self.usage().items()}
        return {
            "unit": task.unit.number,
            "steps": [step.name for step in self.steps[task.first_step : task.last_step]],
            "seconds": round(time.perf_counter() - account.began, 3),
            "seconds_by_step": {name: round(value, 4) for name, value in spent.seconds.items()},
            "entered": dict(spent.entered),
            "failed": dict(spent.failed),
            "retried": dict(spent.retried),
            "usage": {name: used for name, used in usage.items() if used["calls"]},
            **({} if counts is None else {"counts": counts}),
        }

    def read(self, unit: Unit, progress: Progress) -> Iterator[Chunk]:
        """The inputs of a unit, a batch at a time."""
        seen: set[str] = set()
        end = unit.start + unit.count
        for first in range(unit.start, end, self.retry.batch_size):
            indices = range(first, min(first + self.retry.batch_size, end))
            began = time.perf_counter()
            found = [self.input[index] for index in indices]
            self.step_counts.seconds[READ] += time.perf_counter() - began
            for one in found:
                if one.key in seen:
                    raise RunStopped(doubled(one.key))
                seen.add(one.key)
            progress(READ, len(found))
            yield Chunk(
                keys=[one.key for one in found],
                records=[one for one in found if isinstance(one, Record)],
                rejected=[one for one in found if not isinstance(one, Record)],
            )

    def through(self, chunks: Iterable[Chunk], numbers: range, progress: Progress) -> Iterator[Chunk]:
        """Chunks after some steps, each passing all of them before the next one is taken."""
        steps = [self.steps[number] for number in numbers]
        contexts = [self.context(step, steps) for step in steps]
        for chunk in chunks:
            for step, context in zip(steps, contexts, strict=True):
                entered = len(chunk.records)
                chunk = advance(chunk, step, context, self.retry, self.step_counts)
                progress(step.name, entered)
            yield chunk

    def context(self, step: Step, together: Sequence[Step]) -> Context:
        """A step's context; loads its backends."""
        needed = needed_backends(together)
        if self.only_needed:
            self.drop(name for name in list(self.backends) if name not in needed)
        for name in step.needs:
            if name not in self.backends:
                self.backends[name] = load_backend(name, self.entry(name))
        return Context(self.config.seed, step.name, {name: self.backends[name] for name in step.needs})

    def entry(self, name: str) -> dict[str, Any]:
        """A backend's settings, with this worker's device and the run's file of answers where it takes them."""
        entry = dict(self.config.backends[name])
        if name not in KINDS:
            return entry
        known = inspect.signature(backend_class(name, str(entry.get("kind")))).parameters
        out = self.config.output.path
        ours = {"device": self.device, "replies": None if out is None else str(Path(out) / REPLIES / f"{name}.jsonl")}
        return {**{key: value for key, value in ours.items() if value is not None and key in known}, **entry}

    def drop(self, names: Iterable[str]) -> None:
        """Forget models, and give their memory back."""
        dropped = [(name, self.backends.pop(name)) for name in names]
        for name, backend in dropped:
            self.spent[name] = _plus(self.spent.get(name, Usage()), backend.usage)
            if hasattr(backend, "close"):
                backend.close()
        if dropped:
            del dropped, backend
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def usage(self) -> dict[str, Usage]:
        """What each backend has used since the worker was made."""
        found = dict(self.spent)
        for name, backend in self.backends.items():
            found[name] = _plus(found.get(name, Usage()), backend.usage)
        return found

    def write(self, unit: Unit, folder: OutFolder, inputs: int, chunks: Iterable[Chunk]) -> dict[str, Any]:
        """Write a unit's file, then its counts."""
        tally, encoder = UnitCounts(self.config.seed, inputs), PictureEncoder()
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
            "shard": describe(path) if tally.pairs else None,
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


def _plus(one: Usage, other: Usage) -> Usage:
    return Usage(*(getattr(one, part.name) + getattr(other, part.name) for part in fields(Usage)))


def _minus(one: Usage, other: Usage) -> Usage:
    return Usage(*(getattr(one, part.name) - getattr(other, part.name) for part in fields(Usage)))
