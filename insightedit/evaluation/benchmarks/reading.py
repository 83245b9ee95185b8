"""What all layouts need: notes of faults, JSON with errors that teach, safe paths, pictures that are really there.

A loader (`reads`) is given `Notes`, reads what it can and says what is wrong in sentences instead of stopping at the
first fault; `finish` checks every picture, counts, and either gives the benchmark or raises with all faults.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from insightedit.datasets.reading import AMBIGUOUS, Finder, ReadError, is_too_long
from insightedit.datasets.reading import inside as path_inside
from insightedit.evaluation.benchmarks.base import (
    Benchmark,
    BenchmarkError,
    BenchmarkSample,
    Card,
    check_split,
    non_commercial,
)  # fmt: skip
from insightedit.files import is_junk, natural
from insightedit.images.reading import PictureError, is_picture_file, open_picture, upright_size

LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif")
LFS = b"version https://git-lfs"
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


def reads(
    card: Card, published: Mapping[str, Mapping[str, int]] | None = None
) -> Callable[[Callable[[Notes, str], Sequence[BenchmarkSample]]], Callable[..., Benchmark]]:
    """Make of a function that reads a folder's samples, (notes, split) -> samples, the `load` of a `Loader`.

    Args:
        card: of the benchmark.
        published: split -> samples by category of a whole copy, "all" = in total; the card's counts by default.
    """

    def decorated(read: Callable[[Notes, str], Sequence[BenchmarkSample]]) -> Callable[..., Benchmark]:
        def load(folder: Path, *, split: str | None = None) -> Benchmark:
            chosen = check_split(card, split)
            notes = Notes(card, folder)
            return finish(notes, read(notes, chosen), published=(published or {}).get(chosen), split=chosen)

        load.__doc__ = read.__doc__
        return load

    return decorated


class Notes:
    """Faults and warnings of one folder, gathered while it is read.

    Args:
        card: of the benchmark.
        folder: what is read.

    Raises:
        BenchmarkError: if `folder` is no folder.
    """

    def __init__(self, card: Card, folder: Path) -> None:
        self.card = card
        self.folder = Path(folder)
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.differs: list[str] = []
        if not self.folder.exists():
            raise BenchmarkError(card, self.folder, ["There is no such folder; check the path."])
        if zipfile.is_zipfile(self.folder):
            raise BenchmarkError(card, self.folder, [packed(self.folder)])
        if not self.folder.is_dir():
            raise BenchmarkError(card, self.folder, ["It is a file: name the folder that holds the benchmark."])

    def fault(self, sentence: str) -> None:
        """Something that makes a measurement wrong or impossible."""
        if sentence not in self.faults:
            self.faults.append(sentence)

    def warn(self, sentence: str, *, differs: bool = False) -> None:
        """Something odd that does not stop the measurement; `differs`: the data are not those that were published."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            self.differs += [sentence] if differs else []

    def stop(self) -> None:
        """End here if anything is wrong: what follows cannot be read without what is missing.

        Raises:
            BenchmarkError: with all faults so far.
        """
        if self.faults:
            raise BenchmarkError(self.card, self.folder, self.faults)

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
            if raw.startswith(LFS):
                self.fault(f"{name} is a Git LFS pointer, not the file: run `git lfs pull` in the folder.")
                return None
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.fault(f"{name} is not text in UTF-8 (byte {error.start}): save it in UTF-8.")
        except OSError as error:
            self.fault(f"{name} cannot be read: {error.strerror or error}.")
        return None

    def read_json(self, path: Path, wanted: type | tuple[type, ...], shape: str) -> Any:
        """A JSON file whose outermost value is of a type, e.g. {id: [{input, mask, output, instruction}]} (`shape`).

        None with a fault noted if the file is missing, no JSON, empty, of another type, or names a key twice in one
        object (one of the two would be lost).
        """
        text = self.read_text(path)
        if text is None:
            return None
        name, twice = self.short(path), []

        def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            twice.extend(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
            return dict(pairs)

        try:
            value = json.loads(text, object_pairs_hook=keep)
        except ValueError as error:
            self.fault(f"{name} is not valid JSON ({error}): it should hold {shape}.")
            return None
        except RecursionError:
            self.fault(f"{name} is nested too deep to be read: it should hold {shape}.")
            return None
        if twice:
            self.fault(f"{name} names a key twice in one object ({some(twice)}): one of the two would be lost.")
            return None
        if not isinstance(value, wanted) or not value:
            kind = type(value).__name__
            article = "an empty" if value in ([], {}) else "an" if kind[0] in "aeiou" else "a"
            self.fault(f"{name} holds {article} {kind}: it should hold {shape}.")
            return None
        return value

    def read_jsonl(self, path: Path, shape: str) -> list[dict[str, Any]] | None:
        """A file with one JSON object a line, empty lines skipped; None with faults noted if a line is none."""
        text = self.read_text(path)
        if text is None:
            return None
        rows, name = [], self.short(path)
        bad = []
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

    def text_of(self, row: Mapping[str, Any], key: str, where: str, *, needed: bool = True) -> str:
        """A text of a record without blanks around it; "" with a fault noted if it is missing, empty or no text.

        `where` names the record in messages; `needed=False` takes a missing, null or empty text silently as "".
        """
        value = row.get(key)
        if value is None and not needed:
            return ""
        if key not in row:
            self.fault(f"{where} has no `{key}`.")
        elif not isinstance(value, str):
            self.fault(f"{where} has {value!r:.60} as `{key}`: it has to be a text.")
        elif not value.strip() and needed:
            self.fault(f"{where} has an empty `{key}`.")
        return value.strip() if isinstance(value, str) else ""

    def inside(self, folder: Path, name: str, where: str) -> Path | None:
        """A path that a record (`where`) names, kept within a folder; None with a fault noted if it leads out of it."""
        try:
            return path_inside(folder, name)
        except ReadError:
            self.fault(f"{where} names the path {name!r:.80}: it has to be relative, without `..`, within the folder.")
            return None

    def numbered(self, names: Sequence[str], what: str) -> list[str]:
        """Names made unique: the second `a` becomes `a-2`, with a warning."""
        seen: Counter[str] = Counter()
        unique = []
        for name in names:
            seen[name] += 1
            unique.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
        if twice := [name for name, number in seen.items() if number > 1]:
            self.warn(f"{len(twice)} {what} occur more than once ({some(twice)}): the later ones end in -2, -3 ...")
        return unique

    def pictures_by_stem(self, folder: Path) -> dict[str, Path]:
        """The pictures of one folder, not of those within it, by stem in natural order.

        Two pictures with the same stem (`a.png`, `a.jpg`) are a fault: nobody knows which one is meant.
        """
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
        sizes: dict[Path, tuple[int, int]] = {}
        troubles: dict[tuple[str, str], list[str]] = {}
        for path, role in {path: role for role, path in pictures}.items():
            try:
                sizes[path] = picture_size(path)
            except PictureFault as fault:
                troubles.setdefault((str(fault), role), []).append(self.short(path))
        for (trouble, role), names in troubles.items():
            self.fault(f"{trouble} {role} pictures ({len(names)}): {some(names)}; {REMEDIES[trouble]}.")
        return sizes


def packed(path: Path) -> str:
    """What to do with an archive that was not unpacked, as a sentence."""
    with zipfile.ZipFile(path) as archive:
        locked = any(entry.flag_bits & 1 for entry in archive.infolist())
    how = (
        " and has a password: unpack it with the one that its publishers give beside the link,"
        if locked
        else ": unpack it"
    )
    return f"{path.name} is still a zip archive{how} and name the folder."


def some(names: Iterable[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def as_id(*parts: object) -> str:
    """A sample id from the layout's own names: parts joined by `-`, what file names cannot hold replaced by `_`."""
    return re.sub(r"[^\w.-]+", "_", "-".join(str(part) for part in parts if str(part))).strip("._")


class PictureIndex:
    """Finds pictures below a folder, `unpacked/` left out, by the paths that files of another machine name."""

    def __init__(self, notes: Notes, folder: Path) -> None:
        self.notes, self.finder = notes, Finder(folder, leave_out=("unpacked",))

    def find(self, name: str, where: str) -> Path | None:
        """The picture that a record (`where`) names: by its path below the folder, else by its file's name alone.

        A path also where no such file is (what checks pictures says so); None with a fault noted if the name is blank
        or no path, or several pictures have it.
        """
        last = PurePosixPath(name.strip().replace("\\", "/")).name
        try:
            return self.finder.find(name)
        except ReadError as error:
            if not last or last == ".." or is_too_long(PurePosixPath(last)):
                self.notes.fault(f"{where} names the path {name!r:.80}: write the picture's file name there.")
                return None
            if error.reason == AMBIGUOUS:
                self.notes.fault(
                    f"{where} names {name!r}, and several pictures have that name ({error.detail.partition(': ')[2]}): "
                    "give its path in the folder."
                )
                return None
            return self.finder.folder / last


class PictureFault(ValueError):
    """A file that is no good picture; the message is a key of `REMEDIES`."""


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, from the header; the end is looked at too, and decoded only where that is unusual.

    Raises:
        PictureFault: if it is missing, empty, cut off, unreadable, or something else than a picture.
    """
    if not path.is_file():
        raise PictureFault("Folders in place of" if path.is_dir() else "Missing")
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(max(0, path.stat().st_size - TAIL))
        tail = file.read()
    if not head:
        raise PictureFault("Empty")
    if head.startswith(LFS):
        raise PictureFault("Git LFS pointers in place of")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise PictureFault("Web pages in place of")
    try:
        with open_picture(path) as picture:
            if not _ends_well(picture.format, path, tail):
                picture.load()
            return upright_size(picture)
    except (OSError, PictureError) as error:
        raise PictureFault("Cut-off" if "truncated" in str(error).lower() else "Unreadable") from error


def _ends_well(kind: str | None, path: Path, tail: bytes) -> bool:
    """Whether the file's end mark is there; True for kinds that have none."""
    if kind == "PNG":
        return b"IEND" in tail
    if kind == "JPEG":
        return b"\xff\xd9" in tail
    if kind == "WEBP":
        with path.open("rb") as file:
            return int.from_bytes(file.read(8)[4:], "little") + 8 <= path.stat().st_size
    return True


def pictures_of(sample: BenchmarkSample) -> list[tuple[str, Path]]:
    """(role, path) of all pictures of a sample, in a fixed order."""
    roles = [("source", sample.source), ("target", sample.target), ("mask", sample.mask)]
    roles += [("reference", path) for path in sample.references]
    roles += [("subject", path) for path in sample.subjects]
    return [(role, path) for role, path in roles if path is not None]


def finish(
    notes: Notes, samples: Sequence[BenchmarkSample], *, published: Mapping[str, int] | None = None, split: str = ""
) -> Benchmark:
    """Check every picture and the counts, and give the benchmark.

    Args:
        notes: what was noted so far.
        samples: in the order in which they are to be measured.
        published: samples by category of a whole copy, "all" = in total; the card's by default.
        split: which was read.

    Raises:
        BenchmarkError: with all faults: those noted, ids that occur twice, empty instructions, bad pictures.
    """
    if not samples and not notes.faults:
        notes.fault("It holds no samples.")
    repeated = [name for name, number in Counter(sample.sample_id for sample in samples).items() if number > 1]
    if repeated:
        notes.fault(f"Ids occur more than once ({some(repeated)}): each names one result file.")
    if bad := [sample.sample_id for sample in samples if sample.sample_id != as_id(sample.sample_id)]:
        notes.fault(f"Ids cannot be names of files ({some(bad)}): use letters, digits, `_`, `-` and dots.")
    if silent := [one.sample_id for one in samples if not all(map(str.strip, (*one.earlier, one.instruction)))]:
        notes.fault(f"Samples have no instruction ({some(silent)}).")
    sizes = notes.check_pictures([picture for sample in samples for picture in pictures_of(sample)])
    notes.stop()
    if notes.card.is_non_commercial:
        notes.warn(non_commercial(notes.card))
    _compare_sizes(notes, samples, sizes)
    _compare_counts(notes, samples, notes.card.counts if published is None else published)
    told = (tuple(notes.warnings), version_of(samples), split, tuple(notes.differs))
    return Benchmark(notes.card, notes.folder, tuple(samples), *told)


def _compare_sizes(notes: Notes, samples: Sequence[BenchmarkSample], sizes: Mapping[Path, tuple[int, int]]) -> None:
    for role, remark in (("target", "the protocol resizes them"), ("mask", "they are stretched to the source's")):
        odd = [
            sample.sample_id
            for sample in samples
            if sample.source is not None
            and (other := getattr(sample, role)) is not None
            and sizes[sample.source] != sizes[other]
        ]
        if odd:
            notes.warn(f"{len(odd)} {role}s have another size than their sources ({some(odd)}): {remark}.")
    lossy = {sample.mask for sample in samples if sample.mask and sample.mask.suffix.lower() in LOSSY}
    if lossy:
        notes.warn(
            f"{len(lossy)} masks are JPEG or WebP: their edges are soft and grey pixels surround the region, so the "
            "`paper` box is larger than the `strict` one."
        )


def _compare_counts(notes: Notes, samples: Sequence[BenchmarkSample], published: Mapping[str, int]) -> None:
    counts = {"all": len(samples), **Counter(sample.category for sample in samples)}
    total = published.get("all")
    if total is not None and counts["all"] < total:
        notes.warn(
            f"{counts['all']} of the {total} published samples are here: numbers do not compare with published ones.",
            differs=True,
        )
    elif total is not None and counts["all"] > total:
        told = f"{counts['all']} samples are here, {total} are published: this is another edition."
        notes.warn(told, differs=True)
    odd = [
        f"{group} {counts.get(group, 0)} of {number}"
        for group, number in published.items()
        if counts.get(group, 0) != number and group != "all"
    ]
    if odd:
        notes.warn(f"Groups differ from the published counts: {some(odd, 12)}.", differs=True)


def version_of(samples: Sequence[BenchmarkSample]) -> str:
    """First 16 hex digits of a SHA-256 over ids, instructions and picture sizes in bytes."""
    digest = hashlib.sha256()
    for sample in samples:
        sizes = [path.stat().st_size for _, path in pictures_of(sample)]
        texts = [*sample.earlier, sample.instruction]
        digest.update(json.dumps([sample.sample_id, texts, sizes]).encode())
    return digest.hexdigest()[:16]
