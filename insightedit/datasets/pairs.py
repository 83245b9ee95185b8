"""What a layout says about an editing pair, its pictures not opened yet: read once, by training, recipes and doctor.

A layout is a `Listing`: pairs by number; which of them can be used is decided here, for all three.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from insightedit.datasets.reading import FIELDS, NO_TEXT, Content, ReadError, read_pixels
from insightedit.types import REFERENCE_PLACEHOLDER, EditRecord, task_of

EXPRESSIVE = "expressive"  # the kind of wording that says what will be seen; a reply, not a wish
Choice = TypeVar("Choice")
VISITS = 2**20  # a record drawn this often comes out the same again
FAULTS_OF_FIELDS = (LookupError, TypeError, AttributeError, ValueError)  # what others' files make of a field


@dataclass(frozen=True)
class Pair:
    """A pair as its layout tells it."""

    key: str  # unique in the set; what belongs together (a session, a photograph) has one word before `/`
    instructions: Mapping[str, tuple[str, ...]]  # wordings by kind; not empty
    source: Content | None = None  # before the edit; None where the target is drawn from blank
    target: Content | None = None  # after it; None in texts alone
    # for each `<imagehere>` of the instructions, in order; or one picture of squares side by side
    references: Sequence[Content] | Content = ()
    # heights and widths of what stands in the middle of each such square; empty where all counts
    reference_sizes: Any = ()
    # white where the edit is, or a segmentation as COCO has it; or why there is none, for who needs it
    mask: Content | Mapping[str, Any] | ReadError | None = None
    task: str = ""  # as the layout calls it
    caption: str = ""  # of the source
    # what else a recipe's record has a place for, by the names of its fields
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A pair's pictures, (H, W, 3) uint8 RGB each."""

    source: np.ndarray | None
    target: np.ndarray | None
    references: tuple[np.ndarray, ...]


@dataclass
class Listing:
    """The pairs of a set by number."""

    count: int  # how many there are
    make: Callable[[int], Pair]  # number -> pair; raises `ReadError`, or what a field of a wrong kind raises
    key: Callable[[int], str]  # number -> name of the pair, also where it cannot be read
    files: Sequence[Path] = ()  # that it is read from, pictures left out
    columns: Sequence[str] = ()  # of a table
    # numbers of pairs of which training draws one, for each of its records; None where each pair is one
    units: Sequence[Sequence[int]] | None = None
    is_text: bool = False  # no pictures, captions to align with
    # source and target may be one picture at two sizes; the larger is meant at the smaller one's size
    is_fitted: bool = False
    group: Callable[[int], str] | None = None  # number -> what is held out together; None takes the key up to `/`

    def __len__(self) -> int:
        return self.count

    def pair(self, number: int) -> Pair:
        """Pair `number`."""
        key = ""
        try:
            pair = self.make(number)
            key = pair.key
            if not self.is_text and pair.target is None:
                raise ReadError(FIELDS, "it has no target picture")
            if not self.is_text and pair.source is None and not pair.references and pair.task != "subject":
                raise ReadError(FIELDS, "it has no source picture")
            return pair
        except ReadError as error:
            raise ReadError(error.reason, error.detail, error.key or key or self.key(number)) from None
        except FAULTS_OF_FIELDS as error:
            told = " ".join(f"{type(error).__name__} {error}".split())
            raise ReadError(FIELDS, told[:200], self.key(number)) from None


def open_pictures(pair: Pair, max_side: int | None = None) -> Opened:
    """Open the pictures that training looks at, their longer sides `max_side` at most."""
    opened = Opened(
        None if pair.source is None else read_pixels(pair.source, max_side),
        None if pair.target is None else read_pixels(pair.target, max_side),
        _references(pair, max_side),
    )
    usable_wordings(pair, len(opened.references))
    return opened


def usable_wordings(pair: Pair, num_references: int) -> tuple[str, ...]:
    """The wordings that training draws from: those that name the references, else those that need none."""
    texts = [one for kind, found in pair.instructions.items() if kind != EXPRESSIVE for one in found]
    texts = texts or [one for found in pair.instructions.values() for one in found]
    if not texts:
        raise ReadError(NO_TEXT, "")
    for count in dict.fromkeys((num_references, 0)):
        if fitting := tuple(dict.fromkeys(one for one in texts if one.count(REFERENCE_PLACEHOLDER) == count)):
            return fitting
    raise ReadError(
        FIELDS,
        f"{texts[0].count(REFERENCE_PLACEHOLDER)} {REFERENCE_PLACEHOLDER} for {num_references} reference pictures: "
        "there has to be one for each",
    )


def _references(pair: Pair, max_side: int | None) -> tuple[np.ndarray, ...]:
    if not isinstance(pair.references, Path | bytes):
        return tuple(read_pixels(one, max_side) for one in pair.references)
    strip = read_pixels(pair.references)
    height, width = strip.shape[:2]
    if width % height:
        raise ReadError(FIELDS, f"references of {width} x {height} pixels are no squares side by side")
    squares = [strip[:, left : left + height] for left in range(0, width, height)]
    sizes = pair.reference_sizes if isinstance(pair.reference_sizes, list) else []
    is_size = [
        isinstance(size, list) and [type(one) for one in size] == [int, int] and min(size) > 0 for size in sizes
    ]
    if len(sizes) == len(squares) and all(is_size):
        for number, (tall, wide) in enumerate(sizes):
            top, left = max(0, (height - tall) // 2), max(0, (height - wide) // 2)
            squares[number] = squares[number][top : top + tall, left : left + wide]
    return tuple(np.ascontiguousarray(square) for square in squares)


@dataclass
class RandomChoiceDataset:
    """A source whose records hold a choice: one of several instructions, a colour, a round of a conversation.

    Position `visit * num_records + number` is record `number` as its visit number `visit` draws it. A mixture draws
    positions evenly, so it draws records evenly, and each time another choice; what stands at a position never changes.
    """

    num_records: int  # how many records the files hold; what `weight: null` counts
    make: Callable[[int, np.random.Generator], EditRecord]  # (number, random numbers of this visit) -> record
    read: Sequence[Path] = ()  # files that tell the records

    @property
    def files(self) -> dict[str, int]:
        """Name -> bytes of what is read, pictures left out; names below the folder that all are in."""
        parents = [str(file.absolute().parent) for file in self.read]
        root = Path(os.path.commonpath(parents)) if parents else Path()
        return {file.absolute().relative_to(root).as_posix(): file.stat().st_size for file in self.read}

    def __len__(self) -> int:
        return self.num_records * VISITS

    def __getitem__(self, index: int) -> EditRecord:
        visit, number = divmod(index, self.num_records)
        return self.make(number, np.random.Generator(np.random.Philox(key=[visit, number])))


def choose(choices: list[Choice] | tuple[Choice, ...], rng: np.random.Generator) -> Choice:
    """One of them, all alike."""
    if not choices:
        raise ValueError("nothing to choose from: the record holds an empty list.")
    return choices[int(rng.integers(len(choices)))]


class PairSource(RandomChoiceDataset):
    """A listing as training records; `expressive` takes the pair's expressive wording as the assistant's words."""

    def __init__(self, listing: Listing, *, name: str, expressive: bool = False) -> None:
        count = len(listing) if listing.units is None else len(listing.units)
        super().__init__(count, self._record, listing.files)
        self.listing, self.name, self.expressive = listing, name, expressive
        self.columns = list(listing.columns)

    def _record(self, number: int, rng: np.random.Generator) -> EditRecord:
        if self.listing.units is not None:
            number = choose(list(self.listing.units[number]), rng)
        pair = self.listing.pair(number)
        key = f"{self.name}/{pair.key}"
        if self.listing.is_text:
            text = choose(usable_wordings(pair, 0), rng)
            return EditRecord(key=key, instruction=text, caption=text)
        opened = open_pictures(pair)
        instruction = choose(usable_wordings(pair, len(opened.references)), rng)
        references = opened.references if REFERENCE_PLACEHOLDER in instruction else ()
        spoken = next(iter(pair.instructions.get(EXPRESSIVE, ())), None)
        return EditRecord(
            key=key,
            instruction=instruction,
            source_image=opened.source,
            target_image=opened.target,
            reply=spoken if self.expressive else None,
            reference_images=references,
            task=task_of(opened.source is not None, bool(references)),
        )

    @cached_property
    def groups(self) -> list[str]:
        """Of each record, what is held out with it."""
        of = self.listing.group or (lambda number: self.listing.key(number).partition("/")[0])
        units = self.listing.units or [[number] for number in range(len(self.listing))]
        return [of(unit[0]) if len(unit) else "" for unit in units]


def json_column(value: Any) -> Any:
    """A value that may stand in its column as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
    except (ValueError, RecursionError):
        return value
