"""What is wrong with files as such: JSON that is none, and pairs whose names contradict their tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from data_recipes.doctor.findings import Finding
from data_recipes.runner.inputs import InputConfig
from insightedit.datasets.advancededit import json_files, step_of
from insightedit.datasets.reading import ReadError, load_json
from insightedit.datasets.table_files import ENDINGS, data_files, is_arrow

MADE = re.compile(r"(.+)_\d+_.+")  # <photo>_<number>_<what was done>.png


def parts(config: InputConfig) -> list[InputConfig]:
    """The inputs of a split: one for each file of a table, so that a damaged one does not hide the others."""
    path = Path(str(config.path))
    if config.kind not in ENDINGS or path.is_file() or is_arrow(path):
        return [config]
    files = data_files(config.kind, path, config.split)
    return [replace(config, path=str(file), split="train") for file in files]  # a file is one split


def json_faults(root: Path) -> Iterator[Finding]:
    """JSON files of AdvancedEdit's steps that are not valid, and entries whose names contradict their task.

    Made pictures are called after their photo: where the photo is the target of a removal, or the source of an
    addition, the two are swapped.
    """
    for path in json_files(root):
        step = step_of(path, root)
        if step is None:
            continue
        name = path.relative_to(root).as_posix()
        try:
            table = load_json(path)
        except ReadError as error:
            if step < 3:  # later ones are told with their records
                yield Finding("not_json", name, error.detail, name)
            continue
        if step >= 3 and isinstance(table, dict):
            for key, entry in table.items():
                if isinstance(entry, dict) and (told := _contradiction(entry)):
                    yield Finding("swapped", f"{name}, entry {key}", told, name)


def _contradiction(entry: dict[str, Any]) -> str:
    origin, target = (
        PurePosixPath(str(entry.get(f"{end}_img_path") or "").replace("\\", "/")) for end in ("origin", "target")
    )
    made = MADE.fullmatch(origin.stem), MADE.fullmatch(target.stem)
    starts_from_photo = bool(made[1] and made[1][1] == origin.stem)
    starts_from_made = bool(made[0] and made[0][1] == target.stem)
    task = entry.get("task_type")
    if (task == "remove" and starts_from_made) or (task == "add" and starts_from_photo):
        what = "starts from the made picture" if starts_from_made else "starts from the photo"
        return f"{task} {what}: {origin.name} -> {target.name}"
    return ""
