"""What a measurement gives: rows, rates by kind of edit, minimal pairs; all derived from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from insightedit.evaluation.core.examples import Example
from insightedit.evaluation.core.protocol import SceneProtocol
from insightedit.evaluation.core.statistics import Rate, group_by, macro_mean, mean, percentile, rate

GROUPINGS = ("category", "task", "style")
AVERAGED = (
    "progress",
    "balanced",
    "leak",
    "leak_plain",
    "psnr_background",
    "psnr_paper",
    "discriminates",
    "discrimination_margin",
    "discrimination_chance",
    "iou",
    "precision",
    "recall",
)
ERRORS = ("colour_error", "position_error", "size_error", "count_error")  # of which the 90th percentile is told, too
DETAILS = (
    "change_accuracy",
    "keep_accuracy",
    "predicate_f1",
    "found",
    "right_kind",
    *ERRORS,
    "subject_histogram",
    "subject_iou",
    "subject_ssim",
)


@dataclass(frozen=True)
class SceneRow:
    """One line of the table.

    Attributes:
        name: "model" or the name of a control.
        success: rate with interval.
        macro: mean of the categories' rates.
        means: metric -> mean over the samples that have it, None if no sample does.
        tone_drift: mean signed shift of red, green, blue on the background, -1..1; None without background.
        capped: samples whose strict PSNR was capped.
        groups: "category", "task", "style" -> group -> rate.
        verdicts: verdict -> count.
        exact: rate of edits whose picture shows the target's scene exactly; None for samples without a graph.
        p90: 90th percentile of each of `ERRORS`, None if no sample has it.
        failures: code -> samples that carry it, successes among them.
        primary_failures: code -> samples that fail by it; with the successes they make all.
    """

    name: str
    success: Rate
    macro: float
    means: Mapping[str, float | None]
    tone_drift: tuple[float, ...] | None
    capped: int
    groups: Mapping[str, Mapping[str, Rate]]
    verdicts: Mapping[str, int]
    exact: Rate | None = None
    p90: Mapping[str, float | None] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    primary_failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PairResult:
    """Minimal pairs: the same picture with two instructions that differ in one word.

    Attributes:
        both: rate of pairs of which both edits succeed.
        single: rate over all edits of the pairs.
        if_independent: the square of `single`: what `both` would be if the two edits had nothing to do with
            each other.
    """

    both: Rate
    single: Rate
    if_independent: float


@dataclass(frozen=True)
class SceneReport:
    """All that was measured.

    Attributes:
        protocol: what was measured, exactly.
        rows: the model first, then the controls.
        records: one flat dictionary per sample and row; everything else here derives from them.
        pairs: result on minimal pairs, None if not asked for.
        settings: of the editor; free, not part of the protocol.
        details: definitions of the details, with their hash; see `scenes_details`.
        worst: samples with the lowest relative progress.
        random: samples drawn by the hash of their id.
    """

    protocol: SceneProtocol
    rows: tuple[SceneRow, ...]
    records: tuple[dict[str, Any], ...]
    pairs: PairResult | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    worst: tuple[Example, ...] = ()
    random: tuple[Example, ...] = ()

    @property
    def model(self) -> SceneRow:
        """The row of the editor."""
        return self.rows[0]

    def with_settings(self, settings: Mapping[str, Any]) -> SceneReport:
        """The same report with more settings noted."""
        return replace(self, settings={**self.settings, **settings})

    def to_dict(self) -> dict[str, Any]:
        """Everything but records and pictures, ready for JSON."""
        return {
            "protocol": {**asdict(self.protocol), "hash": self.protocol.hash},
            "details": dict(self.details),
            "settings": dict(self.settings),
            "rows": [asdict(row) for row in self.rows],
            "pairs": None if self.pairs is None else asdict(self.pairs),
        }


def summarise(records: Sequence[Mapping[str, Any]]) -> tuple[SceneRow, ...]:
    """Table rows from records, in the order in which rows first appear; records of pairs are left out.

    Records of an earlier version, without details, give rows without them.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if not record["sample_id"].startswith("pair-"):
            rows.setdefault(record["row"], []).append(record)
    return tuple(_summarise_row(name, members) for name, members in rows.items())


def _summarise_row(name: str, records: Sequence[Mapping[str, Any]]) -> SceneRow:
    groups = {
        grouping: {
            str(value): rate(record["success"] for record in members)
            for value, members in group_by(records, lambda record, key=grouping: record[key]).items()
        }
        for grouping in GROUPINGS
    }
    exact = [record["exact"] for record in records if record.get("exact") is not None]
    codes = [record["failure"] for record in records if record.get("failure") is not None]
    drifts = [record["tone_drift"] for record in records if record["tone_drift"] is not None]
    return SceneRow(
        name=name,
        success=rate(record["success"] for record in records),
        macro=macro_mean(list(groups["category"].values())),
        means={metric: mean(record.get(metric) for record in records) for metric in (*AVERAGED, *DETAILS)},
        tone_drift=tuple(np.mean(drifts, axis=0).tolist()) if drifts else None,
        capped=sum(record["capped"] for record in records),
        groups=groups,
        verdicts=dict(Counter(record["verdict"] for record in records).most_common()),
        exact=rate(exact) if exact else None,
        p90={metric: percentile(record.get(metric) for record in records) for metric in ERRORS},
        failures=_counted(code for record in records for code in record.get("failures", ())),
        primary_failures=_counted(codes),
    )


def _counted(codes: Iterable[str]) -> dict[str, int]:
    """Counts by code, F1 first."""
    return dict(sorted(Counter(codes).items(), key=lambda entry: int(entry[0][1:])))


def pair_result(records: Sequence[Mapping[str, Any]]) -> PairResult | None:
    """Minimal-pair accuracy from records; None if they hold no pairs."""
    paired = [record for record in records if record["sample_id"].startswith("pair-")]
    if not paired:
        return None
    couples = group_by(paired, lambda record: record["sample_id"][:-2])
    single = rate(record["success"] for record in paired)
    both = rate(all(record["success"] for record in couple) for couple in couples.values())
    return PairResult(both, single, single.value**2)
