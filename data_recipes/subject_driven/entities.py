"""Subject-driven generation: entities of a caption, cut out, and the caption with pictures in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import Field

from data_recipes.backends.base import Question
from data_recipes.runner.records import REFERENCE_PLACEHOLDER, ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, EachRecord, Outcome
from data_recipes.steps.asking import Answer, Form, UnusableError, bare, check_attempts, read_form, read_text
from data_recipes.steps.captions import CAPTION_PROMPT
from data_recipes.steps.cutouts import MARGIN, cut_out
from data_recipes.steps.each import Asking, ask_each
from data_recipes.steps.settings import check_at_least, check_share
from data_recipes.steps.subjects import mark_words

PROMPT = """This is the caption of a picture:

{caption}

List the entities in it: concrete things that can be seen and that have an outline, such as people, animals, vehicles, \
furniture, tools and food. Give each in exactly the words of the caption, without its article. Leave out landscapes, \
backgrounds, parts of things that you list, and abstract words.

Answer with one JSON object and nothing else: {{"entities": ["...", "..."]}}"""


class EntityList(Form):
    """`{"entities": ["red dog"]}`."""

    entities: list[str] = Field(max_length=100)


@dataclass(frozen=True)
class Entities(DataclassStep):
    """A caption, where the photo has none, and its entities, by a language model that reads the caption only.

    Attributes:
        attempts: how often a question is asked until its answer is usable; ours.
        max_things: entities at most, the first ones of the caption; ours.
    """

    attempts: int = 3
    max_things: int = 8

    name = "entities"
    needs = ("chat",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)
        check_at_least(self.name, "max_things", self.max_things)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"caption": CAPTION_PROMPT, "entities": PROMPT}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with a caption and things; finished ones pass; refused: no picture, no caption, no entities."""
        chat = context.backend("chat")
        outcomes: list[Outcome] = [
            record
            if record.image is not None or is_finished(record)
            else Rejected(record.key, self.name, "has no photo")
            for record in records
        ]
        outcomes = ask_each(chat, outcomes, self._captioning, self._with_caption, self.attempts)
        outcomes = ask_each(chat, outcomes, self._listing, self._with_entities, self.attempts)
        return [[outcome] for outcome in outcomes]

    def _captioning(self, record: Record) -> Asking[str] | None:
        if record.caption or record.image is None or is_finished(record):
            return None
        return Question(CAPTION_PROMPT, (record.image,), "caption", truth=record.truth), read_text

    def _with_caption(self, record: Record, answer: Answer[str]) -> Outcome:
        if answer.value is None:
            return Rejected(record.key, self.name, "no usable caption", answer.fault)
        return record.but(caption=answer.value)

    def _listing(self, record: Record) -> Asking[list[str]] | None:
        if is_finished(record):
            return None
        prompt = PROMPT.format(caption=record.caption)
        question = Question(prompt, (), "entities", {"caption": record.caption}, record.truth)
        return question, partial(_read_entities, caption=record.caption)

    def _with_entities(self, record: Record, answer: Answer[list[str]]) -> Outcome:
        if answer.value is None:
            return Rejected(record.key, self.name, "no usable list of entities", answer.fault)
        if not answer.value:
            return Rejected(record.key, self.name, "caption names no entity", record.caption)
        things = tuple(ObjectAnnotation(words, words) for words in answer.value[: self.max_things])
        return record.but(things=things)


@dataclass(frozen=True)
class Compose(EachRecord):
    """The caption with `<imagehere>` in the places of its entities, their cut-outs, and the photo as the target.

    Attributes:
        max_references: pictures at most; of more entities the larger ones are shown, the others keep their words; ours.
        margin: of white around a reference, as a share of its longer side; ours.
    """

    max_references: int = 3
    margin: float = MARGIN

    name = "compose"

    def __post_init__(self) -> None:
        check_at_least(self.name, "max_references", self.max_references)
        check_share(self.name, "margin", self.margin, most=0.5)

    def one(self, record: Record, context: Context) -> Outcome:
        """Refused: no masks, the caption names none of what was found."""
        if is_finished(record):
            return record
        known = [thing for thing in record.things if thing.mask is not None]
        if record.image is None or not known:
            return self.reject(record, "has no masks")
        shown = sorted(known, key=lambda thing: -int(_mask(thing).sum()))[: self.max_references]
        text, found = marked_caption(record.caption, [thing.caption or thing.name for thing in shown])
        if not found:
            return self.reject(record, "caption names nothing that was found", record.caption)
        chosen = [shown[number] for number in found]
        return record.but(
            task="subject",
            target=record.image,
            mask=np.logical_or.reduce([_mask(thing) for thing in chosen]),
            class_target=", ".join(thing.caption or thing.name for thing in chosen),
            instructions={"template": (text,)},
            references=tuple(cut_out(record.image, _mask(thing), self.margin) for thing in chosen),
        )


def marked_caption(caption: str, entities: Sequence[str]) -> tuple[str, list[int]]:
    """A caption with `<imagehere>` in place of entities, and the numbers of these in the order of the marks.

    Longer ones go first, so that "dog" is not taken for a part of "red dog"; those that the caption lacks are left out.
    """
    text = caption
    slots = {}
    for number in sorted(range(len(entities)), key=lambda n: (-len(bare(entities[n])), n)):
        slot = f"\0{number}\0"
        marked = mark_words(text, entities[number]).replace(REFERENCE_PLACEHOLDER, slot)
        if marked != text:
            text, slots[slot] = marked, number
    order = sorted(slots, key=text.index)
    for slot in order:
        text = text.replace(slot, REFERENCE_PLACEHOLDER)
    return text, [slots[slot] for slot in order]


def is_finished(record: Record) -> bool:
    """Whether a record needs no more: pictures stand in its instructions (Subjects200K and its like)."""
    marks = [text.count(REFERENCE_PLACEHOLDER) for text in record.wordings]
    return record.is_pair and bool(marks) and set(marks) == {len(record.references)} != {0}


def _read_entities(text: str, caption: str) -> list[str]:
    """Entities, each once and in the caption's words."""
    found: dict[str, str] = {}
    for words in read_form(text, EntityList).entities:
        plain = bare(words)
        if mark_words(caption, plain) == caption:
            raise UnusableError(f"{words!r} is not in the caption")
        found.setdefault(plain.lower(), plain)
    return list(found.values())


def _mask(thing: ObjectAnnotation) -> np.ndarray:
    assert thing.mask is not None, "chosen by their masks"
    return thing.mask


__all__ = ["Compose", "Entities", "is_finished", "marked_caption"]
