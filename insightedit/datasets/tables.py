"""Rows of JSON lines, CSV, parquet, tar shards and saved `datasets`, by number, without unpacking or copying anything.

A picture is what the file holds: a path in JSON lines and CSV, its content elsewhere. Tar members are found by their
offset in the archive; one whose name leads out of a folder, or that is a link, is refused.
"""

from __future__ import annotations

import csv
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import StringIO
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from insightedit.config.load import ConfigError
from insightedit.datasets.reading import FIELDS, ReadError, decoded, parsed_json
from insightedit.datasets.table_files import data_files

Row = dict[str, Any]
KINDS = ("webdataset", "parquet", "jsonl", "arrow", "csv", "imagefolder")
KEPT_GROUPS = 2  # row groups of parquet files in memory
LOOKED_AT = 100  # rows that tell which columns JSON lines and tars have


class Rows:
    """Rows of files, one file after the other.

    Args:
        files: in order.
        counts: rows of each.
    """

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
        """A row.

        Raises:
            ReadError: if it cannot be read.
        """
        raise NotImplementedError


def open_rows(kind: str, path: Path, split: str) -> Rows:
    """The rows of a split of a file or folder.

    A folder that `save_to_disk` wrote is known as such under `parquet` too.

    Raises:
        ConfigError: if there are no such files, one of them is damaged as a whole, or there is no such split.
    """
    if kind == "arrow" or (kind == "parquet" and is_arrow(path)):
        return ArrowRows(path, split)
    files = data_files(kind, path, split)
    if kind == "webdataset":
        from insightedit.datasets.tar_rows import TarRows

        return TarRows(files)
    readers = {".jsonl": JsonRows, ".csv": CsvRows, ".tsv": CsvRows, ".parquet": ParquetRows}
    wanted = {"jsonl": JsonRows, "csv": CsvRows, "parquet": ParquetRows}
    return (wanted.get(kind) or readers[files[0].suffix.lower()])(files)


def is_arrow(path: Path) -> bool:
    """Whether `save_to_disk` of the `datasets` library wrote this folder."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


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

    def where(self, number: int) -> str:
        """A record as messages name it."""
        return f"{self.file(number).name}, byte {self.begins[number]}"


class JsonRows(TextRows):
    """Objects of JSON lines."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(files)
        self.columns = columns_of(self)

    def row(self, number: int) -> Row:
        """See `Rows`."""
        where = self.where(number)
        row = parsed_json(decoded(self.content(number), f"{where}: its"), where)
        if not isinstance(row, dict):
            raise ReadError(FIELDS, f"{where} holds a {type(row).__name__}")
        return row


def columns_of(rows: Any) -> list[str]:
    """All columns of the first rows that can be read, in the order in which they come."""
    found: dict[str, None] = {}
    for number in range(min(LOOKED_AT, len(rows))):
        try:
            found |= dict.fromkeys(rows.row(number))
        except ReadError:
            continue
    return list(found)


class CsvRows(TextRows):
    """Rows below a head of columns; what parts cells is the one of `,`, `;` and tab that the head has most of."""

    def __init__(self, files: Sequence[Path]) -> None:
        csv.field_size_limit(2**31 - 1)
        self.heads: dict[Path, tuple[str, list[str]]] = {file: _head(file) for file in files}
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
        where = self.where(number)
        delimiter, names = self.heads[self.file(number)]
        text = decoded(self.content(number), f"{where}: its")
        try:
            cells = next(csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise ReadError(FIELDS, f"{where}: {error}") from None
        if len(cells) != len(names):
            raise ReadError(FIELDS, f"{where} has {len(cells)} cells for {len(names)} columns")
        return {name: cell or None for name, cell in zip(names, cells, strict=True)}


def _head(file: Path) -> tuple[str, list[str]]:
    """Delimiter and columns of a CSV file."""
    try:
        with file.open("rb") as stream:
            text = decoded(stream.readline(), file.name).strip("\r\n")
    except (OSError, ReadError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    delimiter = max((",", ";", "\t"), key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])]
    if not any(names) or len(set(names)) < len(names):
        raise ConfigError(
            f"{file} begins with the columns {', '.join(names) or 'none'}: its first line has to name each column once."
        )
    return delimiter, names


class ParquetRows(Rows):
    """Rows of parquet files; the last row groups stay in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        self.groups, sizes, counts = list[tuple[Path, int]](), list[int](), list[int]()
        columns: dict[str, None] = {}
        for file in files:
            try:
                with ParquetFile(file) as opened:
                    facts, names = opened.metadata, opened.schema_arrow.names
            except (ArrowException, OSError) as error:
                told = " ".join(str(error).split()).rstrip(".")
                raise ConfigError(f"{file} is no whole parquet file ({told}): get it again.") from None
            columns |= dict.fromkeys(names)
            self.groups += [(file, group) for group in range(facts.num_row_groups)]
            sizes += [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
            counts.append(facts.num_rows)
        super().__init__(files, counts)
        self.columns, self.group_starts = list(columns), [0, *accumulate(sizes)]
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
            return opened.read_row_group(number)


class ArrowRows(Rows):
    """Rows that `Dataset.save_to_disk` wrote, memory-mapped."""

    def __init__(self, path: Path, split: str) -> None:
        import pyarrow

        self.split, self.batches = split, list[Any]()
        folder = _split_folder(path, split)
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            files = [folder / Path(one["filename"]).name for one in state["_data_files"]]
            counts = list[int]()
            for file in files:
                batches = pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all().to_batches()
                self.batches += batches
                counts.append(sum(map(len, batches)))
        except (OSError, ValueError, LookupError, TypeError) as error:
            told = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(f"{folder} is no whole saved data set ({told}): save it anew.") from None
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise ConfigError(
                f"{folder} keeps its rows in another order than its files: load it and `save_to_disk` it anew."
            )
        super().__init__(files, counts)
        self.columns = self.batches[0].schema.names if self.batches else []
        self.batch_starts = [0, *accumulate(map(len, self.batches))]

    def key(self, number: int) -> str:
        """See `Rows`."""
        return f"{self.split}-{number:06d}"

    def row(self, number: int) -> Row:
        """See `Rows`."""
        which = bisect_right(self.batch_starts, number) - 1
        return self.batches[which].slice(number - self.batch_starts[which], 1).to_pylist()[0]


def _split_folder(path: Path, split: str) -> Path:
    if not is_arrow(path):
        raise ConfigError(
            f"{path} is no folder that `Dataset.save_to_disk` wrote: it has no state.json and no dataset_dict.json."
        )
    if not (path / "dataset_dict.json").is_file():
        if split != "train":
            raise ConfigError(f"{path} is one saved data set without splits, so there is no `{split}`: leave it out.")
        return path
    splits = saved_splits(path)
    if split not in splits:
        raise ConfigError(f"{path} has the splits {', '.join(splits)}, not `{split}`: name one of them.")
    return path / split


def saved_splits(path: Path) -> list[str]:
    """The splits of a folder that `DatasetDict.save_to_disk` wrote; `train` for one without.

    Raises:
        ConfigError: if their list cannot be read.
    """
    table = path / "dataset_dict.json"
    if not table.is_file():
        return ["train"]
    try:
        return [str(one) for one in json.loads(table.read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{table} cannot be read ({error}): save the data set anew.") from None
