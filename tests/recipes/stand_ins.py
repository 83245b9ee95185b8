"""What tests of steps share: a language model that says what it is told to, oracles, and scenes with known things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from data_recipes.backends.base import Question, Usage, load_backend
from data_recipes.oracle.words import fact_of
from data_recipes.oracle.world import World, open_scenes, world_of
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step

SIZE = 96


class Script:
    """A language model that gives the next of its answers for a task; the last one again when there are no more."""

    name = "script"
    settings: Mapping[str, Any] = {}
    usage = Usage()

    def __init__(self, **answers: str | list[str]) -> None:
        self.answers = {task: [told] if isinstance(told, str) else list(told) for task, told in answers.items()}
        self.asked: list[Question] = []

    def answer(self, questions: Sequence[Question]) -> list[str]:
        self.asked += questions
        found = [self.answers[question.task] for question in questions]
        return [told.pop(0) if len(told) > 1 else told[0] for told in found]


@cache
def _photos(things: int, *which: Any) -> tuple[list[Record], Iterator[Record]]:
    """Those found so far, and the next ones."""
    size, split, seed = which
    source = open_scenes(InputConfig(kind="scenes", count=1, size=size, split=split, seed=seed))
    shown = (source[index] for index in count() if len(source.sampler[index].scene.objects) >= things)
    return [], shown


def photo(number: int, size: int = SIZE, split: str = "train", seed: int = 0, things: int = 1) -> Record:
    """A rendered scene as the source gives it: of those that show so many `things` or more, this one."""
    found, more = _photos(things, size, split, seed)
    while len(found) <= number:
        found.append(next(more))
    return found[number]


class Crowd(NamedTuple):
    """A photo of two things of one class and of two that are alone of theirs, and the names of these three classes."""

    record: Record
    world: World
    twins: str
    one: str  # something is told of it that is true of it alone
    other: str


@cache
def crowd() -> Crowd:
    """The first photo that is one: everything in it can be drawn and is well seen, no fox, cat or tree is there, and
    nothing stands at the bottom left.
    """
    for number in count():
        record = photo(number, things=4)
        world = world_of(record.truth)
        names = [thing.name for thing in world.scene.objects]
        twins, alone = ([name for name in sorted(set(names)) if names.count(name) == n] for n in (2, 1))
        told = [name for name in alone if fact_of(name) and [*map(fact_of, names)].count(fact_of(name)) == 1]
        known = {*world.sample.renderer.assets.classes} - {"fox", "cat", "tree"}
        seen = min(mask.sum() for mask in world.masks) > 300 and not any(m[-30:, :30].any() for m in world.masks)
        if (
            len(twins) == 1
            and len(alone) == 2
            and told
            and known.issuperset(names)
            and seen
            and not world.scene.mirror
        ):
            return Crowd(record, world, twins[0], told[-1], next(name for name in alone if name != told[-1]))
    raise AssertionError("scenes have no end")


def oracles(**entries: Mapping[str, Any]) -> dict[str, Any]:
    """All oracle backends; entries add settings, `chat={"broken": 1}`."""
    names = ("chat", "judge", "detector", "segmenter", "inpainter")
    return {name: load_backend(name, {"kind": "oracle", **entries.get(name, {})}) for name in names}


def run(step: Step, records: Sequence[Record], backends: Mapping[str, Any], seed: int = 0) -> list[Outcome]:
    """All that a step makes of records."""
    context = Context(seed, step.name, {name: backends[name] for name in step.needs})
    return [outcome for found in step(records, context) for outcome in found]


def drive(
    steps: Sequence[Step], records: Sequence[Record], backends: Mapping[str, Any], seed: int = 0
) -> tuple[list[Record], list[Rejected]]:
    """What is left after all steps, and what was refused on the way."""
    left, refused = list(records), []
    for step in steps:
        outcomes = run(step, left, backends, seed)
        left = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        refused += [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    return left, refused


def only(outcomes: Sequence[Outcome]) -> Any:
    """The one outcome."""
    (outcome,) = outcomes
    return outcome
