"""Records through steps: batches, retries, and the refusal of whatever would lose or double a record."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, sleep

from data_recipes.runner.config import EngineConfig
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step
from insightedit.chat.clients import ChatError, MissingReplyError

FAILED = "failed"  # the reason of records that a step has no answer for
FEW = 8  # failures that may be the records' fault
ENDING = "output"  # step under which records are refused that no step refused

log = logging.getLogger(__name__)


class RunStopped(ValueError):
    """What ends a run; everything that was finished is kept, and the same command goes on from there."""


@dataclass(frozen=True)
class Unit:
    """Inputs that are done together and written as one file: `count` of them from `start` on."""

    number: int
    start: int
    count: int


def units_of(start: int, count: int, size: int) -> list[Unit]:
    """All units of a run over `count` inputs from `start` on."""
    end = start + count
    return [Unit(number, first, min(size, end - first)) for number, first in enumerate(range(start, end, size))]


@dataclass
class Chunk:
    """A few inputs of a unit and what has become of them so far."""

    keys: list[str] = field(default_factory=list)  # of the inputs
    records: list[Record] = field(default_factory=list)  # that are still in, in order
    rejected: list[Rejected] = field(default_factory=list)  # that are out, in order of steps
    last_seen: dict[str, Record] = field(default_factory=dict)  # refused pairs as they were before, for contact sheets
    passed: dict[str, tuple[int, int]] = field(default_factory=dict)  # step -> records that came in and went out


@dataclass
class StepCounts:
    """What was spent by each step, for the log; no part of the result."""

    seconds: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)  # records that came in
    failed: Counter[str] = field(default_factory=Counter)  # records without an answer
    retried: Counter[str] = field(default_factory=Counter)  # calls that were repeated
    # by backend, as `Usage` has it
    usage: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def advance(chunk: Chunk, step: Step, context: Context, engine: EngineConfig, spent: StepCounts) -> Chunk:
    """A chunk after one more step; RunStopped if no answer comes, most records fail, or keys break the rules."""
    began, records = perf_counter(), chunk.records
    kept: list[Record] = []
    refused: dict[str, Rejected] = {}
    seen: set[str] = set()
    for first in range(0, len(records), engine.batch_size):
        batch = records[first : first + engine.batch_size]
        spent.entered[step.name] += len(batch)
        for record, outcomes in zip(batch, _ask(step, batch, context, engine, spent), strict=True):
            for outcome in outcomes:
                # keys are how nothing is lost or doubled: each result's has to be its record's own or below it, and new
                if outcome.key != record.key and not outcome.key.startswith(f"{record.key}/"):
                    raise RunStopped(
                        f"the step {step.name} made {outcome.key} of {record.key}: keys have to be the record's own "
                        f"or below it, such as {record.key}/1."
                    )
                if outcome.key in seen:
                    raise RunStopped(f"the step {step.name} gave the key {outcome.key} twice: number its results.")
                seen.add(outcome.key)
                if isinstance(outcome, Record):
                    kept.append(outcome)
                else:
                    refused[outcome.key] = outcome
        failed, entered = spent.failed[step.name], spent.entered[step.name]
        if failed >= FEW and failed > engine.max_failed * entered:
            last = next(one.detail for one in reversed(refused.values()) if one.reason == FAILED)
            raise RunStopped(
                f"the step {step.name} failed for {failed} of {entered} records, the last time with `{last}`: repair "
                "it and run the same command again, which keeps what is finished, or allow more with "
                "engine.max_failed."
            )
    spent.seconds[step.name] += perf_counter() - began
    return replace(
        chunk,
        records=kept,
        rejected=[*chunk.rejected, *refused.values()],
        last_seen=chunk.last_seen | {one.key: one for one in records if one.key in refused and one.is_pair},
        passed=chunk.passed | {step.name: (len(records), len(kept))},
    )


def finish(chunk: Chunk) -> Chunk:
    """A chunk without what cannot be trained on."""
    kept, out = [], list(chunk.rejected)
    for record in chunk.records:
        if not record.is_pair:
            out.append(Rejected(record.key, ENDING, "is no pair", "no step made a target picture of it"))
            continue
        try:
            record.check()
            kept.append(record)
        except ValueError as error:
            out.append(Rejected(record.key, ENDING, "cannot be trained on", str(error)))
    return replace(chunk, records=kept, rejected=out)


def _ask(
    step: Step, batch: Sequence[Record], context: Context, engine: EngineConfig, spent: StepCounts
) -> list[list[Outcome]]:
    """The step's answer; after so many failures each record alone, then a rejection."""
    error: Exception | None = None
    for attempt in range(engine.retries + 1):
        if attempt:
            spent.retried[step.name] += 1
            sleep(engine.backoff * 2 ** (attempt - 1))
        try:
            found = step(batch, context)
            if len(found) != len(batch):
                raise ValueError(f"the step gave {len(found)} answers for {len(batch)} records")
            for record, outcomes in zip(batch, found, strict=True):
                if not outcomes:
                    raise ValueError(f"the step gave neither a record nor a reason for {record.key}")
            return found
        except ImportError as problem:  # the next record would meet the same
            lacking = problem.name
            remedy = f"pip install {lacking}, and run the same command again" if lacking else "install it"
            told = f"the step {step.name} cannot import what it needs: {one_line(problem)}; {remedy}."
            raise RunStopped(told) from problem
        except (ChatError, MissingReplyError) as problem:
            raise RunStopped(
                f"the step {step.name} gets no answer: {one_line(problem)}; what is finished is kept, and the same "
                "command goes on from there."
            ) from problem
        except Exception as problem:
            error = problem
            log.debug("the step %s failed", step.name, exc_info=True)
    assert error is not None, "at least one attempt was made"
    if len(batch) == 1:
        spent.failed[step.name] += 1
        return [[Rejected(batch[0].key, step.name, FAILED, one_line(error))]]
    alone = replace(engine, retries=0)
    return [found for record in batch for found in _ask(step, [record], context, alone, spent)]


def one_line(error: BaseException) -> str:
    """The words of an error, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
