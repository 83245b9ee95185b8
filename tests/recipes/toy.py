"""A recipe of small real steps over drawn pictures: two pairs of most of them, and every way of failing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.backends.base import Question, Usage
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.config import EngineConfig, OutputConfig, RecipeConfig
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, EachRecord, Outcome
from insightedit.chat.clients import ChatError

ABOUT = "Squares on noise: the square goes, or comes."
COLOURS = {"red": (200, 30, 30), "green": (30, 170, 40), "blue": (30, 60, 200)}


class ToyInput:
    def __init__(self, config: InputConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Record | Rejected:
        key = f"{index % 20 if self.config.path == 'doubled' else index:05d}"
        if index % 17 == 5:
            return Rejected(key, "read", "cannot be read", "the file is cut short")
        size = self.config.size
        rng = np.random.default_rng([self.config.seed, index])
        picture = np.repeat(rng.integers(90, 160, (size, size, 1), np.uint8), 3, axis=2)
        side = size // 4 + index % (size // 4)
        top, left = (int(number) for number in rng.integers(0, size - side, 2))
        colour = list(COLOURS)[index % 3]
        empty = picture.copy()
        picture[top : top + side, left : left + side] = COLOURS[colour]
        truth = {"box": [left, top, left + side, top + side], "colour": colour, "value": int(empty[0, 0, 0])}
        return Record(key, image=picture, truth=truth)


def open_toy(config: InputConfig) -> ToyInput:
    return ToyInput(config)


@dataclass
class Look(EachRecord):
    """Finds the square; very small ones are refused."""

    name = "look"
    smallest: float = 0.07

    def one(self, record: Record, context: Context) -> Outcome:
        assert record.image is not None
        left, top, right, bottom = record.truth["box"]
        mask = np.zeros(record.image.shape[:2], bool)
        mask[top:bottom, left:right] = True
        if mask.mean() < self.smallest:
            return self.reject(record, "mask is too small", f"{mask.mean():.1%} of the picture")
        thing = ObjectAnnotation(
            "square", f"a {record.truth['colour']} square", "", (left, top, right, bottom), mask, 0.9
        )
        return record.but(things=(thing,))


@dataclass
class Pairs(EachRecord):
    """The square goes, and comes back."""

    name = "pairs"
    grain: int = 9

    def one(self, record: Record, context: Context) -> list[Outcome]:
        assert record.image is not None
        thing = record.things[0]
        without = record.image.copy()
        noise = context.rng(record).integers(0, self.grain, without.shape[:2], np.uint8)
        without[thing.mask] = 120 + noise[thing.mask][:, None]
        told = {"mask": thing.mask, "notes": {"grain": self.grain}}
        gone = record.but(
            key=f"{record.key}/1-remove", task="remove", source=record.image, target=without,
            class_origin=thing.caption, instructions={"template": (f"remove the {thing.caption[2:]}",)}, **told,
        )  # fmt: skip
        come = record.but(
            key=f"{record.key}/2-add", task="add", source=without, target=record.image,
            class_target=thing.caption, instructions={"template": (f"add {thing.caption}",)}, **told,
        )  # fmt: skip
        return [gone, come]


@dataclass
class Scored:
    """Asks the judge about each pair; low scores are refused."""

    name = "quality"
    needs = ("judge",)
    least: float = 3.0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"least": self.least}

    @property
    def prompts(self) -> Mapping[str, str]:
        return {"quality": "How good is it?"}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        asked = [Question("How good is it?", (r.target,), about={"key": r.key}) for r in records]  # type: ignore[arg-type]
        answers = context.backend("judge").answer(asked)
        found: list[list[Outcome]] = []
        for record, answer in zip(records, answers, strict=True):
            scored = record.but(scores={"overall": float(answer)})
            low = float(answer) < self.least
            found.append([Rejected(record.key, self.name, "quality is low", answer) if low else scored])
        return found


class ToyJudge:
    """Scores by the sum of the pixels; takes its process with it where the file `dies` is missing."""

    name, settings = "toy judge", {"deterministic": True}

    def __init__(self, device: str | None = None, dies: str | None = None) -> None:
        self.device, self.dies = device, dies
        self.usage = Usage()

    def answer(self, questions: Sequence[Question]) -> list[str]:
        if self.dies and not Path(self.dies).exists():
            Path(self.dies).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        used = self.usage
        self.usage = Usage(
            used.calls + len(questions), used.asked + len(questions), used.input_tokens + 10 * len(questions),
            used.output_tokens + len(questions), used.cost + 0.001 * len(questions), used.seconds + 0.01,
        )  # fmt: skip
        return [f"{int(question.pictures[0].sum()) % 101 / 10:.1f}" for question in questions]


@dataclass
class Fault(EachRecord):
    """Fails as it is told to.

    Attributes:
        how: raise, always, nothing, foreign, twice, short, down, die, die once, die always, no pair, slow or bad size.
        at: key of the record that it happens with; "" for all.
        path: a file that counts calls, or says that a worker has died before.
    """

    name = "fault"
    how: str = ""
    at: str = ""
    path: str = ""

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        if self.how == "short":
            return []
        return super().__call__(records, context)

    def one(self, record: Record, context: Context) -> Outcome | list[Outcome]:
        if self.at and record.key != self.at:
            return record
        return getattr(self, "_" + self.how.replace(" ", "_") if self.how else "_none")(record)

    def _none(self, record: Record) -> Outcome:
        return record

    def _raise(self, record: Record) -> Outcome:
        raise RuntimeError(f"no luck with {record.key}")

    def _raise_twice(self, record: Record) -> Outcome:
        calls = Path(self.path)
        number = len(calls.read_text()) if calls.exists() else 0
        calls.write_text("x" * (number + 1))
        if number < 2:
            raise RuntimeError("not yet")
        return record

    def _nothing(self, record: Record) -> list[Outcome]:
        return []

    def _foreign(self, record: Record) -> Outcome:
        return record.but(key="elsewhere")

    def _twice(self, record: Record) -> list[Outcome]:
        return [record, record]

    def _down(self, record: Record) -> Outcome:
        raise ChatError("http://127.0.0.1:9 does not answer")

    def _no_library(self, record: Record) -> Outcome:
        raise ModuleNotFoundError("No module named 'moonshine'", name="moonshine")

    def _die_once(self, record: Record) -> Outcome:
        if not Path(self.path).exists():
            Path(self.path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    def _die_always(self, record: Record) -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        return record

    def _no_pair(self, record: Record) -> Outcome:
        return record.but(target=None)

    def _bad_size(self, record: Record) -> Outcome:
        assert record.source is not None
        return record.but(source=record.source[1:])

    def _slow(self, record: Record) -> Outcome:
        time.sleep(0.01)
        return record


def steps(settings: Settings) -> list[Any]:
    return configured_steps(settings, Look, Pairs, Scored, Fault)


def toy_config(out: Path | None, count: int = 60, **changes: Any) -> RecipeConfig:
    """A run over `count` inputs, ten a unit; changes go to the engine unless `output` or `steps` have them."""
    output = {key: changes.pop(key) for key in ("format", "shard_size", "split", "licence") if key in changes}
    steps = changes.pop("steps", {})
    source = {"kind": "tests.recipes.toy:open_toy", "size": 16, "count": count, **changes.pop("source", {})}
    return RecipeConfig(
        recipe="tests.recipes.toy",
        source=InputConfig(**source),
        output=OutputConfig(path=None if out is None else str(out), **{"shard_size": 10, **output}),
        engine=EngineConfig(**{"batch_size": 4, "backoff": 0.0, **changes}),
        backends={"judge": {"kind": "tests.recipes.toy:ToyJudge"}},
        steps=steps,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run that have to be the same."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }
