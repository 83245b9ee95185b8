"""ImgEdit-Bench: one list under two names, in several places; two names for one group."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.base import BenchmarkError
from insightedit.evaluation.benchmarks.imgedit import load
from tests.evaluation.benchmarks.layouts_two import imgedit_entries, write_imgedit, write_json


def test_the_archive_as_it_is_unpacked(tmp_path: Path) -> None:
    benchmark = load(write_imgedit(tmp_path / "Benchmark"))
    assert [sample.sample_id for sample in benchmark] == ["97", "673", "1082"]
    last = benchmark.samples[-1]
    assert last.category == "adjust" and last.instruction == "Make the shell smooth."
    assert last.extra == {"id": "animal/000342021.jpg", "edit_type": "alter"} and last.cluster == last.extra["id"]
    assert last.source == tmp_path / "Benchmark/singleturn/animal/000342021.jpg"
    assert benchmark.samples[0].source.parent.name == "daily object"
    assert "3 of the 737 published samples" in " ".join(benchmark.warnings)
    assert load(tmp_path / "Benchmark/singleturn").version == benchmark.version == load(tmp_path).version


def test_the_list_of_the_repository_beside_the_pictures(tmp_path: Path) -> None:
    write_imgedit(tmp_path)
    (tmp_path / "singleturn/singleturn.json").rename(tmp_path / "basic_edit.json")
    assert len(load(tmp_path)) == 3
    write_json(tmp_path / "singleturn/singleturn.json", {})
    assert "Several lists of instructions are here: basic_edit.json is read." in load(tmp_path).warnings


def test_the_hard_part(tmp_path: Path) -> None:
    hard = load(write_imgedit(tmp_path), split="uge")
    assert [(s.sample_id, s.category) for s in hard] == [("1", ""), ("2", "")]
    assert hard.samples[0].source == tmp_path / "hard/000029784.jpg"
    assert "2 of the 47 published samples" in " ".join(hard.warnings)
    with pytest.raises(ValueError, match="ImgEdit-Bench has no split 'multiturn': choose one of basic, uge"):
        load(tmp_path, split="multiturn")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    write_imgedit(tmp_path)
    entries = {
        **imgedit_entries(),
        "1": {"id": "animal/1.jpg", "prompt": ""},
        "2": {"prompt": "x"},
        "3": "x",
        "4": {"id": "/etc/4.jpg", "prompt": "x", "edit_type": "add"},
        "5": {"id": "animal/000342021.jpg", "prompt": "x"},
    }
    write_json(tmp_path / "singleturn/singleturn.json", entries)
    (tmp_path / "singleturn/style/000278574.jpg").unlink()
    (tmp_path / "singleturn/animal/000342021.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BenchmarkError) as caught:
        load(tmp_path)
    assert set(caught.value.faults) == {
        "Entry 1 has an empty `prompt`.",
        "Entry 2 has no `id`.",
        "Entry 3 is 'x': it has to be {id: \"animal/000342021.jpg\", prompt, edit_type}.",
        "Entry 4 names the path '/etc/4.jpg': it has to be relative, without `..`, within the folder.",
        "Entry 5 has no `edit_type`.",
        "Missing source pictures (1): singleturn/style/000278574.jpg; get the whole folder again.",
        "Git LFS pointers in place of source pictures (1): singleturn/animal/000342021.jpg; run `git lfs pull` in the "
        "folder.",
    }


def test_a_folder_without_a_list(tmp_path: Path) -> None:
    write_imgedit(tmp_path)
    shutil.rmtree(tmp_path / "singleturn")
    with pytest.raises(BenchmarkError, match="It holds no basic_edit.json or singleturn.json, neither itself nor in"):
        load(tmp_path)
    (tmp_path / "basic_edit.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="basic_edit.json holds a list: it should hold {key: {id:"):
        load(tmp_path)


def test_oddities_are_warnings(tmp_path: Path) -> None:
    entries = imgedit_entries()
    entries["97"]["edit_type"] = "zoom"
    entries["673"]["prompt"] = "Change the object\u9225\u6a9a color."
    write_imgedit(tmp_path)
    write_json(tmp_path / "singleturn/singleturn.json", entries)
    benchmark = load(tmp_path)
    warnings = " ".join(benchmark.warnings)
    assert "Groups that are not published are here: zoom." in warnings
    assert "1 instructions have a damaged apostrophe, as published (673): they are left so." in warnings
    assert benchmark.samples[1].instruction == entries["673"]["prompt"]
