"""MIGE's wordings, in which a picture stands in place of words: `add <imagehere> to the picture`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from data_recipes.backends.base import Question
from data_recipes.runner.records import REFERENCE_PLACEHOLDER, Record
from data_recipes.runner.steps import Context, Outcome, at_least, attempts
from data_recipes.steps.asking import Asking, AskingStep, Round, UnusableError, bare, read_instructions

TEMPLATES = {  # ours; the kind "template" of the wordings
    "add": f"add {REFERENCE_PLACEHOLDER} to the picture",
    "replace": f"replace the {{origin}} with {REFERENCE_PLACEHOLDER}",
}
PROMPT = """You see a picture after an edit: {edit}. A user had shown a photo of the {subject} and asked for this edit.

Write {count} different instructions that the user may have given to an image editor, each one sentence of at most \
{max_words} words. In each, {mark} stands exactly once, where the {subject} would be named: the photo takes the place \
of the words, so do not name or describe the {subject} besides. {hint}

Answer with one JSON object and nothing else: {{"instructions": [{slots}]}}"""
EDITS = {"add": "the {subject} was added", "replace": "the {origin} was replaced with the {subject}"}
HINTS = {
    "add": "Say where in the picture it is to be, by what else is seen there.",
    "replace": "Name what is replaced in these words: {origin}.",
}


@dataclass(frozen=True)
class SubjectWording(AskingStep):
    """A template and a model's wordings where the subject is shown; refused: no reference, no usable wording."""

    # wordings that the language model writes; 0 leaves the template alone, and needs no model
    count: int = at_least(2, least=0)
    attempts: int = attempts()  # how often it is asked until the answer is usable; ours
    max_words: int = at_least(40)  # of an instruction; ours

    name = "subject_wording"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The chat, where it writes."""
        return ("chat",) if self.count else ()

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {"subject_instruction": PROMPT} if self.count else {}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        if record.task not in TEMPLATES or len(record.references) != 1 or not record.is_pair:
            return self.reject(record, "has no subject with a reference", record.task)
        text = TEMPLATES[record.task].format(origin=bare(record.class_origin))
        return record.but(instructions={"template": (text,)})

    def _rounds(self) -> Sequence[Round]:
        def use(record: Record, found: tuple[str, ...]) -> Record:
            return record.but(instructions={**record.instructions, "simple": found})

        return [(self._asking, use, "no usable wording")] if self.count else ()

    def _asking(self, record: Record) -> Asking[tuple[str, ...]]:
        words = {"subject": bare(record.class_target), "origin": bare(record.class_origin)}
        prompt = PROMPT.format(
            edit=EDITS[record.task].format(**words),
            hint=HINTS[record.task].format(**words),
            subject=words["subject"],
            count=self.count,
            max_words=self.max_words,
            mark=REFERENCE_PLACEHOLDER,
            slots=", ".join(['"..."'] * self.count),
        )
        assert record.target is not None
        names = ("task", "class_origin", "class_target", "detailed_target")
        about = {**{name: getattr(record, name) for name in names}, "count": self.count}
        question = Question(prompt, (record.target,), "subject_instruction", about, record.truth)
        return question, partial(read_marked, count=self.count, max_words=self.max_words)


def read_marked(text: str, count: int, max_words: int) -> tuple[str, ...]:
    """What `read_instructions` reads, with the mark once in each; refused without."""
    found = read_instructions(text, count, max_words)
    for one in found:
        if one.count(REFERENCE_PLACEHOLDER) != 1:
            raise UnusableError(
                f"an instruction holds {REFERENCE_PLACEHOLDER} {one.count(REFERENCE_PLACEHOLDER)} times, not once"
            )
    return found


def is_finished(record: Record) -> bool:
    """Whether pictures stand in a pair's instructions already, as in try-on data or Subjects200K."""
    marks = {text.count(REFERENCE_PLACEHOLDER) for text in record.wordings}
    return record.is_pair and marks == {len(record.references)} != {0}


def mark_words(text: str, words: str) -> str:
    """A text with the mark in place of words and their article: "a red fox" -> `<imagehere>`; as it was without them.

    Only whole words count, whatever their case, and only the first place.
    """
    pattern = rf"(?<!\w)(?:(?:an?|the)\s+)?{re.escape(bare(words))}(?!\w)"
    return re.sub(pattern, REFERENCE_PLACEHOLDER, text, count=1, flags=re.IGNORECASE)
