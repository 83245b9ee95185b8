"""Which layout a folder is, and which splits it has."""

from __future__ import annotations

from pathlib import Path

from insightedit.datasets.advancededit import PATHS
from insightedit.datasets.layouts import CONTROLS, SEEDS, SESSIONS, TARGETS
from insightedit.datasets.reading import ReadError, is_junk, load_json
from insightedit.datasets.table_files import ENDINGS, SPLITS, files_by_split, is_arrow, saved_splits
from insightedit.datasets.tables import KINDS

STEPS = ("1_", "2_mask", "3_editing", "4_instruction", "5_quality")


def guess_kind(path: Path) -> str:
    """The kind of input that a path, which has to be there, looks like; a `ValueError` says what to do otherwise."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: check the path.")
    if path.is_file():
        endings = {ending: kind for kind in reversed(KINDS) if kind in ENDINGS for ending in ENDINGS[kind]}
        if kind := endings.get(path.suffix.lower()) or (_kind_of_json(path) if path.suffix == ".json" else ""):
            return kind
        raise ValueError(
            f"{path} is no file of pairs: name a folder, or a .jsonl, .csv, .parquet, .tar, or a .json of MIGE's or "
            "AdvancedEdit's shape."
        )
    places = [path, *(path / split for split in SPLITS)]
    if any((place / SESSIONS).is_file() for place in places):
        return "magicbrush"
    if (path / SEEDS).is_file():
        return "instructpix2pix"
    if is_arrow(path):
        return "arrow"
    if any(one.name.startswith(STEPS) and one.is_dir() for one in path.iterdir()):
        return "advancededit"
    tables = ("imagefolder", *(kind for kind in KINDS if kind not in ("arrow", "imagefolder")))
    if kind := next((kind for kind in tables if files_by_split(kind, path)), ""):
        return kind
    for file in sorted(path.glob("*.json")):
        if kind := _kind_of_json(file):
            return kind
    if any(all(any((place / one).is_dir() for one in names) for names in (TARGETS, CONTROLS)) for place in places):
        return "ai_toolkit"
    raise ValueError(
        f"{path} is of no layout that is known by its files: name it with --kind, e.g. magicbrush, parquet or mige."
    )


def _kind_of_json(file: Path) -> str:
    """MIGE's list, or one object of AdvancedEdit's entries; "" for anything else."""
    if is_junk(file):
        return ""
    try:
        entries = load_json(file)
    except ReadError:
        return ""
    if isinstance(entries, list):
        return "mige" if entries and isinstance(entries[0], dict) and "multi_prompt" in entries[0] else ""
    first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
    return "reasonedit" if isinstance(first, dict) and PATHS[0][0] in first else ""


def splits_of(kind: str, path: Path) -> list[str]:
    """The splits that a path holds, at least one.

    Folders or files that are named after a split count; InstructPix2Pix is split by the order of its list. Without any
    such name all is one split, `train`.
    """
    if path.is_file():
        return ["train"]
    if kind == "instructpix2pix" and (path / SEEDS).is_file():
        return ["train", "val", "test"] if len(load_json(path / SEEDS)) >= 20 else ["all"]
    if is_arrow(path):
        return saved_splits(path)
    wanted = (SESSIONS,) if kind == "magicbrush" else TARGETS if kind in ("folders", "ai_toolkit") else ()
    below = sorted((one for one in path.iterdir() if one.is_dir()), key=lambda one: one.name)
    found = [one.name for one in below if wanted and any((one / name).exists() for name in wanted)]
    if wanted and not any((path / name).exists() for name in wanted) and found:
        return sorted(found, key=lambda split: (SPLITS.index(split) if split in SPLITS else len(SPLITS), split))
    is_hub = kind in ("magicbrush", "instructpix2pix")
    return list(files_by_split("parquet" if is_hub else kind, path)) or ["train"]
