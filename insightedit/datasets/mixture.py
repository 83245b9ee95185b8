"""Which record stands at which place: a pure function of (seed, index), so that resume needs one integer.

A published mixture is often a cascade of choices ("15 % of this, else 10 % of that, else by size"). Written as nested
entries of kind `mixture`, each level says its own shares; `flatten` multiplies them along the way down (the chain rule;
SmartEdit's cascade is in configs/overlays/smartedit_data.yaml).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import ENDLESS, Source, num_records
from insightedit.types import EditRecord

logger = logging.getLogger(__name__)
MIXTURE = "mixture"  # kind of an entry that holds others
MAX_BROKEN_IN_A_ROW = 100
SHOWN_REASONS = 3
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What a record that cannot be used raises: damaged or missing files, missing fields, values of a wrong kind."""


class Mixture:
    """Endless stream of records, drawn from sources by weight in an order that follows from the seed alone."""

    def __init__(
        self,
        sources: dict[str, Source],
        weights: dict[str, float],
        seed: int,
        prepare: Callable[[EditRecord], EditRecord] = lambda record: record,  # for the stage, or raises a ValueError
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
        found = {}
        for name, source in self.sources.items():
            size = num_records(source)
            facts: dict[str, Any] = {"records": None if size >= ENDLESS else size}
            told = {what: getattr(source, what, None) for what in ("columns", "files")}
            found[name] = facts | {what: value for what, value in told.items() if value}
        return found

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


@dataclass(frozen=True)
class Leaf:
    """One source of the tree, its name (place and kind, e.g. `1.0-reasonseg`), and its weight among all leaves."""

    name: str
    source: Source
    weight: float


def leaves(entries: Sequence[SourceConfig]) -> Iterator[SourceConfig]:
    """The entries that hold records, in the order of the file, without those of kind `mixture` around them."""
    for entry in entries:
        if entry.kind == MIXTURE:
            yield from leaves(entry.sources)
        else:
            yield entry


def with_held_out(entries: Sequence[SourceConfig]) -> list[SourceConfig]:
    """The same tree with those entries only that hold something out."""
    kept = [
        replace(entry, sources=with_held_out(entry.sources)) if entry.kind == MIXTURE else entry for entry in entries
    ]
    return [entry for entry in kept if (entry.sources if entry.kind == MIXTURE else entry.val_fraction > 0)]


def flatten(
    entries: Sequence[SourceConfig],
    build: Callable[[SourceConfig], Source],
    place: str = "data.sources",
    prefix: str = "",
) -> list[Leaf]:
    """Build every source of a tree and give it the share that the levels above leave it.

    Within one level an entry is drawn with probability weight / sum of weights. `weight: null` stands for the number
    of records; then it has to for all entries of the level. A level within a level multiplies; at the top level weights
    stay as they are given, so that a flat list is not touched. `place` and `prefix` tell an inner level where it is.
    """
    groups = []
    for number, entry in enumerate(entries):
        here = f"{place}[{number}]"
        if entry.kind == MIXTURE and not entry.sources:
            raise ConfigError(f"{here} is a mixture without sources: list them below it under `sources:`.")
        if entry.kind != MIXTURE and entry.sources:
            raise ConfigError(
                f"{here} of kind `{entry.kind}` holds sources: only kind `{MIXTURE}` does; set the kind, or leave "
                "`sources` out."
            )
        if not 0 <= entry.val_fraction < 1:
            raise ConfigError(f"{here}.val_fraction is {entry.val_fraction}: it has to be at least 0 and below 1.")
        if entry.weight is not None and entry.weight <= 0:
            raise ConfigError(f"{here}.weight is {entry.weight}, must be > 0: leave the source out instead.")
        if entry.kind == MIXTURE:
            groups.append(flatten(entry.sources, build, f"{here}.sources", f"{prefix}{number}."))
        else:
            groups.append([Leaf(f"{prefix}{number}-{entry.kind}", build(entry), 1.0)])
    return [
        Leaf(leaf.name, leaf.source, weight * leaf.weight / sum(other.weight for other in group))
        for group, weight in zip(groups, _weights(entries, groups, place), strict=True)
        for leaf in group
    ]


def _weights(entries: Sequence[SourceConfig], groups: list[list[Leaf]], place: str) -> list[float]:
    """Each entry's weight within its level."""
    given = [entry.weight for entry in entries if entry.weight is not None]
    if len(given) == len(entries):
        return given
    if given:
        raise ConfigError(
            f"{place}: some entries have a weight and others `weight: null` (by number of records): give all of them "
            "a weight, or none."
        )
    sizes = [sum(num_records(leaf.source) for leaf in group) for group in groups]
    for number, (entry, size) in enumerate(zip(entries, sizes, strict=True)):
        if size >= ENDLESS:
            raise ConfigError(
                f"{place}[{number}] of kind `{entry.kind}` never ends, so it cannot be weighted by its number of "
                "records: give a weight."
            )
    return [float(size) for size in sizes]
