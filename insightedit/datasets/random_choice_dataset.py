"""Records that come out differently at every visit, and yet are a pure function of their place in the stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from insightedit.types import EditRecord

Choice = TypeVar("Choice")
VISITS = 2**20  # a record drawn this often comes out the same again


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
