"""Benchmarks that are published as tables, parquet or arrow: their pictures are written out once, byte for byte.

A table holds pictures beside texts; what measures them takes files. The first visit writes `unpacked/NAME/` beside the
tables, with an index of the texts; later visits read the index only, as long as the tables are the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.reading import LFS, Notes, as_id, some
from insightedit.files import natural, write_text

UNPACKED = "unpacked"
INDEX = "index.json"
BATCH = 16  # rows in memory
SIGNATURES = {
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip
Row = dict[str, Any]


def table_files(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split, in order: those with the split's name as a word in their path below `folder`."""
    word = re.compile(rf"(^|[/._-]){re.escape(split)}([/._-]|$)")
    found = [path for path in folder.rglob("*.parquet") if word.search(path.relative_to(folder).as_posix())]
    return sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix()))


def table_shape(notes: Notes, files: Sequence[Path]) -> tuple[int, list[str]] | None:
    """(number of rows, names of columns) of files; None with a fault noted if they cannot be read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        notes.fault("Parquet files need pyarrow to be read: `pip install insightedit[data]`.")
        return None
    rows, columns = 0, []
    for path in files:
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                notes.fault(f"{notes.short(path)} is a Git LFS pointer: run `git lfs pull` in the folder.")
                return None
        try:
            number, columns = _shape(path)
        except (OSError, ValueError) as error:
            kind = path.suffix.removeprefix(".")
            notes.fault(f"{notes.short(path)} is damaged or no {kind} file ({error}): download it again.")
            return None
        rows += number
    return rows, columns


def check_columns(notes: Notes, name: str, columns: Sequence[str], needed: Sequence[str]) -> None:
    """Note a fault if a table lacks columns that are needed."""
    if lacking := [column for column in needed if column not in columns]:
        notes.fault(f"{name} has no column {some(lacking)}: it has {some(columns, 12)}.")


def _shape(path: Path) -> tuple[int, list[str]]:
    """(number of rows, names of columns) from a parquet file's footer or an arrow stream's marks."""
    import pyarrow
    import pyarrow.parquet as parquet

    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as table:
            return table.metadata.num_rows, table.schema_arrow.names
    with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
        return sum(batch.num_rows for batch in stream), stream.schema.names


def unpack(
    notes: Notes,
    files: Sequence[Path],
    name: str,
    pictures: Sequence[str],
    stem: Callable[[Row], object],
    columns: Sequence[str] | None = None,
) -> list[Row]:
    """Rows of tables, with paths in place of pictures, and None where the table has none.

    Args:
        notes: where faults go.
        files: from `table_files`, all with the same columns.
        name: of the folder below `unpacked/`.
        pictures: columns that hold pictures, {bytes, path}; those that a table lacks are left out.
        stem: of a row's picture files, unique; `-COLUMN` is added to it.
        columns: what is read, pictures included; None for everything.
    """
    into = notes.folder / UNPACKED / name
    stamp = [[path.name, path.stat().st_size] for path in files]
    rows = _from_index(into, stamp, pictures)
    if rows is not None:
        return rows
    try:
        into.mkdir(parents=True, exist_ok=True)
        rows = [_write(into, row, pictures, stem) for row in _rows(files, columns)]
        kept = [{key: value.name if isinstance(value, Path) else value for key, value in row.items()} for row in rows]
        text = json.dumps({"tables": stamp, "pictures": list(pictures), "rows": kept}, default=str)
        write_text(into / INDEX, text)
    except PermissionError:
        notes.fault(f"{notes.short(into)} cannot be written, where pictures are unpacked to: give the right to.")
        return []
    except (OSError, ValueError) as error:
        notes.fault(f"The pictures of {files[0].name} cannot be unpacked to {notes.short(into)} ({error}).")
        return []
    names = Counter(str(path) for row in rows for path in row.values() if isinstance(path, Path))
    if twice := [Path(path).stem for path, number in names.items() if number > 1]:
        notes.fault(f"Several rows of {files[0].name} have the same number ({some(twice)}): one would be lost.")
    return rows


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
    whole = all(path.is_file() for path in paths) and len(set(paths)) == len(paths)
    return rows if whole else None


def _rows(files: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows one after the other; few are in memory at a time."""
    import pyarrow
    import pyarrow.parquet as parquet

    names = None if columns is None else list(columns)
    for path in files:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as table:
                for batch in table.iter_batches(batch_size=BATCH, columns=names):
                    yield from batch.to_pylist()
            continue
        with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            for batch in stream:
                part = batch if names is None else batch.select(names)
                for start in range(0, part.num_rows, BATCH):
                    yield from part.slice(start, BATCH).to_pylist()


def _write(into: Path, row: Row, pictures: Sequence[str], stem: Callable[[Row], object]) -> Row:
    """Write a row's pictures; gives the row with paths."""
    written = {}
    for column in (column for column in pictures if column in row):
        raw = _bytes(row[column])
        ending = next((end for mark, end in SIGNATURES.items() if raw and raw.startswith(mark)), ".png")
        path = into / f"{as_id(stem(row), column)}{ending}"
        if raw is not None:
            path.write_bytes(raw)
        written[column] = path if raw is not None else None
    return {**row, **written}


def _bytes(value: Any) -> bytes | None:
    value = value.get("bytes") if isinstance(value, Mapping) else value
    return bytes(value) if isinstance(value, bytes | bytearray) else None
