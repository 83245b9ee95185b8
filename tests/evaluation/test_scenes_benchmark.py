"""The benchmark on toy scenes: control rows, streaming, records, pairs, errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from insightedit.cli.eval_reading import noted_table
from insightedit.evaluation.core.records import read_records
from insightedit.evaluation.core.run_folder import read_run, write_run
from insightedit.evaluation.core.significance import Resampling
from insightedit.evaluation.reporting.runs import read_report_run
from insightedit.evaluation.reporting.table_formatting import to_markdown
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate, sample_id
from insightedit.evaluation.scenes.report import SceneReport
from tests.evaluation.toy import SIZE, ToySample, ToySampler


def oracle(samples: Sequence[ToySample]) -> list[np.ndarray]:
    return [sample.target for sample in samples]


def always_left(samples: Sequence[ToySample]) -> list[np.ndarray]:
    return [ToySample().target for _ in samples]


def dim(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An autoencoder that loses a little everywhere."""
    return [(picture * 0.97).astype(np.uint8) for picture in pictures]


def run(edit_fn: object = always_left, **options: object) -> SceneReport:
    given = {"count": 10, "size": SIZE, "sampler": ToySampler(), **options}
    which = {one.name: given.pop(one.name) for one in fields(SceneSet) if one.name in given}
    return evaluate(edit_fn, SceneSet(**which), **given)


def test_control_rows_stand_where_they_must() -> None:
    report = run(round_trip=dim)
    success = {row.name: row.success.value for row in report.rows}
    assert success == {
        "model": 0.5,
        "copy_source": 0.0,
        "oracle": 1.0,
        "wrong_object": 0.0,
        "oracle_tint": 0.0,
        "autoencoder_source": 0.0,
        "autoencoder_target": 1.0,
    }
    rows = {row.name: row for row in report.rows}
    assert rows["copy_source"].verdicts == {"no edit": 10} and rows["wrong_object"].verdicts == {"wrong object": 10}
    assert rows["copy_source"].capped == 10 and rows["autoencoder_source"].capped == 0
    assert report.model is rows["model"] and report.model.verdicts == {"success": 5, "wrong object": 5}
    assert max(rows["autoencoder_target"].tone_drift) < 0


def test_without_an_autoencoder_its_rows_are_missing() -> None:
    report = run()
    names = ["model", "copy_source", "oracle", "wrong_object", "oracle_tint"]
    assert [row.name for row in report.rows] == names
    assert report.settings == {"excess_leak": False} and run(round_trip=dim).settings == {"excess_leak": True}


def test_groups_count_every_sample_once() -> None:
    groups = run().model.groups
    assert {name: sum(value.n for value in group.values()) for name, group in groups.items()} == {
        "category": 10,
        "task": 10,
        "style": 10,
    }
    assert groups["category"]["left_right"].value == 1.0 and groups["category"]["plain"].value == 0.0
    assert run().model.macro == 0.5


def test_batches_do_not_change_the_report_and_progress_counts_all() -> None:
    sizes, steps = [], []

    def spy(samples: Sequence[ToySample]) -> list[np.ndarray]:
        sizes.append(len(samples))
        return always_left(samples)

    report = run(spy, batch_size=4, pairs=3, progress=steps.append)
    assert sizes == [4, 4, 4, 4] and sum(steps) == 16
    assert report.to_dict() == run(pairs=3).to_dict() and report.lines == run(pairs=3).lines


def test_pairs_punish_an_editor_that_ignores_the_word() -> None:
    pairs = run(pairs=5).pairs
    assert (pairs.both.value, pairs.single.value, pairs.if_independent, pairs.both.n) == (0.0, 0.5, 0.25, 5)
    assert run(oracle, pairs=5).pairs.both.value == 1.0
    assert run().pairs is None


def test_records_are_one_flat_line_per_sample_and_row() -> None:
    report = run(pairs=2)
    assert len(report.lines) == 10 * 5 + 4
    for record in report.lines:
        assert json.loads(json.dumps(record, allow_nan=False))["protocol"] == report.protocol.hash
    first = report.lines[0]
    assert first["sample_id"] == "test-32px-s0-000000" and first["row"] == "model" and first["success"] is True
    assert {"progress", "leak_4", "leak_20", "psnr_paper", "verdict", "output_sha256", "capped"} <= set(first)


def test_protocol_hash_follows_rules_and_scenes_but_not_the_editor() -> None:
    assert run().protocol.hash == run(oracle).protocol.hash == run(round_trip=dim).protocol.hash
    assert len({run(**o).protocol.hash for o in ({}, {"count": 9}, {"pairs": 1}, {"seed": 1}, {"split": "val"})}) == 5

    class OtherScenes(ToySampler):
        def __getitem__(self, index: int) -> ToySample:
            return ToySample(instruction=f"another wording, {index}")

    assert run(sampler=OtherScenes()).protocol.data_sha256 != run().protocol.data_sha256


def test_examples_are_chosen_by_rule() -> None:
    report, other_batches = run(count=40), run(count=40, batch_size=7)
    assert len(report.worst) == 8 and len(report.random) == 16
    assert all(example.line["verdict"] == "wrong object" for example in report.worst)
    ids = [[example.line["sample_id"] for example in r.random] for r in (report, other_batches, run(oracle, count=40))]
    assert ids[0] == ids[1] == ids[2]


def test_scenes_are_a_run_like_any_other(tmp_path: Path) -> None:
    first = run(out=tmp_path, pairs=2, batch_size=3)
    card, records = read_run(tmp_path), list(read_records(tmp_path / "records.jsonl"))
    assert card.protocol["hash"] == first.protocol.hash == records[0].protocol_hash
    assert (records[0].method, records[0].metric_name, records[0].value) == ("model", "success", 1.0)
    assert {one.metric_name for one in records if one.sample_id.startswith("pair-")} == {"pair_success"}
    table = to_markdown(noted_table([read_report_run(tmp_path)], Resampling(resamples=9)))
    assert "success" in table and "oracle_tint" in table
    before = (tmp_path / "records.jsonl").read_bytes()
    assert run(oracle, out=tmp_path, pairs=2).model.success.value == 1.0, "a whole run is replaced"
    run(out=tmp_path, pairs=2, batch_size=3)
    assert (tmp_path / "records.jsonl").read_bytes() == before

    def stopped(samples: Sequence[ToySample]) -> list[np.ndarray]:
        raise InterruptedError

    (tmp_path / "records.jsonl").write_bytes(before[: len(before) // 2])
    (tmp_path / "pictures" / "test-32px-s0-000009.png").unlink()
    write_run(replace(card, finished=None), tmp_path)
    with pytest.raises(InterruptedError):
        run(stopped, out=tmp_path, pairs=2, batch_size=3)
    assert run(out=tmp_path, pairs=2, batch_size=3).to_dict() == first.to_dict()
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_sample_ids_say_where_they_come_from() -> None:
    assert sample_id("val", 64, 3, 12) == "val-64px-s3-000012"
    assert sample_id("val", 64, 3, 12, "b") == "pair-val-64px-s3-000012-b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0: it has to be at least 1"),
        ({"batch_size": 0}, "batch_size is 0: it has to be at least 1"),
        ({"pairs": -1}, "pairs is -1: it has to be at least 0"),
        ({"edit_fn": lambda samples: []}, "edit_fn returned 0 pictures for 10 samples: return one per sample"),
        ({"round_trip": lambda pictures: []}, "round_trip returned 0 pictures for 1 samples"),
        (
            {"edit_fn": lambda samples: [np.zeros((8, 8, 3), np.uint8)] * len(samples)},
            r"a picture of edit_fn has shape \(8, 8, 3\), the source \(32, 32, 3\)",
        ),
    ],
)
def test_errors_teach(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_pictures_have_to_be_uint8() -> None:
    with pytest.raises(TypeError, match="a picture of edit_fn has dtype float64; pictures are uint8"):
        run(lambda samples: [sample.target / 255 for sample in samples])
