"""Rows of JSON lines, CSV, parquet, tar shards and saved `datasets`, by number, without unpacking or copying anything.

A picture is what the file holds: a path in JSON lines and CSV, its content elsewhere. Tar members are found by their
offset in the archive; one whose name leads out of a folder, or that is a link, is refused.
"""

from __future__ import annotations

import csv
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import StringIO
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, Any

from insightedit.config.load import ConfigError
from insightedit.datasets.columns import FIELD_WORDS, plain_name
from insightedit.datasets.reading import FIELDS, LFS, OUTSIDE, ReadError, decoded, parsed_json
from insightedit.datasets.table_files import data_files, is_arrow, saved_files
from insightedit.images.reading import PICTURE_SUFFIXES

Row = dict[str, Any]
KINDS = ("webdataset", "parquet", "jsonl", "arrow", "csv", "imagefolder")
KEPT_GROUPS = 2  # row groups of parquet files in memory
LOOKED_AT = 100  # rows that tell which columns JSON lines and tars have
TEXTS = ("txt", "text", "caption")  # endings of tar members that hold words


class Rows:
    """Rows of files, one file after the other; `columns` are those of all together."""

    columns: Sequence[str] = ()

    def __init__(self, files: Sequence[Path], counts: Iterable[int]) -> None:
        self.files, self.starts = list(files), [0, *accumulate(counts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def place(self, number: int) -> tuple[int, int]:
        """(which file, which of its rows) of a row."""
        which = bisect_right(self.starts, number) - 1
        return which, number - self.starts[which]

    def file(self, number: int) -> Path:
        """That the row stands in; paths in it start from the file's folder."""
        return self.files[self.place(number)[0]]

    def key(self, number: int) -> str:
        """Name of a row."""
        which, row = self.place(number)
        return f"{self.files[which].stem}-{row:06d}"

    def row(self, number: int) -> Row:
        """A row; raises a `ReadError` where it cannot be read."""
        raise NotImplementedError


def open_rows(kind: str, path: Path, split: str) -> Rows:
    """The rows of a split of a file or folder; one that `save_to_disk` wrote is known under `parquet` too."""
    if kind == "arrow" or (kind == "parquet" and is_arrow(path)):
        return ArrowRows(saved_files(path, split), split)
    files = data_files(kind, path, split)
    by_kind = {"jsonl": JsonRows, "csv": CsvRows, "parquet": ParquetRows, "webdataset": TarRows}
    by_ending = {".jsonl": JsonRows, ".csv": CsvRows, ".tsv": CsvRows, ".parquet": ParquetRows}  # image folders
    return (by_kind.get(kind) or by_ending[files[0].suffix.lower()])(files)


def columns_of(rows: Rows) -> list[str]:
    """All columns of the first rows that can be read, in the order in which they come."""
    found: dict[str, None] = {}
    for number in range(min(LOOKED_AT, len(rows))):
        try:
            found |= dict.fromkeys(rows.row(number))
        except ReadError:
            continue
    return list(found)


class TextRows(Rows):
    """Records of text files by number, lines that are not blank; only where each begins is in memory, 8 bytes each."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.begins, counts = array("q"), list[int]()
        for file in files:
            try:
                with file.open("rb") as stream:
                    self.begins.extend(self._begins(file, stream))
            except OSError as error:
                raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from None
            counts.append(len(self.begins) - sum(counts))
        super().__init__(files, counts)

    def _begins(self, file: Path, stream: IO[bytes]) -> Iterator[int]:
        begin = 0
        for line in stream:
            if line.strip():
                yield begin
            begin += len(line)

    def content(self, number: int) -> bytes:
        """The bytes of a record, the blank lines after it included."""
        which, _ = self.place(number)
        begin, is_last = self.begins[number], number + 1 == self.starts[which + 1]
        with self.files[which].open("rb") as stream:
            stream.seek(begin)
            return stream.read(-1 if is_last else self.begins[number + 1] - begin)

    def text(self, number: int) -> tuple[str, str]:
        """A record as messages name it, and its text."""
        where = f"{self.file(number).name}, byte {self.begins[number]}"
        return where, decoded(self.content(number), f"{where}: its")


class JsonRows(TextRows):
    """Objects of JSON lines."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(files)
        self.columns = columns_of(self)

    def row(self, number: int) -> Row:
        """See `Rows`."""
        where, text = self.text(number)
        row = parsed_json(text, where)
        if not isinstance(row, dict):
            raise ReadError(FIELDS, f"{where} holds a {type(row).__name__}")
        return row


class CsvRows(TextRows):
    """Rows below a head of columns; what parts cells is the one of `,`, `;` and tab that the head has most of."""

    def __init__(self, files: Sequence[Path]) -> None:
        csv.field_size_limit(2**31 - 1)
        self.heads: dict[Path, tuple[str, list[str]]] = {}
        for file in files:
            try:
                with file.open("rb") as stream:
                    text = decoded(stream.readline(), file.name).strip("\r\n")
            except (OSError, ReadError) as error:
                raise ConfigError(f"{file} cannot be read: {error}.") from None
            delimiter = max((",", ";", "\t"), key=text.count)
            names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])]
            if not any(names) or len(set(names)) < len(names):
                raise ConfigError(
                    f"{file} begins with the columns {', '.join(names) or 'none'}: its first line has to name each "
                    "column once."
                )
            self.heads[file] = delimiter, names
        super().__init__(files)
        self.columns = list(dict.fromkeys(name for _, names in self.heads.values() for name in names))

    def _begins(self, file: Path, stream: IO[bytes]) -> Iterator[int]:
        """Where rows begin; quoted cells may hold line ends."""
        taken = 0

        def lines() -> Iterator[str]:
            nonlocal taken
            for line in stream:
                taken += len(line)
                yield line.decode("latin-1")  # one character a byte: only quotes and delimiters matter here

        begin, reader = None, csv.reader(lines(), delimiter=self.heads[file][0])
        while True:
            try:
                cells = next(reader, None)
            except csv.Error:
                cells = [""]  # told when the row is read
            if cells is None:
                return
            if begin is not None and cells:
                yield begin
            begin = taken

    def row(self, number: int) -> Row:
        """See `Rows`."""
        where, text = self.text(number)
        delimiter, names = self.heads[self.file(number)]
        try:
            cells = next(csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise ReadError(FIELDS, f"{where}: {error}") from None
        if len(cells) != len(names):
            raise ReadError(FIELDS, f"{where} has {len(cells)} cells for {len(names)} columns")
        return {name: cell or None for name, cell in zip(names, cells, strict=True)}


@contextmanager
def _opening(file: Path, kind: str) -> Iterator[None]:
    """Around what opens a table: why it cannot be, as a sentence for its user."""
    try:
        import pyarrow
    except ImportError:
        raise ConfigError("Parquet files need pyarrow to be read: `pip install insightedit[data]`.") from None
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        with file.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise ConfigError(f"{file} is a Git LFS pointer: run `git lfs pull` in the folder.") from None
        told = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{file} is no whole {kind} file ({told}): get it again.") from None


class ParquetRows(Rows):
    """Rows of parquet files; the last row groups stay in memory. `only` these columns are read, all by default."""

    def __init__(self, files: Sequence[Path], only: Sequence[str] | None = None) -> None:
        self.groups, sizes, counts = list[tuple[Path, int]](), list[int](), list[int]()
        columns: dict[str, None] = {}
        for file in files:
            with _opening(file, "parquet"):
                from pyarrow.parquet import ParquetFile

                with ParquetFile(file) as opened:
                    facts, names = opened.metadata, opened.schema_arrow.names
            columns |= dict.fromkeys(names)
            self.groups += [(file, group) for group in range(facts.num_row_groups)]
            sizes += [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
            counts.append(facts.num_rows)
        super().__init__(files, counts)
        self.columns, self.only, self.group_starts = list(columns), only, [0, *accumulate(sizes)]
        self._group = lru_cache(maxsize=KEPT_GROUPS)(self._read_group)

    def row(self, number: int) -> Row:
        """See `Rows`."""
        from pyarrow import ArrowException

        group = bisect_right(self.group_starts, number) - 1
        try:
            return self._group(group).slice(number - self.group_starts[group], 1).to_pylist()[0]
        except (ArrowException, OSError, ValueError) as error:
            raise ReadError(FIELDS, f"{self.groups[group][0].name}: {' '.join(str(error).split())[:200]}") from None

    def _read_group(self, group: int) -> Any:
        from pyarrow.parquet import ParquetFile

        file, number = self.groups[group]
        with ParquetFile(file) as opened:
            return opened.read_row_group(number, columns=None if self.only is None else list(self.only))


class ArrowRows(Rows):
    """Rows of streams that `Dataset.save_to_disk` wrote, memory-mapped; `only` these columns, all by default."""

    def __init__(self, files: Sequence[Path], split: str = "", only: Sequence[str] | None = None) -> None:
        self.split, self.only, self.batches, counts = split, only, list[Any](), list[int]()
        for file in files:
            with _opening(file, "arrow"):
                from pyarrow import ipc, memory_map

                found = ipc.open_stream(memory_map(str(file))).read_all().to_batches()
            self.batches += found
            counts.append(sum(map(len, found)))
        super().__init__(files, counts)
        self.columns = self.batches[0].schema.names if self.batches else []
        self.batch_starts = [0, *accumulate(map(len, self.batches))]

    def key(self, number: int) -> str:
        """See `Rows`."""
        return f"{self.split}-{number:06d}"

    def row(self, number: int) -> Row:
        """See `Rows`."""
        which = bisect_right(self.batch_starts, number) - 1
        rows = self.batches[which].slice(number - self.batch_starts[which], 1)
        return (rows if self.only is None else rows.select(list(self.only))).to_pylist()[0]


Place = tuple[int, int] | str  # offset and size of a tar member, or what is wrong with it


class TarRows(Rows):
    """Samples of tar shards: members that share a name, one ending for each field, in any order.

    `img.v2.0001.source.png` is the column `source` of `img.v2.0001`, because `source` is a column that is known; other
    members (`img.v2.0001.json`) belong to the longest such name that theirs begins with, else to theirs up to the first
    dot, as webdataset has it. The ending may be of any kind of picture, in any case, `.txt` for words, `.json` for all.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.samples = list[tuple[str, dict[str, Place]]]()
        counts = list[int]()
        for file in files:
            try:
                self.samples += (found := _tar_samples(file))
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ConfigError(f"{file} is no whole tar archive ({error}): get it again.") from None
            counts.append(len(found))
        super().__init__(files, counts)
        self.columns = columns_of(self)

    def key(self, number: int) -> str:
        """See `Rows`."""
        return f"{self.file(number).stem}-{self.samples[number][0].replace('/', '-')}"

    def row(self, number: int) -> Row:
        """See `Rows`."""
        (stem, members), path = self.samples[number], self.file(number)
        row: Row = {}
        with path.open("rb") as file:
            for ending, place in members.items():
                if isinstance(place, str):
                    raise ReadError(FIELDS if place.endswith("twice") else OUTSIDE, place)
                file.seek(place[0])
                content = file.read(place[1])
                if len(content) < place[1]:
                    raise ReadError(FIELDS, f"{path.name} ends within {stem}.{ending}")
                column, _, last = ending.rpartition(".")
                if last.lower() == "json":
                    told = parsed_json(decoded(content, f"{stem}.{ending}"), f"{stem}.{ending}")
                    if not column and not isinstance(told, dict):
                        raise ReadError(FIELDS, f"{stem}.{ending} holds a {type(told).__name__}")
                    told = {column: told} if column else {name: told[name] for name in told if name not in row}
                    row |= told
                elif last.lower() in TEXTS:
                    row[column or "text"] = decoded(content, f"{stem}.{ending}").strip()
                else:
                    row[column or ending] = {"bytes": content}
        return row


def _tar_samples(file: Path) -> list[tuple[str, dict[str, Place]]]:
    """(name, ending -> place) of the samples of an archive."""
    members: list[tuple[str, Place]] = []
    with tarfile.open(file, "r:") as archive:
        for member in archive:
            if not member.isdir():
                members.append((member.name, _tar_fault(member) or (member.offset_data, member.size)))
            archive.members = []  # or the headers of all members stay in memory
    stems = {stem for name, _ in members if (stem := _known_stem(name))}
    found: dict[str, dict[str, Place]] = {}
    for name, place in members:
        stem, ending = _split_name(name, stems)
        sample = found.setdefault(stem, {})
        sample[ending] = f"{name} is there twice" if ending in sample and not isinstance(place, str) else place
    return list(found.items())


def _known_stem(name: str) -> str:
    """What a member's sample is called, if the last word before its ending is a column that is known; else ""."""
    path = PurePosixPath(name)
    parts = path.name.split(".")
    while len(parts) > 2 and f".{parts[-2].lower()}" in PICTURE_SUFFIXES:
        parts.pop()  # `source.jpg.png`
    is_known = len(parts) > 2 and plain_name(parts[-2]) in FIELD_WORDS
    return str(path.with_name(".".join(parts[:-2]))) if is_known else ""


def _split_name(name: str, stems: set[str]) -> tuple[str, str]:
    """Sample and ending of a member: `a/0001.source.png` -> (`a/0001`, `source.png`)."""
    path = PurePosixPath(name)
    pieces = path.name.split(".")
    for count in range(len(pieces) - 1, 0, -1):
        stem = str(path.with_name(".".join(pieces[:count]))) if any(pieces[:count]) else ""
        if stem in stems:
            return stem, ".".join(pieces[count:])
    first, _, ending = path.name.partition(".")
    return (str(path.with_name(first)), ending) if first else (name, "")


def _tar_fault(member: tarfile.TarInfo) -> str:
    """What is unsafe about a member of an archive; "" if nothing is."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if member.issym() or member.islnk():
        return f"{member.name} is a link to {member.linkname}"
    if not member.isfile():
        return f"{member.name} is neither a file nor a folder"
    if path.is_absolute() or (path.parts[:1] and path.parts[0].endswith(":")):
        return f"{member.name} has an absolute path"
    return f"{member.name} leads out of the folder" if ".." in path.parts else ""
