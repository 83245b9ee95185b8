"""Which samples are looked at: chosen by rule, never by hand, and the same ones for the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scipy.stats import rankdata

from insightedit.evaluation.core.records import by_hash
from insightedit.evaluation.reporting.runs import JUDGES, ReportRun

NUM_EXTREME = 8


@dataclass(frozen=True)
class Block:
    """Samples that one rule chose."""

    key: str  # "best", "worst", "random", "disagreement", or "all" where there are too few for that
    title: str  # the rule, as a sentence
    names: tuple[str, ...]  # sample ids in the rule's order
    notes: Mapping[str, str] = field(default_factory=dict)  # id -> what the rule says of it beside its numbers


def from_best(scores: Mapping[str, float], better: str) -> tuple[str, ...]:
    """Sample ids, best first; equal ones by id."""
    sign = -1.0 if better == "higher" else 1.0
    return tuple(sorted(scores, key=lambda name: (sign * scores[name], name)))


def choose(run: ReportRun, *, category: str | None = None, seed: int = 0) -> list[Block]:
    """The blocks of a contact sheet: best, worst, random, and where metric and judge disagree most.

    Best and worst go by `run.order`, samples without a value left out; random ones are drawn from all samples. Of no
    more than `NUM_EXTREME` samples all are shown, best first.
    """
    column = run.column(run.order)
    means = column.means
    names = [one for one, kind in column.categories.items() if category in (None, kind)]
    better, label = run.order.heading().better, run.order.heading().label
    ranked = from_best({name: means[name] for name in names if name in means}, better)
    if len(names) <= NUM_EXTREME:
        rest = tuple(sorted(set(names) - set(ranked)))
        return [Block("all", f"All {len(names)} samples, best {label} first", ranked + rest)]
    ends = ("highest", "lowest") if better == "higher" else ("lowest", "highest")
    blocks = [
        Block("best", f"Best: {ends[0]} {label}", ranked[:NUM_EXTREME]),
        Block("worst", f"Worst: {ends[1]} {label}", ranked[::-1][:NUM_EXTREME]),
        Block("random", f"Random: lowest SHA-256 of the id with seed {seed}", by_hash(names, seed=seed)),
        _disagreement(run, names),
    ]
    return [block for block in blocks if block is not None and block.names]


def _disagreement(run: ReportRun, names: Sequence[str]) -> Block | None:
    """Samples on which metric and judge differ most in rank; None if one of them is missing."""
    columns = [one for one in run.columns if one.heading().better != "n/a"]
    judges = sorted((c for c in columns if c.metric_name in JUDGES), key=lambda c: JUDGES.index(c.metric_name))
    metrics = sorted((c for c in columns if c.metric_name not in JUDGES), key=lambda c: c != run.order)
    if not judges or not metrics:
        return None
    pair = metrics[0], judges[0]
    means = [run.column(one).means for one in pair]
    shared = [name for name in names if all(name in found for found in means)]
    if len(shared) < 2:
        return None
    ranks = []  # 0 for the worst, one less than there are for the best; equal values share the mean of their ranks
    for metric, found in zip(pair, means, strict=True):
        sign = 1.0 if metric.heading().better == "higher" else -1.0
        ranks.append([float(rank) - 1 for rank in rankdata([sign * found[name] for name in shared])])
    gaps = {name: abs(a - b) for name, a, b in zip(shared, *ranks, strict=True)}  # exact: whole or half numbers
    labels = [one.heading().label for one in pair]
    most = len(shared) - 1
    notes = {
        name: f"{labels[0]} at {100 * a / most:.0f} %, {labels[1]} at {100 * b / most:.0f} % of the way up"
        for name, a, b in zip(shared, *ranks, strict=True)
    }
    title = f"Disagreement: largest gap between the ranks by {labels[0]} and by {labels[1]}"
    return Block("disagreement", title, from_best(gaps, "higher")[:NUM_EXTREME], notes)
