"""Samples of tar shards: members that share a name, one ending for each field, in any order."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from insightedit.config.load import ConfigError
from insightedit.datasets.columns import FIELD_WORDS, plain_name
from insightedit.datasets.reading import FIELDS, OUTSIDE, ReadError, decoded, parsed_json
from insightedit.datasets.tables import Row, Rows, columns_of
from insightedit.images.reading import PICTURE_SUFFIXES

TEXTS = ("txt", "text", "caption")  # endings of members that hold words
Place = tuple[int, int] | str  # offset and size, or what is wrong with the member


class TarRows(Rows):
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
        self.samples = list[tuple[str, dict[str, Place]]]()
        counts = list[int]()
        for file in files:
            try:
                self.samples += (found := _samples(file))
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
                _take(row, stem, ending, content)
        return row


def _samples(file: Path) -> list[tuple[str, dict[str, Place]]]:
    """(name, ending -> place) of the samples of an archive."""
    members: list[tuple[str, Place]] = []
    with tarfile.open(file, "r:") as archive:
        for member in archive:
            if not member.isdir():
                members.append((member.name, member_fault(member) or (member.offset_data, member.size)))
            archive.members = []  # or the headers of all members stay in memory
    stems = {stem for name, _ in members if (stem := known_stem(name))}
    found: dict[str, dict[str, Place]] = {}
    for name, place in members:
        stem, ending = split_name(name, stems)
        sample = found.setdefault(stem, {})
        sample[ending] = f"{name} is there twice" if ending in sample and not isinstance(place, str) else place
    return list(found.items())


def _take(row: Row, stem: str, ending: str, content: bytes) -> None:
    column, _, last = ending.rpartition(".")
    if last.lower() == "json":
        told = parsed_json(decoded(content, f"{stem}.{ending}"), f"{stem}.{ending}")
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
