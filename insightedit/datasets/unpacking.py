"""What a published folder holds in another form than picture files, written out once, below `unpacked/` beside it.

A table holds pictures beside texts; what measures them takes files. The first visit writes `unpacked/NAME/`, byte for
byte, with an index of the texts; later visits read the index only, as long as the tables are the same. Masks are
written as white on black.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insightedit.config.load import ConfigError
from insightedit.datasets.notes import UNPACKED, Notes, as_id, some
from insightedit.datasets.tables import ArrowRows, ParquetRows, Row
from insightedit.files import natural, write_bytes, write_text
from insightedit.images.reading import PictureError, open_picture, read_region

INDEX = "index.json"
SIGNATURES = {
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip


def split_tables(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split, in order: those with the split's name as a word in their path below `folder`."""
    word = re.compile(rf"(^|[/._-]){re.escape(split)}([/._-]|$)")
    found = [path for path in folder.rglob("*.parquet") if word.search(path.relative_to(folder).as_posix())]
    return sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix()))


def open_tables(
    notes: Notes, files: Sequence[Path], needed: Sequence[str], only: Sequence[str] | None = None
) -> ParquetRows | ArrowRows | None:
    """The rows of files of one kind that have all columns `needed`; None with a fault noted if they cannot be read."""
    kind = ArrowRows if files[0].suffix == ".arrow" else ParquetRows
    try:
        for path in files:
            columns = kind([path]).columns
            if lacking := [column for column in needed if column not in columns]:
                notes.fault(f"{notes.short(path)} has no column {some(lacking, 9)}: it has {some(columns, 12)}.")
                return None
        return kind(files, only=only)
    except ConfigError as error:
        notes.fault(str(error).replace(f"{notes.folder}/", ""))
        return None


def unpack(
    notes: Notes, rows: ParquetRows | ArrowRows, name: str, pictures: Sequence[str], stem: Callable[[Row], object]
) -> list[Row]:
    """Rows with paths in place of `pictures` (columns of {bytes, path}), and None where there is none.

    They are written below `unpacked/NAME/`; `stem` gives a row's unique name, to which `-COLUMN` is added.
    """
    into, first = notes.folder / UNPACKED / name, rows.files[0].name
    stamp = [[path.name, path.stat().st_size] for path in rows.files]
    known = _from_index(into, stamp, pictures)
    if known is not None:
        return known
    written = list[Row]()
    try:
        into.mkdir(parents=True, exist_ok=True)
        for number in range(len(rows)):
            row = rows.row(number)
            for column in (column for column in pictures if column in row):
                value = row[column]
                raw = value.get("bytes") if isinstance(value, Mapping) else value
                row[column] = None
                if isinstance(raw, bytes | bytearray):
                    ending = next((end for mark, end in SIGNATURES.items() if raw.startswith(mark)), ".png")
                    row[column] = into / f"{as_id(stem(row), column)}{ending}"
                    row[column].write_bytes(raw)
            written.append(row)
        kept = [{key: value.name if isinstance(value, Path) else value for key, value in r.items()} for r in written]
        write_text(into / INDEX, json.dumps({"tables": stamp, "pictures": [*pictures], "rows": kept}, default=str))
    except PermissionError:
        notes.fault(f"{notes.short(into)} cannot be written, where pictures are unpacked to: give the right to.")
        return []
    except (OSError, ValueError) as error:  # a `ReadError` too
        notes.fault(f"The pictures of {first} cannot be unpacked to {notes.short(into)} ({error}).")
        return []
    names = Counter(str(path) for row in written for path in row.values() if isinstance(path, Path))
    if twice := [Path(path).stem for path, number in names.items() if number > 1]:
        notes.fault(f"Several rows of {first} have the same number ({some(twice)}): one would be lost.")
    return written


def _from_index(into: Path, stamp: list[list[Any]], pictures: Sequence[str]) -> list[Row] | None:
    """What an earlier visit wrote; None if it is missing, of other tables, or pictures are gone."""
    try:
        index = json.loads((into / INDEX).read_text(encoding="utf-8"))
        if index["tables"] != stamp or index["pictures"] != list(pictures):
            return None
        rows = [
            {key: into / Path(v).name if key in pictures and v else v for key, v in r.items()} for r in index["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    paths = [path for row in rows for path in row.values() if isinstance(path, Path)]
    is_whole = all(path.is_file() for path in paths) and len(set(paths)) == len(paths)
    return rows if is_whole else None


def white_mask(notes: Notes, path: Path, name: str) -> Path | None:
    """A mask in which white is to be edited: the published one, or written as `name` where that is a hole.

    One that cannot be read is given back (what checks pictures says so); None with a warning noted if writing fails.
    """
    try:
        with open_picture(path) as picture:
            if not picture.has_transparency_data:
                return path
        into = notes.folder / UNPACKED / "masks" / f"{name}.png"
        if into.is_file() and into.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return into
        region = read_region(path)
    except (OSError, PictureError):
        return path
    return write_mask(notes, region, name)


def write_mask(notes: Notes, region: np.ndarray, name: str) -> Path | None:
    """Write a region, (H, W) uint8 (255 = to be edited) or bool, as grey PNG; None with a warning if that fails."""
    into = notes.folder / UNPACKED / "masks" / f"{name}.png"
    values = region.astype(np.uint8) * 255 if region.dtype == np.bool_ else region
    content = io.BytesIO()
    Image.fromarray(values).save(content, format="PNG", compress_level=1)
    try:
        if not into.is_file() or into.read_bytes() != content.getvalue():
            into.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(into, content.getvalue())
    except OSError as error:
        notes.warn(
            f"Masks are left out: {notes.short(into.parent)} cannot be written ({error.strerror or error}).",
            differs=True,
        )
        return None
    return into
