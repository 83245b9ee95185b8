"""A world where everything is known: named sprites on photographs, and every edit of them rendered exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from insightedit.images.tones import OPERATIONS
from insightedit.scenes.assets import Assets
from insightedit.scenes.draws import is_held_out_combination
from insightedit.scenes.render import Subject, is_held_out_subject
from insightedit.scenes.sampler import EditSample, SceneSampler, SegmentationSample
from insightedit.scenes.scene import CATEGORIES, COLOURS, SLOTS, TASKS, Edit, Scene, apply_edit
from insightedit.scenes.subjects import SubjectEditSampler, SubjectSample, SubjectSampler, subject_corpus
from insightedit.scenes.wordings import BOOK, PICTURE_TEMPLATES, TEMPLATES, plural, sayings, tone_words, unknown_things

WORD_LISTS = (  # of the book, told in every split
    "lists", "places", "aliases", "sizes", "size_lists", "references", "sides", "neighbours", "levels", "adjectives",
)  # fmt: skip
CLASSES: tuple[str, ...] = Assets.embedded().classes


def known_words() -> list[str]:
    """Every word of the training split's instructions, sorted."""
    groups = (*TEMPLATES.values(), *PICTURE_TEMPLATES.values())
    told = [template.text for group in groups for template in group if template.split == "train"]
    told += [*COLOURS, "in the mirror", "in front of the mirror", *unknown_things()]
    told += _texts([BOOK[part] for part in WORD_LISTS])
    told += [text for part in ("beginnings", "ends", "intros") for text in BOOK[part]["simple"]]
    told += _texts([BOOK["outside"]["texts"], BOOK["outside"]["oddcolours"]])
    told += [*_texts([BOOK["tones"]["degrees"], BOOK["tones"]["nouns"]]), "up", "down"]
    for words in map(tone_words, OPERATIONS):
        told += [text for kind in ("look", "deed", "complaint", "noun") for text in words.get(kind, ())]
    told += [text for texts in sayings().values() for text in texts]
    for sprite in Assets.embedded().sprites.values():
        told += [sprite.name, plural(sprite.name), sprite.fact, sprite.group, "an"]
    words = re.sub(r"\{\w+\}|\$\w+|<\w+>|[^\w' ]", " ", " ".join(told)).split()
    return sorted({word.strip("'") for word in words} - {""})


def _texts(book: Any) -> list[str]:
    """All texts of a part of the book."""
    if isinstance(book, str):
        return [book]
    parts = book.values() if isinstance(book, dict) else book
    return [text for part in parts for text in _texts(part)]


def text_corpus(count: int, seed: int = 0) -> Iterator[str]:
    """Sentences of every kind that `count` scenes are told in, about ten each, for training tokenizers."""
    sampler = SceneSampler(split="train", size=32, seed=seed, declines=0.2)
    for index in range(count):
        sample = sampler[index]
        yield from (sample.instruction, sample.expressive_instruction, sample.caption_source, sample.caption_target)
        yield from (f"{question} {answer}" for question, answer in sample.qa())


__all__ = [
    "CATEGORIES", "CLASSES", "COLOURS", "SLOTS", "TASKS", "Assets", "Edit", "EditSample", "Scene",
    "SceneSampler", "SegmentationSample", "Subject", "SubjectEditSampler", "SubjectSample", "SubjectSampler",
    "apply_edit", "is_held_out_combination", "is_held_out_subject", "known_words",
    "subject_corpus", "text_corpus",
]  # fmt: skip
