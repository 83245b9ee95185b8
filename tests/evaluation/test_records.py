"""Records of single numbers: checked when made, whole when written, named by line when damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from insightedit.evaluation.core.records import MetricRecord, read_records, write_records
from insightedit.files import drop_cut_line

SHA = "0123456789abcdef" * 4


def record(**changes: Any) -> MetricRecord:
    fields = {
        "run_id": "run-1",
        "method": "ours",
        "bench": "reason-edit",
        "bench_version": "00ff00ff00ff00ff",
        "sample_id": "left-0001",
        "metric_name": "PSNR",
        "metric_variant": "paper",
        "value": 22.5,
        "protocol_hash": SHA[:16],
    }
    return MetricRecord(**{**fields, **changes})


def test_a_full_record_survives_its_file(tmp_path: Path) -> None:
    full = record(
        category="1-Left-Right",
        cluster="Zoë/é.png",
        ckpt_sha=SHA[:12],
        seed=3,
        cfg={"guidance_scale": 7.5, "image_guidance_scale": 1.5},
        sampler="euler-50",
        out_png_sha256=SHA,
        value=60.0,
        capped=True,
        lib_versions={"torch": "2.15.0"},
    )
    failed = record(value=None, error="empty mask")
    path = tmp_path / "deep" / "records.jsonl"
    assert write_records([full, failed], path) == 2
    assert list(read_records(path)) == [full, failed]
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    assert set(first) == {
        *("run_id", "method", "ckpt_sha", "bench", "bench_version", "sample_id", "category", "seed", "cfg"),
        *("sampler", "out_png_sha256", "metric_name", "metric_variant", "value", "capped", "error"),
        *("lib_versions", "protocol_hash", "cluster"),
    }
    assert "Zoë" in path.read_text("utf-8")


def test_values_become_plain_floats_and_mappings_plain_dictionaries() -> None:
    assert type(record(value=np.float32(0.5)).value) is float
    assert record(value=True).value == 1.0
    numpys = record(capped=np.bool_(True), seed=np.int64(3), cfg={"guidance_scale": np.float32(0.5)})
    assert numpys == record(capped=True, seed=3, cfg={"guidance_scale": 0.5})
    assert json.loads(json.dumps(numpys.to_dict())) == numpys.to_dict()
    assert record(cfg=MappingProxyType({"guidance_scale": 1.0})).to_dict()["cfg"] == {"guidance_scale": 1.0}


def test_what_is_resampled_is_the_cluster_or_the_sample() -> None:
    assert record().unit == "left-0001" and record(cluster="room.png").unit == "room.png"


def test_records_are_read_and_written_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    seen = []

    def measured() -> Iterator[MetricRecord]:
        for index in range(3):
            seen.append(path.read_text("utf-8").count("\n") if path.exists() else 0)
            yield record(sample_id=str(index))

    assert write_records(measured(), path, append=True) == 3
    assert seen == [0, 1, 2]  # each line is in the file before the next is measured
    path.write_bytes(path.read_bytes() + b"damaged\n")
    reader = read_records(path)
    assert [next(reader).sample_id for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="records.jsonl:4 is no record"):
        next(reader)


def test_a_whole_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records([record()], path)

    def failing() -> Iterator[MetricRecord]:
        yield record(sample_id="other")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_records(failing(), path)
    assert [one.sample_id for one in read_records(path)] == ["left-0001"]
    assert [file.name for file in tmp_path.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize("tail", [b'{"run_id": "ru', b"x" * 200_000, "é".encode()[:1]])
def test_appending_goes_on_after_a_kill(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "records.jsonl"
    write_records([record(sample_id="a"), record(sample_id="b")], path)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with pytest.raises(ValueError, match="records.jsonl:3 is no record"):
        list(read_records(path))
    assert write_records([record(sample_id="c")], path, append=True) == 1
    assert [one.sample_id for one in read_records(path)] == ["a", "b", "c"]
    assert path.read_bytes().startswith(whole)


def test_cut_lines_alone_empty_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert drop_cut_line(path) == 0 and not path.exists()
    path.write_bytes(b"half")
    assert drop_cut_line(path) == 4 and path.read_bytes() == b""
    assert drop_cut_line(path) == 0
    path.write_bytes(b"one\n\ntwo\n")
    assert drop_cut_line(path) == 0


def test_empty_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record().to_dict())
    path.write_text(f"\n{line}\n\n", encoding="utf-8")
    assert list(read_records(path)) == [record()]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"value": float("inf")}, ValueError, r"value is inf: cap it and set capped=True.*\(PSNR\)"),
        ({"value": float("nan")}, ValueError, "value is nan"),
        ({"value": None}, ValueError, "value is None and error is None: say why"),
        ({"value": None, "error": ""}, ValueError, "error is ''"),
        ({"value": None, "error": "no", "capped": True}, ValueError, "only a value can be capped"),
        ({"error": "refused"}, ValueError, "value is 22.5 and error is 'refused'"),
        ({"value": "22.5"}, TypeError, "value is '22.5': it is a number"),
        ({"metric_variant": "both"}, ValueError, "'both'; it is one of paper, strict"),
        ({"sample_id": ""}, ValueError, "sample_id is empty"),
        ({"method": None}, TypeError, "method is None: a record's method is a string"),
        ({"cluster": 7}, TypeError, "cluster is 7"),
        ({"protocol_hash": "ABCDEF0123"}, ValueError, "'ABCDEF0123': it is 8 to 64 lower-case hex digits"),
        ({"out_png_sha256": "abc"}, ValueError, "out_png_sha256 is 'abc': it is 64 lower-case"),
        ({"ckpt_sha": 1}, ValueError, "ckpt_sha is 1"),
        ({"capped": "no"}, TypeError, "capped is 'no': it is True or False"),
        ({"seed": 1.5}, TypeError, "seed is 1.5: it is an integer"),
        ({"seed": True}, TypeError, "seed is True"),
        ({"cfg": 7.5}, TypeError, "cfg is 7.5: it is a dictionary of numbers"),
        ({"cfg": {"guidance_scale": "7.5"}}, TypeError, "it is a dictionary of numbers"),
        ({"lib_versions": None}, TypeError, "lib_versions is None"),
        ({"facts": 1}, TypeError, "facts is 1: it is a dictionary of values"),
    ],
)
def test_errors_teach(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        record(**changes)


def test_fields_that_are_unknown_or_missing_are_named() -> None:
    entries = record().to_dict()
    with pytest.raises(ValueError, match="no field metric; it has bench, bench_version"):
        MetricRecord.from_dict({**entries, "metric": "PSNR"})
    del entries["value"], entries["bench"]
    with pytest.raises(ValueError, match="the record lacks bench, value"):
        MetricRecord.from_dict(entries)


@pytest.mark.parametrize(
    ("line", "message"),
    [("[1]", r"one JSON object, not \[1\]"), ("{", "Expecting property name"), ('{"seed": "x"}', "lacks bench")],
)
def test_damage_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record().to_dict()) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"records.jsonl:2 is no record .*{message}"):
        list(read_records(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No records at .*nothing.jsonl: name the .jsonl file"):
        next(read_records(tmp_path / "nothing.jsonl"))
