"""How far raters agree with each other, and a judge with people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, spearmanr


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Agreement of several raters beyond chance.

    Args:
        counts: (items, categories), how many raters put an item into a category; the same number of raters, at
            least two, for every item.

    Returns:
        At most 1, which is full agreement; 0 is chance; None where every rating is the same, so that chance alone
        explains all.

    Raises:
        ValueError: if there is no item, or the numbers of raters differ or are below two.

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
    """`fleiss_kappa` of ratings as they were given: (items, raters), equal numbers are one category.

    Raises:
        ValueError: as `fleiss_kappa`.
    """
    categories = sorted({rating for row in ratings for rating in row})
    return fleiss_kappa([[list(row).count(category) for category in categories] for row in ratings])


@dataclass(frozen=True)
class Correlation:
    """A judge against people on the same edits.

    Attributes:
        n: edits that both scored.
        left_out: edits that only one of the two scored.
        spearman: rank correlation, -1..1; None if either gave one value only.
        spearman_p: two-sided, of no correlation.
        kendall: tau-b, -1..1.
        kendall_p: two-sided, of no correlation.
    """

    n: int
    left_out: int
    spearman: float | None
    spearman_p: float | None
    kendall: float | None
    kendall_p: float | None


def correlate(judge: Mapping[str, float | None], humans: Mapping[str, float | None]) -> Correlation:
    """Rank correlation of two sets of scores, sample id -> score, over the samples that both scored.

    Raises:
        ValueError: if these are fewer than three.
    """
    scored = [{name for name, value in side.items() if value is not None} for side in (judge, humans)]
    names = sorted(scored[0] & scored[1])
    left_out = len(scored[0] | scored[1]) - len(names)
    if len(names) < 3:
        raise ValueError(
            f"judge and people scored {len(names)} edits in common: a correlation needs at least 3; check that both "
            "use the same ids."
        )
    first, second = ([side[name] for name in names] for side in (judge, humans))
    if len(set(first)) == 1 or len(set(second)) == 1:
        return Correlation(len(names), left_out, None, None, None, None)
    spearman, kendall = spearmanr(first, second), kendalltau(first, second)
    values = (spearman.statistic, spearman.pvalue, kendall.statistic, kendall.pvalue)
    return Correlation(len(names), left_out, *(float(value) for value in values))
