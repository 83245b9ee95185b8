"""Records of others for recipes and the doctor: photos in folders, editing pairs as training reads them, their kinds.

Pairs come with masks, captions and all wordings; which of them can be used is decided in `insightedit.datasets.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import TASKS, Record, Rejected
from insightedit.config.schema import SourceConfig
from insightedit.datasets.advancededit import PATHS
from insightedit.datasets.columns import ColumnsError
from insightedit.datasets.layouts import CONTROLS, SEEDS, SESSIONS, TARGETS, open_listing
from insightedit.datasets.pairs import FAULTS_OF_FIELDS, Listing, open_pictures
from insightedit.datasets.reading import (
    BAD_MASK,
    FIELDS,
    ReadError,
    is_junk,
    load_json,
    picture_files,
    read_pixels,
    read_region_of,
    unique_keys,
)  # fmt: skip
from insightedit.datasets.segmentation import decode_mask
from insightedit.datasets.table_files import ENDINGS, SPLITS, files_by_split, is_arrow, saved_splits
from insightedit.datasets.tables import KINDS
from insightedit.images.reading import PICTURE_SUFFIXES
from insightedit.types import REFERENCE_PLACEHOLDER

ASPECT = 0.02  # sides may differ by so much in their proportion and still be one picture at two sizes
STEP = "read"
STEPS = ("1_", "2_mask", "3_editing", "4_instruction", "5_quality")  # folders of AdvancedEdit


@dataclass(frozen=True)
class Listed:
    """`count` records by number, read when they are asked for; `make` raises `ReadError`, or what a field raises."""

    count: int
    key: Callable[[int], str]
    make: Callable[[int], Record]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record | Rejected:
        if not 0 <= index < self.count:
            raise IndexError(f"there is no record {index}: there are {self.count}, counted from 0.")
        try:
            return self.make(index)
        except ReadError as error:
            return Rejected(error.key or self.key(index), STEP, error.reason, error.detail)
        except FAULTS_OF_FIELDS as error:
            told = " ".join(f"{type(error).__name__} {error}".split())
            return Rejected(self.key(index), STEP, FIELDS, told[:200])


def place_of(config: InputConfig) -> Path:
    """The file or folder that a config names, which has to be there."""
    if config.path is None:
        raise ValueError(f"source.path is missing: kind {config.kind} reads files, name their folder.")
    if not Path(config.path).exists():
        raise FileNotFoundError(f"source.path is {config.path}, and nothing is there: check the path.")
    return Path(config.path)


def open_folder(config: InputConfig) -> Input:
    """Every picture below a folder, or one file, in the natural order of the names.

    Pictures come upright (EXIF), in RGB, and not longer than `max_side`; hidden files are left out, a file that links
    show twice is taken once. The key is the path without its ending, `trip/IMG 2.jpg` -> `trip-IMG_2`.
    """
    place = place_of(config)
    root = place.parent if place.is_file() else place
    files = [place] if place.is_file() else picture_files(place)
    if not files:
        raise FileNotFoundError(
            f"{place} holds no pictures: files have to end in {', '.join(sorted(PICTURE_SUFFIXES))}, at any depth."
        )
    keys = unique_keys(path.relative_to(root).with_suffix("").as_posix() for path in files)

    def make(number: int) -> Record:
        path = files[number]
        image = read_pixels(path, config.max_side)
        return Record(keys[number], image=image, notes={"file": path.relative_to(root).as_posix()})

    return Listed(len(keys), keys.__getitem__, make)


def open_pairs(config: InputConfig) -> Input:
    """The pairs of any layout that training reads."""
    place = place_of(config)
    listing = open_listing(
        SourceConfig(
            kind=config.kind, path=str(place), split=config.split, images=config.images, columns=config.columns
        )
    )
    if listing.is_text:
        raise ColumnsError(
            f"{place} holds texts alone ({', '.join(listing.columns)}): here pairs of pictures are read."
        )
    return Listed(len(listing), listing.key, lambda number: _record_of(listing, number, config.max_side))


def _record_of(listing: Listing, number: int, max_side: int | None) -> Record:
    """Pair `number` of any layout, its pictures `max_side` long at most; refused as training refuses it."""
    pair = listing.pair(number)
    try:
        opened = open_pictures(pair, max_side)
        source, target = opened.source, opened.target
        assert target is not None, "a listing that is no text gives pairs with targets"
        if listing.is_fitted and source is not None and _is_same_form(source.shape, target.shape):
            size = min(source.shape[:2], target.shape[:2])  # the larger of two pictures at the smaller one's size
            source, target = resized(source, size), resized(target, size)
        try:
            if isinstance(pair.mask, ReadError):
                raise pair.mask
            is_coded = pair.mask is None or isinstance(pair.mask, Mapping)
            mask = decode_mask(pair.mask) if is_coded else read_region_of(pair.mask, max_side)
        except ReadError as error:
            raise ReadError(BAD_MASK, str(error)) from None
        if listing.is_fitted and mask is not None and _is_same_form(mask.shape, target.shape):
            mask = resized(mask, target.shape[:2])
    except ReadError as error:
        raise ReadError(error.reason, error.detail, pair.key) from None
    facts = {name: value for name, value in pair.facts.items() if value}
    if pair.task and pair.task not in TASKS:
        facts["notes"] = {**facts.get("notes", {}), "task": pair.task}
    fitting = {  # the wordings that name all references, or none
        kind: tuple(text for text in texts if text.count(REFERENCE_PLACEHOLDER) in (0, len(opened.references)))
        for kind, texts in pair.instructions.items()
    }
    return Record(
        pair.key,
        caption=pair.caption,
        task=pair.task if pair.task in TASKS else "edit" if source is not None else "subject",
        source=source,
        target=target,
        mask=mask,
        instructions={kind: texts for kind, texts in fitting.items() if texts},
        references=opened.references,
        **facts,
    )


def _is_same_form(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes are of one proportion."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= ASPECT


def resized(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A picture (h, w, 3) uint8, or a mask (h, w) bool by the nearest pixel, at `size` = (H, W)."""
    how = Image.Resampling.NEAREST if array.dtype == bool else Image.Resampling.LANCZOS
    return array if array.shape[:2] == size else np.array(Image.fromarray(array).resize(size[::-1], how))


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
