"""Steps of a recipe over rendered scenes, with backends that know the truth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import count as numbers
from itertools import islice
from typing import Any

import numpy as np

from data_recipes.backends.base import load_backend
from data_recipes.oracle.world import World, world_of
from data_recipes.recipes import build_steps
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context

SIZE = 96


@cache
def oracles() -> dict[str, Any]:
    """All oracle backends; the harmoniser leaves everything as it is."""
    names = ("chat", "detector", "segmenter", "inpainter", "summariser")
    made = {name: load_backend(name, {"kind": "oracle"}) for name in names}
    made["harmoniser"] = load_backend("harmoniser", {"kind": "statistics", "strength": 0.0})
    return made


def scenes(kind: str, count: int, **changed: Any) -> list[Record]:
    """The first records of a source of scenes."""
    source = open_input(InputConfig(**{"kind": kind, "count": count, "size": SIZE, **changed}))
    found = [source[number] for number in range(count)]
    assert all(isinstance(one, Record) for one in found)
    return [one for one in found if isinstance(one, Record)]


def showing(kind: str, count: int) -> list[Record]:
    """The first of them whose photos, the second one of a couple too, show something."""
    source = open_input(InputConfig(kind=kind, count=count, size=SIZE))
    found = map(source.__getitem__, numbers())
    shown = (one for one in found if isinstance(one, Record) and all(w.scene.objects for w in _worlds(one.truth)))
    return list(islice(shown, count))


def _worlds(truth: Mapping[str, Any]) -> list[World]:
    return [world_of(one) for one in (truth, truth.get("partner")) if one]


def run_steps(
    recipe: str,
    records: list[Record],
    settings: Mapping[str, Any] | None = None,
    backends: Mapping[str, Any] | None = None,
    batch: int = 100,
) -> tuple[list[Record], list[Rejected]]:
    """What becomes of records: those that come out, and those that are refused on the way."""
    rejected: list[Rejected] = []
    for step in build_steps(recipe, settings or {}):
        known = backends or oracles()
        context = Context(0, step.name, {name: known[name] for name in step.needs})
        outcomes = []
        for start in range(0, len(records), batch):
            outcomes += step(records[start : start + batch], context)
        assert len(outcomes) == len(records)
        for record, found in zip(records, outcomes, strict=True):
            assert found and all(one.key == record.key or one.key.startswith(f"{record.key}/") for one in found)
        flat = [one for found in outcomes for one in found]
        rejected += [one for one in flat if isinstance(one, Rejected)]
        records = [one for one in flat if isinstance(one, Record)]
    for record in records:
        record.check()
    return records, rejected


def world(record: Record, **more: Any) -> World:
    """The scene behind a record."""
    return world_of({**record.truth, **more})


def same_records(one: list[Record], other: list[Record]) -> bool:
    """Whether two lists of records are equal, pictures included."""
    return len(one) == len(other) and all(_same(vars(a), vars(b)) for a, b in zip(one, other, strict=True))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "__dict__") and not isinstance(one, type):
        return _same(vars(one), vars(other))
    return bool(one == other)
