"""Which files of a folder are a split: names are compared, never expanded, so that `set [v2]` and `a::b` are names.

The files of split `dev` are those of the folder `dev/`, or those that have the word in their names (`dev.jsonl`,
`dev-00000-of-00001-abc.parquet`), in the folder or in its `data/`, as the hub lays sets out. A folder without any such
name is one split, `train`. A folder of `Dataset.save_to_disk` says itself what its splits are.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from insightedit.config.load import ConfigError
from insightedit.datasets.reading import is_junk, natural

logger = logging.getLogger(__name__)
ENDINGS = {
    "webdataset": (".tar",),
    "parquet": (".parquet",),
    "jsonl": (".jsonl",),
    "csv": (".csv", ".tsv"),
    "imagefolder": (".jsonl", ".csv", ".parquet"),
}
SPLITS = ("train", "training", "val", "validation", "valid", "dev", "test", "testing", "eval")
METADATA = "metadata"  # the only table of an image folder
WHOLE = "train"  # what a folder without names of splits is


def data_files(kind: str, path: Path, split: str) -> list[Path]:
    """The files of a split, in the natural order of their names; `path` is a file or folder, as the user gave it."""
    if path.is_file():
        if split != WHOLE and not _is_of(path.name, split):
            raise ConfigError(
                f"{path} is one file, so there is no split `{split}` to choose: leave it out, or name the folder."
            )
        return [path]
    wanted = " or ".join(f"{METADATA if kind == 'imagefolder' else '*'}{ending}" for ending in ENDINGS[kind])
    if not path.is_dir():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise ConfigError(f"{path} {what}: name the folder of the {wanted} files, or one of them.")
    found = files_by_split(kind, path)
    if split in found:
        return found[split]
    if not found:
        below = {one.parent.relative_to(path).as_posix() for one in path.rglob("*") if _is_table(kind, one)}
        there = f", but {', '.join(sorted(below)[:3])} does: name that folder" if below else ": check the path"
        raise ConfigError(f"{path} holds no {wanted} file{there}.")
    raise ConfigError(f"{path} has the splits {', '.join(found)}, not `{split}`: name one of them.")


def files_by_split(kind: str, path: Path) -> dict[str, list[Path]]:
    """Split -> files of a kind; the first of `path` and `path/data` that has any, nothing where none has."""
    for root in (path, path / "data"):
        if not root.is_dir() or kind not in ENDINGS:
            continue
        here = _tables(kind, root)
        found = {split: [one for one in here if _is_of(one.name, split)] for split in SPLITS}
        for folder in sorted(one for one in root.iterdir() if one.is_dir() and not is_junk(one)):
            if folder.name != "data" and (inner := _tables(kind, folder)):
                found[folder.name] = [*found.get(folder.name, []), *inner]
        found = {split: files for split, files in found.items() if files}
        named = {one for files in found.values() for one in files}
        rest = [one for one in here if one not in named]
        if rest and WHOLE not in found:
            found = {WHOLE: rest, **found}
        elif rest:
            logger.warning(
                "%s: %d files belong to no split and are left out, the first is %s", root, len(rest), rest[0].name
            )
        if found:
            return found
    return {}


def _tables(kind: str, folder: Path) -> list[Path]:
    return sorted((one for one in folder.iterdir() if _is_table(kind, one)), key=lambda one: natural(one.name))


def _is_table(kind: str, path: Path) -> bool:
    is_meant = path.suffix.lower() in ENDINGS[kind] and not is_junk(path) and path.is_file()
    return is_meant and (path.stem == METADATA) == (kind == "imagefolder")


def _is_of(name: str, split: str) -> bool:
    """Whether a split's name stands in a file's name as a word."""
    return re.search(rf"(?:^|[^A-Za-z0-9]){re.escape(split)}(?:[^A-Za-z0-9]|$)", name, re.IGNORECASE) is not None


def is_arrow(path: Path) -> bool:
    """Whether `save_to_disk` of the `datasets` library wrote this folder."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def saved_splits(path: Path) -> list[str]:
    """The splits of a folder that `DatasetDict.save_to_disk` wrote; `train` for one without."""
    table = path / "dataset_dict.json"
    if not table.is_file():
        return [WHOLE]
    try:
        return [str(one) for one in json.loads(table.read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{table} cannot be read ({error}): save the data set anew.") from None


def saved_files(path: Path, split: str) -> list[Path]:
    """The files of a split of a folder that `save_to_disk` wrote."""
    if not is_arrow(path):
        raise ConfigError(
            f"{path} is no folder that `Dataset.save_to_disk` wrote: it has no state.json and no dataset_dict.json."
        )
    folder, splits = path, saved_splits(path)
    if (path / "dataset_dict.json").is_file():
        if split not in splits:
            raise ConfigError(f"{path} has the splits {', '.join(splits)}, not `{split}`: name one of them.")
        folder = path / split
    elif split != WHOLE:
        raise ConfigError(f"{path} is one saved data set without splits, so there is no `{split}`: leave it out.")
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / Path(one["filename"]).name for one in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{folder} is no whole saved data set ({told}): save it anew.") from None
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise ConfigError(
            f"{folder} keeps its rows in another order than its files: load it and `save_to_disk` it anew."
        )
    return files
