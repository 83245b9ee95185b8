"""The folder of a run: what is claimed, what is whole, and files that are either all there or not there.

OUT/train-00000.parquet   the pairs of unit 0; none where no input of it became a pair
OUT/units/00000.json      what was counted in unit 0, with the digest of its file
OUT/work/                 records between steps; only while a run goes step by step
OUT/manifest.json         settings from the beginning on; files and counts at the end
OUT/log.jsonl             times; the only file in which two runs of the same settings differ
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import Unit
from data_recipes.runner.rows import ENDINGS
from insightedit.files import MARK, check_folder, lock_folder, write_text

MANIFEST, LOG, UNITS, WORK = "manifest.json", "log.jsonl", "units", "work"


class OutFolder:
    """Files of a run by unit, in its `output.path` or at another `path`; `durable` ones outlast a power cut."""

    def __init__(self, config: RecipeConfig, path: Path | None = None, *, durable: bool = True) -> None:
        self.path = path or Path(str(config.output.path))
        self.durable = durable
        self.digest = config.digest
        self.settings = config.deciding()
        self.shard_name = f"{config.split}-{{:05d}}.{ENDINGS[config.output.format]}"

    def shard(self, unit: Unit) -> Path:
        """The data of a unit."""
        return self.path / self.shard_name.format(unit.number)

    def sidecar(self, unit: Unit) -> Path:
        """The counts of a unit."""
        return self.path / UNITS / f"{unit.number:05d}.json"

    def work(self, unit: Unit, steps_done: int) -> Path:
        """The records of a unit after so many steps."""
        return self.path / WORK / f"{steps_done:02d}" / f"{unit.number:05d}.zip"

    def claim(self) -> dict[str, Any] | None:
        """The manifest that a run of the same settings left here; raises what `begun_manifest` does."""
        manifest = begun_manifest(self.path, self.settings, "a recipe")
        self.sweep()
        return manifest

    def sweep(self) -> None:
        """Take away what killed workers left half-written."""
        for left in self.path.rglob(f".{MARK[1:]}*"):
            left.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run out; see `lock_folder`."""
        self.path.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.path):
            try:
                yield
            finally:
                (self.path / ".lock").unlink(missing_ok=True)  # while it is held: a data set has data only

    def whole(self, unit: Unit) -> dict[str, Any] | None:
        """The counts of a unit if it is done, and its file has the size and digest they say; else None."""
        try:
            counts = json.loads(self.sidecar(unit).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if counts.get("settings") != self.digest or counts.get("inputs") != [unit.start, unit.count]:
            return None
        return counts if counts["shard"] is None or is_whole(self.shard(unit), counts["shard"]) else None

    def steps_done(self, unit: Unit, num_steps: int) -> int:
        """After how many steps records of the unit lie in the work folder; 0 if none do."""
        return next((n for n in range(num_steps - 1, 0, -1) if self.work(unit, n).is_file()), 0)

    def note(self, **facts: Any) -> None:
        """Add a line to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")


def begun_manifest(
    folder: Path, settings: dict[str, Any], what: str, older: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The manifest of a folder that was begun with the same settings; None if it is new or empty, else a ValueError.

    `settings` are ready for JSON; `older` are those that folders of older versions do not name.
    """
    check_folder(folder)
    path = folder / MANIFEST
    if not path.is_file():
        if folder.is_dir() and any(not one.name.startswith(".") for one in folder.iterdir()):
            raise ValueError(
                f"{folder} holds files but no {MANIFEST} of {what}: name a new or empty folder with --out."
            )
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        begun, _ = {**(older or {}), **manifest["settings"]}, manifest["complete"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a manifest of {what}: name a new or empty folder with --out.") from None
    if told := ", ".join(_differences(begun, settings)):
        raise ValueError(f"{folder} was begun with {told}: give the same settings to go on, or name another folder.")
    return manifest


def _differences(begun: Any, now: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*now, *begun]):
            yield from _differences(begun.get(key), now.get(key), f"{prefix}.{key}" if prefix else key)
    elif begun != now:
        yield f"{prefix} {begun} (now {now})"


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace a file by JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n", durable=durable)


def file_entry(path: Path) -> dict[str, Any]:
    """Name, size and digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def is_whole(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is there with the size and the digest that its entry says."""
    has_size = path.is_file() and path.stat().st_size == entry["bytes"]
    return has_size and file_entry(path)["sha256"] == entry["sha256"]
