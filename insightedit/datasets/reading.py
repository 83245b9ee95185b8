"""What every layout of others needs: reasons why a record cannot be read, paths that stay in their folder, pictures.

One record that cannot be read raises a `ReadError`, a set that cannot be read as a whole a `ConfigError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from insightedit.config.load import ConfigError
from insightedit.files import is_junk, natural
from insightedit.images.reading import PICTURE_SUFFIXES, PictureError, is_picture_file, read_region, read_rgb

LFS = b"version https://git-lfs"  # what a Git LFS pointer begins with
MISSING = "file is missing"
DAMAGED = "picture cannot be read"
NO_TEXT = "instruction is empty"
OUTSIDE = "path leads out of the folder"
FIELDS = "record is incomplete"
NOT_JSON = "file is not valid JSON"
NOT_TEXT = "text is not in UTF-8"
AMBIGUOUS = "several files have that name"
BAD_MASK = "mask cannot be read"  # training does not look at it
WHITE = 128  # from here on a pixel of a mask is white
Found = TypeVar("Found")
Content = Path | bytes
"""A picture that is not opened yet: its file, or what the file holds."""


class ReadError(ValueError):
    """Why a record cannot be read: a `reason` of this module, a `detail`, and the `key` where its own row tells it."""

    def __init__(self, reason: str, detail: str = "", key: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.key = reason, detail, key


def read_pixels(source: Content, max_side: int | None = None) -> np.ndarray:
    """A picture of any kind as a viewer shows it, (H, W, 3) uint8 RGB, its longer side `max_side` at most (Lanczos)."""
    try:
        pixels = read_rgb(_present(source))
    except (PictureError, OSError) as error:
        raise ReadError(DAMAGED, str(error)) from None
    return _shrunk(pixels, max_side, Image.Resampling.LANCZOS)


def read_region_of(source: Content, max_side: int | None = None) -> np.ndarray:
    """A mask, (H, W) bool: white on black, or a picture with a hole (MagicBrush's), transparent where it is meant."""
    try:
        region = read_region(_present(source)) >= WHITE
    except (PictureError, OSError) as error:
        raise ReadError(DAMAGED, str(error)) from None
    return _shrunk(region, max_side, Image.Resampling.NEAREST)


def _present(source: Content) -> Content:
    """The same; a path has to be a file that holds bytes, no pipe or device that waits for them."""
    if isinstance(source, Path) and not source.is_file():
        raise ReadError(MISSING, str(source))
    return source


def _shrunk(pixels: np.ndarray, max_side: int | None, how: Image.Resampling) -> np.ndarray:
    if max_side is None or max(pixels.shape[:2]) <= max_side:
        return pixels
    share = max_side / max(pixels.shape[:2])
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), how))


def picture_files(folder: Path) -> list[Path]:
    """Pictures below a folder in natural order, links followed, each file once, hidden ones left out.

    A link that leads nowhere is one too, so that its record is told as missing.
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
    """A path that a file names, below a folder; backslashes part it too."""
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ReadError(FIELDS, f"{name!r:.40} in place of a file's name")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() and parts.is_relative_to(folder.absolute()):
        parts = parts.relative_to(folder.absolute())
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
        raise ReadError(OUTSIDE, name[:200])
    if is_too_long(parts):
        raise ReadError(MISSING, f"{name[:60]} ...")
    return folder / parts


def is_too_long(path: PurePosixPath) -> bool:
    """Whether no file can be called so: the system would raise where it is looked at."""
    return len(str(path)) > 1000 or any(len(part.encode(errors="replace")) > 255 for part in path.parts)


def tried(find: Callable[[Any], Found], name: Any) -> Found | ReadError:
    """What a function finds, or why it does not: for what not everybody needs, who then raises it."""
    try:
        return find(name)
    except ReadError as error:
        return error


class Finder:
    """Finds pictures below a folder by what files of another machine call them."""

    def __init__(self, folder: Path, leave_out: Sequence[str] = ()) -> None:
        self.folder, self.leave_out = folder, leave_out
        self._by_name: dict[str, list[Path]] = {}
        self._pictures: list[Path] | None = None

    def pictures(self) -> list[Path]:
        """All below the folder, looked for once, without those in the folders `leave_out` of it."""
        if self._pictures is None:
            found = picture_files(self.folder)
            self._pictures = [path for path in found if path.relative_to(self.folder).parts[0] not in self.leave_out]
        return self._pictures

    def find(self, name: object) -> Path:
        """By the path below the folder, else by the file's name alone."""
        if not isinstance(name, str) or not name.strip():
            raise ReadError(FIELDS, f"{name!r:.40} in place of a picture's name: write the file name there")
        parts = PurePosixPath(name.strip().replace("\\", "/"))
        try:
            if (direct := inside(self.folder, name.strip())).is_file():
                return direct
        except ReadError:
            pass  # the path of another machine: its last part may tell
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
    """What a JSON file holds."""
    try:
        return parsed_json(read_words(path), path.name)
    except OSError as error:
        raise ReadError(NOT_JSON, f"{path.name}: {error}") from None


def parsed_json(text: str, name: str) -> Any:
    """The value of a JSON text; `name` tells in messages where it stands."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(NOT_JSON, f"{name}: {error}") from None


def json_of(path: Path, wanted: type, shape: str) -> Any:
    """A JSON file whose outermost value is of a type."""
    try:
        values = load_json(path)
    except ReadError as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, wanted) or not values:
        what = f"an empty {type(values).__name__}" if values in ({}, []) else f"a {type(values).__name__}"
        raise ConfigError(f"{path} holds {what}: it has to be {shape}.")
    return values


def read_words(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark."""
    if not path.is_file():
        raise ReadError(MISSING, str(path))
    return decoded(path.read_bytes(), path.name)


def decoded(content: bytes, name: str) -> str:
    """Bytes as text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        told = f"{name}, byte {error.start} is 0x{content[error.start]:02x}: save it in UTF-8"
        raise ReadError(NOT_TEXT, told) from None


def words(value: object) -> str:
    """A text without blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise ReadError(NO_TEXT, "" if value is None or isinstance(value, str) else f"{value!r:.40}")
    return " ".join(value.split())


def only_file(path: Path, patterns: tuple[str, ...], kind: str) -> Path:
    """A file itself, or the only one of its kind (`patterns`, e.g. `("*.json",)`) in a folder."""
    if path.is_file():
        return path
    found = sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})
    wanted = " or ".join(patterns)
    if not found:
        raise ConfigError(f"{path} holds no {wanted}: kind `{kind}` needs one; check the path.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(f"{path} holds {names}: let `path` name the one that is meant.")
    return found[0]


def folder_of(path: str | Path | None, kind: str, what: str) -> Path:
    """A folder that has to be there."""
    if path is None:
        raise ConfigError(f"kind `{kind}` needs {what}: give its folder.")
    if not Path(path).is_dir():
        raise ConfigError(f"{path} is no folder: kind `{kind}` looks there for {what}.")
    return Path(path)
