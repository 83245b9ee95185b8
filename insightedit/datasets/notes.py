"""What is wrong with a folder that others publish, gathered while it is read and told all at once.

A reader is given `Notes`, reads what it can and says what is wrong in sentences instead of stopping at the first fault.
Of one record the first fault counts (`Notes.each`).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from insightedit.datasets.pairs import FAULTS_OF_FIELDS
from insightedit.datasets.reading import AMBIGUOUS, LFS, Finder, ReadError, inside, is_too_long
from insightedit.files import is_junk, natural
from insightedit.images.reading import PictureError, is_picture_file, open_picture, upright_size

LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif")
UNPACKED = "unpacked"  # folder below the published one that we write to
TAIL = 4096  # bytes in which the end mark of a picture has to be; some programs append notes after it
REMEDIES = {
    "Missing": "get the whole folder again",
    "Empty": "copy them again",
    "Cut-off": "copy them again",
    "Unreadable": "Pillow has to be able to open them",
    "Folders in place of": "each has to be a file",
    "Git LFS pointers in place of": "run `git lfs pull` in the folder",
    "Web pages in place of": "download them again, signed in where that is needed",
}
Made = TypeVar("Made")


class FolderError(ValueError):
    """A folder that does not hold what is published as `title`; `faults` are sentences for the user."""

    def __init__(self, folder: Path, title: str, obtain: str, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        shown = " ".join(self.faults[:5])
        more = f" And {len(self.faults) - 5} more." if len(self.faults) > 5 else ""
        super().__init__(f"{folder} is not a good copy of {title}: {shown}{more} {obtain}")


class EntryError(ReadError):
    """What is wrong with a record: the rest of a sentence that begins with where it stands."""


class Notes:
    """Faults and warnings of one folder, of what should be in it (`title`), and how a user gets that (`obtain`)."""

    def __init__(self, folder: Path, title: str, obtain: str) -> None:
        self.folder, self.title, self.obtain = Path(folder), title, obtain
        self.faults, self.warnings, self.differs = list[str](), list[str](), list[str]()
        if not self.folder.exists():
            self.fault("There is no such folder; check the path.")
        elif zipfile.is_zipfile(self.folder):
            self.fault(packed(self.folder))
        elif not self.folder.is_dir():
            self.fault("It is a file: name the folder that holds the benchmark.")
        self.stop()

    def fault(self, sentence: str) -> None:
        """Something that makes a measurement wrong or impossible."""
        if sentence not in self.faults:
            self.faults.append(sentence)

    def warn(self, sentence: str, *, differs: bool = False) -> None:
        """Something odd that does not stop the measurement; `differs`: the data are not those that were published."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            self.differs += [sentence] if differs else []

    def stop(self, sentence: str = "") -> None:
        """Raise a `FolderError` of all faults so far and this one: what follows needs what is missing."""
        if sentence:
            self.fault(sentence)
        if self.faults:
            raise FolderError(self.folder, self.title, self.obtain, self.faults)

    def short(self, path: Path) -> str:
        """A path as messages name it: relative to the folder where it lies in it."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    def read_text(self, path: Path) -> str | None:
        """A text file in UTF-8, with or without byte order mark; None with a fault noted if that cannot be."""
        name = self.short(path)
        if not path.is_file():
            self.fault(f"{name} is missing.")
            return None
        try:
            raw = path.read_bytes()
            if not raw.startswith(LFS):
                return raw.decode("utf-8-sig")
            self.fault(f"{name} is a Git LFS pointer, not the file: run `git lfs pull` in the folder.")
        except UnicodeDecodeError as error:
            self.fault(f"{name} is not text in UTF-8 (byte {error.start}): save it in UTF-8.")
        except OSError as error:
            self.fault(f"{name} cannot be read: {error.strerror or error}.")
        return None

    def read_json(self, path: Path, wanted: type | tuple[type, ...], shape: str) -> Any:
        """A JSON file whose outermost value is of a type and not empty, as `shape` tells; None with a fault noted."""
        text = self.read_text(path)
        if text is None:
            return None
        twice = []

        def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            twice.extend(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
            return dict(pairs)

        value, wrong = None, ""
        try:
            value = json.loads(text, object_pairs_hook=keep)
        except ValueError as error:
            wrong = f"is not valid JSON ({error}): it should hold {shape}"
        except RecursionError:
            wrong = f"is nested too deep to be read: it should hold {shape}"
        if twice and not wrong:
            wrong = f"names a key twice in one object ({some(twice)}): one of the two would be lost"
        if not wrong and (not isinstance(value, wanted) or not value):
            kind = type(value).__name__
            article = "an empty" if value in ([], {}) else "an" if kind[0] in "aeiou" else "a"
            wrong = f"holds {article} {kind}: it should hold {shape}"
        if wrong:
            self.fault(f"{self.short(path)} {wrong}.")
        return None if wrong else value

    def read_jsonl(self, path: Path, shape: str) -> list[dict[str, Any]] | None:
        """A file with one JSON object a line, empty lines skipped; None with faults noted if a line is none."""
        text = self.read_text(path)
        if text is None:
            return None
        rows, bad, name = [], [], self.short(path)
        for number, line in enumerate(text.split("\n"), 1):  # U+2028 is no end of a line
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                bad.append(str(number))
        if bad:
            self.fault(f"{name} has lines that are no JSON objects ({some(bad)}): each should hold {shape}.")
        elif not rows:
            self.fault(f"{name} is empty: it should hold a line {shape} for each sample.")
        return rows if rows and not bad else None

    def each(self, rows: Iterable[tuple[str, Any]], shape: str, make: Callable[[Entry], Made]) -> list[Made]:
        """What is made of each (where it stands, record); one that cannot be read is a fault."""
        made = []
        for where, row in rows:
            try:
                if not isinstance(row, Mapping):
                    raise EntryError(f"is {row!r:.40}: it has to be {shape}")
                made.append(make(Entry(self, where, row)))
            except EntryError as error:
                self.fault(f"{where} {error}.")
            except ReadError as error:
                self.fault(f"{where}: {str(error).rstrip('.')}.")
            except FAULTS_OF_FIELDS as error:
                told = " ".join(f"{type(error).__name__} {error}".split())
                self.fault(f"{where}: record is incomplete: {told[:200]}.")
        return made

    @cached_property
    def finder(self) -> Finder:
        """Finds pictures below the folder by what files of another machine call them."""
        return Finder(self.folder, leave_out=(UNPACKED,))

    def pictures_by_stem(self, folder: Path) -> dict[str, Path]:
        """The pictures of one folder, not of those within it, by stem in natural order; twice one is a fault."""
        found: dict[str, Path] = {}
        files = [path for path in folder.iterdir() if is_picture_file(path) and not is_junk(path)]
        for path in sorted(files, key=lambda path: natural(path.name)):
            if path.stem in found:
                names = f"{found[path.stem].name} and {path.name}"
                self.fault(f"{self.short(folder)} holds {names}: remove the one that is not meant.")
            found.setdefault(path.stem, path)
        return found

    def check_pictures(self, pictures: Iterable[tuple[str, Path]]) -> dict[Path, tuple[int, int]]:
        """Sizes (width, height) of the good ones of (role, path); one fault for each kind of trouble and role."""
        roles = {path: f"{role} pictures" for role, path in pictures}
        sizes, faults = picture_sizes(roles, roles.__getitem__, self.short)
        for sentence in faults:
            self.fault(sentence)
        return sizes


@dataclass(frozen=True)
class Entry:
    """A record of a file: its fields, or an `EntryError` that says what is wrong with one."""

    notes: Notes  # of the folder
    where: str  # it stands, as messages name it
    fields: Mapping[str, Any]  # as published

    def fault(self, sentence: str) -> None:
        """Note what is wrong, and go on."""
        self.notes.fault(f"{self.where} {sentence}.")

    def text(self, key: str, *, needed: bool = True) -> str:
        """A text without blanks around it; one that is not `needed` is "" where it is missing, null or empty."""
        value = self.fields.get(key)
        if value is None and not needed:
            return ""
        if key not in self.fields:
            raise EntryError(f"has no `{key}`")
        if not isinstance(value, str):
            raise EntryError(f"has {value!r:.60} as `{key}`: it has to be a text")
        if needed and not value.strip():
            raise EntryError(f"has an empty `{key}`")
        return value.strip()

    def texts(self, key: str, what: str = "texts") -> list[str]:
        """A list of texts; without the key, an empty one."""
        value = self.fields.get(key, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise EntryError(f"has {value!r:.60} as `{key}`: it has to be a list of {what}")
        return value

    def inside(self, folder: Path, name: str) -> Path:
        """A path that the record names, kept within a folder."""
        try:
            return inside(folder, name)
        except ReadError:
            raise EntryError(
                f"names the path {name!r:.80}: it has to be relative, without `..`, within the folder"
            ) from None

    def find(self, name: str) -> Path:
        """The picture that the record names, a path also where no such file is: what checks pictures says so."""
        last = PurePosixPath(name.strip().replace("\\", "/")).name
        try:
            return self.notes.finder.find(name)
        except ReadError as error:
            if not last or last == ".." or is_too_long(PurePosixPath(last)):
                raise EntryError(f"names the path {name!r:.80}: write the picture's file name there") from None
            if error.reason == AMBIGUOUS:
                raise EntryError(
                    f"names {name!r}, and several pictures have that name ({error.detail.partition(': ')[2]}): "
                    "give its path in the folder"
                ) from None
            return self.notes.folder / last


def packed(path: Path) -> str:
    """What to do with an archive that was not unpacked, as a sentence."""
    with zipfile.ZipFile(path) as archive:
        is_locked = any(entry.flag_bits & 1 for entry in archive.infolist())
    how = ": unpack it"
    if is_locked:
        how = " and has a password: unpack it with the one that its publishers give beside the link,"
    return f"{path.name} is still a zip archive{how} and name the folder."


def some(names: Iterable[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def as_id(*parts: object) -> str:
    """A sample id from the layout's own names: parts joined by `-`, what file names cannot hold replaced by `_`."""
    return re.sub(r"[^\w.-]+", "_", "-".join(str(part) for part in parts if str(part))).strip("._")


class PictureFault(ValueError):
    """A file that is no good picture; the message is a key of `REMEDIES`."""


def picture_sizes(
    paths: Iterable[Path], role: Callable[[Path], str], short: Callable[[Path], str]
) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """(width, height) of the good pictures, and a sentence for each kind of trouble and role."""
    sizes: dict[Path, tuple[int, int]] = {}
    troubles: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        try:
            sizes[path] = picture_size(path)
        except PictureFault as fault:
            troubles.setdefault((str(fault), role(path)), []).append(short(path))
    return sizes, [
        f"{trouble} {what} ({len(names)}): {some(names)}; {REMEDIES[trouble]}."
        for (trouble, what), names in troubles.items()
    ]


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, from the header; the end is looked at too, and decoded only where that is unusual."""
    if not path.is_file():
        raise PictureFault("Folders in place of" if path.is_dir() else "Missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    if not head:
        raise PictureFault("Empty")
    if head.startswith(LFS):
        raise PictureFault("Git LFS pointers in place of")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise PictureFault("Web pages in place of")
    try:
        with open_picture(path) as picture:
            has_end = {  # formats without an end mark are taken as they are
                "PNG": b"IEND" in tail,
                "JPEG": b"\xff\xd9" in tail,
                "WEBP": int.from_bytes(head[4:8], "little") + 8 <= size,
            }
            if not has_end.get(picture.format or "", True):
                picture.load()
            return upright_size(picture)
    except (OSError, PictureError) as error:
        raise PictureFault("Cut-off" if "truncated" in str(error).lower() else "Unreadable") from error
