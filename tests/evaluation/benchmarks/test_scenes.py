"""Scenes: dumps without answers, whose answers are drawn anew and checked against the dump."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.benchmarks import scenes
from insightedit.evaluation.benchmarks.base import BenchmarkError
from insightedit.evaluation.benchmarks.scenes import SceneName, load
from insightedit.evaluation.scenes.benchmark import sample_id, scene_sampler
from tests.evaluation.benchmarks.layouts_two import picture, write_scenes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSIGHTEDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


def rewrite(folder: Path, number: int, **changes: object) -> None:
    """Change one line of a dump."""
    path = folder / "instructions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("task", ["editing", "subject", "subject_editing"])
def test_answers_are_those_of_the_sampler(tmp_path: Path, task: str) -> None:
    folder = write_scenes(tmp_path / "dump", task)
    benchmark = load(folder)
    assert benchmark.warnings == () and len(benchmark) == 5
    sampler = scene_sampler(task, split="test", size=32, seed=5)
    drawn = [*(sampler[i] for i in range(3)), *sampler.pair(0)]
    for sample, scene in zip(benchmark, drawn, strict=True):
        assert sample.instruction == scene.instruction and sample.category == scene.category
        assert np.array_equal(pixels(sample.target), scene.target)
        assert np.array_equal(pixels(sample.mask), scene.mask) and scene.mask.any()
        assert len(sample.references) == len(scene.references) == sample.instruction.count("<imagehere>")
        assert (sample.source is None) == (scene.source is None) == (task == "subject")
        assert sample.target_caption == scene.caption_target and sample.extra == {"task": scene.task}
    twins = benchmark.samples[-2:]
    assert twins[0].cluster == twins[1].cluster != benchmark.samples[0].cluster
    assert not (folder / "targets").exists()  # the dump is left as it is


def test_a_second_visit_draws_nothing_until_the_dump_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_scenes(tmp_path / "dump")
    first = load(folder)
    monkeypatch.setattr(scenes, "_draw_answers", lambda *_: pytest.fail("a scene is drawn again"))
    assert load(folder) == first
    rewrite(folder, 0, instruction="another one")
    with pytest.raises(pytest.fail.Exception, match="drawn again"):
        load(folder)


def test_answers_beside_the_dump_are_read(tmp_path: Path, cache: Path) -> None:
    folder = write_scenes(tmp_path / "dump")
    kept = load(folder).samples[0].target.parents[1]
    shutil.copytree(kept / "targets", folder / "targets")
    shutil.rmtree(cache)
    sample = load(folder).samples[0]
    assert sample.target.parent == folder / "targets" and sample.mask is None and not cache.exists()
    sample.target.unlink()
    with pytest.raises(BenchmarkError, match=r"targets lacks 1 of 5 pictures \(test-32px-s5-000000\): add or remove"):
        load(folder)


def test_dumps_of_another_version_have_no_answers(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "dump")
    source = folder / "sources/test-32px-s5-000001.png"
    Image.fromarray(np.roll(pixels(source), 1)).save(source)
    rewrite(folder, 2, instruction="do something")
    benchmark = load(folder)
    assert all(sample.target is None for sample in benchmark)
    assert (
        "belong to other sources or instructions (test-32px-s5-000001, test-32px-s5-000002)" in benchmark.warnings[0]
    )
    assert load(folder).warnings == benchmark.warnings
    Image.fromarray(pixels(source)[:16, :16]).save(source)
    assert "(test-32px-s5-000001):" in load(folder).warnings[0]


def test_ids_of_other_scenes_have_no_answers(tmp_path: Path) -> None:
    picture(tmp_path / "sources/mine.png")
    line = {"id": "mine", "source": "sources/mine.png", "instruction": "make it red"}
    (tmp_path / "instructions.jsonl").write_text(json.dumps(line), encoding="utf-8")
    benchmark = load(tmp_path)
    assert benchmark.samples[0].target is None and benchmark.samples[0].category == ""
    assert "none can be drawn because 1 ids are no scenes' (mine)" in benchmark.warnings[0]


def test_all_faults_of_lines_are_named_at_once(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "subject_editing", count=4, pairs=0)
    rewrite(folder, 0, instruction="no picture here")
    rewrite(folder, 1, source="../outside.png")
    rewrite(folder, 2, references="a.png")
    rewrite(folder, 3, source="sources/subject_editing-test-32px-s5-000000.png")
    with pytest.raises(BenchmarkError) as caught:
        load(folder)
    faults = "\n".join(caught.value.faults)
    assert "line 1 has 0 <imagehere> in its instruction and 1 references: there has to be one for each." in faults
    assert "line 2 names the path '../outside.png': it has to be relative" in faults
    assert "line 3 has 'a.png' as `references`: it has to be a list of paths." in faults
    assert (
        "line 4 has the id subject_editing-test-32px-s5-000003 and the pictures subject_editing-test-32px-s5-000000"
        in faults
    )


def test_faults_of_files(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "dump")
    (folder / "sources/test-32px-s5-000001.png").unlink()
    (folder / "sources/test-32px-s5-000002.png").write_bytes(b"not a picture")
    with pytest.raises(BenchmarkError) as caught:
        load(folder)
    assert caught.value.faults == (
        "Missing source pictures (1): sources/test-32px-s5-000001.png; get the whole folder again.",
        "Unreadable source pictures (1): sources/test-32px-s5-000002.png; Pillow has to be able to open them.",
    )
    (folder / "instructions.jsonl").unlink()
    with pytest.raises(BenchmarkError, match="instructions.jsonl is missing. Run `insightedit eval scenes --dump"):
        load(folder)
    with pytest.raises(ValueError, match="the scenes benchmark has no split 'val': it has one only, leave it out"):
        load(folder, split="val")


@pytest.mark.parametrize("task", ["editing", "subject", "subject_editing"])
def test_ids_are_read_as_they_are_written(task: str) -> None:
    name = sample_id("val", 64, 7, 12, task=task)
    assert SceneName.parse(name) == SceneName(task, "val", 64, 7, 12)
    half = SceneName.parse(sample_id("test", 128, 0, 3, "b", task))
    assert half == SceneName(task, "test", 128, 0, 3, "b")
    assert SceneName.parse(name + "-a") is None and SceneName.parse("mine") is None
