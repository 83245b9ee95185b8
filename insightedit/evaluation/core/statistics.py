"""How sure a measured rate is, and rates and means by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest

FEW = 20  # groups with fewer samples are marked, not hidden

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % Wilson interval."""

    successes: int  # count
    n: int  # samples
    value: float  # successes / n, 0..1
    low: float  # lower end of the interval, 0..1
    high: float  # upper end of the interval, 0..1

    @property
    def is_small(self) -> bool:
        """Whether there are too few samples to say much."""
        return self.n < FEW


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial rate.

    Raises:
        ValueError: if a count or the confidence is out of range.

    Source: `scipy.stats.binomtest`.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a rate needs at least one sample.")
    if not 0 <= successes <= n:
        raise ValueError(f"successes is {successes}, n is {n}: successes lie between 0 and n.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it lies between 0 and 1, usually 0.95.")
    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rate(outcomes: Iterable[bool]) -> Rate:
    """Share of true outcomes.

    Raises:
        ValueError: if there are none.
    """
    flags = [bool(outcome) for outcome in outcomes]
    low, high = wilson_interval(sum(flags), len(flags))
    return Rate(sum(flags), len(flags), sum(flags) / len(flags), low, high)


def group_by(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Hashable, list[T]]:
    """Items by `key`, groups in sorted order of their keys."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(sorted(groups.items(), key=lambda entry: str(entry[0])))


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that exist; None if none does."""
    present = [float(value) for value in values if value is not None]
    return sum(present) / len(present) if present else None


def percentile(values: Iterable[float | None], share: float = 0.9) -> float | None:
    """The value that `share` of the values that exist do not exceed, interpolated; None if none exists."""
    present = [float(value) for value in values if value is not None]
    return float(np.quantile(present, share)) if present else None


def macro_mean(rates: Sequence[Rate]) -> float:
    """Mean of the groups' rates, every group counting the same.

    Raises:
        ValueError: if there is no group.
    """
    if not rates:
        raise ValueError("no group to average: evaluate at least one sample.")
    return sum(group.value for group in rates) / len(rates)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact McNemar test of two editors' successes on the same samples in the same order.

    Returns:
        Two-sided p-value; 1 if the two never differ.

    Raises:
        ValueError: if the lengths differ.

    Source: `scipy.stats.binomtest` on the samples where the two differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} outcomes: compare editors on the same samples.")
    wins = sum(a and not b for a, b in zip(first, second, strict=True))
    losses = sum(b and not a for a, b in zip(first, second, strict=True))
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
