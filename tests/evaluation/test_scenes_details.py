"""Details stand beside the protocol's numbers and change none of them; old reports stay readable and comparable."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from insightedit.evaluation.core.protocol import SceneProtocol
from insightedit.evaluation.reporting import report as reports
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate
from insightedit.evaluation.scenes.details import DetailRules
from insightedit.evaluation.scenes.report import SceneReport
from insightedit.scenes import EditSample
from tests.evaluation.test_scenes_benchmark import oracle as toy_oracle
from tests.evaluation.test_scenes_benchmark import run as run_toy

GOLDEN, GOLDEN_RECORDS = "e89c3f5c00637beb", 98
FIRST_FIELDS = [
    "protocol", "sample_id", "row", "instruction", "task", "category", "style", "template_id",
    "verdict", "success", "nearest", "progress", "balanced", "leak", "leak_plain",
    "psnr_background", "psnr_paper", "tone_drift", "discriminates", "discrimination_margin",
    "discrimination_chance", "iou", "precision", "recall", "leak_4", "leak_8", "leak_20", "capped",
    "output_sha256",
]  # fmt: skip
DETAIL_FIELDS = {
    "exact", "change_accuracy", "keep_accuracy", "predicate_f1", "found", "right_kind", "colour_error",
    "position_error", "size_error", "count_error", "subject_histogram", "subject_iou", "subject_ssim", "shift",
    "failure", "failures",
}  # fmt: skip


def mixed(samples: Sequence[EditSample]) -> list[np.ndarray]:
    """Right, idle, half-way, shifted: one after another."""
    ways = (
        lambda s: s.target,
        lambda s: s.source,
        lambda s: ((s.source.astype(int) + s.target) // 2).astype(np.uint8),
        lambda s: np.roll(s.target, 2, axis=1),
    )
    return [ways[s.index % len(ways)](s) for s in samples]


def dim(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [(picture * 0.97).astype(np.uint8) for picture in pictures]


@pytest.fixture(scope="module")
def report() -> SceneReport:
    return evaluate(mixed, SceneSet(16, 32, pairs=2), round_trip=dim)


def told(value: Any) -> Any:
    """Floats to ten digits: the last bits are the machine's."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return [told(v) for v in value] if isinstance(value, list | tuple) else value


def shown(table: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_the_protocols_of_the_600_scenes_are_what_they_were() -> None:
    """The rules are those of the first scenes, so that numbers of models already measured keep their protocol."""
    first = "9811a9dd5d5caa29b853f367aaecee654454de1bb7ff537a34fc83d021882678"
    now = "14b0c9afb09b2d0fa3593ba63bf5cb5fd6f71896eb8247af53eb3bc096f232b5"
    which = {"split": "test", "size": 64, "seed": 0, "count": 600, "pairs": 50}
    protocol = SceneProtocol.describe(**which, data_sha256=now)
    assert (protocol.name, protocol.hash) == ("scenes_v2", "2a8c19061fad40dd")
    assert replace(protocol, name="scenes_v1", data_sha256=first).hash == "8f3158bc7057ce26"


def test_every_number_from_before_the_details_is_what_it_was(report: SceneReport) -> None:
    """The hash was taken before details existed, and before scoring was made faster."""
    records = [r for r in report.lines if r["row"] != "oracle_tint"]
    assert set(records[0]) == {*FIRST_FIELDS, *DETAIL_FIELDS, "gradient_energy", "wanted_energy"}
    first = [[told(record.get(name)) for name in FIRST_FIELDS] for record in records]
    assert len(records) == GOLDEN_RECORDS
    assert hashlib.sha256(json.dumps(first).encode()).hexdigest()[:16] == GOLDEN


def test_details_say_what_the_outputs_are(report: SceneReport) -> None:
    singles = [r for r in report.lines if not r["sample_id"].startswith("pair-") and r["row"] == "model"]
    for index, record in enumerate(singles):
        is_right, is_idle = index % 4 == 0, index % 4 == 1
        assert record["exact"] is is_right or not (is_right or is_idle)
        if is_right:
            assert record["predicate_f1"] == 1.0 and record["failures"] == [] and record["failure"] is None
        if is_idle:
            assert record["change_accuracy"] == 0.0 and record["keep_accuracy"] == 1.0
            assert record["failure"] == "F1"
        if index % 4 == 3 and record["psnr_background"] is not None:
            assert record["shift"] == [2, 0] and "F13" in record["failures"]


def test_rows_gather_the_details(report: SceneReport) -> None:
    rows = {row.name: row for row in report.rows}
    assert rows["oracle"].exact is not None and rows["oracle"].exact.value == 1.0
    assert rows["copy_source"].exact is not None and rows["copy_source"].exact.value == 0.0
    assert rows["copy_source"].primary_failures == {"F1": 16} and rows["oracle"].failures == {}
    assert rows["wrong_object"].primary_failures == {"F2": rows["wrong_object"].success.n}
    assert rows["oracle"].p90 == dict.fromkeys(rows["oracle"].p90, 0.0)
    model = rows["model"]
    assert sum(model.primary_failures.values()) == 16 - model.success.successes
    assert all(model.failures[code] >= count for code, count in model.primary_failures.items())


def test_tables_show_details_and_failures(report: SceneReport) -> None:
    details, failures = shown(reports.details_table(report)), shown(reports.failures_table(report.model))
    assert report.details["hash"] in details and "autoencoder target" in details and "SSIM" in details
    assert "no edit" in failures and "crop or alignment shift" in failures
    idle = next(row for row in report.rows if row.name == "oracle")
    assert reports.failures_table(idle) is None


def test_control_rows_that_cannot_be_computed_are_named(report: SceneReport) -> None:
    assert reports.missing_controls(report) == []
    alone = evaluate(mixed, SceneSet(1, 32))
    lines = reports.missing_controls(alone)
    assert "autoencoder source: not computed, the editor's autoencoder is not known" in lines
    assert any(line.startswith("autoencoder target:") for line in lines)


def test_without_controls_the_model_is_alone_and_the_protocol_the_same() -> None:
    bare, full = (evaluate(mixed, SceneSet(4, 32), controls=c) for c in (False, True))
    assert [row.name for row in bare.rows] == ["model"]
    assert bare.protocol == full.protocol and bare.model == full.model


def test_rules_of_details_have_a_hash_of_their_own(report: SceneReport) -> None:
    rules = DetailRules()
    assert report.details == rules.to_dict() and rules.to_dict()["name"] == "scenes_details_v1"
    assert DetailRules(min_gain=0.1).to_dict()["hash"] != rules.to_dict()["hash"]
    assert report.to_dict()["details"]["hash"] == rules.to_dict()["hash"]


def test_samples_without_graphs_have_rows_without_details() -> None:
    report = run_toy(toy_oracle)
    assert report.model.exact is None and report.model.means["predicate_f1"] is None
    assert reports.details_table(report) is None and reports.failures_table(report.model) is None


def test_details_are_compared_where_their_rules_agree(report: SceneReport, tmp_path: Path) -> None:
    reports.write_report(report, tmp_path)
    written, records = reports.read_report(tmp_path)
    both = shown(reports.comparison_table({"one": (written, records), "two": (written, records)}))
    assert "exact" in both and "F1" in both
    other = {**written, "details": {**written["details"], "hash": "0"}}
    assert "exact" not in shown(reports.comparison_table({"one": (written, records), "two": (other, records)}))


def test_reports_of_an_earlier_version_say_so(report: SceneReport, tmp_path: Path) -> None:
    reports.write_report(report, tmp_path)
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in report.lines))
    with pytest.raises(ValueError, match=r"is damaged or of an earlier version .*: evaluate again"):
        reports.read_report(tmp_path)
