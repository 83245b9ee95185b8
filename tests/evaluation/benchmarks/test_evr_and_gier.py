"""EVR and GIER: pairs with several people's requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks import evr, gier
from tests.evaluation.benchmarks.layouts_one import (
    change_json,
    faults_of,
    only_fault,
    write_evr,
    write_gier,
    write_json,
)


def test_evr_takes_each_pair_once(tmp_path: Path) -> None:
    benchmark = evr.load(write_evr(tmp_path))
    assert [sample.sample_id for sample in benchmark] == ["Reddit_1000", "Reddit_1001", "Reddit_1002"]
    first, second, third = benchmark
    assert first.instruction == "remove the people 0" and first.source == second.source != third.source
    assert first.target == tmp_path / "images/Reddit.com_4wfxf2_d66nm3m.jpg"
    assert first.cluster == second.cluster == "Reddit.com_4wfxf2_4wfxf2.jpg"
    assert json.loads(first.extra["requests"]) == ["remove the people 0", "Remove them", "delete people"]
    warnings = " ".join(benchmark.warnings)
    assert "the first is taken; the split test-requests takes all." in warnings
    assert "2 pictures are GIFs" in warnings and "3 of the 495 published samples are here" in warnings


def test_evr_takes_each_request(tmp_path: Path) -> None:
    benchmark = evr.load(write_evr(tmp_path), split="test-requests")
    assert len(benchmark) == 9 and benchmark.split == "test-requests"
    assert [s.sample_id for s in benchmark][:3] == ["Reddit_1000-1", "Reddit_1000-2", "Reddit_1000-3"]
    assert benchmark.samples[2].instruction == "delete people"
    assert any("9 of the 1485 published samples are here" in text for text in benchmark.warnings)


def test_published_numbers_of_evr_and_gier_are_those_of_mgie() -> None:
    assert sum(evr.REQUESTS.values()) == 5695 and sum(evr.PAIRS.values()) == 3939
    assert sum(gier.PAIRS.values()) == 6179


@pytest.mark.parametrize("place", ["data", "dataset/adobe"])
def test_evr_lists_are_found_where_the_repository_has_them(tmp_path: Path, place: str) -> None:
    write_evr(tmp_path, "valid")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "valid.json").rename(tmp_path / place / "valid.json")
    assert len(evr.load(tmp_path, split="valid")) == 3
    assert (
        only_fault(evr.load, tmp_path)
        == "It holds no test.json, neither itself nor in data nor in dataset/adobe nor in adobe."
    )
    write_json(tmp_path / "valid.json", [])
    assert only_fault(evr.load, tmp_path, "valid") == (
        f"It holds several valid.json (valid.json, {place}/valid.json): remove all but one."
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"img1": "gone.jpg"}, "Missing target pictures (1): gone.jpg; get the whole folder again."),
        (
            {"sents": "remove them"},
            "Entry 1 (Reddit_1001) has 'remove them' as `sents`: it has to be a list of texts.",
        ),
        ({"uid": ""}, "Entry 1 () has an empty `uid`."),
        ({"img0": " "}, "Entry 1 (Reddit_1001) has an empty `img0`."),
    ],
)
def test_evr_entries_are_of_their_shape(tmp_path: Path, change: dict, fault: str) -> None:
    write_evr(tmp_path)
    change_json(tmp_path / "test.json", lambda rows: rows[1].update(change))
    assert only_fault(evr.load, tmp_path) == fault


def test_evr_names_all_faults_at_once(tmp_path: Path) -> None:
    write_evr(tmp_path)

    def spoil(rows: list) -> None:
        rows[0] = "pair"
        del rows[1]["sents"]

    change_json(tmp_path / "test.json", spoil)
    (tmp_path / "images/Reddit.com_46op9g_46op9g.gif").write_bytes(b"")
    assert faults_of(evr.load, tmp_path) == (
        "Entry 0 is 'pair': it has to be {img0, img1, sents, uid}.",
        "Entry 1 (Reddit_1001) has no `sents`.",
        "Empty source pictures (1): images/Reddit.com_46op9g_46op9g.gif; copy them again.",
    )


def test_pairs_of_one_name_are_numbered_and_silent_ones_left_out(tmp_path: Path) -> None:
    write_evr(tmp_path)

    def change(rows: list) -> None:
        rows[1]["uid"] = rows[0]["uid"]
        rows[2]["sents"] = ["", " "]

    change_json(tmp_path / "test.json", change)
    benchmark = evr.load(tmp_path)
    assert [sample.sample_id for sample in benchmark] == ["Reddit_1000", "Reddit_1000-2"]
    warnings = " ".join(benchmark.warnings)
    assert "1 pairs have no request (Reddit_1002): they are left out." in warnings
    assert "1 names of pairs occur more than once (Reddit_1000): the later ones end in -2, -3" in warnings


def test_gier_takes_experts_before_amateurs(tmp_path: Path) -> None:
    benchmark = gier.load(write_gier(tmp_path))
    assert [s.instruction for s in benchmark] == ["increase brightness 0", "Brighten 1", "increase brightness 2"]
    last = benchmark.samples[2]
    assert last.sample_id == "6c8env_out2" and last.source == tmp_path / "images/6c8env_6c8env.jpg"
    assert last.extra["operators"] == "brightness, inpaint_obj" and last.extra["is_local"] == "yes"
    assert benchmark.samples[0].extra["is_local"] == "no"
    assert any("3 of the 618 published samples are here" in text for text in benchmark.warnings)


def test_gier_takes_each_request(tmp_path: Path) -> None:
    benchmark = gier.load(write_gier(tmp_path), split="test-requests")
    assert len(benchmark) == 3 + 2 + 3
    assert {sample.cluster for sample in benchmark} == {"2l7rum_2l7rum.jpg", "3t13w2_3t13w2.jpg", "6c8env_6c8env.jpg"}
    assert not any("published samples" in text for text in benchmark.warnings)


def test_gier_without_its_lists(tmp_path: Path) -> None:
    assert only_fault(gier.load, tmp_path) == (
        "It holds no test_sess_3.json, neither itself nor in splits nor in data/GIER/splits."
    )
    write_json(tmp_path / "IER2.json", [{}])
    assert only_fault(gier.load, tmp_path) == (
        "It holds IER2.json, which has no splits: put test_sess_3.json of the T2ONet repository beside it."
    )
    write_gier(tmp_path)
    write_json(tmp_path / "test_sess_3.json", [])
    assert "It holds several test_sess_3.json" in only_fault(gier.load, tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"output": "gone.jpg"}, "Missing target pictures (1): gone.jpg; get the whole folder again."),
        ({"expert_summary": "brighten"}, "has 'brighten' as `expert_summary`: it has to be a list of texts."),
        ({"input": 4}, "Entry 1 (4) has 4 as `input`: it has to be a text."),
    ],
)
def test_gier_entries_are_of_their_shape(tmp_path: Path, change: dict, fault: str) -> None:
    write_gier(tmp_path)
    change_json(tmp_path / "splits/test_sess_3.json", lambda rows: rows[1].update(change))
    assert fault in only_fault(gier.load, tmp_path)


def test_gier_names_all_faults_at_once(tmp_path: Path) -> None:
    write_gier(tmp_path)

    def spoil(rows: list) -> None:
        rows[0] = ["pair"]
        del rows[1]["expert_summary"], rows[1]["amateur_summary"]

    change_json(tmp_path / "splits/test_sess_3.json", spoil)
    assert faults_of(gier.load, tmp_path) == (
        "Entry 0 is ['pair']: it has to be {input, output, operator, expert_summary, amateur_summary, ...}.",
        "Entry 1 (3t13w2/3t13w2.jpg) has neither `expert_summary` nor `amateur_summary`.",
    )


@pytest.mark.parametrize(
    ("load", "known"), [(evr.load, "test, valid, train, test-req"), (gier.load, "test, val, train")]
)
def test_unknown_splits(tmp_path: Path, load, known: str) -> None:
    with pytest.raises(ValueError, match=f"has no split 'dev': choose one of {known}"):
        load(tmp_path, split="dev")
