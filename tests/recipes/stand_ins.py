"""What tests of steps share: a language model that says what it is told to, oracles, and scenes with known things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.backends.base import Question, Usage, load_backend
from data_recipes.oracle.world import open_scenes
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


def photo(index: int, size: int = SIZE, split: str = "train", seed: int = 0) -> Record:
    """A rendered scene as the source gives it."""
    return open_scenes(InputConfig(kind="scenes", count=1, size=size, split=split, seed=seed))[index]


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
