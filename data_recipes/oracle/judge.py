"""A judge that looks and reads: pictures are read as scenes, instructions by their words, and the two are compared.

It is told no more than other judges: two pictures and an instruction, or one picture; of the truth it takes the photo's
scene, which stands for a good judge's eyes. Answers are in the JSON that VIEScore prompts ask for, 0 to 5 or 0 to 10.

How a picture is read: the photo's background and things are known; a picture made of it may lack some, show another in
place of one, or be what the scene's own edit makes of it. Of all these the one whose drawing is nearest is what the
picture shows; what differs from it then is a fault of the picture. Nothing but pixels is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np

from data_recipes.backends.base import Question
from data_recipes.oracle.words import Meaning, Phrase, read_instruction
from data_recipes.oracle.world import Oracle, World, world_of
from insightedit.scenes.scene import BIGGER, SMALLER, Scene, SceneObject

HIGH = 5
# share of the edited things' area that is not as it should be -> success, cleanness
INSIDE = ((0.02, 5), (0.06, 4), (0.15, 3), (0.35, 2), (0.6, 1))
# share of the picture that is not as it should be elsewhere -> restraint, naturalness
OUTSIDE = ((0.0005, 5), (0.002, 4), (0.005, 3), (0.02, 2), (0.1, 1))
SEEN = 12  # grey levels from which on two pixels differ
TOUCHED = 0.1  # share of a thing's pixels that differ, from which on it may be gone or another one
COARSE = (1.0, 0.8, 0.62, 0.48, 0.36)  # heights that are tried first, as shares of the old thing's
BEST = 4  # guesses that are looked at closely
KEPT = 512  # readings that are remembered
Things = tuple[SceneObject, ...]


@dataclass
class OracleJudge(Oracle):
    """Gives semantic consistency ("sc") and perceptual quality ("pq")."""

    high: int = HIGH  # best score: 5 for the rubric "insightedit", 10 for "viescore" and "gedit"

    def __post_init__(self) -> None:
        if self.high not in (5, 10):
            raise ValueError(f"backends.judge.high is {self.high!r}: rubrics end at 5 or at 10.")

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """See `backends.base`; ValueError for what is neither "sc" nor "pq", or lacks the pictures of its kind."""
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
        seen = [read_picture(world, picture) for picture in question.pictures]
        if question.task == "pq":
            scores, reason = quality_scores(world, seen[0])
        else:
            scores, reason = edit_scores(world, seen[0], seen[1], str(question.about["instruction"]))
        return json.dumps({"score": [score * self.high // HIGH for score in scores], "reasoning": reason})


@dataclass(frozen=True)
class Reading:
    """What a picture shows."""

    scene: Scene  # nearest to it
    unexplained: np.ndarray  # (H, W) bool: pixels that are not as the scene's drawing has them


def quality_scores(world: World, seen: Reading) -> tuple[tuple[int, int], str]:
    """Naturalness and cleanness of one picture, 0 to 5: by what no scene explains."""
    share = float(seen.unexplained.mean())
    drawn, objects = world.draw(seen.scene), seen.scene.objects
    # the pixels of each thing that the picture shows, and of each that it lacks
    lacking = [replace(seen.scene, objects=tuple(o for o in objects if o is not thing)) for thing in objects]
    areas = [(world.draw(scene) != drawn).any(axis=-1) for scene in lacking]
    areas += [mask for thing, mask in zip(world.scene.objects, world.masks, strict=True) if thing not in objects]
    spoilt = max((float(seen.unexplained[area].mean()) for area in areas if area.any()), default=0.0)
    cleanness = min(_score(share, OUTSIDE), _score(spoilt, INSIDE))
    return (min(5, cleanness + 1), cleanness), f"{share:.2%} of the picture is not as a scene would look"


def edit_scores(world: World, before: Reading, after: Reading, instruction: str) -> tuple[tuple[int, int], str]:
    """Success and restraint of an edit, 0 to 5: what was done against what the words ask for, and what else differs."""
    edited = (world.draw(before.scene) != world.draw(after.scene)).any(axis=-1)
    unexplained = before.unexplained | after.unexplained
    restraint = _score(float((unexplained & ~edited).mean()), OUTSIDE)
    meanings = read_instruction(instruction)
    if not meanings:
        return (0, restraint), "the instruction is not understood"
    if before.scene == after.scene:
        return (0, restraint), "nothing was done"
    told = f"the picture is {after.scene.photometric}"
    if before.scene.photometric == after.scene.photometric:
        sides = _change(before.scene.objects, after.scene.objects)
        told = " became ".join(" and ".join(one.name for one in things) or "nothing" for things in sides)
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
    meant: set[SceneObject] = set()
    for phrase in meaning.things:
        numbers = phrase.among(before.objects)
        if len(numbers) != (2 if phrase.both else 1):  # not clear
            return False
        meant |= {before.objects[number] for number in numbers}
    if meant != set(gone):
        return False
    if meaning.task == "remove":
        return not come
    if len(come) != len(gone) or sorted(one.slot for one in come) != sorted(one.slot for one in gone):
        return False
    if meaning.task == "replace":
        looks = [sorted((one.name, str(one.colour)) for one in things) for things in (gone, come)]
        return all(_is_new(meaning.new, one, after) for one in come) and looks[0] != looks[1]
    pairs = [(old, next(one for one in come if one.slot == old.slot)) for old in gone]
    if meaning.task == "recolour":
        return all(new == replace(old, colour=meaning.colour) for old, new in pairs)
    factor = BIGGER if meaning.bigger else SMALLER
    return all(new == replace(old, height=old.height * factor // 1000) for old, new in pairs)


def _change(before: Things, after: Things) -> tuple[list[SceneObject], list[SceneObject]]:
    """What is gone and what has come."""
    return [one for one in before if one not in after], [one for one in after if one not in before]


def _is_new(phrase: Phrase | None, thing: SceneObject, after: Scene) -> bool:
    """Whether a thing is what was asked for; its size is the picture's to choose."""
    if phrase is None or not replace(phrase, size=None, rank=None).fits(thing):
        return False
    return phrase.rank is None or [after.objects[number] for number in phrase.among(after.objects)] == [thing]


def _score(share: float, steps: Sequence[tuple[float, int]]) -> int:
    return next((score for most, score in steps if share <= most), 0)


def read_picture(world: World, picture: np.ndarray) -> Reading:
    """What a picture (H, W, 3) uint8 of a scene's size shows; ValueError if it has another size."""
    if picture.shape != world.photo.shape:
        raise ValueError(
            f"the oracle judge got a picture of shape {picture.shape} for a scene of {world.photo.shape}: give it "
            "pairs of the scene's own size."
        )
    return _read(world, picture.tobytes())


@lru_cache(maxsize=KEPT)  # a pair is asked about once for each wording
def _read(world: World, pixels: bytes) -> Reading:
    picture = np.frombuffer(pixels, np.uint8).reshape(world.photo.shape)
    differs = _differs(world.photo, picture)
    touched = [  # things whose pixels are not what they were
        number
        for number, mask in enumerate(world.masks)
        if mask.any() and (differs & mask).sum() >= TOUCHED * mask.sum()
    ]
    # the photo, the photo without one or two of its things, and the scene's own edit
    lacking = [world.without(*numbers) for count in (1, 2) for numbers in combinations(touched, count)]
    scenes = [world.scene, *lacking, world.sample.target_scene]
    best = min(scenes, key=lambda scene: _cost(world.draw(scene), picture))
    unexplained = _differs(world.draw(best), picture)
    if unexplained.any():
        for number in touched:
            other = _with_other(world, number, picture)
            best = min(best, other, key=lambda scene: _cost(world.draw(scene), picture))
        unexplained = _differs(world.draw(best), picture)
    return Reading(best, unexplained)


def _with_other(world: World, number: int, picture: np.ndarray) -> Scene:
    """The nearest scene that shows another thing in place of one: any class, any lower height.

    All that the many guesses share is drawn once: the scene as far as a guess does not change it (`under`); drawn over
    each are the things that may cover it (`over`), and compared are the rows and columns that guesses may reach.
    """
    things, size, renderer = world.scene.objects, world.size, world.sample.renderer
    old = things[number]
    tall = old.height * size // 1000
    spans = _spans(old, size, tall, size * 42 // 100)
    over = []
    for thing in things[number + 1 :]:
        pixels = max(3, thing.height * size // 1000)
        shape = renderer.sprite(thing.name, pixels, thing.flip, thing.colour)[1].shape
        theirs = _spans(thing, size, shape[0], shape[1])
        if all(a[0] < b[1] and b[0] < a[1] for a, b in zip(spans, theirs, strict=True)):
            over.append(thing)
    rest = tuple(thing for thing in things if thing is not old and not any(thing is one for one in over))
    under = world.draw(replace(world.scene, objects=rest))
    rows, columns = (slice(max(0, low), min(size, high)) for low, high in spans)
    wanted = picture[rows, columns].astype(np.float64)

    def guess(name: str, pixels: int) -> SceneObject:
        height = -(-pixels * 1000 // size)
        return replace(old, name=name, colour=None, flip=False, in_mirror=False, height=height)

    def cost(name: str, pixels: int) -> int:
        canvas = renderer.draw(under.copy(), (guess(name, pixels), *over))
        return _cost(canvas[rows, columns], wanted)

    heights = sorted({max(3, round(tall * share)) for share in COARSE})
    names = [name for name in renderer.assets.classes if name != old.name or old.colour]
    coarse = sorted((cost(name, pixels), name) for name in names for pixels in heights)
    close = list(dict.fromkeys(name for _, name in coarse))[:BEST]
    _, name, pixels = min((cost(name, pixels), name, pixels) for name in close for pixels in range(3, tall + 1))
    return world.swapped(number, guess(name, pixels))


def _spans(thing: SceneObject, size: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row and column, and one to spare, of a sprite of so many pixels at a thing's place."""
    top, left = thing.y * size // 1000 - height // 2, thing.x * size // 1000 - width // 2
    return (top - 1, top + height + 1), (left - 1, left + width + 1)


def _cost(drawn: np.ndarray, picture: np.ndarray) -> int:
    """Sum of the squared differences, which is exact in float64."""
    flat = (drawn.astype(np.float64) - picture).reshape(-1)
    return int(flat @ flat)


def _differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ by more than `SEEN` grey levels in a channel."""
    return np.asarray((np.maximum(one, other) - np.minimum(one, other) > SEEN).any(axis=-1))
