"""The published optional filter: which objects may be removed, and which may be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome
from data_recipes.steps.asking import Answer, Form, UnusableError, ask_all, check_attempts, read_form
from data_recipes.steps.settings import check_chosen

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
class Editable:
    """Asks a language model what may be edited; `pairs` then leaves the rest alone.

    Attributes:
        tasks: which of "remove" and "replace" are asked about.
        attempts: how often a question is asked until its answer is usable; ours.
    """

    tasks: Sequence[str] = field(default=TASKS)
    attempts: int = 3

    name = "editable"
    needs = ("chat",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)
        check_chosen(self.name, "tasks", self.tasks, TASKS)

    @property
    def settings(self) -> Mapping[str, object]:
        """All fields."""
        return {"tasks": list(self.tasks), "attempts": self.attempts}

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {f"editable_{task}": _fill(task, "{caption}", ["{things}"]) for task in self.tasks}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with notes `may_remove` and `may_replace`; refused: no usable flags, nothing may be edited."""
        chat = context.backend("chat")
        asked = {task: self._flags(chat, task, records) for task in self.tasks}
        return [
            [self._outcome(record, {task: asked[task][number] for task in self.tasks})]
            for number, record in enumerate(records)
        ]

    def _flags(self, chat: object, task: str, records: Sequence[Record]) -> list[Answer[list[int]]]:
        questions, readers = [], []
        for record in records:
            words = [thing.caption or thing.name for thing in record.things]
            prompt = _fill(task, record.caption, words)
            about = {"objects": words, "task": task}
            questions.append(Question(prompt, (), "editable", about, record.truth))
            readers.append(partial(_read_flags, count=len(words)))
        return ask_all(chat, questions, readers, self.attempts)

    def _outcome(self, record: Record, answers: Mapping[str, Answer[list[int]]]) -> Outcome:
        may: dict[str, list[str]] = {}
        for task, answer in answers.items():
            if answer.value is None:
                return Rejected(record.key, self.name, "no usable flags", answer.fault)
            flagged = zip(record.things, answer.value, strict=True)
            may[f"{NOTE}{task}"] = [thing.caption or thing.name for thing, flag in flagged if flag]
        if may and not any(may.values()):
            return Rejected(record.key, self.name, "nothing may be edited", f"{len(record.things)} objects")
        return record.but(notes={**record.notes, **may})


def may(record: Record, task: str) -> tuple[bool, ...]:
    """For each thing of a record whether a task may be done to it: what `Editable` noted, else yes."""
    noted = record.notes.get(f"{NOTE}{task}")
    return tuple(noted is None or (thing.caption or thing.name) in noted for thing in record.things)


def _fill(task: str, caption: str, words: Sequence[str]) -> str:
    listed = "\n".join(f"{number}. {one}" for number, one in enumerate(words, 1))
    return PROMPT.format(caption=caption, done=DONE[task], listed=listed, count=len(words))


def _read_flags(text: str, count: int) -> list[int]:
    flags = read_form(text, Flags).flags
    if len(flags) != count:
        raise UnusableError(f"there are {len(flags)} flags for {count} objects")
    return list(flags)


__all__ = ["Editable", "may"]
