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
    """Share of true outcomes; a ValueError if there are none."""
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
    """Mean of the groups' rates, every group counting the same; a ValueError if there is none."""
    if not rates:
        raise ValueError("no group to average: evaluate at least one sample.")
    return sum(group.value for group in rates) / len(rates)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p of the exact McNemar test of two editors' successes on the same samples in the same order.

    It is 1 if the two never differ.

    Raises:
        ValueError: if the lengths differ.

    Source: `scipy.stats.binomtest` on the samples where the two differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} outcomes: compare editors on the same samples.")
    wins = sum(a and not b for a, b in zip(first, second, strict=True))
    losses = sum(b and not a for a, b in zip(first, second, strict=True))
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Agreement of several raters beyond chance: at most 1, which is full agreement; 0 is chance.

    `counts` are (items, categories), how many raters put an item into a category; the same number of raters, at least
    two, for every item. None where every rating is the same, so that chance alone explains all.

    Source: Fleiss, "Measuring nominal scale agreement among many raters", 1971.
    """
    table = np.asarray(counts, dtype=float)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"counts have the shape {table.shape}: give one row per item, one number per category.")
    raters = table.sum(axis=1)
    if raters.min() != raters.max() or raters[0] < 2:
        raise ValueError(
            f"items have {raters.min():.0f} to {raters.max():.0f} ratings: each needs the same number, at least 2."
        )
    # (P - P_e) / (1 - P_e): P the share of agreeing pairs of raters, P_e what the categories' shares give by chance
    shares = table.mean(axis=0) / raters[0]
    by_chance = float((shares**2).sum())
    if by_chance > 1.0 - 1e-12:
        return None
    agreeing = ((table**2).sum(axis=1) - raters[0]) / (raters[0] * (raters[0] - 1))
    return float((agreeing.mean() - by_chance) / (1.0 - by_chance))


def ratings_kappa(ratings: Sequence[Sequence[float]]) -> float | None:
    """`fleiss_kappa` of ratings as they were given: (items, raters), equal numbers are one category."""
    categories = sorted({rating for row in ratings for rating in row})
    return fleiss_kappa([[list(row).count(category) for category in categories] for row in ratings])
