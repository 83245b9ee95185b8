"""Records and small folders of published layouts, made by the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data_recipes.runner.inputs import Input, InputConfig, open_input
from data_recipes.runner.records import Record, Rejected

SIZE = (20, 24)


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def edited(source: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target that differs within a box, and the box as a mask."""
    target, mask = source.copy(), np.zeros(source.shape[:2], bool)
    mask[4:10, 6:13] = True
    target[mask] = np.random.default_rng(seed).integers(0, 256, 3, dtype=np.uint8)
    return target, mask


def edits(count: int = 3) -> list[Record]:
    made = []
    for number in range(count):
        source = noise(number)
        target, mask = edited(source, number)
        made.append(
            Record(
                f"{number:03d}/edit",
                task="edit",
                caption=f"photo {number}",
                source=source,
                target=target,
                mask=mask,
                instructions={"simple": (f"change number {number}",)},
            )
        )
    return made


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def dump(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def opened(kind: str, path: Path, **more: object) -> Input:
    return open_input(InputConfig(kind, str(path), **{"max_side": None, **more}))


def records(source: Input) -> list[Record]:
    found = [source[number] for number in range(len(source))]
    assert not [one for one in found if isinstance(one, Rejected)], found
    return [one for one in found if isinstance(one, Record)]


def rejected(source: Input, number: int = 0) -> tuple[str, str]:
    found = source[number]
    assert isinstance(found, Rejected), found
    assert found.step == "read"
    return found.reason, found.detail


def same(one: np.ndarray | None, other: np.ndarray | None, near: int = 0) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and int(np.abs(one.astype(int) - other.astype(int)).max()) <= near


def assert_same(found: Iterable[Record], wanted: Iterable[Record], fields: str, near: int = 0) -> None:
    found, wanted = list(found), list(wanted)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name in ("source", "target", "mask"):
            if name in fields.split():
                assert same(getattr(one, name), getattr(other, name), near), (one.key, name)
        for name in set(fields.split()) - {"source", "target", "mask", "references"}:
            assert getattr(one, name) == getattr(other, name), (one.key, name)
        if "references" in fields.split():
            assert [a.tolist() for a in one.references] == [b.tolist() for b in other.references]
