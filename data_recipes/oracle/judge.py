"""A judge that looks and reads: pictures are read as scenes, instructions by their words, and the two are compared.

It is told no more than other judges: two pictures and an instruction, or one picture; of the truth it takes the photo's
scene, which stands for a good judge's eyes. Answers are in the JSON that VIEScore prompts ask for, 0 to 5 or 0 to 10.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_recipes.backends.base import Question
from data_recipes.oracle.meaning import Meaning, read_instruction
from data_recipes.oracle.pictures import Reader, Reading
from data_recipes.oracle.words import Phrase
from data_recipes.oracle.world import Oracle, World, world_of
from insightedit.scenes.scene import BIGGER, SMALLER, Scene, SceneObject

HIGH = 5
# share of the edited things' area that is not as it should be -> success, cleanness
INSIDE = ((0.02, 5), (0.06, 4), (0.15, 3), (0.35, 2), (0.6, 1))
# share of the picture that is not as it should be elsewhere -> restraint, naturalness
OUTSIDE = ((0.0005, 5), (0.002, 4), (0.005, 3), (0.02, 2), (0.1, 1))


@dataclass
class OracleJudge(Oracle):
    """Gives semantic consistency ("sc") and perceptual quality ("pq").

    Attributes:
        high: best score: 5 for the rubric "insightedit", 10 for "viescore" and "gedit".
    """

    high: int = HIGH

    def __post_init__(self) -> None:
        if self.high not in (5, 10):
            raise ValueError(f"backends.judge.high is {self.high!r}: rubrics end at 5 or at 10.")
        self._reader = Reader()

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """See `backends.base.Chat`.

        Raises:
            ValueError: if a question is neither "sc" nor "pq", or lacks the pictures of its kind.
        """
        self.calls += len(questions)
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> str:
        needed = {"sc": 2, "pq": 1}
        if question.task not in needed:
            raise ValueError(f"the oracle judge was asked for {question.task!r}: it answers sc and pq.")
        if len(question.pictures) != needed[question.task]:
            raise ValueError(
                f"the oracle judge got {len(question.pictures)} pictures for {question.task}: it takes "
                f"{needed[question.task]}, and knows no reference pictures."
            )
        world = world_of(question.truth)
        seen = [self._reader.read(world, picture) for picture in question.pictures]
        if question.task == "pq":
            scores, reason = quality_scores(world, seen[0])
        else:
            scores, reason = edit_scores(world, seen[0], seen[1], str(question.about["instruction"]))
        return json.dumps({"score": [score * self.high // HIGH for score in scores], "reasoning": reason})


def quality_scores(world: World, seen: Reading) -> tuple[tuple[int, int], str]:
    """Naturalness and cleanness of one picture, 0 to 5: by what no scene explains."""
    share = float(seen.unexplained.mean())
    spoilt = max(
        (float((seen.unexplained & area).sum() / area.sum()) for area in _areas(world, seen.scene)), default=0.0
    )
    cleanness = min(_score(share, OUTSIDE), _score(spoilt, INSIDE))
    naturalness = min(5, cleanness + 1)
    told = f"{share:.2%} of the picture is not as a scene would look"
    return (naturalness, cleanness), told


def edit_scores(world: World, before: Reading, after: Reading, instruction: str) -> tuple[tuple[int, int], str]:
    """Success and restraint of an edit, 0 to 5: what was done against what the words ask for, and what else differs."""
    edited = _edited_area(world, before.scene, after.scene)
    unexplained = before.unexplained | after.unexplained
    restraint = _score(float((unexplained & ~edited).mean()), OUTSIDE)
    meanings = read_instruction(instruction)
    if not meanings:
        return (0, restraint), "the instruction is not understood"
    if before.scene == after.scene:
        return (0, restraint), "nothing was done"
    told = _done(before.scene, after.scene)
    if not any(is_done(meaning, before.scene, after.scene) for meaning in meanings):
        return (0, min(restraint, 2)), f"what was done is something else: {told}"
    spoilt = float((unexplained & edited).sum() / max(1, edited.sum()))
    return (_score(spoilt, INSIDE), restraint), f"done: {told}; {spoilt:.1%} of it is not as it should be"


def is_done(meaning: Meaning, before: Scene, after: Scene) -> bool:
    """Whether the step from one scene to the other is what an instruction means, all of it and nothing else."""
    if meaning.task == "photometric":
        return after == replace(before, photometric=meaning.operation)
    if before.photometric != after.photometric:
        return False
    gone, come = _change(before.objects, after.objects)
    if meaning.task == "add":
        return not gone and len(come) == 1 and _is_new(meaning.new, come[0], after)
    meant = _meant(meaning.things, before.objects)
    if meant is None or set(meant) != set(gone):
        return False
    if meaning.task == "remove":
        return not come
    if len(come) != len(gone) or sorted(one.slot for one in come) != sorted(one.slot for one in gone):
        return False
    if meaning.task == "replace":
        return all(_is_new(meaning.new, one, after) for one in come) and not _same_names(gone, come)
    pairs = [(old, next(one for one in come if one.slot == old.slot)) for old in gone]
    if meaning.task == "recolour":
        return all(new == replace(old, colour=meaning.colour) for old, new in pairs)
    factor = BIGGER if meaning.bigger else SMALLER
    return all(new == replace(old, height=old.height * factor // 1000) for old, new in pairs)


def _change(
    before: tuple[SceneObject, ...], after: tuple[SceneObject, ...]
) -> tuple[list[SceneObject], list[SceneObject]]:
    """What is gone and what has come."""
    return [one for one in before if one not in after], [one for one in after if one not in before]


def _meant(phrases: tuple[Phrase, ...], things: tuple[SceneObject, ...]) -> list[SceneObject] | None:
    """The things that phrases mean; None where one is not clear."""
    meant: list[SceneObject] = []
    for phrase in phrases:
        numbers = phrase.among(things)
        if len(numbers) != (2 if phrase.both else 1):
            return None
        meant += [things[number] for number in numbers]
    return meant


def _is_new(phrase: Phrase | None, thing: SceneObject, after: Scene) -> bool:
    """Whether a thing is what was asked for; its size is the picture's to choose."""
    return phrase is not None and (
        replace(phrase, size=None, rank=None).fits(thing) and (phrase.rank is None or _has_rank(phrase, thing, after))
    )


def _has_rank(phrase: Phrase, thing: SceneObject, after: Scene) -> bool:
    return [after.objects[number] for number in phrase.among(after.objects)] == [thing]


def _same_names(gone: Sequence[SceneObject], come: Sequence[SceneObject]) -> bool:
    return sorted((one.name, str(one.colour)) for one in gone) == sorted((one.name, str(one.colour)) for one in come)


def _edited_area(world: World, before: Scene, after: Scene) -> np.ndarray:
    """(H, W) bool: where the two scenes' drawings differ."""
    return np.asarray((world.draw(before) != world.draw(after)).any(axis=-1))


def _areas(world: World, scene: Scene) -> list[np.ndarray]:
    """(H, W) bool for each thing that a picture shows or that it lacks: its pixels."""
    drawn = world.draw(scene)
    shown = [
        world.draw(replace(scene, objects=tuple(o for o in scene.objects if o is not thing)))
        for thing in scene.objects
    ]
    areas = [np.asarray((one != drawn).any(axis=-1)) for one in shown]
    areas += [mask for thing, mask in zip(world.scene.objects, world.masks, strict=True) if thing not in scene.objects]
    return [area for area in areas if area.any()]


def _done(before: Scene, after: Scene) -> str:
    gone, come = _change(before.objects, after.objects)
    words = [" and ".join(one.name for one in things) for things in (gone, come)]
    if before.photometric != after.photometric:
        return f"the picture is {after.photometric}"
    return f"{words[0] or 'nothing'} became {words[1] or 'nothing'}"


def _score(share: float, steps: Sequence[tuple[float, int]]) -> int:
    return next((score for most, score in steps if share <= most), 0)
