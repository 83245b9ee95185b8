"""Files as such: tables one by one, JSON that is none, names that contradict their tasks, pictures of test sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from data_recipes.doctor.findings import Finding
from data_recipes.doctor.signatures import Signatures, signature
from data_recipes.runner.inputs import InputConfig
from insightedit.datasets.advancededit import json_files, step_of
from insightedit.datasets.reading import ReadError, load_json, picture_files, read_pixels
from insightedit.datasets.table_files import ENDINGS, data_files, is_arrow
from insightedit.datasets.tables import open_rows

MASK_WORDS = ("mask", "segmentation")
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
        for key, entry in table.items() if step >= 3 and isinstance(table, dict) else ():
            if not isinstance(entry, dict):
                continue
            origin, target = (
                PurePosixPath(str(entry.get(f"{end}_img_path") or "").replace("\\", "/"))
                for end in ("origin", "target")
            )
            of_origin, of_target = MADE.fullmatch(origin.stem), MADE.fullmatch(target.stem)
            begins = {  # what the pair that the task's name contradicts begins with
                "remove": "made picture" if of_origin and of_origin[1] == target.stem else "",
                "add": "photo" if of_target and of_target[1] == origin.stem else "",
            }
            task = str(entry.get("task_type"))
            if begins.get(task):
                told = f"{task} starts from the {begins[task]}: {origin.name} -> {target.name}"
                yield Finding("swapped", f"{name}, entry {key}", told, name)


def named_test_set(word: str) -> tuple[str, Path]:
    """`NAME=FOLDER`, or a folder that is called as it is.

    Raises:
        FileNotFoundError: if nothing is there.
    """
    name, equals, folder = word.partition("=")
    if not equals or Path(word).exists():
        name, folder = Path(word).name, word
    if not Path(folder).exists():
        raise FileNotFoundError(f"--against {word}: there is no {folder}; name a folder, or NAME=FOLDER.")
    return name, Path(folder)


def signatures_of(path: Path) -> Signatures:
    """Signatures of all pictures below a folder, of whatever layout, also within parquet and tar files.

    Masks are left out, by their names and because they are flat; so are pictures that cannot be read.

    Raises:
        ValueError: if there are none.
    """
    found = Signatures()
    for name, source in _pictures(path):
        with suppress(ReadError):
            picture = read_pixels(source)
            made = signature(picture)
            is_mask = ((picture < 16) | (picture > 239)).all() and (np.ptp(picture, axis=2) < 16).all()
            if made is not None and not is_mask:
                found.add(made, name)
    if not len(found):
        raise ValueError(f"{path} holds no pictures to compare with: name the folder of a test set.")
    return found


def _pictures(path: Path) -> Iterator[tuple[str, Path | bytes]]:
    """(name, file or its content) of all that is not called a mask."""
    for file in picture_files(path) if path.is_dir() else ():
        name = file.relative_to(path).as_posix()
        if not any(word in name.lower() for word in MASK_WORDS):
            yield name, file
    for kind, ending in (("parquet", ".parquet"), ("webdataset", ".tar")):
        for file in sorted(path.rglob(f"*{ending}")) if path.is_dir() else [path] if path.suffix == ending else ():
            rows = open_rows(kind, file, "train")
            for number in range(len(rows)):
                with suppress(ReadError):
                    for column, value in rows.row(number).items():
                        if any(word in column.lower() for word in MASK_WORDS):
                            continue
                        for one in value if isinstance(value, list) else [value]:
                            if isinstance(one, dict) and isinstance(one.get("bytes"), bytes):
                                yield f"{file.name}/{rows.key(number)}.{column}", one["bytes"]
