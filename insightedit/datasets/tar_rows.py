"""Samples of tar shards: members that share a name, one ending for each field, in any order."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from insightedit.config.load import ConfigError
from insightedit.datasets.columns import FIELD_WORDS, plain_name
from insightedit.datasets.reading import FIELDS, NOT_JSON, OUTSIDE, ReadError, decoded
from insightedit.datasets.tables import Row, columns_of
from insightedit.images.reading import PICTURE_SUFFIXES

TEXTS = ("txt", "text", "caption")  # endings of members that hold words
Place = tuple[int, int] | str  # offset and size, or what is wrong with the member


class TarRows:
    """Samples by number.

    `img.v2.0001.source.png` is the column `source` of `img.v2.0001`, because `source` is a column that is known; other
    members (`img.v2.0001.json`) belong to the longest such name that theirs begins with, else to theirs up to the first
    dot, as webdataset has it. The ending may be of any kind of picture, in any case, `.txt` for words, `.json` for all.

    Args:
        files: the shards.

    Raises:
        ConfigError: if one is no whole archive.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.samples: list[tuple[int, str, dict[str, Place]]] = []
        for which, file in enumerate(self.files):
            try:
                self._scan(which, file)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ConfigError(f"{file} is no whole tar archive ({error}): get it again.") from None
        self.columns = columns_of(self)

    def _scan(self, which: int, file: Path) -> None:
        members: list[tuple[str, Place]] = []
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isdir():
                    place = member_fault(member) or (member.offset_data, member.size)
                    members.append((member.name, place))
                archive.members = []  # or the headers of all members stay in memory
        stems = {stem for name, _ in members if (stem := known_stem(name))}
        found: dict[str, dict[str, Place]] = {}
        for name, place in members:
            stem, ending = split_name(name, stems)
            sample = found.setdefault(stem, {})
            sample[ending] = f"{name} is there twice" if ending in sample and not isinstance(place, str) else place
        self.samples += [(which, stem, sample) for stem, sample in found.items()]

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, number: int) -> str:
        """See `Rows`."""
        which, stem, _ = self.samples[number]
        return f"{self.files[which].stem}-{stem.replace('/', '-')}"

    def file(self, number: int) -> Path:
        """See `Rows`."""
        return self.files[self.samples[number][0]]

    def row(self, number: int) -> Row:
        """See `Rows`."""
        which, stem, members = self.samples[number]
        row: Row = {}
        with self.files[which].open("rb") as file:
            for ending, place in members.items():
                if isinstance(place, str):
                    raise ReadError(FIELDS if place.endswith("twice") else OUTSIDE, place)
                file.seek(place[0])
                content = file.read(place[1])
                if len(content) < place[1]:
                    raise ReadError(FIELDS, f"{self.files[which].name} ends within {stem}.{ending}")
                _take(row, stem, ending, content)
        return row


def _take(row: Row, stem: str, ending: str, content: bytes) -> None:
    column, _, last = ending.rpartition(".")
    if last.lower() == "json":
        try:
            told = json.loads(decoded(content, f"{stem}.{ending}"))
        except (ValueError, RecursionError) as error:
            if isinstance(error, ReadError):
                raise
            raise ReadError(NOT_JSON, f"{stem}.{ending}: {error}") from None
        if column:
            row[column] = told
        elif isinstance(told, dict):
            row |= {name: value for name, value in told.items() if name not in row}
        else:
            raise ReadError(FIELDS, f"{stem}.{ending} holds a {type(told).__name__}")
    elif last.lower() in TEXTS:
        row[column or "text"] = decoded(content, f"{stem}.{ending}").strip()
    else:
        row[column or ending] = {"bytes": content}


def known_stem(name: str) -> str:
    """What a member's sample is called, if the last word before its ending is a column that is known; else ""."""
    path = PurePosixPath(name)
    parts = path.name.split(".")
    while len(parts) > 2 and f".{parts[-2].lower()}" in PICTURE_SUFFIXES:
        parts.pop()  # `source.jpg.png`
    if len(parts) < 3 or plain_name(parts[-2]) not in FIELD_WORDS:
        return ""
    return str(path.with_name(".".join(parts[:-2])))


def split_name(name: str, stems: set[str]) -> tuple[str, str]:
    """Sample and ending of a member: `a/0001.source.png` -> (`a/0001`, `source.png`)."""
    path = PurePosixPath(name)
    pieces = path.name.split(".")
    for count in range(len(pieces) - 1, 0, -1):
        stem = str(path.with_name(".".join(pieces[:count]))) if any(pieces[:count]) else ""
        if stem in stems:
            return stem, ".".join(pieces[count:])
    first, _, ending = path.name.partition(".")
    return (str(path.with_name(first)), ending) if first else (name, "")


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
