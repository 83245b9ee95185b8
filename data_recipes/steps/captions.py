"""AdvancedEdit's first step: what the photo shows, and which objects are in it, in a few words and at length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pydantic import Field

from data_recipes.backends.base import Question
from data_recipes.runner.records import ObjectAnnotation, Record
from data_recipes.runner.steps import Context, Outcome, at_least, attempts
from data_recipes.steps.asking import Asking, AskingStep, Form, Round, read_form, read_text

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
class Captions(AskingStep):
    """Caption and objects of a photo; refused: no photo, no usable caption or list, nothing named."""

    attempts: int = attempts()  # how often a question is asked until its answer is usable; ours
    max_things: int = at_least(8)  # objects at most, the first ones that are named; ours

    name = "captions"
    prompts: ClassVar[Mapping[str, str]] = {"caption": CAPTION_PROMPT, "objects": OBJECTS_PROMPT}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        is_photo = record.image is not None
        return record if is_photo else self.reject(record, "has no photo", "the source gave a pair")

    def _rounds(self) -> Sequence[Round]:
        def asking(record: Record) -> Asking[ObjectList]:
            prompt = OBJECTS_PROMPT.format(caption=record.caption, max_things=self.max_things)
            question = Question(prompt, (record.photo,), "objects", {"caption": record.caption}, record.truth)
            return question, partial(read_form, form=ObjectList)

        def use(record: Record, listed: ObjectList) -> Outcome:
            things: dict[str, ObjectAnnotation] = {}
            for one in listed.object_list:  # the first of each caption: what has the same words cannot be told apart
                name, caption = (words.replace("_", " ") for words in (one.category, one.obj_simple_caption))
                things.setdefault(caption.lower(), ObjectAnnotation(name, caption, one.obj_detailed_caption))
            if not things:
                return self.reject(record, "no objects named")
            return record.but(things=tuple(things.values())[: self.max_things])

        return caption_round(), (asking, use, "no usable object list")


def ask_caption(record: Record) -> Asking[str]:
    """The question for the caption of a photo."""
    return Question(CAPTION_PROMPT, (record.photo,), "caption", truth=record.truth), read_text


def caption_round(asking: Callable[[Record], Asking[str] | None] = ask_caption) -> Round:
    """The round that gives photos their captions."""
    return asking, lambda record, caption: record.but(caption=caption), "no usable caption"
