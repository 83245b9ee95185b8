"""Expressive instructions: what a language model says will be seen after the edit, cut and summarised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.backends.base import Question
from data_recipes.expressive.texts import QUESTION, SUMMARY_PROMPT, cut_answer, question
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, Outcome
from data_recipes.steps.asking import Answer, UnusableError, check_attempts, read_text
from data_recipes.steps.each import Asking, ask_each

NOTE = "description"
KIND = "expressive"


@dataclass(frozen=True)
class Describe(DataclassStep):
    """Asks what the source will look like after the edit, and keeps the first two sentences of the answer.

    Attributes:
        attempts: how often is asked until a sentence is left; published: once.
    """

    attempts: int = 2

    name = "describe"
    needs = ("chat",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"describe_edit": QUESTION}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with the note `description`; refused: no pair with a source and words, no sentence left."""
        outcomes: list[Outcome] = [
            record
            if record.source is not None and record.target is not None and record.wordings
            else Rejected(record.key, self.name, "is no pair with a source and an instruction")
            for record in records
        ]
        chat = context.backend("chat")
        return [[one] for one in ask_each(chat, outcomes, self._asking, self._with, self.attempts)]

    def _asking(self, record: Record) -> Asking[str]:
        assert record.source is not None, "refused before"
        instruction = record.wordings[0]
        about = {"instruction": instruction}
        asked = Question(question(instruction), (record.source,), "describe_edit", about, record.truth)
        return asked, _read_description

    def _with(self, record: Record, answer: Answer[str]) -> Outcome:
        if answer.value is None:
            return Rejected(record.key, self.name, "no sentence is left of the answer", answer.fault)
        return record.but(notes={**record.notes, NOTE: answer.value})


@dataclass(frozen=True)
class Summarise(DataclassStep):
    """Shortens the description to the expressive instruction.

    Attributes:
        attempts: how often is asked until something is written; published: once.
    """

    attempts: int = 2

    name = "summarise"
    needs = ("summariser",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"summarise": SUMMARY_PROMPT}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with an expressive instruction; refused: no description, nothing was written."""
        outcomes: list[Outcome] = [
            record if NOTE in record.notes else Rejected(record.key, self.name, "has no description")
            for record in records
        ]
        summariser = context.backend("summariser")
        return [[one] for one in ask_each(summariser, outcomes, self._asking, self._with, self.attempts)]

    def _asking(self, record: Record) -> Asking[str]:
        text = str(record.notes[NOTE])
        prompt = SUMMARY_PROMPT.format(text=text)
        return Question(prompt, (), "summarise", {"text": text}, record.truth), read_text

    def _with(self, record: Record, answer: Answer[str]) -> Outcome:
        if answer.value is None:
            return Rejected(record.key, self.name, "the summariser wrote nothing", answer.fault)
        return record.but(instructions={**record.instructions, KIND: (answer.value,)})


def _read_description(text: str) -> str:
    kept = cut_answer(text)
    if not kept:
        raise UnusableError("the answer holds no sentence")
    return kept


__all__ = ["Describe", "Summarise"]
