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

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_recipes.backends.base import Question
from data_recipes.oracle.words import Phrase, detailed_caption, fact_of, read_phrase, simple_caption
from data_recipes.oracle.world import Oracle, World, world_of
from data_recipes.steps.asking import bare
from insightedit.scenes.assets import Assets
from insightedit.scenes.scene import SceneObject
from insightedit.scenes.wordings import PLACEHOLDER, article, place

LIKE = 10  # a proposal is one of so many classes whose outline is most like that of the old thing
BROKEN = ("", "I am sorry, I cannot see that.", '{"object_list": [', "[]", '{"flags": "all"}')
SIMPLE = {
    "remove": ("delete {ref}", "take away {ref}", "erase {ref}", "get rid of {ref}"),
    "replace": (
        "turn {ref} into {new}",
        "change {ref} to {new}",
        "swap {ref} for {new}",
        "put {new} in place of {ref}",
    ),
    "add": ("put {new} into the picture", "place {new} in this photo", "insert {new}", "draw {new}"),
}
ADVANCED = {
    "remove": (
        "make the picture look as if {ref} had never been there",
        "clean the photo by taking {ref} out of it",
        "remove {ref} and show what is behind it",
    ),
    "replace": (
        "i want {new} to stand where {ref} is now",
        "take {ref} out of the photo and show {new} there",
        "make the picture look as if {new} had been there and not {ref}",
    ),
    "add": ("make the picture look as if {new} had been there", "i want to see {new} in this photo"),
}
REASONING = {
    "remove": ("What is {where}? Remove it.", "Find {ref} and take it out of the picture."),
    "replace": ("What is {where}? Replace it with {new}.", "Find {ref} and put {new} there."),
    "add": ("What is missing {where}? Add {new}.", "There is nothing {where}, so put {new} there."),
}

SUBJECT = {
    "replace": (
        "swap the {ref} for {mark}",
        "put {mark} in place of the {ref}",
        "turn the {ref} into {mark}",
        "change the {ref} to {mark}",
    ),
    "add": ("put {mark} {where}", "add {mark} {where}", "place {mark} {where}", "insert {mark} {where}"),
}


@dataclass
class OracleChat(Oracle):
    """A language model that knows the scene.

    Attributes:
        broken: share of the questions whose first answer is unusable, as models' sometimes are.
    """

    broken: float = 0.0

    backend = "chat"

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """See `backends.base.Chat`.

        Raises:
            ValueError: if a question's task is none of the table above.
        """
        self.calls += len(questions)
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> str:
        if question.task not in _ANSWERS:
            raise ValueError(f"the oracle chat was asked for {question.task!r}: it answers {', '.join(_ANSWERS)}.")
        told = json.dumps([dict(question.truth), question.task, question.prompt], sort_keys=True, default=str)
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "little"))
        if question.attempt == 0 and rng.random() < self.broken:
            return BROKEN[int(rng.integers(len(BROKEN)))]
        answer = _ANSWERS[question.task](world_of(question.truth), question.about, rng)
        return answer if isinstance(answer, str) else json.dumps(answer)


About = Mapping[str, Any]


def _caption(world: World, about: About, rng: np.random.Generator) -> str:
    return world.sample.caption_source


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


def _editable(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    """What means one thing may be edited."""
    return {"flags": [int(len(world.find(str(words))) == 1) for words in about["objects"]]}


def _propose(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    """A class that the scene has not, of a fact that it has not, and of an outline like the old thing's."""
    found = world.find(str(about["object"]))
    old = world.scene.objects[found[0] if found else 0]
    present = {thing.name for thing in world.scene.objects}
    facts = {fact_of(name) for name in present} - {""}
    classes = [
        name for name in world.sample.renderer.assets.classes if name not in present and fact_of(name) not in facts
    ]
    shape = _aspect(world, old.name)
    near = sorted(classes, key=lambda name: (abs(np.log(_aspect(world, name) / shape)), name))[:LIKE]
    name = near[int(rng.integers(len(near)))]
    return {"object": name, "detailed_caption": article(f"{name} {place(old.slot)}")}


def _aspect(world: World, name: str) -> float:
    """Width over height of a sprite."""
    height, width = world.sample.renderer.sprite(name, 32, False, None)[1].shape[:2]
    return width / height


def _simple(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    words = {"ref": _the(str(about["class_origin"])), "new": _a(str(about["class_target"]))}
    return _filled(_one_of(SIMPLE, about, rng), words)


def _advanced(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    words = {
        "ref": _the(str(about["detailed_origin"] or about["class_origin"])),
        "new": _a(str(about["detailed_target"] or about["class_target"])),
    }
    return _filled(_one_of(ADVANCED, about, rng), words)


def _reasoning(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    """Two questions that have to be answered before the edit can be made."""
    old, new = (read_phrase(str(about[f"detailed_{name}"])) for name in ("origin", "target"))
    known = old or new
    if known is None or known.slot is None:
        raise ValueError(f"the oracle cannot tell where {dict(about)!r} is: it reads its own detailed captions.")
    others = tuple(thing for thing in world.scene.objects if thing.slot != known.slot)
    words = {
        "where": place(known.slot),
        "ref": "" if old is None else _the(_riddle(old, others)),
        "new": "" if new is None else _a(_riddle(new, others, new=True)),
    }
    return _filled(REASONING[str(about["task"])], words)


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
    known = phrase is not None and phrase.slot is not None
    where = place(phrase.slot or 0) if phrase is not None and known else "into the picture"
    words = {"mark": PLACEHOLDER, "where": where, "ref": bare(str(about.get("class_origin", "")))}
    return _filled(tuple(forms[(first + number) % len(forms)] for number in range(count)), words)


def _entities(world: World, about: About, rng: np.random.Generator) -> dict[str, Any]:
    return {"entities": [simple_caption(world.scene, number) for number in range(len(world.scene.objects))]}


def _describe_edit(world: World, about: About, rng: np.random.Generator) -> str:
    sample = world.sample
    return f"To do this, {sample.expressive_instruction}. After that one sees {sample.caption_target}."


def _summarise(world: World, about: About, rng: np.random.Generator) -> str:
    return world.sample.expressive_instruction


def _one_of(forms: Mapping[str, tuple[str, ...]], about: About, rng: np.random.Generator) -> tuple[str, ...]:
    choices = forms[str(about["task"])]
    return (choices[int(rng.integers(len(choices)))],)


def _filled(forms: tuple[str, ...], words: Mapping[str, str]) -> dict[str, Any]:
    return {"instructions": [form.format(**words) for form in forms]}


def _the(words: str) -> str:  # `dog`, `a dog` -> `the dog`
    return f"the {bare(words)}" if words else ""


def _a(words: str) -> str:  # `dog`, `the dog` -> `a dog`
    return article(bare(words)) if words else ""


_ANSWERS: dict[str, Callable[[World, About, np.random.Generator], str | dict[str, Any]]] = {
    "caption": _caption,
    "objects": _objects,
    "editable": _editable,
    "propose": _propose,
    "simple": _simple,
    "advanced": _advanced,
    "reasoning": _reasoning,
    "main_subject": _main_subject,
    "subject_instruction": _subject_instruction,
    "entities": _entities,
    "describe_edit": _describe_edit,
    "summarise": _summarise,
}
