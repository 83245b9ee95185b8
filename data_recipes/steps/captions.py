"""AdvancedEdit's first step: what the photo shows, and which objects are in it, in a few words and at length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import Field

from data_recipes.backends.base import Question
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, Outcome
from data_recipes.steps.asking import Form, ask_all, check_attempts, read_form, read_text
from data_recipes.steps.settings import check_at_least

CAPTION_PROMPT = """Describe this picture in one to three sentences: what is in it, what each thing looks like, and \
where it stands. Say only what can be seen. Answer with the description and nothing else."""
OBJECTS_PROMPT = """This is a description of the picture that you see:

{caption}

List up to {max_things} things in the picture that can be touched and that have an outline: people, animals, \
furniture, vehicles, tools, food, plants, clothes. Leave out landscapes, light, moods, views and anything that is \
not in the picture. For each give
- category: its kind, one or two words;
- obj_simple_caption: a few words that mean this thing alone, with its colour or place if there are several of a kind;
- obj_detailed_caption: a phrase of at most 25 words that begins with "a" or "an" and tells what it looks like and \
where it is.

Answer with one JSON object and nothing else:
{{"object_list": [{{"category": "...", "obj_simple_caption": "...", "obj_detailed_caption": "..."}}]}}"""


class ListedObject(Form):
    """One object, in the published keys."""

    category: str = Field(min_length=1, max_length=100)
    obj_simple_caption: str = Field(min_length=1, max_length=200)
    obj_detailed_caption: str = Field(min_length=1, max_length=1000)


class ObjectList(Form):
    """The published file of step 1.2."""

    object_list: list[ListedObject]


@dataclass(frozen=True)
class Captions(DataclassStep):
    """Caption and objects of a photo.

    Attributes:
        attempts: how often a question is asked until its answer is usable; ours.
        max_things: objects at most, the first ones that are named; ours.
    """

    attempts: int = 3
    max_things: int = 8

    name = "captions"
    needs = ("chat",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)
        check_at_least(self.name, "max_things", self.max_things)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"caption": CAPTION_PROMPT, "objects": OBJECTS_PROMPT}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with caption and things; refused: no usable caption or list, nothing named, no picture."""
        chat = context.backend("chat")
        outcomes: list[Outcome | None] = [self._without_picture(record) for record in records]
        numbers = [number for number, outcome in enumerate(outcomes) if outcome is None]
        told = self._captions(chat, [records[number] for number in numbers])
        for number, answer in zip(numbers, told, strict=True):
            if isinstance(answer, Rejected):
                outcomes[number] = answer
        captioned = [one for one in told if isinstance(one, Record)]
        listed = iter(self._objects(chat, captioned))
        return [[next(listed) if outcome is None else outcome] for outcome in outcomes]

    def _without_picture(self, record: Record) -> Rejected | None:
        if record.image is None:
            return Rejected(record.key, self.name, "has no photo", "the source gave a pair")
        return None

    def _captions(self, chat: object, records: Sequence[Record]) -> list[Outcome]:
        questions = [Question(CAPTION_PROMPT, (_photo(record),), "caption", truth=record.truth) for record in records]
        answers = ask_all(chat, questions, [read_text] * len(records), self.attempts)
        return [
            Rejected(record.key, self.name, "no usable caption", answer.fault)
            if answer.value is None
            else record.but(caption=answer.value)
            for record, answer in zip(records, answers, strict=True)
        ]

    def _objects(self, chat: object, records: Sequence[Record]) -> list[Outcome]:
        questions = [
            Question(
                OBJECTS_PROMPT.format(caption=record.caption, max_things=self.max_things),
                (_photo(record),),
                "objects",
                {"caption": record.caption},
                record.truth,
            )
            for record in records
        ]
        readers = [partial(read_form, form=ObjectList)] * len(records)
        answers = ask_all(chat, questions, readers, self.attempts)
        outcomes: list[Outcome] = []
        for record, answer in zip(records, answers, strict=True):
            if answer.value is None:
                outcomes.append(Rejected(record.key, self.name, "no usable object list", answer.fault))
                continue
            things = self._things(answer.value)
            if things:
                outcomes.append(record.but(things=things))
            else:
                outcomes.append(Rejected(record.key, self.name, "no objects named"))
        return outcomes

    def _things(self, listed: ObjectList) -> tuple[ObjectAnnotation, ...]:
        """The first of each simple caption: what has the same words cannot be told apart."""
        things: dict[str, ObjectAnnotation] = {}
        for one in listed.object_list:
            known = ObjectAnnotation(
                one.category.replace("_", " "), one.obj_simple_caption.replace("_", " "), one.obj_detailed_caption
            )
            things.setdefault(known.caption.lower(), known)
        return tuple(things.values())[: self.max_things]


def _photo(record: Record) -> np.ndarray:
    assert record.image is not None, "records without a picture were refused before"
    return record.image


__all__ = ["Captions", "ListedObject", "ObjectList"]
