"""Which record stands at which place: a pure function of (seed, index), so that resume needs one integer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.datasets.sources import ENDLESS, Source, num_records
from insightedit.types import EditRecord

logger = logging.getLogger(__name__)
MAX_BROKEN_IN_A_ROW = 100
SHOWN_REASONS = 3
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What a record that cannot be used raises: damaged or missing files, missing fields, values of a wrong kind."""


class Mixture:
    """Endless stream of records, drawn from sources by weight.

    Args:
        sources: name -> source.
        weights: name -> relative weight, > 0; normalised here.
        seed: everything about the order follows from it.
        prepare: makes a record ready for the stage, or raises a ValueError for one that it cannot use.

    Raises:
        ValueError: if there is no source or a weight is not positive.
    """

    def __init__(
        self,
        sources: dict[str, Source],
        weights: dict[str, float],
        seed: int,
        prepare: Callable[[EditRecord], EditRecord] = lambda record: record,
    ) -> None:
        if not sources:
            raise ValueError("data.sources is empty: name at least one source, e.g. [{kind: scenes}].")
        for name in sources:
            if weights[name] <= 0:
                raise ValueError(f"data.sources: weight of `{name}` is {weights[name]}, must be > 0.")
        self.names = list(sources)
        self.sources = sources
        self.probabilities = np.array([weights[n] for n in self.names]) / sum(weights[n] for n in self.names)
        self.seed, self.prepare = seed, prepare
        self.broken: Counter[str] = Counter()

    @property
    def num_records(self) -> int | None:
        """How many records the files of all sources hold; None if one never ends."""
        total = sum(num_records(source) for source in self.sources.values())
        return None if total >= ENDLESS else total

    def fingerprint(self) -> dict[str, Any]:
        """What the sources read, ready for JSON: for each its records, columns and files with their sizes in bytes."""
        return {name: fingerprint_of(source) for name, source in self.sources.items()}

    def __getitem__(self, index: int) -> EditRecord:
        """Record `index`; a broken one is skipped, counted and named, and the next draw takes its place."""
        return self.draw(index)[1]

    def draw(self, index: int) -> tuple[str, EditRecord]:
        """(source name, record) of stream position `index`, as `[index]` gives it."""
        reasons: list[str] = []
        for attempt in range(MAX_BROKEN_IN_A_ROW):
            name, position = self.place(index, attempt)
            try:
                return name, self.prepare(self.sources[name][position])
            except BROKEN as error:
                self.broken[name] += 1
                number = position % num_records(self.sources[name])
                which = f"record {number} of {name}" + (f" ({key})" if (key := getattr(error, "key", "")) else "")
                told = f"{which}, {' '.join(str(error).split()).rstrip('.')}"
                reasons += [told] if told not in reasons else []
                logger.warning(
                    "skipped broken record %s of %s (%d so far): %s", number, name, self.broken[name], error
                )
        told = "; ".join(reasons[:SHOWN_REASONS])
        raise ConfigError(
            f"data.sources: {MAX_BROKEN_IN_A_ROW} broken records in a row; the first: {told}. `insightedit doctor data "
            "PATH` names each of them."
        )

    def place(self, index: int, attempt: int = 0) -> tuple[str, int]:
        """(source name, position in it) of stream position `index`."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, (index << 8) + attempt]))
        name = self.names[int(rng.choice(len(self.names), p=self.probabilities))]
        return name, int(rng.integers(len(self.sources[name])))


def fingerprint_of(source: Source) -> dict[str, Any]:
    """Records, columns and files (name -> bytes) of one source; what it does not have is left out."""
    size = num_records(source)
    facts: dict[str, Any] = {"records": None if size >= ENDLESS else size}
    for name in ("columns", "files"):
        told = getattr(source, name, None)
        facts |= {name: told} if told else {}
    return facts


def fingerprint_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints of a mixture, a sentence for each source; moved folders do not count."""
    changes = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            changes.append(f"{name} is {'new' if before is None else 'gone'}.")
            continue
        told = [
            f"{what} were {before.get(what)} and are {after.get(what)}"
            for what in ("records", "columns")
            if before.get(what) != after.get(what)
        ]
        one, other = before.get("files") or {}, after.get("files") or {}
        files = sorted(file for file in {*one, *other} if one.get(file) != other.get(file))
        told += [f"{len(files)} files differ, the first is {files[0]}"] if files else []
        if told:
            changes.append(f"{name}: {'; '.join(told)}.")
    return changes
