"""AdvancedEdit's fourth step: one edit in many words.

| kind | how | published |
| --- | --- | --- |
| template | `remove the dog` | yes, word for word |
| simple | another template, and a rewording by a language model | synonyms and templates |
| advanced | detailed descriptions in a template, and in a language model's words | yes |
| reasoning | a question about the picture, and what to do with the answer | two for each pair |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome
from data_recipes.steps.asking import Answer, ask_all, bare, check_attempts, read_instructions
from data_recipes.steps.settings import check_at_least, check_chosen

KINDS = ("simple", "advanced", "reasoning")
COUNTS = {"simple": 1, "advanced": 1, "reasoning": 2}
TEMPLATES: dict[str, str] = {  # published
    "remove": "remove the {origin}",
    "add": "add the {target}",
    "replace": "replace the {origin} with the {target}",
}
SIMPLE_TEMPLATES: dict[str, tuple[str, ...]] = {
    "remove": ("delete the {origin}", "take out the {origin}", "get rid of the {origin}", "erase the {origin}"),
    "add": ("put in the {target}", "insert the {target}", "place the {target} in the picture", "draw the {target}"),
    "replace": (
        "swap the {origin} for the {target}",
        "change the {origin} to the {target}",
        "turn the {origin} into the {target}",
        "exchange the {origin} for the {target}",
    ),
}
ADVANCED_TEMPLATES: dict[str, tuple[str, ...]] = {
    "remove": ("take the {origin} out of the picture", "i want the {origin} to be gone"),
    "add": ("show the {target}", "complete the picture with the {target}"),
    "replace": ("put the {target} where the {origin} is", "let the {target} stand in for the {origin}"),
}
_ASKS = """A picture is edited. The edit: {edit}
{details}
{wish}

Answer with one JSON object and nothing else: {{"instructions": [{slots}]}}"""
_WISHES = {
    "simple": "Say the same in one other short sentence, as a user would tell an image editor: use other verbs, but "
    "name the things in exactly these words.",
    "advanced": "Tell an image editor to do this in one sentence of at most 40 words. Do not name the things shortly; "
    "describe them with the details above, so that nobody could mistake them for others in the picture.",
    "reasoning": "Tell an image editor to do this in two ways, each at most 40 words, that it can follow only by "
    "looking and thinking. First: a question about the picture whose answer is the thing or the place, and then what "
    "to do with it. Second: one sentence that points at it by what it is for, what it does or what it stands next to. "
    "Nobody but you knows the names of the things: do not use them where another way to say it exists.",
}
PROMPTS = {
    kind: _ASKS.replace("{wish}", _WISHES[kind]).replace("{slots}", ", ".join(['"..."'] * COUNTS[kind]))
    for kind in KINDS
}


@dataclass(frozen=True)
class Wording:
    """Instructions of all kinds for pairs that remove, add or replace.

    Attributes:
        kinds: which of "simple", "advanced" and "reasoning" are made beside the published template.
        by_chat: whether a language model writes, too; without it there is no reasoning.
        attempts: how often it is asked until the answer is usable; ours.
        max_words: of an instruction; ours.
        on_failure: "keep" goes on with the wordings that there are, "reject" refuses the pair; ours.
    """

    kinds: Sequence[str] = field(default=KINDS)
    by_chat: bool = True
    attempts: int = 3
    max_words: int = 60
    on_failure: str = "keep"

    name = "wording"

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)
        check_chosen(self.name, "kinds", self.kinds, KINDS)
        if self.on_failure not in ("keep", "reject"):
            raise ValueError(f"steps.{self.name}.on_failure is {self.on_failure!r}: choose keep or reject.")
        check_at_least(self.name, "max_words", self.max_words)
        if "reasoning" in self.kinds and not self.by_chat:
            raise ValueError(
                f"steps.{self.name}.kinds has reasoning and by_chat is false: only a language model can write it; "
                "take reasoning out, or set by_chat to true."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The chat, where it writes."""
        return ("chat",) if self.by_chat else ()

    @property
    def settings(self) -> Mapping[str, object]:
        """All fields."""
        return {**vars(self), "kinds": list(self.kinds)}

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {kind: PROMPTS[kind] for kind in self.kinds} if self.by_chat else {}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with instructions; refused: no wording for the task, no usable wording."""
        outcomes: list[Outcome] = []
        for record in records:
            known = record.task in TEMPLATES and record.is_pair
            outcomes.append(
                record.but(instructions=self._templates(record, context))
                if known
                else Rejected(record.key, self.name, "no wording for the task", record.task or "no pair")
            )
        if self.by_chat:
            for kind in self.kinds:
                outcomes = self._reworded(kind, outcomes, context)
        return [[outcome] for outcome in outcomes]

    def _templates(self, record: Record, context: Context) -> dict[str, tuple[str, ...]]:
        rng = context.rng(record)
        short = {"origin": bare(record.class_origin), "target": bare(record.class_target)}
        words = {"template": (TEMPLATES[record.task].format(**short),)}
        if "simple" in self.kinds:
            words["simple"] = (_drawn(SIMPLE_TEMPLATES[record.task], rng).format(**short),)
        if "advanced" in self.kinds:
            detailed = {"origin": _detail(record, "origin"), "target": _detail(record, "target")}
            words["advanced"] = (_drawn(ADVANCED_TEMPLATES[record.task], rng).format(**detailed),)
        return words

    def _reworded(self, kind: str, outcomes: Sequence[Outcome], context: Context) -> list[Outcome]:
        """Outcomes with one more kind of wording, by the language model."""
        records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        questions = [_question(kind, record) for record in records]
        readers = [self._reader(kind, record) for record in records]
        answers = iter(ask_all(context.backend("chat"), questions, readers, self.attempts))
        return [
            self._with(kind, outcome, next(answers)) if isinstance(outcome, Record) else outcome
            for outcome in outcomes
        ]

    def _reader(self, kind: str, record: Record) -> partial[tuple[str, ...]]:
        names = [words for words in (record.class_origin, record.class_target) if words]
        return partial(
            read_instructions, count=COUNTS[kind], max_words=self.max_words, keep=names if kind == "simple" else ()
        )

    def _with(self, kind: str, record: Record, answer: Answer[tuple[str, ...]]) -> Outcome:
        if answer.value is None:
            if self.on_failure == "reject":
                return Rejected(record.key, self.name, f"no usable {kind} wording", answer.fault)
            missing = [*record.notes.get("wordings_missing", ()), kind]
            return record.but(notes={**record.notes, "wordings_missing": missing})
        before = record.instructions.get(kind, ())
        found = tuple(dict.fromkeys((*before, *answer.value)))
        return record.but(instructions={**record.instructions, kind: found})


def _question(kind: str, record: Record) -> Question:
    about = {
        "task": record.task,
        "class_origin": record.class_origin,
        "class_target": record.class_target,
        "detailed_origin": record.detailed_origin,
        "detailed_target": record.detailed_target,
    }
    told = {"edited": record.detailed_origin, "new": record.detailed_target}
    details = "\n".join(f"What is {name}: {words}" for name, words in told.items() if words)
    edit = record.instructions["template"][0]
    prompt = PROMPTS[kind].format(edit=edit, details=details)
    pictures = (record.source,) if kind == "reasoning" and record.source is not None else ()
    return Question(prompt, pictures, kind, about, record.truth)


def _detail(record: Record, which: str) -> str:
    """A detailed caption as it stands in a sentence; the simple one where there is none."""
    words = getattr(record, f"detailed_{which}") or getattr(record, f"class_{which}")
    return bare(words.rstrip("."))


def _drawn(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


__all__ = ["ADVANCED_TEMPLATES", "PROMPTS", "SIMPLE_TEMPLATES", "TEMPLATES", "Wording"]
