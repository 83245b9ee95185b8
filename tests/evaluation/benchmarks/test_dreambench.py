"""DreamBench: two lists of prompts, a class in place of the token, all pictures of a subject."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.base import BenchmarkError
from insightedit.evaluation.benchmarks.dreambench import load
from tests.evaluation.benchmarks.layouts_two import dreambench_text, picture, write_dreambench


def test_every_subject_meets_its_prompts(tmp_path: Path) -> None:
    benchmark = load(write_dreambench(tmp_path))
    assert len(benchmark) == 75 and benchmark.folder == tmp_path / "dataset"
    by_id = {sample.sample_id: sample for sample in benchmark}
    first, red, dog = by_id["bear_plushie-00"], by_id["backpack-01"], by_id["dog-02"]
    assert first.instruction == "a <imagehere> in the jungle"
    assert first.target_caption == "a stuffed animal in the jungle"
    assert first.extra == {"subject": "bear_plushie", "class": "stuffed animal", "prompt": "a {0} {1} in the jungle"}
    assert red.instruction == "a red <imagehere>" and red.target_caption == "a red backpack"
    assert red.subjects == tuple(tmp_path / f"dataset/backpack/0{n}.jpg" for n in (0, 2, 4))
    assert red.references == red.subjects[:1] and red.source is None and red.target is None
    assert dog.category == "live" and dog.target_caption == "a dog in a hat 0" and dog.cluster == "dog"
    assert {sample.category for sample in benchmark if sample.cluster != "dog"} == {"object"}
    warnings = " ".join(benchmark.warnings)
    assert "7 pictures of subjects are here, 158 are published" in warnings
    assert "75 of the 750 published samples" in warnings


def test_a_part_of_the_subjects_is_a_warning(tmp_path: Path) -> None:
    folder = write_dreambench(tmp_path) / "dataset"
    shutil.rmtree(folder / "backpack")
    picture(folder / "my_cat/0.png")
    benchmark = load(folder, split="live")
    assert len(benchmark) == 25 and benchmark.split == "live"
    warnings = " ".join(benchmark.warnings)
    assert "1 of 3 subjects are missing (backpack)." in warnings
    assert "Folders without a class in prompts_and_classes.txt are left out: my_cat." in warnings
    assert "25 of the 225 published samples" in warnings
    with pytest.raises(ValueError, match="DreamBench has no split 'dogs': choose one of all, object, live"):
        load(folder, split="dogs")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    folder = write_dreambench(tmp_path) / "dataset"
    text = dreambench_text(objects=24).replace("dog,dog", "dog,dog,live").replace("a red {0} {1}", "a red {1}")
    (folder / "prompts_and_classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkError) as caught:
        load(folder)
    assert caught.value.faults == (
        "prompts_and_classes.txt has lines that are not `subject,class`: dog,dog,live.",
        "prompts_and_classes.txt has 24 object prompts, 25 are published: get it again.",
        "prompts_and_classes.txt has prompts without `{0} {1}` (a red {1}): get it again.",
    )
    (folder / "prompts_and_classes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(BenchmarkError) as caught:
        load(folder)
    assert caught.value.faults == (
        "prompts_and_classes.txt has no list `subject_name,class`: get it again.",
        "prompts_and_classes.txt has 0 object prompts, 25 are published: get it again.",
        "prompts_and_classes.txt has 0 live subject prompts, 25 are published: get it again.",
    )


def test_subjects_without_good_pictures(tmp_path: Path) -> None:
    folder = write_dreambench(tmp_path) / "dataset"
    for path in (folder / "backpack").iterdir():
        path.unlink()
    (folder / "dog/02.jpg").write_text("<!DOCTYPE html><html>", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="backpack holds no pictures: get the folder again."):
        load(folder)
    picture(folder / "backpack/00.jpg")
    with pytest.raises(BenchmarkError, match=r"Web pages in place of subject pictures \(1\): dog/02.jpg"):
        load(folder)
    for name in ("backpack", "dog", "bear_plushie"):
        shutil.rmtree(folder / name)
    with pytest.raises(BenchmarkError, match="It holds none of the subjects' folders, e.g. backpack"):
        load(folder)
    (folder / "prompts_and_classes.txt").unlink()
    with pytest.raises(BenchmarkError, match="prompts_and_classes.txt is missing. Run `git clone"):
        load(folder)
