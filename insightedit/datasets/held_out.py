"""A part of a source that training never sees, the same in every run: chosen by the hash of each record's key."""

from __future__ import annotations

import hashlib
from typing import Any

from insightedit.config.load import ConfigError
from insightedit.datasets.sources import ENDLESS, num_records
from insightedit.types import EditRecord


class HeldOutPart:
    """Records of a source by their numbers, in order; a source that varies its records still does."""

    def __init__(self, whole: Any, numbers: list[int]) -> None:
        self.whole, self.numbers = whole, numbers
        self.num_records = len(numbers)
        self.visits = len(whole) // num_records(whole)
        self.columns, self.files = getattr(whole, "columns", None), getattr(whole, "files", None)

    def __len__(self) -> int:
        return self.num_records * self.visits

    def __getitem__(self, index: int) -> EditRecord:
        visit, place = divmod(index, self.num_records)
        return self.whole[visit * num_records(self.whole) + self.numbers[place]]


def part_of(source: Any, fraction: float, *, held_out: bool, name: str) -> HeldOutPart:
    """The held-out part of a source, or the rest; `name` stands in messages.

    Records of one group (`source.groups`: the pairs of one photograph, the turns of a session) stay together.

    Raises:
        ConfigError: if nothing falls into the part, or the source never ends.
    """
    if num_records(source) >= ENDLESS:
        raise ConfigError(
            f"data.sources: {name} never ends, so no share of it can be held out: leave `val_fraction` out; rendered "
            "scenes have a split `val`."
        )
    groups = getattr(source, "groups", None) or [str(number) for number in range(num_records(source))]
    numbers = [number for number, group in enumerate(groups) if (_place(group) < fraction) == held_out]
    if not numbers:
        what = "hold out" if held_out else "train on"
        raise ConfigError(
            f"data.sources: val_fraction {fraction} of {name} leaves no record to {what}: its {len(groups)} are "
            "too few; take another share, or 0."
        )
    return HeldOutPart(source, numbers)


def _place(group: str) -> float:
    """A number in [0, 1) that only the group's name decides."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big") / 2**64
