"""Sources within sources: a tree of weights -> flat weights that draw every source equally often.

A published mixture is often a cascade of choices ("15 % of this, else 10 % of that, else by size"). Written as nested
entries of kind `mixture`, each level says its own shares; `flatten` multiplies them along the way down.

Source: the arithmetic is the chain rule of probability; SmartEdit's cascade is in configs/overlays/smartedit_data.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import ENDLESS, Source, num_records

MIXTURE = "mixture"


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


def flatten(entries: Sequence[SourceConfig], build: Callable[[SourceConfig], Source]) -> list[Leaf]:
    """Build every source of a tree and give it the share that the levels above leave it.

    Within one level an entry is drawn with probability weight / sum of weights. `weight: null` stands for the number
    of records; then it has to for all entries of the level. A level within a level multiplies.

    Args:
        entries: the tree, as in `data.sources`.
        build: one entry that is no mixture -> its source.

    Returns:
        The leaves. At the top level weights stay as they are given, so that a flat list is not touched.

    Raises:
        ConfigError: if a mixture is empty, a weight is not positive, a level gives weights for some entries only, or
            an endless source has no weight.
    """
    return _flatten(entries, build, "data.sources", "")


def _flatten(
    entries: Sequence[SourceConfig], build: Callable[[SourceConfig], Source], place: str, prefix: str
) -> list[Leaf]:
    groups = []
    for number, entry in enumerate(entries):
        _check(entry, f"{place}[{number}]")
        name = f"{prefix}{number}"
        if entry.kind == MIXTURE:
            inner = _flatten(entry.sources, build, f"{place}[{number}].sources", f"{name}.")
        else:
            inner = [Leaf(f"{name}-{entry.kind}", build(entry), 1.0)]
        groups.append(inner)
    return [
        Leaf(leaf.name, leaf.source, weight * leaf.weight / sum(other.weight for other in group))
        for group, weight in zip(groups, _weights(entries, groups, place), strict=True)
        for leaf in group
    ]


def _check(entry: SourceConfig, place: str) -> None:
    if entry.kind == MIXTURE and not entry.sources:
        raise ConfigError(f"{place} is a mixture without sources: list them below it under `sources:`.")
    if entry.kind != MIXTURE and entry.sources:
        raise ConfigError(
            f"{place} of kind `{entry.kind}` holds sources: only kind `{MIXTURE}` does; set the kind, or leave "
            "`sources` out."
        )
    if not 0 <= entry.val_fraction < 1:
        raise ConfigError(f"{place}.val_fraction is {entry.val_fraction}: it has to be at least 0 and below 1.")
    if entry.weight is not None and entry.weight <= 0:
        raise ConfigError(f"{place}.weight is {entry.weight}, must be > 0: leave the source out instead.")


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
