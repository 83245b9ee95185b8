"""Subject-driven generation: "<imagehere> on a beach", from photos and their captions.

| the paper | here |
| --- | --- |
| captions | of the photo by a language model, where the source gives none |
| entities from captions by an LLM (as KOSMOS-G and UNIMO-G) | `entities`: in exactly the caption's words |
| segmented by Grounded SAM | `masks` |
| the caption with pictures in the entities' places | `compose`; there is no source, the photo is the target |
| Subjects200K is used beside it | pairs with references in their instructions pass untouched |

References are the entities on white, each in the middle of a square; the papers cut out alike.

Source: MIGE, section 3.3.1; KOSMOS-G, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from data_recipes.backends.base import Question
from data_recipes.backends.windows import MARGIN, cut_out
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import REFERENCE_PLACEHOLDER, ObjectAnnotation, Record
from data_recipes.runner.steps import Context, EachRecord, Outcome, Step, at_least, attempts, share
from data_recipes.steps.asking import Asking, AskingStep, Form, Round, UnusableError, bare, read_form
from data_recipes.steps.captions import CAPTION_PROMPT, ask_caption, caption_round
from data_recipes.steps.masks import Masks
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import is_finished, mark_words

ABOUT = "Captioned photos to new pictures of the subjects that references show (KOSMOS-G, MIGE)."

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
class Entities(AskingStep):
    """A caption, where the photo has none, and its entities, by a language model that reads the caption only.

    Finished records pass; refused: no picture, no usable caption or list, no entities.
    """

    attempts: int = attempts()  # how often a question is asked until its answer is usable; ours
    max_things: int = at_least(8)  # entities at most, the first ones of the caption; ours

    name = "entities"
    prompts: ClassVar[Mapping[str, str]] = {"caption": CAPTION_PROMPT, "entities": PROMPT}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        is_usable = record.image is not None or is_finished(record)
        return record if is_usable else self.reject(record, "has no photo")

    def _rounds(self) -> Sequence[Round]:
        def ask_missing(record: Record) -> Asking[str] | None:
            return None if record.caption or record.image is None or is_finished(record) else ask_caption(record)

        def asking(record: Record) -> Asking[list[str]] | None:
            def read(text: str) -> list[str]:
                """Entities, each once and in the caption's words."""
                found: dict[str, str] = {}
                for words in read_form(text, EntityList).entities:
                    plain = bare(words)
                    if mark_words(record.caption, plain) == record.caption:
                        raise UnusableError(f"{words!r} is not in the caption")
                    found.setdefault(plain.lower(), plain)
                return list(found.values())

            about = {"caption": record.caption}
            question = Question(PROMPT.format(**about), (), "entities", about, record.truth)
            return None if is_finished(record) else (question, read)

        def use(record: Record, found: list[str]) -> Outcome:
            if not found:
                return self.reject(record, "caption names no entity", record.caption)
            return record.but(things=tuple(ObjectAnnotation(words, words) for words in found[: self.max_things]))

        return caption_round(ask_missing), (asking, use, "no usable list of entities")


@dataclass(frozen=True)
class EntityMasks(Masks):
    """The step `masks`, which finished records pass."""

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """See `Masks`."""
        found = iter(super().__call__([record for record in records if not is_finished(record)], context))
        return [[record] if is_finished(record) else next(found) for record in records]


@dataclass(frozen=True)
class Compose(EachRecord):
    """The caption with `<imagehere>` in the places of its entities, their cut-outs, and the photo as the target."""

    max_references: int = at_least(3)  # of more entities the larger ones are shown, others keep their words; ours
    margin: float = share(MARGIN, most=0.5)  # of white around a reference, as a share of its longer side; ours

    name = "compose"

    def one(self, record: Record, context: Context) -> Outcome:
        """Refused: no masks, the caption names none of what was found."""
        if is_finished(record):
            return record
        known = [thing for thing in record.things if thing.mask is not None]
        if record.image is None or not known:
            return self.reject(record, "has no masks")
        shown = sorted(known, key=lambda thing: -int(thing.pixels.sum()))[: self.max_references]
        text, found = marked_caption(record.caption, [thing.words for thing in shown])
        if not found:
            return self.reject(record, "caption names nothing that was found", record.caption)
        chosen = [shown[number] for number in found]
        return record.but(
            task="subject",
            target=record.image,
            mask=np.logical_or.reduce([thing.pixels for thing in chosen]),
            class_target=", ".join(thing.words for thing in chosen),
            instructions={"template": (text,)},
            references=tuple(cut_out(record.image, thing.pixels, self.margin) for thing in chosen),
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


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(settings, Entities, EntityMasks, Compose, Quality, optional=[Quality])


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("subject_driven")
