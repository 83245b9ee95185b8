"""Pictures of test sets, which no training pair may show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.doctor.signatures import Signatures, signature
from insightedit.datasets.reading import ReadError, picture_files, read_pixels
from insightedit.datasets.tables import open_rows

MASK_WORDS = ("mask", "segmentation")


def named(word: str) -> tuple[str, Path]:
    """`NAME=FOLDER`, or a folder that is called as it is.

    Raises:
        FileNotFoundError: if nothing is there.
    """
    name, equals, folder = word.partition("=")
    path = Path(folder) if equals and not Path(word).exists() else Path(word)
    if not path.exists():
        raise FileNotFoundError(f"--against {word}: there is no {path}; name a folder, or NAME=FOLDER.")
    return (name if equals and path == Path(folder) else path.name, path)


def signatures_of(path: Path, progress: Callable[[int], object] = lambda done: None) -> Signatures:
    """Signatures of all pictures below a folder, of whatever layout, also within parquet and tar files.

    Masks are left out, by their names and because they are flat; so are pictures that cannot be read.

    Raises:
        ValueError: if there are none.
    """
    found = Signatures()
    for name, picture in _pictures(path):
        progress(1)
        made = signature(picture)
        if made is not None and not _is_mask(picture):
            found.add(made, name)
    if not len(found):
        raise ValueError(f"{path} holds no pictures to compare with: name the folder of a test set.")
    return found


def _pictures(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    root = path.parent if path.is_file() else path
    for file in picture_files(path) if path.is_dir() else ():
        name = file.relative_to(root).as_posix()
        if not any(word in name.lower() for word in MASK_WORDS):
            yield from _read(name, file)
    for kind, ending in (("parquet", ".parquet"), ("webdataset", ".tar")):
        files = [path] if path.suffix == ending else sorted(path.rglob(f"*{ending}")) if path.is_dir() else []
        for file in files:
            rows = open_rows(kind, file, "train")
            for number in range(len(rows)):
                with suppress(ReadError):
                    yield from _row_pictures(f"{file.name}/{rows.key(number)}", rows.row(number))


def _row_pictures(name: str, row: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for column, value in row.items():
        if any(word in column.lower() for word in MASK_WORDS):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and isinstance(one.get("bytes"), bytes):
                yield from _read(f"{name}.{column}", one["bytes"])


def _read(name: str, source: Path | bytes) -> Iterator[tuple[str, np.ndarray]]:
    try:
        yield name, read_pixels(source)
    except ReadError:
        return


def _is_mask(picture: np.ndarray) -> bool:
    """Whether it has nothing but black and white."""
    return bool(((picture < 16) | (picture > 239)).all() and (np.ptp(picture, axis=2) < 16).all())
