"""Pairs that need no more work pass; what is no pair, or of a task that is not wanted, is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_recipes.runner.records import TASKS, Record
from data_recipes.runner.steps import Context, EachRecord, Outcome, some_of


@dataclass(frozen=True)
class Finished(EachRecord):
    """Lets finished pairs pass."""

    tasks: Sequence[str] = some_of(TASKS)  # that pass

    name = "finished"

    def one(self, record: Record, context: Context) -> Outcome:
        """Refused: is no pair, task is not wanted."""
        try:
            record.check()
        except ValueError as error:
            return self.reject(record, "is no pair", str(error))
        if record.task not in self.tasks:
            return self.reject(record, "task is not wanted", record.task)
        return record
