"""How sure a mean, a difference and a set of tests are: resampling of what belongs together.

The unit of resampling is the cluster (source picture or session), not the sample: edits of one picture are easy or
hard together. Rates, Wilson intervals and McNemar's test are in `insightedit.evaluation.core.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
from scipy import stats

from insightedit.evaluation.core.columns import MetricValues, ProtocolMixError
from insightedit.evaluation.core.statistics import FEW, wilson_interval

RESAMPLES = 10_000
METHODS = {"bca": "BCa", "percentile": "percentile"}  # ours -> scipy's
BATCH = 2_000_000  # numbers drawn at a time, so that memory stays flat
TINY = 1e-12

Values = Sequence[float] | Sequence[Sequence[float]] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """A mean, or a difference of means, with its interval."""

    value: float  # the estimate; every sample counts the same, whatever its number of seeds
    low: float | None  # lower end; None if there are fewer than two clusters, from which nothing can be said
    high: float | None  # upper end; None likewise
    n: int  # samples
    clusters: int  # what was resampled
    method: str  # "bca", "percentile" or "wilson"; "two-level" in front if seeds were resampled too
    resamples: int  # how many; 0 for Wilson's interval
    seed: int  # of the resampling
    confidence: float = 0.95  # between 0 and 1

    @property
    def is_small(self) -> bool:
        """Whether there are too few samples to say much."""
        return self.n < FEW


@dataclass(frozen=True)
class Comparison:
    """Two methods on the samples that both have."""

    difference: Interval  # first minus second
    p_value: float  # two-sided, that the two are exchangeable; 1 if they are the same on every sample
    first: float  # mean of the first on the shared samples
    second: float  # mean of the second on the shared samples
    only_first: int = 0  # samples that have a value of the first only; they are left out
    only_second: int = 0  # samples that have a value of the second only; they are left out


@dataclass(frozen=True)
class Resampling:
    """How to resample.

    Raises:
        ValueError: if one is out of range.
    """

    resamples: int = RESAMPLES  # at least 1
    seed: int = 0  # of the random numbers
    method: str = "bca"  # "bca" (corrects bias and skew) or "percentile"
    confidence: float = 0.95  # between 0 and 1

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}: draw at least one, usually {RESAMPLES:,}.")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; it is one of {', '.join(METHODS)}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}: it lies between 0 and 1, usually 0.95.")


@dataclass(frozen=True)
class _Arm:
    """Values of one method: (n, S) padded with zeros, S the most seeds, and how many each sample has."""

    padded: np.ndarray
    counts: np.ndarray

    @property
    def means(self) -> np.ndarray:
        return self.padded.sum(axis=1) / self.counts

    @property
    def has_seeds(self) -> bool:
        return self.padded.shape[1] > 1


def mean_interval(
    values: Values, clusters: Sequence[Hashable] | None = None, *, binary: bool = False, how: Resampling | None = None
) -> Interval:
    """Mean over samples with its cluster-bootstrap interval.

    Args:
        values: one finite number per sample, or one sequence per sample with a number per seed. With several seeds
            the resampling has two levels: clusters, then seeds within each sample. That is on the safe side: a
            sample's mean already varies with its seeds, so that their share is counted up to twice.
        clusters: what each sample belongs to; every sample is its own cluster if not given.
        binary: the values are 0 or 1; Wilson's interval is taken where every sample is its own cluster and has one
            seed, and where all outcomes agree (with the clusters as samples), of which resampling sees nothing.
        how: resamples, seed, method and confidence.

    Raises:
        ValueError: if there is no value, a value is not finite, lengths differ, or `binary` is wrong.

    Source: `scipy.stats.bootstrap` of the ratio of cluster sums; Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8, for two levels.
    """
    how = how or Resampling()
    arm = _arm(values)
    units = _units(clusters, len(arm.counts))
    if binary:
        if not np.isin(arm.padded, (0.0, 1.0)).all():
            raise ValueError("binary is True, but a value is neither 0 nor 1: leave it out for other metrics.")
        means = arm.means
        single = units.max() + 1 == len(units) and not arm.has_seeds
        if single or bool((means == means[0]).all() and means[0] in (0.0, 1.0)):
            clusters_seen = int(units.max()) + 1
            value = float(means.mean())
            low, high = wilson_interval(round(value * clusters_seen), clusters_seen, how.confidence)
            return Interval(value, low, high, len(units), clusters_seen, "wilson", 0, how.seed, how.confidence)
    return _interval([arm], units, how)


def ratio_interval(
    values: Sequence[float],
    wanted: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    how: Resampling | None = None,
) -> Interval:
    """Mean of `values` over the mean of `wanted` on the same samples, with its interval; see `mean_interval`.

    Raises:
        ValueError: see `mean_interval`; if the numbers of samples differ, or `wanted` has no positive sum.
    """
    how = how or Resampling()
    if len(values) != len(wanted):
        raise ValueError(f"{len(values)} values and {len(wanted)} wanted: give both of every sample.")
    arms = [_arm(values).means, _arm(wanted).means]
    if not arms[1].sum() > 0:
        raise ValueError(f"the wanted values sum to {arms[1].sum():g}: a ratio needs a positive sum below it.")
    units = _units(clusters, len(values))
    sums = [np.bincount(units, arm) for arm in arms]
    value, ends = float(sums[0].sum() / sums[1].sum()), (None, None)
    if len(sums[0]) >= 2:
        ends = _ends(_ratio, sums, value, sums[0] - value * sums[1], how, paired=True)
    return Interval(value, *ends, len(values), len(sums[0]), how.method, how.resamples, how.seed, how.confidence)


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    """Of drawn clusters' sums; with counts of samples below, their mean."""
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def paired_difference(
    first: Values, second: Values, clusters: Sequence[Hashable] | None = None, *, how: Resampling | None = None
) -> Comparison:
    """First minus second on the same samples in the same order.

    Args:
        first: see `mean_interval`.
        second: the other method's values on the same samples; the number of seeds may differ.
        clusters: see `mean_interval`.
        how: see `mean_interval`; the p-value takes as many random sign flips of the clusters' differences as there
            are resamples, or all of them if they are not more. For outcomes of 0 and 1 without clusters that is
            McNemar's test, exact if all flips are tried. One cluster shows nothing: p is 1.

    Raises:
        ValueError: see `mean_interval`; if the numbers of samples differ.

    Source: `scipy.stats.bootstrap`, `scipy.stats.permutation_test` (sign flips).
    """
    how = how or Resampling()
    arms = [_arm(first), _arm(second)]
    sizes = [len(arm.counts) for arm in arms]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{sizes[0]} and {sizes[1]} samples: compare methods on the same samples.")
    units = _units(clusters, sizes[0])
    sums = np.bincount(units, _contrast(arms))
    means = [float(arm.means.mean()) for arm in arms]
    if len(sums) < 2:  # a flip of all changes nothing
        return Comparison(_interval(arms, units, how), 1.0, *means)
    test = stats.permutation_test(
        (sums,),
        lambda flipped, axis: flipped.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=how.resamples,
        batch=max(1, BATCH // len(sums)),
        rng=np.random.default_rng(how.seed),
    )
    return Comparison(_interval(arms, units, how), float(test.pvalue), *means)


def compare_columns(first: MetricValues, second: MetricValues, *, how: Resampling | None = None) -> Comparison:
    """Two methods, or two runs, on the samples of which both have a value.

    Raises:
        ProtocolMixError: if metric, variant, protocol or benchmark version differ.
        ValueError: if they share no sample, or a sample belongs to different clusters.
    """
    for name in ("protocol_hash", "bench_version"):
        pair = getattr(first, name), getattr(second, name)
        if pair[0] != pair[1]:
            raise ProtocolMixError(
                f"{first.key} has the {name} {pair[0]}, {second.key} has {pair[1]}: compare like with like."
            )
    kinds = [(one.key.part, one.key.metric_name, one.key.metric_variant) for one in (first, second)]
    if kinds[0] != kinds[1]:
        raise ProtocolMixError(f"{first.key} and {second.key} are different things: compare like with like.")
    shared = [name for name in first.values if name in second.values]
    if not shared:
        raise ValueError(f"{first.key} and {second.key} share no sample: evaluate both on the same ones.")
    values, clusters = first.take(shared)
    others, other_clusters = second.take(shared)
    if clusters != other_clusters:
        raise ValueError(f"{first.key} and {second.key} cluster their samples differently: evaluate both anew.")
    result = paired_difference(values, others, clusters, how=how)
    return replace(result, only_first=first.n - len(shared), only_second=second.n - len(shared))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values by hypothesis, of those that were fixed before looking, corrected for having looked several times.

    Raises:
        ValueError: if a p is not between 0 and 1.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"p of {name} is {p}: it lies between 0 and 1.")
    order = sorted(p_values, key=lambda key: p_values[key])
    scaled = (min(1.0, (len(order) - rank) * p_values[name]) for rank, name in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))  # never below a smaller p's
    return {name: adjusted[name] for name in p_values}


def power_hint(n: int, *, rate: float = 0.8, confidence: float = 0.95) -> str:
    """What `n` samples cannot show, as a sentence to stand beside a table."""
    low, high = wilson_interval(round(rate * n), n, confidence)
    half = (high - low) / 2
    return (
        f"n = {n}: near a rate of {rate:g} the {100 * confidence:g} % interval is +/- {half:.3f}; "
        f"a gap under {half:.1g} is noise unless a paired test on the same samples says otherwise."
    )


@dataclass(frozen=True)
class CategoryRow:
    """One category."""

    name: str  # category, "" without
    failed: int  # samples without any value
    interval: Interval | None  # mean with interval; None if no sample has a value

    @property
    def n(self) -> int:
        """Samples with a value."""
        return 0 if self.interval is None else self.interval.n

    @property
    def is_small(self) -> bool:
        """Whether there are too few samples to say much; such rows are marked, not hidden."""
        return self.n < FEW


@dataclass(frozen=True)
class CategoryTable:
    """A column by category."""

    rows: tuple[CategoryRow, ...]  # in the order in which categories first appear
    micro: Interval  # every sample counts the same
    # every category counts the same; without interval if a category has fewer than two clusters. Seeds are averaged
    # within samples, not resampled
    macro: Interval


def by_category(column: MetricValues, *, binary: bool = False, how: Resampling | None = None) -> CategoryTable:
    """Means by category, micro and macro; a ValueError if the column has no value."""
    how = how or Resampling()
    if not column.values:
        raise ValueError(f"{column.key} has no value at all: look at the errors in its records.")
    groups: dict[str, list[str]] = {}
    for name, category in column.categories.items():
        groups.setdefault(category, []).append(name)
    rows = []
    for category, names in groups.items():
        present = [name for name in names if name in column.values]
        interval = mean_interval(*column.take(present), binary=binary, how=how) if present else None
        rows.append(CategoryRow(category, len(names) - len(present), interval))
    present = list(column.values)
    micro = mean_interval(*column.take(present), binary=binary, how=how)
    return CategoryTable(tuple(rows), micro, _macro(column, present, how))


def _macro(column: MetricValues, names: Sequence[str], how: Resampling) -> Interval:
    values, clusters = column.take(names)
    units = _units(clusters, len(names))
    _, members = np.unique([column.categories[name] for name in names], return_inverse=True)
    sums = np.zeros((members.max() + 1, units.max() + 1))  # (K, C), categories by clusters
    counts = np.zeros_like(sums)
    np.add.at(sums, (members, units), _arm(values).means)
    np.add.at(counts, (members, units), 1.0)

    def macro(*draws: np.ndarray, axis: int) -> np.ndarray:
        """Mean of the categories' means for drawn clusters; a category that was not drawn is left out."""
        with np.errstate(invalid="ignore"):
            means = sum(sums[:, draw].sum(axis=axis) for draw in draws) / sum(
                counts[:, draw].sum(axis=axis) for draw in draws
            )
        return np.nanmean(means, axis=0)

    means = sums.sum(axis=1) / counts.sum(axis=1)
    value = float(means.mean())
    ends = None, None
    if (np.count_nonzero(counts, axis=1) >= 2).all():
        ends = _ends(macro, _strata(counts), value, sums - means[:, None] * counts, how)
    return Interval(value, *ends, len(units), sums.shape[1], how.method, how.resamples, how.seed, how.confidence)


def _strata(counts: np.ndarray) -> list[np.ndarray]:
    """Clusters drawn together: those of one category alone by category, all others in one pool.

    `counts` is (K, C), samples of each category in each cluster.
    """
    alone = np.count_nonzero(counts, axis=0) == 1
    home = np.where(alone, counts.argmax(axis=0), -1)
    for category in range(len(counts)):
        if np.count_nonzero(home == category) == 1:
            home[home == category] = -1  # one cluster cannot be resampled by itself
    if np.count_nonzero(home == -1) == 1:
        home[home == -1] = counts[:, home == -1].argmax()
    return [np.flatnonzero(home == stratum) for stratum in np.unique(home)]


def _arm(values: Values) -> _Arm:
    ragged = [np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in values]
    if not ragged:
        raise ValueError("no value to average: evaluate at least one sample.")
    counts = np.array([one.size for one in ragged])
    if not counts.all():
        raise ValueError(f"sample {int(counts.argmin())} has no value: leave samples without values out.")
    padded = np.zeros((len(ragged), counts.max()))
    padded[np.arange(padded.shape[1]) < counts[:, None]] = np.concatenate(ragged)
    if not np.isfinite(padded).all():
        raise ValueError("a value is not finite: cap it, or leave the sample out and count it.")
    return _Arm(padded, counts)


def _units(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Number of each sample's cluster, (n,) int, from 0."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} samples: name one for each.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])


def _contrast(arms: Sequence[_Arm]) -> np.ndarray:
    """Per sample, (n,): the mean of one arm, or the difference of two."""
    return arms[0].means if len(arms) == 1 else arms[0].means - arms[1].means


def _interval(arms: Sequence[_Arm], units: np.ndarray, how: Resampling) -> Interval:
    per_sample = _contrast(arms)
    value = float(per_sample.mean())
    sums, counts = np.bincount(units, per_sample), np.bincount(units).astype(np.float64)
    two_level = any(arm.has_seeds for arm in arms)
    ends = None, None
    if len(sums) >= 2:
        draws = _two_level_draws(arms, units, how) if two_level else None
        ends = _ends(_ratio, (sums, counts), value, sums - value * counts, how, paired=True, draws=draws)
    method = f"{'two-level ' if two_level else ''}{how.method}"
    return Interval(value, *ends, len(units), len(sums), method, how.resamples, how.seed, how.confidence)


def _ends(
    statistic: Callable[..., np.ndarray],
    data: Sequence[np.ndarray],
    value: float,
    influence: np.ndarray,
    how: Resampling,
    *,
    paired: bool = False,
    draws: np.ndarray | None = None,
) -> tuple[float, float]:
    """Both ends of an interval of a statistic whose value on `data` is `value`; see `scipy.stats.bootstrap`.

    `influence` is what each cluster adds to it: all zero where resampling changes nothing. `draws`, (resamples,), of
    the statistic take the place of scipy's own.
    """
    scale = TINY * max(1.0, abs(value))
    method = how.method
    if np.abs(influence).max() <= scale:
        if draws is None or np.abs(draws - value).max() <= scale:
            return value, value
        method = "percentile"  # clusters agree, only seeds differ: there is no skew to correct
    result = stats.bootstrap(
        data,
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=how.resamples if draws is None else 0,
        bootstrap_result=None if draws is None else SimpleNamespace(bootstrap_distribution=draws),
        batch=max(1, BATCH // influence.size),
        confidence_level=how.confidence,
        method=METHODS[method],
        rng=np.random.default_rng(how.seed),
    )
    low, high = (float(end) for end in result.confidence_interval)
    return low, high


def _two_level_draws(arms: Sequence[_Arm], units: np.ndarray, how: Resampling) -> np.ndarray:
    """Means, (resamples,), of clusters drawn with replacement, and in each of their samples seeds likewise."""
    rng = np.random.default_rng(how.seed)
    sizes = np.bincount(units)
    order = np.argsort(units, kind="stable")
    table = np.zeros((len(sizes), sizes.max()), dtype=np.intp)  # (C, M), samples of each cluster
    filled = np.arange(table.shape[1]) < sizes[:, None]
    table[filled] = order
    most = max(arm.padded.shape[1] for arm in arms)
    batch = max(1, BATCH // (table.size * most))
    draws = []
    for start in range(0, how.resamples, batch):
        count = min(batch, how.resamples - start)
        chosen = rng.integers(0, len(sizes), (count, len(sizes)))
        samples, kept = table[chosen], filled[chosen]  # (count, C, M)
        means = []  # over seeds drawn with replacement, for every occurrence of a sample
        for arm in arms:
            seeds = arm.counts[samples][..., None]
            picks = (rng.random((*samples.shape, arm.padded.shape[1])) * seeds).astype(np.intp)
            drawn = arm.padded[samples[..., None], picks]
            drawn = np.where(np.arange(arm.padded.shape[1]) < seeds, drawn, 0.0)
            means.append(drawn.sum(axis=-1) / seeds[..., 0])
        contrast = means[0] if len(means) == 1 else means[0] - means[1]
        draws.append((contrast * kept).sum(axis=(1, 2)) / kept.sum(axis=(1, 2)))
    return np.concatenate(draws)
