"""Intervals and tests against published and worked-out values."""

from __future__ import annotations

import numpy as np
import pytest

from insightedit.evaluation.core.statistics import (
    Rate,
    group_by,
    macro_mean,
    mcnemar,
    mean,
    percentile,
    rate,
    wilson_interval,
)


@pytest.mark.parametrize(("n", "half_width"), [(48, 0.113), (171, 0.060), (219, 0.053), (300, 0.045), (500, 0.035)])
def test_half_width_at_a_rate_of_four_fifths(n: int, half_width: float) -> None:
    low, high = wilson_interval(round(0.8 * n), n)
    assert (high - low) / 2 == pytest.approx(half_width, abs=0.0025)


def test_wilson_by_hand_and_at_the_ends() -> None:
    z = 1.959963984540054
    centre, spread = ((0.5 + z**2 / 20) / (1 + z**2 / 10), z * np.sqrt(0.25 / 10 + z**2 / 400) / (1 + z**2 / 10))
    assert wilson_interval(5, 10) == pytest.approx((centre - spread, centre + spread), abs=1e-9)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 10)[1] == pytest.approx(z**2 / (10 + z**2))


def test_wilson_covers_the_truth() -> None:
    counts = np.random.default_rng(0).binomial(60, 0.3, 500)
    intervals = {k: wilson_interval(int(k), 60) for k in set(counts.tolist())}
    covered = np.mean([intervals[k][0] <= 0.3 <= intervals[k][1] for k in counts.tolist()])
    assert 0.92 < covered < 0.98


def test_rates_groups_and_means() -> None:
    assert rate([True, False, True, True]) == Rate(3, 4, 0.75, *wilson_interval(3, 4))
    assert rate([True]).is_small and not rate([True] * 20).is_small
    assert group_by(["bb", "a", "cc"], len) == {1: ["a"], 2: ["bb", "cc"]}
    assert mean([1.0, None, 2.0]) == 1.5 and mean([None]) is None
    assert macro_mean([rate([True]), rate([False, False, False])]) == 0.5


def test_mcnemar_looks_at_the_disagreements_only() -> None:
    assert mcnemar([True, False], [True, False]) == 1.0
    first, second = [True] * 10 + [True] * 50, [False] * 10 + [True] * 50
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(2 * 0.5**10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(0, 0), "n is 0: a rate needs at least one sample"),
        (lambda: wilson_interval(5, 4), "successes is 5, n is 4"),
        (lambda: wilson_interval(1, 4, 95), "confidence is 95: it lies between 0 and 1"),
        (lambda: rate([]), "n is 0"),
        (lambda: macro_mean([]), "no group to average"),
        (lambda: mcnemar([True], []), "1 and 0 outcomes: compare editors on the same samples"),
    ],
)
def test_errors_teach(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_percentile_interpolates_and_leaves_out_what_is_missing() -> None:
    assert percentile([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == 9.0
    assert percentile([1.0, None, 3.0], share=0.5) == 2.0
    assert percentile([None]) is None and percentile([]) is None
