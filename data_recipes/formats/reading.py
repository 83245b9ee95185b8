"""Records of others for recipes and the doctor: photos in folders, and editing pairs as training reads them.

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
from insightedit.datasets.columns import ColumnsError
from insightedit.datasets.layouts import open_listing
from insightedit.datasets.pairs import FAULTS_OF_FIELDS, Listing, Pair, open_pictures
from insightedit.datasets.reading import (
    BAD_MASK,
    FIELDS,
    ReadError,
    picture_files,
    read_pixels,
    read_region_of,
    unique_keys,
)  # fmt: skip
from insightedit.datasets.segmentation import decode_mask
from insightedit.images.reading import PICTURE_SUFFIXES
from insightedit.types import REFERENCE_PLACEHOLDER

ASPECT = 0.02  # sides may differ by so much in their proportion and still be one picture at two sizes
STEP = "read"


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

    Raises:
        ValueError: if the config names no path.
        FileNotFoundError: if there is no such folder, or no picture in it.
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
    """The pairs of any layout that training reads.

    Raises:
        ValueError: if the config names no path, or what is there is not of the layout.
        FileNotFoundError: if nothing is there.
    """
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
            source, target = _resized(source, size), _resized(target, size)
        mask = _mask_of(pair, max_side)
        if listing.is_fitted and mask is not None and _is_same_form(mask.shape, target.shape):
            mask = resized_mask(mask, target.shape[:2])
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


def _mask_of(pair: Pair, max_side: int | None) -> np.ndarray | None:
    """(H, W) bool, or None where there is none."""
    try:
        if isinstance(pair.mask, ReadError):
            raise pair.mask
        if pair.mask is None or isinstance(pair.mask, Mapping):
            return decode_mask(pair.mask)
        return read_region_of(pair.mask, max_side)
    except ReadError as error:
        raise ReadError(BAD_MASK, str(error)) from None


def _is_same_form(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes are of one proportion."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= ASPECT


def _resized(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool -> (H, W) bool for `size` = (H, W)."""
    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
