"""One question about each record of a batch, asked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Outcome
from data_recipes.steps.asking import Answer, ask_all

T = TypeVar("T")
Asking = tuple[Question, Callable[[str], T]]


def ask_each(
    chat: Any,
    outcomes: Sequence[Outcome],
    asking: Callable[[Record], Asking[T] | None],
    use: Callable[[Record, Answer[T]], Outcome],
    attempts: int,
) -> list[Outcome]:
    """What becomes of records by their answers; what is refused already, or is not asked about, stays as it is.

    Args:
        chat: a `backends.base.Chat`.
        outcomes: B, records or refused.
        asking: a record's question and what reads the answer; None if there is none to be asked.
        use: what becomes of a record by its answer.
        attempts: how often each question is asked at most.

    Returns:
        B outcomes.
    """
    asked = [asking(outcome) if isinstance(outcome, Record) else None for outcome in outcomes]
    jobs = [job for job in asked if job is not None]
    answers = iter(ask_all(chat, [job[0] for job in jobs], [job[1] for job in jobs], attempts))
    return [
        use(outcome, next(answers)) if job is not None and isinstance(outcome, Record) else outcome
        for outcome, job in zip(outcomes, asked, strict=True)
    ]


__all__ = ["Asking", "ask_each"]
