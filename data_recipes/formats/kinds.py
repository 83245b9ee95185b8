"""Which layout a folder is, and which splits it has."""

from __future__ import annotations

import json
from pathlib import Path

from data_recipes.formats.ai_toolkit import CONTROLS, TARGETS
from data_recipes.formats.published import SEEDS, SESSIONS
from insightedit.data.sources import LOADERS, is_arrow

SPLITS = ("train", "val", "validation", "dev", "test")
STEPS = ("1_", "2_mask", "3_editing", "4_instruction", "5_quality")


def guess_kind(path: Path) -> str:
    """The kind of input that a path looks like.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it looks like none; with what to do.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: check the path.")
    if path.is_file():
        return _kind_of_file(path)
    places = [path, *(path / split for split in SPLITS)]
    if any((place / SESSIONS).is_file() for place in places):
        return "magicbrush"
    if (path / SEEDS).is_file():
        return "instructpix2pix"
    if is_arrow(path):
        return "arrow"
    if any(one.name.startswith(STEPS) and one.is_dir() for one in path.iterdir()):
        return "advancededit"
    for kind, pattern in LOADERS.items():
        if kind != "arrow" and any(
            any(place.glob(pattern)) for place in [*places, path / "data"] if place.is_dir()
        ):
            return kind
    for file in sorted(path.glob("*.json")):
        if _is_mige(file):
            return "mige"
    if any(_has(place, TARGETS) and _has(place, CONTROLS) for place in places):
        return "ai_toolkit"
    raise ValueError(
        f"{path} is of no layout that is known by its files: name it with --kind, e.g. magicbrush, parquet or mige."
    )


def _kind_of_file(path: Path) -> str:
    endings = {".tar": "webdataset", ".parquet": "parquet", ".jsonl": "jsonl"}
    if path.suffix in endings:
        return endings[path.suffix]
    if path.suffix == ".json" and _is_mige(path):
        return "mige"
    raise ValueError(
        f"{path} is no file of pairs: name a folder, or a .jsonl, .parquet, .tar or MIGE's .json."
    )


def _is_mige(file: Path) -> bool:
    try:
        entries = json.loads(file.read_bytes())
    except ValueError:
        return False
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and "multi_prompt" in first


def _has(place: Path, names: tuple[str, ...]) -> bool:
    return any((place / name).is_dir() for name in names)


def splits_of(kind: str, path: Path) -> list[str]:
    """The splits that a path holds, at least one.

    Folders or files that are named after a split count; InstructPix2Pix is split by the order of its list. Without any
    such name all is one split, `train`.
    """
    if path.is_file():
        return ["train"]
    if kind == "instructpix2pix" and (path / SEEDS).is_file():
        return ["train", "val", "test"] if len(json.loads((path / SEEDS).read_bytes())) >= 20 else ["all"]
    if kind == "arrow":
        table = path / "dataset_dict.json"
        return list(json.loads(table.read_bytes())["splits"]) if table.is_file() else ["train"]
    if kind in ("magicbrush", "ai_toolkit"):
        wanted = (SESSIONS,) if kind == "magicbrush" else TARGETS
        found = [split for split in SPLITS if any((path / split / name).exists() for name in wanted)]
        return found or ["train"]
    if kind in LOADERS:
        return _splits_of_files(path, LOADERS[kind])
    return ["train"]


def _splits_of_files(path: Path, pattern: str) -> list[str]:
    found = []
    for split in SPLITS:
        if any((path / split).glob(pattern)) or any(path.glob(f"{split}{pattern}")):
            found.append(split)
    return found or ["train"]
