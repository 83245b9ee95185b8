"""Records through steps: batches, retries, and the refusal of whatever would lose or double a record."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step
from insightedit.chat.clients import ChatError, MissingReplyError

FAILED = "failed"  # the reason of records that a step has no answer for
FEW = 8  # failures that may be the records' fault
ENDING = "output"  # step under which records are refused that no step refused
UNHELPFUL = (ChatError, MissingReplyError, ImportError)  # the next record would meet the same

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
    firsts = range(start, end, size)
    return [Unit(number, first, min(size, end - first)) for number, first in enumerate(firsts)]


@dataclass
class Chunk:
    """A few inputs of a unit and what has become of them so far.

    Attributes:
        keys: of the inputs.
        records: that are still in, in order.
        rejected: that are out, in order of steps.
        last_seen: pairs that a step refused, by key, as they were before it; for contact sheets.
        passed: step -> numbers of records that came in and went out.
    """

    keys: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    last_seen: dict[str, Record] = field(default_factory=dict)
    passed: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class StepCounts:
    """What was spent, for the log; no part of the result.

    Attributes:
        seconds: by step.
        entered: records that came in, by step.
        failed: records without an answer, by step.
        retried: calls that were repeated, by step.
    """

    seconds: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class RetryPolicy:
    """How failures are met; see `EngineConfig`."""

    batch_size: int = 8
    retries: int = 2
    backoff: float = 1.0
    max_failed: float = 0.5
    sleep: Callable[[float], Any] = time.sleep


def advance(chunk: Chunk, step: Step, context: Context, retry: RetryPolicy, spent: StepCounts) -> Chunk:
    """A chunk after one more step.

    Raises:
        RunStopped: if a model gives no answer at all, most records fail, or the step breaks the rules of keys.
    """
    began = time.perf_counter()
    outcomes: list[list[Outcome]] = []
    records = chunk.records
    for first in range(0, len(records), retry.batch_size):
        batch = records[first : first + retry.batch_size]
        spent.entered[step.name] += len(batch)
        outcomes += _ask(step, batch, context, retry, spent)
        _stop_if_most_fail(step, outcomes, retry, spent)
    spent.seconds[step.name] += time.perf_counter() - began
    _check_keys(step, records, outcomes)
    flat = [outcome for found in outcomes for outcome in found]
    kept = [outcome for outcome in flat if isinstance(outcome, Record)]
    out = [outcome for outcome in flat if isinstance(outcome, Rejected)]
    refused = {outcome.key for outcome in out}
    seen = {record.key: record for record in records if record.key in refused and record.is_pair}
    return replace(
        chunk,
        records=kept,
        rejected=[*chunk.rejected, *out],
        last_seen=chunk.last_seen | seen,
        passed=chunk.passed | {step.name: (len(records), len(kept))},
    )


def finish(chunk: Chunk) -> Chunk:
    """A chunk without what cannot be trained on."""
    kept, out = [], []
    for record in chunk.records:
        refusal = _refusal(record)
        if refusal is None:
            kept.append(record)
        else:
            out.append(refusal)
    return replace(chunk, records=kept, rejected=[*chunk.rejected, *out])


def _refusal(record: Record) -> Rejected | None:
    if not record.is_pair:
        return Rejected(record.key, ENDING, "is no pair", "no step made a target picture of it")
    try:
        record.check()
    except ValueError as error:
        return Rejected(record.key, ENDING, "cannot be trained on", str(error))
    return None


def _ask(
    step: Step, batch: Sequence[Record], context: Context, retry: RetryPolicy, spent: StepCounts
) -> list[list[Outcome]]:
    """The step's answer; after so many failures each record alone, then a rejection."""
    error: Exception | None = None
    for attempt in range(retry.retries + 1):
        if attempt:
            spent.retried[step.name] += 1
            retry.sleep(retry.backoff * 2 ** (attempt - 1))
        try:
            return _call(step, batch, context)
        except UNHELPFUL as problem:
            raise RunStopped(_unanswered(step, problem)) from problem
        except Exception as problem:
            error = problem
            log.debug("the step %s failed", step.name, exc_info=True)
    assert error is not None, "at least one attempt was made"
    if len(batch) == 1:
        spent.failed[step.name] += 1
        return [[Rejected(batch[0].key, step.name, FAILED, one_line(error))]]
    alone = replace(retry, retries=0)
    return [found for record in batch for found in _ask(step, [record], context, alone, spent)]


def _call(step: Step, batch: Sequence[Record], context: Context) -> list[list[Outcome]]:
    found = step(batch, context)
    if len(found) != len(batch):
        raise ValueError(f"the step gave {len(found)} answers for {len(batch)} records")
    for record, outcomes in zip(batch, found, strict=True):
        if not outcomes:
            raise ValueError(f"the step gave neither a record nor a reason for {record.key}")
    return found


def _unanswered(step: Step, problem: Exception) -> str:
    if isinstance(problem, ImportError):
        lacking = getattr(problem, "name", None)
        remedy = f"pip install {lacking}, and run the same command again" if lacking else "install it"
        return f"the step {step.name} cannot import what it needs: {one_line(problem)}; {remedy}."
    return (
        f"the step {step.name} gets no answer: {one_line(problem)}; what is finished is kept, and the same command "
        "goes on from there."
    )


def _stop_if_most_fail(
    step: Step, outcomes: Sequence[Sequence[Outcome]], retry: RetryPolicy, spent: StepCounts
) -> None:
    failed, entered = spent.failed[step.name], spent.entered[step.name]
    if failed >= FEW and failed > retry.max_failed * entered:
        last = next(
            outcome.detail
            for found in reversed(outcomes)
            for outcome in found
            if isinstance(outcome, Rejected) and outcome.reason == FAILED
        )
        raise RunStopped(
            f"the step {step.name} failed for {failed} of {entered} records, the last time with `{last}`: repair it "
            "and run the same command again, which keeps what is finished, or allow more with engine.max_failed."
        )


def _check_keys(step: Step, records: Sequence[Record], outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Keys are how nothing is lost or doubled: each result's has to be its record's own or below it, and new."""
    seen: set[str] = set()
    for record, found in zip(records, outcomes, strict=True):
        for outcome in found:
            if outcome.key != record.key and not outcome.key.startswith(f"{record.key}/"):
                raise RunStopped(
                    f"the step {step.name} made {outcome.key} of {record.key}: keys have to be the record's own or "
                    f"below it, such as {record.key}/1."
                )
            if outcome.key in seen:
                raise RunStopped(f"the step {step.name} gave the key {outcome.key} twice: number its results.")
            seen.add(outcome.key)


def one_line(error: BaseException) -> str:
    """The words of an error, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
