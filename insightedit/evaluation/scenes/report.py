"""What a run on scenes says: rows, rates by kind of edit, minimal pairs; all derived from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from insightedit.evaluation.core.protocol import SceneProtocol
from insightedit.evaluation.core.records import MetricRecord, is_control
from insightedit.evaluation.core.significance import Interval, Resampling, ratio_interval
from insightedit.evaluation.core.statistics import Rate, group_by, macro_mean, mean, percentile, rate

MODEL_ROW = "model"
GROUPINGS = ("category", "task", "style")
AVERAGED = (
    *("progress", "balanced", "leak", "leak_plain", "psnr_background", "psnr_paper"),
    *("discriminates", "discrimination_margin", "discrimination_chance", "iou", "precision", "recall"),
)
RESAMPLING = Resampling(resamples=2000)  # of sharpness, for each row and task
ERRORS = ("colour_error", "position_error", "size_error", "count_error")  # of which the 90th percentile is told, too
DETAILS = (
    *("change_accuracy", "keep_accuracy", "predicate_f1", "found", "right_kind"),
    *ERRORS,
    *("subject_histogram", "subject_iou", "subject_ssim"),
)


@dataclass(frozen=True)
class SceneRow:
    """One line of the table."""

    name: str  # "model" or the name of a control
    success: Rate  # rate with interval
    macro: float  # mean of the categories' rates
    means: Mapping[str, float | None]  # metric -> mean over the samples that have it, None if no sample does
    tone_drift: tuple[float, ...] | None  # mean shift of red, green, blue on the background, -1..1
    capped: int  # samples whose strict PSNR was capped
    groups: Mapping[str, Mapping[str, Rate]]  # "category", "task", "style" -> group -> rate
    verdicts: Mapping[str, int]  # verdict -> count
    exact: Rate | None = None  # rate of edits that show exactly the target's scene; None without graphs
    # 90th percentile of each of `ERRORS`, None if no sample has it
    p90: Mapping[str, float | None] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)  # code -> samples that carry it, successes among them
    primary_failures: Mapping[str, int] = field(default_factory=dict)  # code -> samples that fail by it
    # Sharpness: mean `gradient_energy` of the outputs over that of the targets, so that a scene counts by how much
    # there is to see in a pixel of its changed area, whatever the area's size. 1 is as crisp as the truth, below is
    # blur, above noise. Only outputs whose nearest candidate is the target count: where the wrong thing stands,
    # energies compare contents (a thing that was not removed is crisp). None without any, or if their targets are flat
    sharpness: Interval | None = None
    sharpness_by_task: Mapping[str, Interval | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PairResult:
    """Minimal pairs: the same picture with two instructions that differ in one word."""

    both: Rate  # rate of pairs of which both edits succeed
    single: Rate  # rate over all edits of the pairs
    if_independent: float  # square of `single`: what `both` would be if the two edits had nothing in common


@dataclass(frozen=True)
class Example:
    """One sample with its pictures, for the contact sheet; (H, W, 3) uint8 each."""

    line: Mapping[str, Any]  # what was found of it, see `line_of`
    source: np.ndarray  # of a new picture, the empty backdrop
    output: np.ndarray
    target: np.ndarray
    references: tuple[np.ndarray, ...] = ()  # pictures that stand in the instruction
    is_new: bool = False  # whether the picture is drawn from blank


@dataclass(frozen=True)
class SceneReport:
    """All that was measured on scenes: a view of the run's records."""

    protocol: SceneProtocol  # what was measured, exactly
    records: tuple[MetricRecord, ...]  # those that carry all that was found of an output, one per sample and row
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the editor; free, not part of the protocol
    details: Mapping[str, Any] = field(default_factory=dict)  # see `insightedit.evaluation.scenes.details`
    worst: tuple[Example, ...] = ()  # samples with the lowest relative progress
    random: tuple[Example, ...] = ()  # samples drawn by the hash of their id

    @cached_property
    def lines(self) -> tuple[dict[str, Any], ...]:
        """Each record as one flat dictionary, see `line_of`."""
        return tuple(map(line_of, self.records))

    @cached_property
    def rows(self) -> tuple[SceneRow, ...]:
        """The model first, then the controls; samples of pairs are left out."""
        singles = [line for line in self.lines if not is_pair(line["sample_id"])]
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for line in singles:
            rows.setdefault(line["row"], []).append(line)
        return tuple(_summarise(name, lines) for name, lines in rows.items())

    @cached_property
    def pairs(self) -> PairResult | None:
        """Result on minimal pairs; None if none were measured."""
        paired = [line for line in self.lines if is_pair(line["sample_id"])]
        if not paired:
            return None
        single = rate(line["success"] for line in paired)
        couples = group_by(paired, lambda line: line["sample_id"][:-2]).values()
        both = rate(all(line["success"] for line in couple) for couple in couples)
        return PairResult(both, single, single.value**2)

    @property
    def model(self) -> SceneRow:
        """The row of the editor."""
        return self.rows[0]

    def with_settings(self, settings: Mapping[str, Any]) -> SceneReport:
        """The same report with more settings noted."""
        return replace(self, settings={**self.settings, **settings})

    def to_dict(self) -> dict[str, Any]:
        """Everything but records and pictures, ready for JSON: `report.json`."""
        return {
            "protocol": {**asdict(self.protocol), "hash": self.protocol.hash},
            "details": dict(self.details),
            "settings": dict(self.settings),
            "rows": [asdict(row) for row in self.rows],
            "pairs": None if self.pairs is None else asdict(self.pairs),
        }


def line_of(record: MetricRecord) -> dict[str, Any]:
    """All that was found of one output, flat: the facts of its record, with protocol, sample and row."""
    row = record.method if is_control(record.method) else MODEL_ROW
    return {"protocol": record.protocol_hash, "sample_id": record.sample_id, "row": row, **record.facts}


def is_pair(sample_id: str) -> bool:
    """Whether a sample is half of a minimal pair."""
    return sample_id.startswith("pair-")


def _summarise(name: str, lines: Sequence[Mapping[str, Any]]) -> SceneRow:
    groups = {
        grouping: {
            str(value): rate(line["success"] for line in members)
            for value, members in group_by(lines, lambda line, key=grouping: line[key]).items()
        }
        for grouping in GROUPINGS
    }
    tasks = group_by(lines, lambda line: line["task"])
    exact = [line["exact"] for line in lines if line["exact"] is not None]
    drifts = [line["tone_drift"] for line in lines if line["tone_drift"] is not None]
    return SceneRow(
        name=name,
        success=rate(line["success"] for line in lines),
        macro=macro_mean(list(groups["category"].values())),
        means={metric: mean(line[metric] for line in lines) for metric in (*AVERAGED, *DETAILS)},
        tone_drift=tuple(np.mean(drifts, axis=0).tolist()) if drifts else None,
        capped=sum(line["capped"] for line in lines),
        groups=groups,
        verdicts=dict(Counter(line["verdict"] for line in lines).most_common()),
        exact=rate(exact) if exact else None,
        p90={metric: percentile(line[metric] for line in lines) for metric in ERRORS},
        failures=_counted(code for line in lines for code in line["failures"]),
        primary_failures=_counted(line["failure"] for line in lines if line["failure"] is not None),
        sharpness=_sharpness(lines),
        sharpness_by_task={str(task): _sharpness(members) for task, members in tasks.items()},
    )


def _sharpness(lines: Sequence[Mapping[str, Any]]) -> Interval | None:
    right = [line for line in lines if line["nearest"] == "target"]
    drawn, wanted = ([line[name] for line in right] for name in ("gradient_energy", "wanted_energy"))
    return ratio_interval(drawn, wanted, how=RESAMPLING) if sum(wanted) > 0 else None


def _counted(codes: Iterable[str]) -> dict[str, int]:
    """Counts by code, F1 first."""
    return dict(sorted(Counter(codes).items(), key=lambda entry: int(entry[0][1:])))
