"""MA5k-Req: five targets a photograph, pairs checked by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.base import BenchmarkError
from insightedit.evaluation.benchmarks.ma5k import load
from tests.evaluation.benchmarks.layouts_two import picture, read, write_json, write_ma5k


def test_pairs_are_those_of_the_annotations_in_a_fixed_order(tmp_path: Path) -> None:
    benchmark = load(write_ma5k(tmp_path / "FiveK"))
    assert [sample.sample_id for sample in benchmark] == [f"000{n}_{e}" for n in (1, 2) for e in "ABCDE"]
    first = benchmark.samples[0]
    assert first.instruction == "brighten the image A" and first.extra == {"split": "test", "expert": "A"}
    assert first.source == tmp_path / "FiveK/images/0001_O.jpg"
    assert first.target == tmp_path / "FiveK/images/0001_A.jpg"
    assert {sample.cluster for sample in benchmark} == {"0001", "0002"}
    assert benchmark.split == "test"
    assert "10 of the 4950 published samples are here" in " ".join(benchmark.warnings)
    assert "research licence of their own" in benchmark.warnings[0]


def test_splits_are_read_apart_or_together(tmp_path: Path) -> None:
    folder = write_ma5k(tmp_path)
    train = load(folder, split="train")
    assert [sample.sample_id for sample in train] == ["0009_A"] and train.split == "train"
    assert "1 photographs have not the five targets that are published (0009)" in " ".join(train.warnings)
    write_json(folder / "annotations/val_sess_1.json", read(folder / "annotations/train_sess_1.json"))
    with pytest.raises(BenchmarkError, match=r"Ids occur more than once \(0009_A\)"):
        load(folder, split="all")
    with pytest.raises(ValueError, match="MA5k-Req has no split 'dev': choose one of test, val, train, all"):
        load(folder, split="dev")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    folder = write_ma5k(tmp_path)
    rows = read(folder / "annotations/test_sess_1.json")
    rows[0]["output"] = "0001_A.jpg"  # of another photograph
    rows[1]["request"] = " "
    del rows[2]["input"]
    rows[3]["output"] = "../0002_B.jpg"
    rows[4] = ["0001_O.jpg"]
    write_json(folder / "annotations/test_sess_1.json", rows)
    (folder / "images/0001_C.jpg").write_bytes((folder / "images/0001_C.jpg").read_bytes()[:-60])
    (folder / "images/0001_D.jpg").unlink()
    with pytest.raises(BenchmarkError) as caught:
        load(folder)
    faults = "\n".join(caught.value.faults)
    assert "test_sess_1.json, record 2 has an empty `request`." in faults
    assert "test_sess_1.json, record 3 has no `input`." in faults
    assert "record 4 names the path '../0002_B.jpg': it has to be relative" in faults
    assert "record 5 is ['0001_O.jpg']: it has to be {input, output, request}." in faults
    assert "pairs pictures that are not an original and its retouching (0002_O.jpg and 0001_A.jpg)" in faults
    assert "Cut-off target pictures (1): images/0001_C.jpg; copy them again." in faults
    assert "Missing target pictures (1): images/0001_D.jpg; get the whole folder again." in faults
    assert "data.csail.mit.edu/graphics/fivek" in str(caught.value)


def test_a_folder_without_annotations_or_pictures_says_what_is_missing(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(BenchmarkError) as caught:
        load(tmp_path)
    assert caught.value.faults == (
        "annotations/test_sess_1.json is missing.",
        "images is missing: the photographs lie in it.",
    )
