"""MIGEBench: paths of another machine, pictures in the order of the placeholders, subjects on black and on white."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.base import BenchmarkError
from insightedit.evaluation.benchmarks.migebench import load
from insightedit.evaluation.benchmarks.results import pair_results
from tests.evaluation.benchmarks.layouts_two import picture, read, write_json, write_migebench


def test_pictures_follow_the_placeholders(tmp_path: Path) -> None:
    benchmark = load(write_migebench(tmp_path))
    assert [sample.sample_id for sample in benchmark] == ["add-3", "add-21", "replace-3", "replace-21"]
    add, replaced = benchmark.samples[1], benchmark.samples[3]
    black = tmp_path / "add/add_entity/21_entity_black.jpg"
    assert add.references == (black, add.source) and add.source == tmp_path / "add/add_source/21_source.jpg"
    assert replaced.references == (replaced.source, *replaced.subjects)
    assert replaced.subjects == (tmp_path / "replace/replace_entity/21_entity_black.jpg",)
    assert add.instruction.count("<imagehere>") == 2 and add.category == "add" and add.subjects == (black,)
    assert add.mask == tmp_path / "add/add_mask/21_mask.jpg"
    assert add.target == tmp_path / "add/add_target/21_target.jpg"
    assert add.target_caption == "an alley with a signboard"
    assert add.extra == {
        "idx": "21",
        "object": "a signboard",
        "plain_instruction": "add a signboard",
        "subject_white": str(tmp_path / "add/add_entity/21_entity_white.jpg"),
    }
    warnings = " ".join(benchmark.warnings)
    assert "The licence excludes commercial use: CC-BY-NC-4.0." in warnings
    assert "4 of the 1000 published samples" in warnings and "add 2 of 500, replace 2 of 500" in warnings


def test_one_task_alone_and_folders_without_the_outer_ones(tmp_path: Path) -> None:
    write_migebench(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole/replace", tmp_path / "flat")
    shutil.copy(tmp_path / "whole/replace_bench.json", tmp_path / "flat")
    benchmark = load(tmp_path / "flat", split="replace")
    assert [sample.category for sample in benchmark] == ["replace", "replace"]
    assert benchmark.samples[0].target == tmp_path / "flat/replace_target/3_target.jpg"
    assert "2 of the 500 published samples" in " ".join(benchmark.warnings)
    with pytest.raises(ValueError, match="MIGEBench has no split 'remove': choose one of all, add, replace"):
        load(tmp_path / "flat", split="remove")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    write_migebench(tmp_path, numbers=(1, 2, 3, 4, 5, 6, 7))
    rows = read(tmp_path / "add_bench.json")
    rows[0]["multi_prompt"] = "Add<imagehere>to the picture"
    rows[1]["entity_path"] = [rows[1]["entity_path"][1]] * 2
    rows[2]["image"] = "/elsewhere/3_target.jpg"
    rows[3]["mask_path"] = []
    del rows[4]["idx"]
    rows[5] = "6"
    write_json(tmp_path / "add_bench.json", rows)
    (tmp_path / "add/add_entity/7_entity_white.jpg").unlink()
    (tmp_path / "replace/replace_target/7_target.jpg").write_bytes(b"")
    with pytest.raises(BenchmarkError) as caught:
        load(tmp_path)
    faults = "\n".join(caught.value.faults)
    assert "record 1: record is incomplete: 1 <imagehere> for 2 pictures in `entity_path`." in faults
    assert "record 2 has 0 subjects besides the source in `entity_path`, not one." in faults
    assert "record 3 names the picture '/elsewhere/3_target.jpg': they lie in add_entity, add_mask" in faults
    assert "record 4 has [] as `mask_path`: it should name a picture." in faults
    assert "record 5 has None as `idx`: it should be the sample's number." in faults
    assert "record 6 is '6': it has to be {idx, multi_prompt" in faults
    assert "Missing white subject pictures (1): add/add_entity/7_entity_white.jpg" in faults
    assert "Empty target pictures (1): replace/replace_target/7_target.jpg" in faults
    assert "EurekaTian/MIGEBench" in str(caught.value)


def test_archives_that_were_not_unpacked_are_named(tmp_path: Path) -> None:
    write_migebench(tmp_path)
    shutil.rmtree(tmp_path / "add")
    (tmp_path / "add.zip").write_bytes(b"PK")
    with pytest.raises(BenchmarkError) as caught:
        load(tmp_path)
    assert caught.value.faults == (
        "The folders add_entity, add_mask, add_source, add_target of the task add are missing: unpack add.zip.",
    )
    (tmp_path / "add.zip").unlink()
    shutil.rmtree(tmp_path / "replace/replace_mask")
    with pytest.raises(BenchmarkError, match="The folders replace_mask of the task replace are missing[.] Get"):
        load(tmp_path, split="replace")


def test_doubts_are_warnings(tmp_path: Path) -> None:
    write_migebench(tmp_path)
    rows = read(tmp_path / "add_bench.json")
    rows[0]["idx"] = 22
    rows[1]["target_caption"] = None
    rows[1]["object"] = ""
    white, black = rows[1]["entity_path_white"], rows[1]["entity_path"][:1]
    rows[1]["entity_path"][:1], rows[1]["entity_path_white"] = white, black
    write_json(tmp_path / "add_bench.json", rows)
    warnings = " ".join(load(tmp_path, split="add").warnings)
    assert "1 samples (add-22) name pictures whose numbers are not their own `idx`" in warnings
    assert "1 samples (add-3) have no `target_caption`: CLIP-T leaves them out." in warnings
    assert "1 samples (add-3) have no `object`: their subject cannot be searched for." in warnings
    assert "1 samples (add-3) have other subjects than `_entity_black` in the instruction" in warnings


def test_results_by_number_in_a_folder_for_each_task_are_found(tmp_path: Path) -> None:
    benchmark = load(write_migebench(tmp_path / "data"))
    for sample in benchmark:
        picture(tmp_path / "results" / sample.category / f"{sample.extra['idx']}.png")
    assert pair_results(tmp_path / "results", benchmark).paths["add-21"] == tmp_path / "results/add/21.png"
