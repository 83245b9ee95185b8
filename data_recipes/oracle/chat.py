"""Answers what recipes ask language models, from the scene behind the picture, in the form that a model would use.

| `Question.task` | `about` that is read | answer |
| --- | --- | --- |
| caption | | a sentence |
| objects | | `{"object_list": [{"category", "obj_simple_caption", "obj_detailed_caption"}], "img_caption"}` |
| editable | objects: captions | `{"flags": [1, 0, ...]}`, one for each object |
| propose | object: caption | `{"object", "detailed_caption"}`: something else in its place |
| simple, advanced, reasoning | task, classes and detailed captions as in `Record` | `{"instructions": [...]}` |
| entities | | `{"entities": [...]}`: captions of the things |
| main_subject | objects: captions | `{"subject": "..."}`: the largest that is wholly seen; null without one |
| subject_instruction | task, class_origin, detailed_target, count | `{"instructions": [...]}` with `<imagehere>` |
| describe_edit | instruction | two sentences: what is done, what is seen then |
| summarise | | the instruction with every reference resolved |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_recipes.backends.base import Question
from data_recipes.oracle.words import (
    ADVANCED,
    REASONING,
    SIMPLE,
    Phrase,
    detailed_caption,
    fact_of,
    read_phrase,
    simple_caption,
)
from data_recipes.oracle.world import Oracle, World, random_of, world_of
from data_recipes.steps.asking import bare
from insightedit.scenes.assets import Assets
from insightedit.scenes.draws import pick
from insightedit.scenes.scene import SceneObject
from insightedit.scenes.wordings import PLACEHOLDER, article, place

LIKE = 10  # a proposal is one of so many classes whose outline is most like that of the old thing
BROKEN = ("", "I am sorry, I cannot see that.", '{"object_list": [', "[]", '{"flags": "all"}')
SUBJECT = {
    "replace": (
        "swap the {ref} for {mark}", "put {mark} in place of the {ref}", "turn the {ref} into {mark}",
        "change the {ref} to {mark}",
    ),
    "add": ("put {mark} {where}", "add {mark} {where}", "place {mark} {where}", "insert {mark} {where}"),
}  # fmt: skip
About = Mapping[str, Any]


@dataclass
class OracleChat(Oracle):
    """A language model that knows the scene."""

    broken: float = 0.0  # share of the questions whose first answer is unusable, as models' sometimes are

    backend = "chat"

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """See `backends.base`; ValueError if a question's task is none of the table above."""
        self.calls += len(questions)
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> str:
        if question.task not in _ANSWERS:
            raise ValueError(f"the oracle chat was asked for {question.task!r}: it answers {', '.join(_ANSWERS)}.")
        told = [dict(question.truth), question.task, question.prompt]
        rng = random_of(json.dumps(told, sort_keys=True, default=str))
        if question.attempt == 0 and rng.random() < self.broken:
            return pick(rng, BROKEN)
        answer = _ANSWERS[question.task](world_of(question.truth), question.about, rng)
        return answer if isinstance(answer, str) else json.dumps(answer)


def _objects(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    listed = [
        {
            "category": thing.name,
            "obj_simple_caption": simple_caption(world.scene, number),
            "obj_detailed_caption": detailed_caption(thing),
        }
        for number, thing in enumerate(world.scene.objects)
    ]
    return {"object_list": listed, "img_caption": world.sample.caption_source}


def _propose(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    """A class that the scene has not, of a fact that it has not, and of an outline like the old thing's."""

    def aspect(name: str) -> float:
        height, width = world.sample.renderer.sprite(name, 32, False, None)[1].shape[:2]
        return width / height

    found = world.find(str(about["object"]))
    old = world.scene.objects[found[0] if found else 0]
    facts = {fact_of(thing.name) for thing in world.scene.objects} - {""}
    classes = [name for name in world.scene.absent(world.sample.renderer.assets.classes) if fact_of(name) not in facts]
    near = sorted(classes, key=lambda name: (abs(np.log(aspect(name) / aspect(old.name))), name))[:LIKE]
    name = pick(rng, near)
    return {"object": name, "detailed_caption": article(f"{name} {place(old.slot)}")}


def _reasoning(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    """Two questions that have to be answered before the edit can be made."""
    old, new = (read_phrase(str(about[f"detailed_{name}"])) for name in ("origin", "target"))
    known = old or new
    if known is None or known.slot is None:
        raise ValueError(f"the oracle cannot tell where {dict(about)!r} is: it reads its own detailed captions.")
    others = tuple(thing for thing in world.scene.objects if thing.slot != known.slot)
    riddles = ("" if old is None else _riddle(old, others), "" if new is None else _riddle(new, others, new=True))
    return _filled(REASONING[str(about["task"])], *riddles, where=place(known.slot))


def _riddle(phrase: Phrase, others: tuple[SceneObject, ...], new: bool = False) -> str:
    """A thing told by what it is known for, where that means it alone; else by its class and place.

    Of what is seen it has to be the only one of this fact; of what is new, of all that there are.
    """
    fact = fact_of(phrase.name or "")
    known = [sprite.fact for sprite in Assets.embedded().sprites.values()]
    is_unique = known.count(fact) == 1 if new else fact not in {fact_of(thing.name) for thing in others}
    if fact and is_unique and not phrase.mirror:
        return fact
    colour = f"{phrase.colour} " if phrase.colour else ""
    return f"{colour}{phrase.name}{' in the mirror' if phrase.mirror else ''} {place(phrase.slot or 0)}"


def _main_subject(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    for words in about["objects"]:
        for number in world.find(str(words)):
            mask = world.masks[number]
            edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
            sizes[str(words)] = 0 if edge else int(mask.sum())
    best = max(sizes, key=lambda words: sizes[words], default=None)
    return {"subject": best if best is not None and sizes[best] else None}


def _subject_instruction(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    forms = SUBJECT[str(about["task"])]
    first, count = int(rng.integers(len(forms))), int(about.get("count", 1))
    phrase = read_phrase(str(about.get("detailed_target", "")))
    where = "into the picture" if phrase is None or phrase.slot is None else place(phrase.slot)
    words = {"mark": PLACEHOLDER, "where": where, "ref": bare(str(about.get("class_origin", "")))}
    return {"instructions": [forms[(first + number) % len(forms)].format(**words) for number in range(count)]}


def _filled(forms: Iterable[str], old: str, new: str, where: str = "") -> dict[str, Any]:
    """Wordings about an old and a new thing, each with the article that it needs."""
    words = {"ref": f"the {bare(old)}" if old else "", "new": article(bare(new)) if new else "", "where": where}
    return {"instructions": [form.format(**words) for form in forms]}


_ANSWERS: dict[str, Callable[[World, About, np.random.Generator], str | dict[str, Any]]] = {
    "caption": lambda world, about, rng: world.sample.caption_source,
    "objects": _objects,
    # what means one thing may be edited
    "editable": lambda world, about, rng: {"flags": [int(len(world.find(str(one))) == 1) for one in about["objects"]]},
    "propose": _propose,
    "simple": lambda world, about, rng: _filled(
        [pick(rng, SIMPLE[about["task"]])], about["class_origin"], about["class_target"]
    ),
    "advanced": lambda world, about, rng: _filled(
        [pick(rng, ADVANCED[about["task"]])],
        *(str(about[f"detailed_{name}"] or about[f"class_{name}"]) for name in ("origin", "target")),
    ),
    "reasoning": _reasoning,
    "main_subject": _main_subject,
    "subject_instruction": _subject_instruction,
    "entities": lambda world, about, rng: {
        "entities": [simple_caption(world.scene, number) for number in range(len(world.scene.objects))]
    },
    "describe_edit": lambda world, about, rng: (
        f"To do this, {world.sample.expressive_instruction}. After that one sees {world.sample.caption_target}."
    ),
    "summarise": lambda world, about, rng: world.sample.expressive_instruction,
}
