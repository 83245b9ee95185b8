"""MGIE's expressive instructions for an editing data set: pairs in, the same pairs with one more wording out.

| the paper and its notebook | here |
| --- | --- |
| a frozen LLaVA is asked what the picture will look like, greedily | `describe`, by the backend `chat` |
| two sentences are kept, and nothing from "alternative" on | the same |
| a flan-t5 summariser, five beams, 5 to 64 tokens | `summarise`, by the backend `summariser` of the kind `seq2seq` |

Texts and rules are those of `python -m data_recipes.expressive`, which writes JSON lines beside a data set; this recipe
writes shards with the pictures, resumes within them, and takes endpoints or any language model for both questions.

Source: MGIE, section 3.1 and its released data notebook; the wordings are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.backends.base import Question
from data_recipes.expressive.texts import QUESTION, SUMMARY_PROMPT, cut_answer, question
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, Outcome, Step, attempts
from data_recipes.steps.asking import Asking, AskingStep, UnusableError, read_text
from data_recipes.steps.quality import Quality

ABOUT = "Pairs with one more wording each: what will be seen after the edit, summarised (MGIE)."

NOTE = "description"
KIND = "expressive"


@dataclass(frozen=True)
class Describe(AskingStep):
    """Asks what the source will look like after the edit, and keeps the first two sentences of the answer.

    Attributes:
        attempts: how often is asked until a sentence is left; published: once.
    """

    attempts: int = attempts(2)

    name = "describe"
    needs = ("chat",)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"describe_edit": QUESTION}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with the note `description`; refused: no pair with a source and words, no sentence left."""
        outcomes: list[Outcome] = [
            record
            if record.source is not None and record.target is not None and record.wordings
            else self.reject(record, "is no pair with a source and an instruction")
            for record in records
        ]
        unusable = "no sentence is left of the answer"
        found = self.ask(context.backend("chat"), outcomes, _ask_description, _with_description, unusable)
        return [[one] for one in found]


@dataclass(frozen=True)
class Summarise(AskingStep):
    """Shortens the description to the expressive instruction.

    Attributes:
        attempts: how often is asked until something is written; published: once.
    """

    attempts: int = attempts(2)

    name = "summarise"
    needs = ("summariser",)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"summarise": SUMMARY_PROMPT}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with an expressive instruction; refused: no description, nothing was written."""
        outcomes: list[Outcome] = [
            record if NOTE in record.notes else self.reject(record, "has no description") for record in records
        ]
        unusable = "the summariser wrote nothing"
        found = self.ask(context.backend("summariser"), outcomes, _ask_summary, _with_summary, unusable)
        return [[one] for one in found]


def _ask_description(record: Record) -> Asking[str]:
    assert record.source is not None, "refused before"
    instruction = record.wordings[0]
    about = {"instruction": instruction}
    asked = Question(question(instruction), (record.source,), "describe_edit", about, record.truth)
    return asked, _read_description


def _with_description(record: Record, text: str) -> Record:
    return record.but(notes={**record.notes, NOTE: text})


def _ask_summary(record: Record) -> Asking[str]:
    text = str(record.notes[NOTE])
    return Question(SUMMARY_PROMPT.format(text=text), (), "summarise", {"text": text}, record.truth), read_text


def _with_summary(record: Record, text: str) -> Record:
    return record.but(instructions={**record.instructions, KIND: (text,)})


def _read_description(text: str) -> str:
    kept = cut_answer(text)
    if not kept:
        raise UnusableError("the answer holds no sentence")
    return kept


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(settings, Describe, Summarise, Quality, optional=[Quality])


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("mgie_expressive")
