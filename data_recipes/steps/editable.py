"""The published optional filter: which objects may be removed, and which may be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Outcome, attempts, some_of
from data_recipes.steps.asking import Asking, AskingStep, Form, Round, UnusableError, read_form

TASKS = ("remove", "replace")
NOTE = "may_"  # notes: may_remove, may_replace: captions of the things
PROMPT = """A picture shows: {caption}

These things in it are to be {done} by an image editor, one at a time:
{listed}

For each, in this order, answer 1 if that makes sense and 0 if not. It makes sense for concrete things with an outline \
of their own. It makes none for landscapes and backgrounds, parts of a body, clothes that someone wears, abstract \
words and words about the view ("wide-angle view").

Answer with one JSON object and nothing else: {{"flags": [1, 0, ...]}} with {count} numbers."""
DONE = {"remove": "removed", "replace": "replaced by something else"}


class Flags(Form):
    """`{"flags": [1, 0]}`."""

    flags: list[Literal[0, 1]]


@dataclass(frozen=True)
class Editable(AskingStep):
    """Notes `may_remove` and `may_replace`; `pairs` then leaves the rest alone. Refused: no usable flags, no thing."""

    tasks: Sequence[str] = some_of(TASKS)  # which of "remove" and "replace" are asked about
    attempts: int = attempts()  # how often a question is asked until its answer is usable; ours

    name = "editable"

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {f"editable_{task}": _fill(task, "{caption}", ["{things}"]) for task in self.tasks}

    def _rounds(self) -> Sequence[Round]:
        return [
            (partial(_asking, task=task), partial(self._with_flags, task=task), "no usable flags")
            for task in self.tasks
        ]

    def _with_flags(self, record: Record, flags: list[int], task: str) -> Outcome:
        kept = [thing.words for thing, flag in zip(record.things, flags, strict=True) if flag]
        record = record.but(notes={**record.notes, NOTE + task: kept})
        if task == self.tasks[-1] and not any(record.notes[NOTE + one] for one in self.tasks):
            return self.reject(record, "nothing may be edited", f"{len(record.things)} objects")
        return record


def _asking(record: Record, task: str) -> Asking[list[int]]:
    words = [thing.words for thing in record.things]
    about = {"objects": words, "task": task}

    def read(text: str) -> list[int]:
        flags = read_form(text, Flags).flags
        if len(flags) != len(words):
            raise UnusableError(f"there are {len(flags)} flags for {len(words)} objects")
        return list(flags)

    return Question(_fill(task, record.caption, words), (), "editable", about, record.truth), read


def may(record: Record, task: str) -> tuple[bool, ...]:
    """For each thing of a record whether a task may be done to it: what `Editable` noted, else yes."""
    noted = record.notes.get(f"{NOTE}{task}")
    return tuple(noted is None or thing.words in noted for thing in record.things)


def _fill(task: str, caption: str, words: Sequence[str]) -> str:
    listed = "\n".join(f"{number}. {one}" for number, one in enumerate(words, 1))
    return PROMPT.format(caption=caption, done=DONE[task], listed=listed, count=len(words))
