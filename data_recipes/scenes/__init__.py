"""The exact scenes of `insightedit.scenes`, written as an editing data set: `python -m data_recipes.scenes`.

They are a recipe, too (`source.kind: scene_pairs`), with the outputs of every other recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import TASKS, Record
from data_recipes.runner.steps import Context, EachRecord, Outcome, Step, some_of

ABOUT = "Rendered scenes with exact edits, masks and wordings, as they come."


@dataclass(frozen=True)
class Finished(EachRecord):
    """Lets pairs pass that need no more work."""

    tasks: Sequence[str] = some_of(TASKS)  # that pass

    name = "finished"

    def one(self, record: Record, context: Context) -> Outcome:
        """Refused: is no pair, task is not wanted."""
        try:
            record.check()
        except ValueError as error:
            return self.reject(record, "is no pair", str(error))
        is_wanted = record.task in self.tasks
        return record if is_wanted else self.reject(record, "task is not wanted", record.task)


def steps(settings: Settings) -> list[Step]:
    """One step, which lets pairs pass."""
    return configured_steps(settings, Finished)
