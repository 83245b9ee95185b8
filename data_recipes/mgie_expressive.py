"""MGIE's expressive instructions for an editing data set: pairs in, the same pairs with one more wording out.

| the paper and its notebook | here |
| --- | --- |
| a frozen LLaVA is asked what the picture will look like, greedily | `describe`, by the backend `chat` |
| two sentences are kept, and nothing from "alternative" on | the same |
| a flan-t5 summariser, five beams, 5 to 64 tokens | `summarise`, by the backend `summariser` of the kind `seq2seq` |

`python -m data_recipes.expressive` does the same two steps and writes JSON lines beside a data set; this recipe writes
shards with the pictures, resumes within them, and takes endpoints or any language model for both questions.

Source: MGIE, section 3.1 and its released data notebook; the wordings are our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data_recipes.backends.base import Question
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, Outcome, Step, attempts
from data_recipes.steps.asking import Asking, AskingStep, Round, UnusableError, read_text
from data_recipes.steps.quality import Quality

ABOUT = "Pairs with one more wording each: what will be seen after the edit, summarised (MGIE)."

QUESTION = "What will the picture look like after this edit: {instruction} (in a short paragraph)"
SUMMARY_PROMPT = "Summarise the following paragraph in 32 words:\n\n{text}"
SENTENCES = 2
NO_SENTENCE = "no sentence is left of the answer"
NOTE = "description"
KIND = "expressive"


def cut_answer(answer: str) -> str:
    """The first two sentences, and nothing from the word "alternative" on, where another edit would begin.

    One line that ends like a sentence; empty where nothing is left.
    """
    before = re.split("alternative", " ".join(answer.split()), maxsplit=1, flags=re.IGNORECASE)[0]
    kept = " ".join(re.split(r"(?<=[.!?])\s+", before.strip())[:SENTENCES]).rstrip(" ,;:-")
    if not re.search(r"\w", kept):
        return ""
    return kept if kept[-1] in ".!?" else f"{kept}."


@dataclass(frozen=True)
class Describe(AskingStep):
    """Asks what the source will look like after the edit, and notes the first two sentences as `description`.

    Refused: no pair with a source and words, no sentence left.
    """

    attempts: int = attempts(2)  # until a sentence is left; published: once

    name = "describe"
    prompts: ClassVar[Mapping[str, str]] = {"describe_edit": QUESTION}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        is_edit = record.source is not None and record.target is not None and record.wordings
        return record if is_edit else self.reject(record, "is no pair with a source and an instruction")

    def _rounds(self) -> Sequence[Round]:
        def asking(record: Record) -> Asking[str]:
            assert record.source is not None, "refused before"
            instruction = record.wordings[0]
            prompt = QUESTION.format(instruction=" ".join(instruction.split()))
            about = {"instruction": instruction}
            return Question(prompt, (record.source,), "describe_edit", about, record.truth), read

        def read(text: str) -> str:
            if not (kept := cut_answer(text)):
                raise UnusableError("the answer holds no sentence")
            return kept

        def use(record: Record, text: str) -> Record:
            return record.but(notes={**record.notes, NOTE: text})

        return [(asking, use, NO_SENTENCE)]


@dataclass(frozen=True)
class Summarise(AskingStep):
    """Shortens the description to the expressive instruction; refused: no description, nothing was written."""

    attempts: int = attempts(2)  # until something is written; published: once

    name = "summarise"
    needs = ("summariser",)
    prompts: ClassVar[Mapping[str, str]] = {"summarise": SUMMARY_PROMPT}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        return record if NOTE in record.notes else self.reject(record, "has no description")

    def _rounds(self) -> Sequence[Round]:
        def asking(record: Record) -> Asking[str]:
            text = str(record.notes[NOTE])
            return Question(SUMMARY_PROMPT.format(text=text), (), "summarise", {"text": text}, record.truth), read_text

        def use(record: Record, text: str) -> Record:
            return record.but(instructions={**record.instructions, KIND: (text,)})

        return [(asking, use, "the summariser wrote nothing")]


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(settings, Describe, Summarise, Quality, optional=[Quality])


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("mgie_expressive")
