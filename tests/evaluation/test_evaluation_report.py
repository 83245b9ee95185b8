"""Files, tables and the contact sheet."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from insightedit.evaluation.reporting import pictures
from insightedit.evaluation.reporting import report as reports
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate
from insightedit.evaluation.scenes.report import SceneReport
from insightedit.images import sheets
from tests.evaluation.test_scenes_benchmark import always_left, dim, oracle, run
from tests.evaluation.toy import ToySampler


def shown(table: Table) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


@pytest.fixture
def report() -> SceneReport:
    return run(round_trip=dim, pairs=4).with_settings({"model": "toy"})


def test_files_hold_what_was_measured(report: SceneReport, tmp_path: Path) -> None:
    paths = reports.write_report(report, tmp_path / "new" / "folder")
    assert {path.name for path in paths} == {path.name for path in paths[0].parent.iterdir()} == set(reports.FILES)
    written, records = reports.read_report(paths[0].parent)
    assert written["protocol"]["hash"] == report.protocol.hash and written["settings"]["model"] == "toy"
    assert written["rows"][0]["success"]["value"] == 0.5 and written["pairs"]["both"]["n"] == 4
    assert len(records) == len(report.records) and records[0]["sample_id"] == "test-32px-s0-000000"
    with Image.open(paths[2]) as sheet:
        assert sheet.size == reports.scenes_sheet(report).size


def test_json_is_strict(report: SceneReport, tmp_path: Path) -> None:
    reports.write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text() + (tmp_path / "records.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text


def test_tables_show_the_model_beside_its_controls(report: SceneReport) -> None:
    text = shown(reports.rows_table(report))
    for words in ("model", "copy source", "oracle", "wrong object", "autoencoder target", report.protocol.hash):
        assert words in text
    assert "50.0 (23.7 - 76.3)" in text and "60.0 (10 capped)" in text and "[50 %]" in text
    groups = shown(reports.groups_table(report.model))
    assert "left right" in groups and "5*" in groups and "macro mean 50.0 %" in groups
    assert report.model.verdicts == {"success": 5, "wrong object": 5}
    assert "both right in 0.0" in reports.pairs_line(report.pairs) and "25.0 %" in reports.pairs_line(report.pairs)


def test_numbers_without_meaning_are_dashes() -> None:
    class Global(ToySampler):
        """Every edit changes the whole picture and means no object."""

        def __getitem__(self, index: int) -> object:
            sample = super().__getitem__(index)
            brighter = sample.source + np.uint8(20)
            values = {"source": sample.source, "target": brighter}
            names = ("instruction", "task", "category", "style", "template_id", "references")
            fields = {name: getattr(sample, name) for name in names}
            fields |= {"scene": sample.scene, "object_mask": sample.object_mask}
            fields |= {"edit": SimpleNamespace(targets=()), "candidates": lambda: values}
            return SimpleNamespace(**fields, **values)

    report = evaluate(oracle, SceneSet(3, 32, sampler=Global()))
    assert "wrong_object" not in [row.name for row in report.rows]
    text = shown(reports.rows_table(report))
    assert "100.0 (43.9 - 100.0)" in text and text.count(" - ") > 9
    reports.scenes_sheet(report)


def test_sheet_shows_worst_and_random_samples_and_is_stable(report: SceneReport) -> None:
    sheet = np.asarray(reports.scenes_sheet(report))
    assert np.array_equal(sheet, np.asarray(reports.scenes_sheet(run(round_trip=dim, pairs=4))))
    left, top = sheets.MARGIN, 2 * sheets.HEADER + sheets.LINE  # of the first picture of the first card
    cell = sheet[top : top + pictures.CELL, left : left + pictures.CELL]
    assert np.array_equal(cell[::4, ::4], report.worst[0].source)


def test_comparison_tests_each_editor_against_the_first(tmp_path: Path) -> None:
    reports.write_report(run(oracle), tmp_path / "oracle")
    reports.write_report(run(always_left), tmp_path / "left")
    read = {name: reports.read_report(tmp_path / name) for name in ("left", "oracle")}
    text = shown(reports.comparison_table(read))
    assert "left" in text and "0.0625" in text  # 5 : 0 in McNemar's test


def test_comparison_refuses_to_mix_protocols(tmp_path: Path) -> None:
    reports.write_report(run(), tmp_path / "a")
    reports.write_report(run(count=9), tmp_path / "b")
    read = {name: reports.read_report(tmp_path / name) for name in "ab"}
    with pytest.raises(ValueError, match="The reports follow different protocols"):
        reports.comparison_table(read)
    with pytest.raises(ValueError, match="1 report to compare: name at least two"):
        reports.comparison_table({"a": read["a"]})


def test_errors_of_files_teach(report: SceneReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        reports.write_report(report, tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"No report\.json in .*: name a folder that"):
        reports.read_report(tmp_path)
    reports.write_report(report, tmp_path)
    (tmp_path / "records.jsonl").write_text(json.dumps({"row": "model"})[:-3])
    with pytest.raises(ValueError, match=r"is damaged .*: evaluate again"):
        reports.read_report(tmp_path)
