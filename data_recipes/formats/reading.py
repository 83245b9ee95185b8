"""What all layouts need: pictures as arrays, paths that stay in their folder, and records by number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.pipeline.inputs import InputConfig
from data_recipes.pipeline.records import Record, Rejected
from insightedit import imaging
from insightedit.evaluation.benchmarks.reading import is_junk, natural
from insightedit.imaging import PICTURE_SUFFIXES, PictureError, is_picture_file, read_rgb

STEP = "read"
MISSING = "file is missing"
DAMAGED = "picture cannot be read"
NO_TEXT = "instruction is empty"
OUTSIDE = "path leads out of the folder"
FIELDS = "record is incomplete"
NOT_JSON = "file is not valid JSON"
AMBIGUOUS = "several files have that name"
WHITE = 128  # from here on a pixel of a mask is white


class ReadError(ValueError):
    """Why a record cannot be read.

    Attributes:
        reason: one of this module's constants, the same for all of a kind.
        detail: about this one.
        key: of the record, where its own row tells it.
    """

    def __init__(self, reason: str, detail: str = "", key: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.key = reason, detail, key


@dataclass(frozen=True)
class Listed:
    """Records by number, read when they are asked for.

    Attributes:
        keys: of the records, each once, in order.
        make: number -> record; raises `ReadError`.
    """

    keys: Sequence[str]
    make: Callable[[int], Record]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Record | Rejected:
        if not 0 <= index < len(self.keys):
            raise IndexError(f"there is no record {index}: there are {len(self.keys)}, counted from 0.")
        try:
            return self.make(index)
        except ReadError as error:
            return Rejected(error.key or self.keys[index], STEP, error.reason, error.detail)
        except (
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
        ) as error:  # what others' files make of a field
            told = " ".join(f"{type(error).__name__} {error}".split())
            return Rejected(self.keys[index], STEP, FIELDS, told[:200])


def place_of(config: InputConfig) -> Path:
    """The file or folder that a config names.

    Raises:
        ValueError: if it names none.
        FileNotFoundError: if there is no such file or folder.
    """
    if config.path is None:
        raise ValueError(f"source.path is missing: kind {config.kind} reads files, name their folder.")
    if not Path(config.path).exists():
        raise FileNotFoundError(f"source.path is {config.path}, and nothing is there: check the path.")
    return Path(config.path)


def read_pixels(source: Path | bytes, max_side: int | None = None) -> np.ndarray:
    """A picture of any kind, upright, as training and editing see it.

    Args:
        source: file, or its content.
        max_side: a longer side is brought to so many pixels (Lanczos); None leaves it.

    Returns:
        (H, W, 3) uint8 sRGB; transparency over white.

    Raises:
        ReadError: if it is missing, or no whole picture.
    """
    return _shrunk(_read(source, read_rgb), max_side, Image.Resampling.LANCZOS)


def read_region(source: Path | bytes, max_side: int | None = None) -> np.ndarray:
    """A mask: white on black, or a picture with a hole (MagicBrush's), in which what is transparent is meant.

    Returns:
        (H, W) bool.

    Raises:
        ReadError: as `read_pixels`.
    """
    return _shrunk(_read(source, imaging.read_region), max_side, Image.Resampling.NEAREST) >= WHITE


def _read(source: Path | bytes, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    if isinstance(source, Path) and not source.is_file():
        raise ReadError(MISSING, str(source))
    try:
        return read(source)
    except (OSError, PictureError) as error:
        raise ReadError(DAMAGED, str(error)) from None


def _shrunk(pixels: np.ndarray, max_side: int | None, how: Image.Resampling) -> np.ndarray:
    if max_side is None or max(pixels.shape[:2]) <= max_side:
        return pixels
    return np.array(shrink(Image.fromarray(pixels), max_side, how))


def shrink(
    picture: Image.Image, max_side: int | None, how: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The picture with its longer side at `max_side` pixels, or as it is if it is not longer."""
    if max_side is None or max(picture.size) <= max_side:
        return picture
    share = max_side / max(picture.size)
    width, height = (max(1, round(side * share)) for side in picture.size)
    return picture.resize((width, height), how)


def picture_files(folder: Path) -> list[Path]:
    """Pictures below a folder by name, numbers in their natural order; links are followed, hidden files are not taken.

    A link that leads nowhere is one too, so that its record is told as missing.
    A file that a link shows a second time is taken once, and a link that leads back up is not walked again.
    """
    walked, seen = {folder.resolve()}, set()
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if is_junk(path.relative_to(folder)):
                continue
            if path.is_dir():
                if path.resolve() not in walked:
                    walked.add(path.resolve())
                    waiting.append(path)
            elif is_picture_file(path) or (path.is_symlink() and path.suffix.lower() in PICTURE_SUFFIXES):
                found.append(path)
    found.sort(key=lambda path: (path.is_symlink(), natural(path.relative_to(folder).as_posix())))
    files = [path for path in found if not (path.resolve() in seen or seen.add(path.resolve()))]
    return sorted(files, key=lambda path: natural(path.relative_to(folder).as_posix()))


def unique_keys(names: Iterable[str]) -> list[str]:
    """Keys that file names can hold, each once: what is equal ends in -2, -3 ...; a key holds no `/`."""
    taken: set[str] = set()
    keys = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name.replace("/", "-")).strip("._") or "record"
        key, number = plain, 1
        while key in taken:
            number += 1
            key = f"{plain}-{number}"
        taken.add(key)
        keys.append(key)
    return keys


def inside(folder: Path, name: object) -> Path:
    """A path that a file names, below a folder.

    Raises:
        ReadError: if it is none, absolute, or leads out of the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise ReadError(FIELDS, f"{name!r:.40} in place of a file's name")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
        raise ReadError(OUTSIDE, name[:200])
    return folder / parts


class Finder:
    """Finds pictures below a folder by what files of another machine call them.

    Args:
        folder: below which they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, list[Path]] = {}
        self._pictures: list[Path] | None = None

    def pictures(self) -> list[Path]:
        """All below the folder, looked for once."""
        if self._pictures is None:
            self._pictures = picture_files(self.folder)
        return self._pictures

    def find(self, name: object) -> Path:
        """By the path below the folder, else by the file's name alone.

        Raises:
            ReadError: if the name is blank, leads out of the folder, belongs to several files, or to none.
        """
        if not isinstance(name, str) or not name.strip():
            raise ReadError(FIELDS, f"{name!r:.40} in place of a picture's name: write the file name there")
        parts = PurePosixPath(name.strip().replace("\\", "/"))
        if not parts.is_absolute() and ".." not in parts.parts and (self.folder / parts).is_file():
            return self.folder / parts
        if not self._by_name:
            for path in self.pictures():
                self._by_name.setdefault(path.name, []).append(path)
        found = self._by_name.get(parts.name, [])
        if len(found) > 1:
            places = ", ".join(path.relative_to(self.folder).as_posix() for path in found[:3])
            raise ReadError(AMBIGUOUS, f"{parts.name}: {places}")
        if not found:
            raise ReadError(MISSING, name[:200])
        return found[0]


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ReadError: if it is missing or not valid.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ReadError(MISSING, str(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(NOT_JSON, f"{path.name}: {error}") from None


def words(value: object) -> str:
    """A text without blanks around it.

    Raises:
        ReadError: if there is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise ReadError(NO_TEXT, "" if value is None or isinstance(value, str) else f"{value!r:.40}")
    return " ".join(value.split())
