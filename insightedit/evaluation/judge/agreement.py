"""How far raters agree with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
