"""Intervals cover, clusters count, pairs help, and the same outputs are never different."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from insightedit.evaluation.core.columns import MetricValues, ProtocolMixError, gather
from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.significance import (
    Resampling,
    by_category,
    compare_columns,
    holm,
    mean_interval,
    paired_difference,
    power_hint,
    ratio_interval,
)
from insightedit.evaluation.core.statistics import mcnemar, wilson_interval

FEW_DRAWS = Resampling(resamples=199)


def record(sample_id: str, value: float | None, **changes: Any) -> MetricRecord:
    fields = {
        "run_id": "run",
        "method": "ours",
        "bench": "reason-edit",
        "bench_version": "v",
        "sample_id": sample_id,
        "metric_name": "PSNR",
        "metric_variant": "paper",
        "value": value,
        "error": "refused" if value is None else None,
        "protocol_hash": "0123456789abcdef",
    }
    return MetricRecord(**{**fields, **changes})


def column(records: Sequence[MetricRecord]) -> MetricValues:
    (found,) = gather(records).values()
    return found


def half_width(found) -> float | None:
    return None if found.low is None else (found.high - found.low) / 2


def test_intervals_of_pairs_cover_the_true_difference() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(1000):
        scenes = rng.normal(25, 3, 150)
        first = scenes + 0.3 + rng.normal(size=150)
        second = scenes + rng.normal(size=150)
        difference = mean_interval(first - second, how=Resampling(199, seed=trial, method="percentile"))
        covered.append(difference.low <= 0.3 <= difference.high)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_clusters_are_resampled_whole(method: str) -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(40), 3).tolist()
    covered, ignored = [], []
    for trial in range(150):
        values = np.repeat(rng.normal(size=40), 3) + 0.3 * rng.normal(size=120)
        how = Resampling(199, seed=trial, method=method)
        for found, groups in ((covered, clusters), (ignored, None)):
            interval = mean_interval(values, groups, how=how)
            found.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) > 0.9
    assert np.mean(ignored) < 0.82  # edits of one picture are no independent evidence


def test_paired_intervals_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(3)
    scenes = rng.normal(25, 3, 300)
    first, second = scenes + 0.3 + rng.normal(size=300), scenes + rng.normal(size=300)
    paired = paired_difference(first, second).difference
    unpaired = stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        vectorized=True,
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert half_width(paired) == pytest.approx(0.16, abs=0.02)
    assert (unpaired.high - unpaired.low) / 2 == pytest.approx(0.50, abs=0.04)


def test_percentile_interval_is_numpys_on_the_same_draws() -> None:
    """Clusters of different sizes: each draw is the mean over all samples of the drawn clusters."""
    values, clusters = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), ["a", "b", "a", "c", "c"]
    members = [np.array([1.0, 4.0]), np.array([2.0]), np.array([8.0, 16.0])]
    drawn = np.random.default_rng(5).integers(0, 3, (500, 3))
    means = [np.concatenate([members[c] for c in row]).mean() for row in drawn]
    found = mean_interval(values, clusters, how=Resampling(500, seed=5, method="percentile"))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert (found.value, found.n, found.clusters, found.seed) == (6.2, 5, 3, 5)


def test_a_ratio_is_of_means_and_its_interval_of_drawn_pairs() -> None:
    values, wanted = np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 2.0, 5.0, 1.0])
    drawn = np.random.default_rng(5).integers(0, 4, (500, 4))
    ratios = values[drawn].sum(axis=1) / wanted[drawn].sum(axis=1)
    found = ratio_interval(values, wanted, how=Resampling(500, seed=5, method="percentile"))
    assert (found.value, found.n) == (1.0, 4)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))
    pairs = ratio_interval(values, wanted, ["a", "a", "b", "b"])
    assert pairs.clusters == 2 and ratio_interval([3.0], [6.0]).low is None
    equal = ratio_interval(values, 2 * values)
    assert equal.low == equal.value == equal.high == 0.5


def test_a_ratio_needs_pairs_and_something_below() -> None:
    with pytest.raises(ValueError, match="1 values and 2 wanted: give both of every sample"):
        ratio_interval([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="the wanted values sum to 0: a ratio needs a positive sum below it"):
        ratio_interval([1.0, 2.0], [0.0, 0.0])


def test_bca_leans_towards_the_long_tail() -> None:
    values = np.random.default_rng(6).exponential(size=80)
    bca = mean_interval(values)
    plain = mean_interval(values, how=Resampling(method="percentile"))
    assert bca.low > plain.low and bca.high > plain.high
    assert (bca.method, plain.method, bca.resamples) == ("bca", "percentile", 10_000)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(7).normal(size=30)
    once, again, other = (mean_interval(values, how=Resampling(199, seed=seed)) for seed in (0, 0, 1))
    assert once == again and (once.low, once.high) != (other.low, other.high)


def test_identical_systems_do_not_differ() -> None:
    values = np.random.default_rng(8).normal(size=(40, 2))
    for outputs in (values, values[:, 0]):
        same = paired_difference(outputs, outputs.copy(), how=FEW_DRAWS)
        assert same.p_value == 1.0 and same.difference.value == 0.0
    assert (same.difference.low, same.difference.high) == (0.0, 0.0)


def test_p_values_of_equal_systems_are_even_and_of_unequal_ones_small() -> None:
    rng = np.random.default_rng(9)
    clusters = np.repeat(np.arange(15), 4).tolist()
    found = []
    for trial in range(200):
        pictures = np.repeat(2 * rng.normal(size=15), 4)  # the first is luckier or unluckier on whole pictures
        how = Resampling(199, seed=trial)
        found.append(paired_difference(rng.normal(size=60) + pictures, rng.normal(size=60), clusters, how=how).p_value)
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.10
    assert np.mean(found) == pytest.approx(0.5, abs=0.07)
    far = rng.normal(size=60)
    assert paired_difference(far + 2, far + rng.normal(size=60), clusters, how=FEW_DRAWS).p_value < 0.02


def test_sign_flips_of_outcomes_are_mcnemars_test() -> None:
    rng = np.random.default_rng(10)
    for n in (8, 12):
        first, second = rng.random(n) < 0.7, rng.random(n) < 0.3
        p = paired_difference(first.astype(float), second.astype(float)).p_value
        assert p == pytest.approx(mcnemar(first.tolist(), second.tolist()), abs=1e-12)


def test_seeds_widen_the_interval_and_samples_count_the_same() -> None:
    values = [[1.0, 3.0], [2.0], [6.0, 6.0, 9.0], [4.0, 4.0]]
    found = mean_interval(values, how=Resampling(method="percentile"))
    assert found.value == np.mean([2.0, 2.0, 7.0, 4.0]) and found.method == "two-level percentile"
    averaged = mean_interval([2.0, 2.0, 7.0, 4.0], how=Resampling(method="percentile"))
    assert half_width(found) > half_width(averaged)


def test_two_level_draws_have_the_variance_of_theory() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(size=(400, 1)) + 2 * rng.normal(size=(400, 3))
    between = values.mean(axis=1).var() / 400
    within = values.var(axis=1).mean() / 3 / 400
    expected = 1.96 * np.sqrt(between + within)
    found = mean_interval(values, how=Resampling(4000, method="percentile"))
    assert half_width(found) == pytest.approx(expected, rel=0.05)


def test_seeds_alone_may_vary() -> None:
    found = mean_interval([[0.0, 1.0]] * 30, how=Resampling(499))
    assert found.low < 0.5 < found.high


def test_outcomes_take_wilsons_interval_where_it_holds() -> None:
    outcomes = [1.0] * 8 + [0.0] * 2
    plain = mean_interval(outcomes, binary=True)
    assert (plain.low, plain.high) == wilson_interval(8, 10) and plain.method == "wilson"
    assert plain.resamples == 0
    pairs = [n // 2 for n in range(10)]
    assert mean_interval(outcomes, pairs, binary=True, how=FEW_DRAWS).method == "bca"
    agreed = mean_interval([1.0] * 10, pairs, binary=True)
    assert (agreed.low, agreed.high) == wilson_interval(5, 5)  # five pictures say so, not ten


def test_nothing_to_resample() -> None:
    alone = mean_interval([1.0, 2.0], ["a", "a"])
    assert (alone.value, alone.low, alone.high, half_width(alone)) == (1.5, None, None, None)
    constant = mean_interval([0.1] * 7)
    assert constant.low == constant.high == constant.value == pytest.approx(0.1)
    assert mean_interval([0.5] * 19).is_small and not mean_interval([0.5] * 20).is_small


def test_holm_by_hand_and_in_order() -> None:
    given = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(given) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(holm(given)) == list(given)
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0} and holm({}) == {}


def test_power_hint_names_the_gap_that_is_noise() -> None:
    assert "n = 219" in power_hint(219) and "+/- 0.053; a gap under 0.05 is noise" in power_hint(219)
    assert "a gap under 0.1 is" in power_hint(48)


def test_runs_are_compared_on_the_samples_they_share() -> None:
    rng = np.random.default_rng(12)
    values = rng.normal(20, 3, 30)
    ours = column([record(str(n), v + 1, cluster=str(n // 2)) for n, v in enumerate(values)])
    theirs = column(
        [
            *(
                record(str(n), v, cluster=str(n // 2), method="theirs")
                for n, v in reversed(list(enumerate(values)))
                if n != 3
            ),
            record("3", None, cluster="1", method="theirs"),
            record("extra", 1.0, method="theirs"),
        ]
    )
    found = compare_columns(ours, theirs, how=FEW_DRAWS)
    assert found.difference.value == pytest.approx(1.0) and found.p_value <= 0.02
    assert (found.difference.n, found.difference.clusters) == (29, 15)
    assert (found.only_first, found.only_second) == (1, 1)
    assert found.first - found.second == pytest.approx(1.0)


def test_categories_hide_nothing() -> None:
    records = [
        *(record(f"l{n}", float(n % 2), category="left") for n in range(30)),
        *(record(f"m{n}", 1.0, category="mirror") for n in range(5)),
        *(record(f"r{n}", None, category="refused") for n in range(2)),
    ]
    table = by_category(column(records), binary=True)
    assert [(row.name, row.n, row.failed, row.is_small) for row in table.rows] == [
        ("left", 30, 0, False),
        ("mirror", 5, 0, True),
        ("refused", 0, 2, True),
    ]
    assert table.rows[2].interval is None
    assert table.micro.value == pytest.approx(20 / 35) and table.micro.n == 35
    assert table.macro.value == pytest.approx(0.75)
    spread = 1.96 * np.sqrt(0.25 / 30) / 2  # only left varies, and it is half of the mean
    assert half_width(table.macro) == pytest.approx(spread, rel=0.1)


def test_small_categories_are_in_every_draw_of_the_macro_mean() -> None:
    records = [
        *(record(f"a{n}", 0.1 * (-1) ** n, category="a") for n in range(30)),
        *(record(f"b{n}", 1.0, category="b") for n in range(2)),
    ]
    macro = by_category(column(records)).macro
    assert macro.value == pytest.approx(0.5)
    assert half_width(macro) == pytest.approx(1.96 * 0.1 / np.sqrt(30) / 2, rel=0.1)


def test_macro_means_with_clusters_across_categories() -> None:
    rng = np.random.default_rng(13)
    luck = rng.normal(size=60)  # of a picture, shared by its two edits
    records = [
        record(f"{kind}{n}", luck[n] + level, category=kind, cluster=f"picture{n}")
        for kind, level in (("left", 0.0), ("right", 1.0))
        for n in range(60)
    ]
    records.append(record("only", 0.5, category="left", cluster="alone"))
    table = by_category(column(records))
    assert table.macro.clusters == 61
    assert half_width(table.macro) == pytest.approx(1.96 * luck.std() / np.sqrt(60), rel=0.1)


def test_a_category_of_one_gives_the_macro_mean_no_interval() -> None:
    records = [*(record(f"a{n}", float(n), category="a") for n in range(5)), record("b", 2.0, category="b")]
    table = by_category(column(records), how=FEW_DRAWS)
    assert (table.macro.value, table.macro.low) == (2.0, None)
    assert table.micro.low is not None and table.rows[1].interval.low is None


def test_macro_mean_with_one_picture_in_two_categories() -> None:
    records = [
        *(record(f"{kind}{n}", float(n), category=kind, cluster=f"{kind}{n}") for kind in "ab" for n in range(6)),
        *(record(f"{kind}-both", 3.0, category=kind, cluster="both") for kind in "ab"),
    ]
    table = by_category(column(records), how=FEW_DRAWS)
    assert table.macro.low < table.macro.value < table.macro.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "no value to average"),
        (lambda: mean_interval([[1.0], []]), "sample 1 has no value"),
        (lambda: mean_interval([1.0, float("inf")]), "a value is not finite"),
        (lambda: mean_interval([1.0, 2.0], ["a"]), "1 clusters for 2 samples"),
        (lambda: mean_interval([0.5], binary=True), "binary is True, but a value is neither 0 nor 1"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "1 and 2 samples: compare methods on the same samples"),
        (lambda: Resampling(resamples=0), "resamples is 0"),
        (lambda: Resampling(method="basic"), "method is 'basic'; it is one of bca, percentile"),
        (lambda: Resampling(confidence=95), "confidence is 95"),
        (lambda: holm({"x": 1.5}), "p of x is 1.5"),
        (lambda: by_category(column([record("a", None)])), "has no value at all"),
        (
            lambda: compare_columns(column([record("a", 1.0)]), column([record("b", 1.0, method="theirs")])),
            "ours's PSNR .* and theirs's PSNR .* share no sample",
        ),
        (
            lambda: compare_columns(
                column([record("a", 1.0)]), column([record("a", 1.0, cluster="other", method="theirs")])
            ),
            "cluster their samples differently",
        ),
    ],
)
def test_errors_teach(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol_hash": "fedcba9876543210"}, "protocol_hash 0123456789abcdef, .* has fedcba9876543210"),
        ({"bench_version": "w"}, "bench_version v, .* has w"),
        ({"metric_variant": "strict"}, "are different things"),
    ],
)
def test_only_like_is_compared_with_like(change: dict[str, str], message: str) -> None:
    first, second = column([record("a", 1.0)]), column([record("a", 1.0, **change)])
    with pytest.raises(ProtocolMixError, match=message):
        compare_columns(first, second)
