"""Rows of JSON lines, parquet, tar shards and saved `datasets`, by number, without unpacking or copying anything.

A picture is what the file holds: a path in JSON lines, its content elsewhere. Tar members are found by their offset in
the archive; one whose name leads out of a folder, or that is a link, is refused.
"""

from __future__ import annotations

import json
import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from data_recipes.formats.reading import FIELDS, NOT_JSON, OUTSIDE, ReadError
from insightedit.data.sources import data_files, is_arrow

Row = dict[str, Any]
KINDS = ("jsonl", "parquet", "webdataset", "arrow")
TEXTS = ("txt", "text", "caption")  # endings of tar members that hold words
KEPT_GROUPS = 2  # row groups of parquet files in memory


class Rows(Protocol):
    """Rows of files, one file after the other."""

    keys: list[str]

    def row(self, number: int) -> Row:
        """A row; its own key as `__key__` where it has one.

        Raises:
            ReadError: if it cannot be read.
        """
        ...

    def folder(self, number: int) -> Path:
        """Where paths in a row start."""
        ...


def open_rows(kind: str, path: Path, split: str) -> Rows:
    """The rows of a split.

    Args:
        kind: one of `KINDS`.
        path: file or folder.
        split: which files of the folder, as `data.sources` finds them: `path/SPLIT/*`, `path/*SPLIT*`, else all.

    Raises:
        ValueError: if the folder has no such files.
        OSError: if a file cannot be opened at all.
    """
    if kind == "arrow" or (kind == "parquet" and is_arrow(path)):
        return ArrowRows(path, split)
    files = data_files(kind, path, split)
    return {"jsonl": JsonRows, "parquet": ParquetRows, "webdataset": TarRows}[kind](files)


class JsonRows:
    """Objects of JSON lines; only where each line begins is kept in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.places: list[tuple[int, int]] = []
        self.keys: list[str] = []
        for which, file in enumerate(files):
            with file.open("rb") as lines:
                begin = 0
                for line in lines:
                    if line.strip():
                        self.places.append((which, begin))
                        self.keys.append(f"{file.stem}-{len(self.keys):06d}")
                    begin += len(line)

    def row(self, number: int) -> Row:
        """See `Rows`."""
        which, begin = self.places[number]
        with self.files[which].open("rb") as lines:
            lines.seek(begin)
            try:
                row = json.loads(lines.readline().decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise ReadError(NOT_JSON, f"{self.files[which].name}, byte {begin}: {error}") from None
        if not isinstance(row, dict):
            raise ReadError(FIELDS, f"{self.files[which].name}, byte {begin} holds a {type(row).__name__}")
        return row

    def folder(self, number: int) -> Path:
        """See `Rows`."""
        return self.files[self.places[number][0]].parent


class ParquetRows:
    """Rows of parquet files; the last row groups stay in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        self.files = files
        self.groups: list[tuple[Path, int]] = []
        sizes, self.keys = [], []
        for file in files:
            try:
                facts = ParquetFile(file).metadata
            except (ArrowException, OSError) as error:
                told = " ".join(str(error).split()).rstrip(".")
                raise ValueError(f"{file} is no whole parquet file ({told}): get it again.") from None
            for group in range(facts.num_row_groups):
                self.groups.append((file, group))
                sizes.append(facts.row_group(group).num_rows)
            self.keys += [f"{file.stem}-{number:06d}" for number in range(facts.num_rows)]
        self.starts = [0, *accumulate(sizes)]
        self._group = lru_cache(maxsize=KEPT_GROUPS)(self._read_group)

    def row(self, number: int) -> Row:
        """See `Rows`."""
        group = bisect_right(self.starts, number) - 1
        return self._group(group).slice(number - self.starts[group], 1).to_pylist()[0]

    def _read_group(self, group: int) -> Any:
        from pyarrow.parquet import ParquetFile

        file, number = self.groups[group]
        return ParquetFile(file).read_row_group(number)

    def folder(self, number: int) -> Path:
        """See `Rows`."""
        return self.groups[bisect_right(self.starts, number) - 1][0].parent


class ArrowRows:
    """Rows that `Dataset.save_to_disk` wrote."""

    def __init__(self, path: Path, split: str) -> None:
        from datasets import DatasetDict, Image, load_from_disk

        loaded = load_from_disk(str(path))
        if isinstance(loaded, DatasetDict):
            if split not in loaded:
                raise ValueError(
                    f"{path} has the splits {', '.join(loaded)}, not `{split}`: name one of them."
                )
            loaded = loaded[split]
        for name, kind in loaded.features.items():
            if isinstance(kind, Image):
                loaded = loaded.cast_column(name, Image(decode=False))
        self.path, self.table = path, loaded
        self.keys = [f"{split}-{number:06d}" for number in range(len(loaded))]

    def row(self, number: int) -> Row:
        """See `Rows`."""
        return dict(self.table[number])

    def folder(self, number: int) -> Path:
        """See `Rows`."""
        return self.path


class TarRows:
    """Samples of tar shards: members that share a name up to the first dot, one ending for each field."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.samples: list[tuple[int, str, dict[str, tuple[int, int] | str]]] = []
        self.keys: list[str] = []
        for which, file in enumerate(files):
            try:
                self._scan(which, file)
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"{file} is no whole tar archive ({error}): get it again.") from None

    def _scan(self, which: int, file: Path) -> None:
        current: dict[str, tuple[int, int] | str] = {}
        name = None
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                stem, ending = split_name(member.name)
                if stem != name:
                    current, name = {}, stem
                    self.samples.append((which, stem, current))
                    self.keys.append(f"{file.stem}-{stem.replace('/', '-')}")
                fault = member_fault(member)
                current[ending] = fault or (member.offset_data, member.size)
                archive.members = []  # or the headers of all members stay in memory

    def row(self, number: int) -> Row:
        """See `Rows`."""
        which, name, members = self.samples[number]
        row: Row = {"__key__": name}
        with self.files[which].open("rb") as file:
            for ending, place in members.items():
                if isinstance(place, str):
                    raise ReadError(OUTSIDE, place)
                file.seek(place[0])
                content = file.read(place[1])
                if len(content) < place[1]:
                    raise ReadError(FIELDS, f"{self.files[which].name} ends within {name}.{ending}")
                self._take(row, ending, content)
        return row

    @staticmethod
    def _take(row: Row, ending: str, content: bytes) -> None:
        last = ending.rpartition(".")[2].lower()
        if ending == "json":
            try:
                told = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise ReadError(NOT_JSON, f"{row['__key__']}.json: {error}") from None
            row |= told if isinstance(told, dict) else {}
        elif last in TEXTS:
            row["instruction" if ending == last else ending[: -len(last) - 1]] = content.decode(
                "utf-8", "replace"
            )
        else:
            row[ending.rpartition(".")[0] or ending] = {"bytes": content}

    def folder(self, number: int) -> Path:
        """See `Rows`."""
        return self.files[self.samples[number][0]].parent


def split_name(name: str) -> tuple[str, str]:
    """What a member is called, and its ending: `a/0001.source.png` -> (`a/0001`, `source.png`)."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, ending


def member_fault(member: tarfile.TarInfo) -> str:
    """What is unsafe about a member of an archive; "" if nothing is."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if member.issym() or member.islnk():
        return f"{member.name} is a link to {member.linkname}"
    if not member.isfile():
        return f"{member.name} is neither a file nor a folder"
    if path.is_absolute() or (path.parts[:1] and path.parts[0].endswith(":")):
        return f"{member.name} has an absolute path"
    if ".." in path.parts:
        return f"{member.name} leads out of the folder"
    return ""
