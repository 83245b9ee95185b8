"""Files and folders that are whole or absent, that replace only what is ours, and that belong to one process.

Every writer of the package comes through here: what a user has lies beside what we write, and stays.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout

PathLike: TypeAlias = str | os.PathLike
Paths: TypeAlias = PathLike | Iterable[PathLike] | None

MARK = "-insightedit-"  # in the name of every temporary folder
OLD, MOVES = "old", "moves.json"  # in a temporary folder: what goes back if a replacement was cut off
SIGNATURE = b"insightedit"  # in every picture and page that the package writes
MARKER = "model_index.json"  # without it a folder is no model
MAX_NAME = 255  # bytes of a file's name on all common file systems
YOUNG = 60.0  # seconds in which a temporary folder without a lock may still get one

_finished: list[Path] = []
_swept: set[Path] = set()


def finished_files() -> list[Path]:
    """What this process has written to its end, in order; grows."""
    return _finished


def check_paths(outputs: Mapping[str, Paths], inputs: Mapping[str, Paths] | None = None) -> None:
    """Refuse, before any work, outputs that would destroy an input or each other.

    Symbolic and hard links, `./a` for `a`, and names that some file systems hold to be one (`A.png`, `a.png`) count.
    Both are files by what names them, e.g. "--report" -> one path, several or None.
    """
    taken: dict[object, str] = {}
    for name, path in _flat(inputs or {}):
        taken.setdefault(_identity(path), f"{name} {path}")
    for name, path in _flat(outputs):
        if len(os.fsencode(Path(path).name)) > MAX_NAME:
            raise ValueError(f"{name} {Path(path).name[:40]}... is longer than {MAX_NAME} bytes: shorten the name.")
        key = _identity(path)
        if key in taken:
            raise ValueError(f"{name} {path} is the same file as {taken[key]}: write to another one.")
        taken[key] = f"{name} {path}"


def check_outside(name: str, folder: PathLike, other: str, source: PathLike | None) -> None:
    """Refuse a folder to write to that is what is read, or lies in it: the next run would read what this one wrote.

    `name` is the option's, `other` says in words what is read; a source that is no folder passes.
    """
    if source is None or not os.path.isdir(source):
        return
    real, inside = Path(os.path.realpath(source)), Path(os.path.realpath(folder))
    if inside == real or real in inside.parents:
        raise ValueError(f"{name} {folder} lies in {other} {source}, which is read: write to a folder outside of it.")


def check_folder(folder: PathLike) -> None:
    """Refuse, before any work, a folder to write to that is, or would lie in, something that is no folder."""
    for place in (Path(folder), *Path(folder).parents):
        if os.path.isdir(place):
            return
        if os.path.lexists(place):
            what = "a file" if os.path.isfile(place) else "no folder"
            raise ValueError(f"{place} is {what}: name a folder.")


def check_others(outputs: Mapping[str, Paths], instead: str = "write to another one") -> None:
    """Refuse outputs that are there and that this package did not write; empty files may be filled."""
    for name, path in _flat(outputs):
        path = Path(path)
        if path.is_file() and path.stat().st_size and SIGNATURE not in path.read_bytes():
            raise ValueError(f"{name} {path} is there and was not written by insightedit: {instead}.")


def _flat(named: Mapping[str, Paths]) -> Iterator[tuple[str, PathLike]]:
    for name, paths in named.items():
        several = [paths] if isinstance(paths, str | os.PathLike) else paths or ()
        yield from ((name, path) for path in several)


def _identity(path: PathLike) -> object:
    """Equal for two names of one file; a file that is not there yet goes by its folder and folded name."""
    real = os.path.realpath(path)
    with suppress(OSError):
        found = os.stat(real)
        return found.st_dev, found.st_ino
    folder, name = os.path.split(real)
    place = _identity(folder) if os.path.exists(folder) else folder
    return place, unicodedata.normalize("NFC", name).casefold()


@contextmanager
def write_atomically(path: PathLike, *, durable: bool = False) -> Iterator[Path]:
    """Write a file so that a reader sees the old or the new one, never a part.

    Args:
        path: where to; a symbolic link is followed. Permissions are those that the process gives new files.
        durable: wait until the disk has it.

    Yields:
        Path of an empty file beside it with the same ending; it takes the place when the block ends well, and is
        gone otherwise.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"No folder {Path(path).parent}: make it first, or write elsewhere.")
    if target.exists():
        if not target.is_file():
            raise ValueError(f"{path} is there and is no file: write to another name.")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is write-protected: allow writing, or write to another name.")
    ending = target.suffix if len(target.suffix) < 16 else ""
    _sweep_files(target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_mine()}{os.getpid()}-", suffix=ending)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        if durable:
            flush(aside)
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        flush(target.parent)
    _finished.append(Path(path))


def _mine() -> str:
    """How names of temporary files begin that this machine writes; the process follows."""
    return f".{MARK[1:]}{zlib.crc32(platform.node().encode()):08x}-"


def _sweep_files(folder: Path) -> None:
    """Once a folder: remove temporary files of this machine's dead processes."""
    if folder in _swept or os.name == "nt":  # there, asking whether a process is alive would end it
        return
    _swept.add(folder)
    for left in folder.glob(f"{_mine()}*"):
        number = left.name.removeprefix(_mine()).partition("-")[0]
        with suppress(ValueError, OverflowError, OSError):  # none of ours, or another user's process
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                left.unlink()


def write_bytes(path: PathLike, content: bytes, *, durable: bool = False) -> None:
    """Replace a file by these bytes; see `write_atomically`."""
    with write_atomically(path, durable=durable) as aside:
        aside.write_bytes(content)


def write_text(path: PathLike, text: str, *, durable: bool = False) -> None:
    """Replace a file by this text in UTF-8; see `write_atomically`."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staging(
    folder: PathLike, owned: Callable[[Path], bool] = lambda _: True, *, marker: str = MARKER
) -> Iterator[Path]:
    """A place on the same disk to make a folder in; `replace_folder` puts it in place.

    What killed processes left there is cleared first: a replacement that was cut off goes back. What it yields is a
    folder for everything temporary; it is gone when the block ends. `owned` and `marker` are as for `replace_folder`.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder, marker)
    place = folder if folder.is_dir() and _stays(folder, owned) else folder.parent
    temporary = Path(tempfile.mkdtemp(dir=place, prefix=f".{folder.name[:60]}{MARK}"))
    with FileLock(temporary / "lock"):
        try:
            yield temporary
        finally:
            _clear(temporary, folder, marker)


def replace_folder(new: Path, folder: PathLike, owned: Callable[[Path], bool], *, marker: str = MARKER) -> None:
    """Put a folder in the place of an older one, of which only files of ours go.

    A folder that holds nothing else changes in one step. Else it stays, and its files change one by one: `marker`
    goes first and comes last, so that no mixture can be loaded; if that is cut off, all goes back when the `staging`
    ends, or the next one begins.

    Args:
        new: the finished folder, in a folder from `staging`.
        folder: its place; untouched if the disk refuses.
        owned: whether a file of the old folder, by its path in it, is ours to remove.
        marker: file without which the folder is none of its kind.
    """
    folder = Path(os.path.realpath(folder))
    open_to_others(new)
    if not folder.is_dir():
        os.replace(new, folder)
    elif _stays(folder, owned):
        _replace_inside(new, folder, owned, marker)
    else:
        new.chmod(stat.S_IMODE(folder.stat().st_mode))
        if not _exchange(new, folder):
            os.replace(folder, new.parent / OLD)
            os.replace(new, folder)
    _finished.append(folder)


def _replace_inside(new: Path, folder: Path, owned: Callable[[Path], bool], marker: str) -> None:
    coming = sorted(_files(new), key=lambda path: path == Path(marker))
    going = [path for path in _files(folder) if owned(path) or path in set(coming)]
    moves = [(new.name, str(path)) for path in coming]
    (new.parent / MOVES).write_text(json.dumps(moves), encoding="utf-8")
    for path in sorted(going, key=lambda path: path != Path(marker)):
        _move(folder / path, new.parent / OLD / path)
    for path in coming:
        _move(new / path, folder / path)
    for place in {parent for path in going for parent in path.parents if parent.name}:
        with suppress(OSError):  # not empty: others' files, or the new ones
            (folder / place).rmdir()


def _clear(temporary: Path, folder: Path, marker: str) -> None:
    """Remove a temporary folder; a replacement that did not come to its end goes back first."""
    old, moves = temporary / OLD, temporary / MOVES
    if old.is_dir() and not folder.exists():
        os.replace(old, folder)
    elif moves.is_file() and not (folder / marker).exists():
        for name, path in json.loads(moves.read_text(encoding="utf-8")):
            if not (temporary / name / path).exists():
                (folder / path).unlink(missing_ok=True)
        for path in _files(old):
            _move(old / path, folder / path)
    shutil.rmtree(temporary, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _stays(folder: Path, owned: Callable[[Path], bool]) -> bool:
    """Whether a folder cannot be swapped as a whole: it holds others' files, or somebody stands in it."""
    here = Path(os.path.realpath(os.curdir))
    return (
        folder == here
        or folder in here.parents
        or os.path.ismount(folder)
        or not os.access(folder.parent, os.W_OK)
        or not all(map(owned, _files(folder)))
    )


def _files(folder: Path) -> list[Path]:
    """All that is no folder, by its path below `folder`, without what is temporary; links are not followed."""
    found = []
    for place, names, files in os.walk(folder):
        links = [name for name in names if Path(place, name).is_symlink()]
        names[:] = [name for name in names if not (name.startswith(".") and MARK in name)]
        found += [Path(place, name).relative_to(folder) for name in (*files, *links)]
    return sorted(found)


def sweep(folder: PathLike, marker: str = MARKER) -> None:
    """Remove what dead processes left of their `staging`; a replacement that was cut off goes back."""
    folder = Path(os.path.realpath(folder))
    name = "".join(f"[{letter}]" if letter in "[*?" else letter for letter in folder.name[:60])
    for left in [left for place in (folder.parent, folder) for left in place.glob(f".{name}{MARK}*")]:
        lock = left / "lock"
        try:
            if lock.exists() or time.time() - left.stat().st_mtime > YOUNG:
                with FileLock(lock, timeout=0):
                    _clear(left, folder, marker)
        except (Timeout, OSError):  # at work, or another user's
            continue


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step, where the system can (Linux)."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap is not None and swap(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def open_to_others(folder: Path) -> None:
    """Give what a library wrote for its owner alone the permissions that the process gives new files."""
    umask = _umask()
    folder.chmod(0o777 & ~umask)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@contextmanager
def lock_folder(folder: PathLike) -> Iterator[None]:
    """Hold a folder for this process alone; a crash frees it."""
    folder = Path(folder)
    lock, note = FileLock(folder / ".lock"), folder / ".lock.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = "another process"
        with suppress(OSError, ValueError, KeyError, TypeError):
            held = json.loads(note.read_text(encoding="utf-8"))
            holder = f"process {held['pid']} on {held['host']} since {held['since']} ({held['command'][:200]})"
        raise ValueError(f"{folder} is in use by {holder}: wait until it ends, or name another folder.") from None
    try:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        held = {"pid": os.getpid(), "host": platform.node(), "since": started, "command": " ".join(sys.argv)}
        note.write_text(json.dumps(held) + "\n", encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def installed_versions(*names: str) -> dict[str, str]:
    """Package -> its version, without those that are not installed."""
    from insightedit import __version__

    found = {"insightedit": __version__}  # runs from its source, too
    for name in names:
        with suppress(PackageNotFoundError):
            found.setdefault(name, version(name))
    return {name: found[name] for name in names if name in found}


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `turn_10` comes after `turn_2`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def is_junk(path: Path) -> bool:
    """Whether an operating system or an archive left this file: `.DS_Store`, `._a.png`, `__MACOSX/`, `Thumbs.db`."""
    return path.name.startswith(".") or path.name == "Thumbs.db" or "__MACOSX" in path.parts


def drop_cut_line(path: Path) -> int:
    """Remove what follows the last line break of a file, as a killed run leaves it; the number of bytes removed."""
    if not path.is_file():
        return 0
    with path.open("r+b") as stream:
        size = end = stream.seek(0, 2)
        while end > 0:
            start = max(0, end - 65536)
            stream.seek(start)
            cut = stream.read(end - start).rfind(b"\n")
            if cut >= 0:
                end = start + cut + 1
                break
            end = start
        stream.truncate(end)
    return size - end
