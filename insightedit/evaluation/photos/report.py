"""What a run on photographs says: rates, PSNR and detail, for the editor and its control rows; all from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from insightedit.evaluation.core.protocol import PhotoProtocol
from insightedit.evaluation.core.records import MetricRecord
from insightedit.evaluation.core.statistics import Rate, group_by, mean, rate
from insightedit.evaluation.photos.requests import DECLINED, PhotoRequest
from insightedit.evaluation.scenes.report import MODEL_ROW, line_of
from insightedit.images.tones import operation_of


@dataclass(frozen=True)
class Quartiles:
    """The middle of some numbers, and the half of them around it."""

    low: float  # a quarter lies below
    median: float
    high: float  # a quarter lies above


@dataclass(frozen=True)
class OperationRow:
    """One operation in all its degrees."""

    n: int  # requests
    success: Rate
    understood: Rate | None  # None where the editor does not tell
    psnr: Quartiles | None  # dB to the exact answer


@dataclass(frozen=True)
class PhotoRow:
    """One line of the table; None where there was no such request, or the editor does not tell."""

    name: str  # "model" or the name of a control
    success: Rate | None  # whole-picture requests: nearest to the right operation, at least half-way
    understood: Rate | None  # of these: the editor's words name the right operation
    right_degree: Rate | None  # and its degree
    psnr: Quartiles | None  # dB to the exact answer, at the photograph's own size; 60 at most
    capped: int  # answers that are exact
    progress: float | None  # mean, -1..1, see `insightedit.evaluation.scenes.metrics`
    detail: Quartiles | None  # share of the exact answer's gradient energy that is there: 1 as crisp, below blurred
    left_alone: Rate | None  # requests to be declined: every value is the photograph's
    left_alone_by: Mapping[str, Rate]  # the same by kind, "outside" and "absent"
    same_file: Rate | None  # of these: every byte of the file, too; None where the editor writes no such files
    said_so: Rate | None  # of these: the editor says that it is not, or may not be, what was asked for
    doubted: Rate | None  # of whole-picture requests and edits of scenes: it says so, too
    wrongly_refused: Rate | None  # whole-picture requests and edits of scenes: nothing was changed
    wrongly_refused_by: Mapping[str, Rate]  # the same by kind, "tone" and "scene"
    operations: Mapping[str, OperationRow]  # by operation
    verdicts: Mapping[str, int]  # verdict -> count


@dataclass(frozen=True)
class PhotoExample:
    """One request with its pictures, (H, W, 3) uint8, small enough to be shown."""

    request: PhotoRequest
    facts: Mapping[str, Any]  # what was found of the output
    source: np.ndarray
    output: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class PhotoReport:
    """All that was measured on photographs: a view of the run's records."""

    protocol: PhotoProtocol  # what was measured, exactly
    records: tuple[MetricRecord, ...]  # those that carry all that was found of an output, one per sample and row
    files: Mapping[str, str] = field(default_factory=dict)  # sample -> SHA-256 of its source, see `PhotoRow.same_file`
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the editor; free, not part of the protocol
    examples: tuple[PhotoExample, ...] = ()  # the first samples, whatever became of them

    @cached_property
    def rows(self) -> tuple[PhotoRow, ...]:
        """The model first, then the controls."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for record in self.records:
            line, file = line_of(record), self.files.get(record.sample_id)
            line["same_file"] = None if file is None else record.out_png_sha256 == file
            rows.setdefault(line["row"], []).append(line)
        names = sorted(rows, key=lambda name: name != MODEL_ROW)
        return tuple(_summarise(name, rows[name]) for name in names)

    @property
    def model(self) -> PhotoRow:
        """The row of the editor."""
        return self.rows[0]

    def with_settings(self, settings: Mapping[str, Any]) -> PhotoReport:
        """The same report with more settings noted."""
        return replace(self, settings={**self.settings, **settings})

    def to_dict(self) -> dict[str, Any]:
        """Everything but records and pictures, ready for JSON: `report.json`."""
        return {
            "protocol": {**asdict(self.protocol), "hash": self.protocol.hash},
            "settings": dict(self.settings),
            "rows": [asdict(row) for row in self.rows],
        }


def _summarise(name: str, lines: Sequence[Mapping[str, Any]]) -> PhotoRow:
    by_kind = group_by(lines, lambda line: line["kind"])
    tones, declined = by_kind.get("tone", []), [one for kind in DECLINED for one in by_kind.get(kind, [])]
    doable = [*tones, *by_kind.get("scene", [])]
    return PhotoRow(
        name=name,
        **{key: _rate(line[key] for line in tones) for key in ("success", "understood", "right_degree")},
        psnr=_quartiles(line["psnr"] for line in tones),
        capped=sum(line["capped"] for line in tones),
        progress=mean(line["progress"] for line in tones),
        detail=_quartiles(line["detail"] for line in tones),
        **{key: _rate(line[key] for line in declined) for key in ("left_alone", "same_file", "said_so")},
        left_alone_by=_by_kind(declined, "left_alone"),
        doubted=_rate(line["said_so"] for line in doable),
        wrongly_refused=_rate(line["wrongly_refused"] for line in doable),
        wrongly_refused_by=_by_kind(doable, "wrongly_refused"),
        operations={
            str(operation): OperationRow(
                len(members),
                rate(line["success"] for line in members),
                _rate(line["understood"] for line in members),
                _quartiles(line["psnr"] for line in members),
            )
            for operation, members in group_by(tones, lambda line: operation_of(line["phrase"])).items()
        },
        verdicts=dict(Counter(line["verdict"] for line in lines).most_common()),
    )


def _by_kind(lines: Sequence[Mapping[str, Any]], key: str) -> dict[str, Rate]:
    groups = group_by(lines, lambda line: line["kind"])
    return {str(kind): rate(line[key] for line in members) for kind, members in groups.items()}


def _rate(outcomes: Iterable[bool | None]) -> Rate | None:
    """The rate of those that there are."""
    known = [outcome for outcome in outcomes if outcome is not None]
    return rate(known) if known else None


def _quartiles(values: Iterable[float | None]) -> Quartiles | None:
    known = [value for value in values if value is not None]
    return Quartiles(*np.quantile(known, (0.25, 0.5, 0.75)).tolist()) if known else None
