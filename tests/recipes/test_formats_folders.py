"""MIGE's JSON, ai-toolkit's folders, telling layouts apart, and the command that writes one as another."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from data_recipes.formats.cli import WRITERS, app, export
from data_recipes.formats.reading import guess_kind, splits_of
from data_recipes.formats.writers import write_ai_toolkit, write_magicbrush, write_mige
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from tests.recipes.format_files import assert_same, dump, edits, noise, opened, records, rejected, same, save

FIELDS = "source target mask instructions references task"


def mixed() -> list[Record]:
    """An edit by words, one with a subject, and a new picture."""
    edit, add = edits(2)
    add = add.but(
        task="add", references=(noise(50, (9, 9)),), instructions={"simple": ("put <imagehere> into the photo",)}
    )
    drawn = Record(
        "5/new", task="subject", target=noise(6), references=(noise(51, (9, 9)), noise(52, (7, 7))),
        instructions={"simple": ("<imagehere> on <imagehere>",)},
    )  # fmt: skip
    return [edit, add, drawn]


def test_mige_comes_back_with_references_and_sources(tmp_path):
    assert write_mige(mixed(), tmp_path) == 3
    entries = json.loads((tmp_path / "mige.json").read_text())
    assert entries[1]["multi_prompt"] == "put <imagehere> into <imagehere>"
    assert entries[1]["entity_path"] == ["entity/001-edit_0.png", "source/001-edit.png"]
    assert (entries[0]["width"], entries[0]["height"]) == (24, 20)
    assert_same(records(opened("mige", tmp_path)), mixed(), f"{FIELDS} caption")
    source = build_source(SourceConfig(kind="mige", path=str(tmp_path / "mige.json")), size=32, seed=0)
    assert source[1].instruction == "put <imagehere> into the photo"
    assert [same(a, b) for a, b in zip(source[2].reference_images, mixed()[2].references, strict=True)] == [True, True]


def test_migebench_is_read_with_its_authors_paths(tmp_path):
    for name in ("target/21_target.jpg", "entity/21_entity_black.jpg", "source/21_source.jpg"):
        save(tmp_path / name, noise(1))
    row = {"idx": 21, "multi_prompt": "Add <imagehere> to <imagehere>", "image": "/path/to/x/21_target.jpg"}
    row |= {"entity_path": ["/path/to/21_entity_black.jpg", "/path/to/21_source.jpg"]}
    dump(tmp_path / "add_bench.json", [{**row, "source_path": "/path/to/21_source.jpg"}])
    (found,) = records(opened("mige", tmp_path))
    assert (found.key, found.wordings, len(found.references)) == ("21", ("Add <imagehere> to the picture",), 1)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"multi_prompt": ""}, "instruction is empty", "`multi_prompt` is ''"),
        ({"multi_prompt": "none"}, "record is incomplete", "0 <imagehere> for 1 pictures in `entity_path`"),
        ({"source_path": ["a.png", "a.png"]}, "record is incomplete", "2 pictures in `source_path`: an edit has one"),
        ({"image": "gone.png"}, "file is missing", "gone.png"),
    ],
)
def test_faulty_prompts_are_told(tmp_path, changes, reason, detail):
    save(tmp_path / "a.png", noise(0))
    row = {"multi_prompt": "draw <imagehere>", "image": "a.png", "entity_path": ["a.png"], **changes}
    dump(tmp_path / "mige.json", [row, "text"])
    found = rejected(opened("mige", tmp_path))
    assert found[0] == reason
    assert detail in found[1]
    assert rejected(opened("mige", tmp_path), 1) == ("record is incomplete", "the entry is 'text'")


def test_other_json_is_no_list_of_prompts(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \*.json: kind `mige` needs one; check the path."):
        opened("mige", tmp_path)
    dump(tmp_path / "a.json", "{broken")
    with pytest.raises(ValueError, match="a.json cannot be read as JSON: file is not valid JSON"):
        opened("mige", tmp_path)
    dump(tmp_path / "a.json", {})
    with pytest.raises(ValueError, match="a.json holds an empty dict: it has to be a list of {image, multi_prompt"):
        opened("mige", tmp_path)


def test_folders_side_by_side_come_back(tmp_path):
    assert write_ai_toolkit(mixed(), tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control", "control_2", "control_3", "mask", "target"]
    assert (tmp_path / "target/000-edit.txt").read_text() == "change number 0\n"
    found = records(opened("ai_toolkit", tmp_path))
    assert_same(found, [one.but(task="edit" if one.source is not None else "subject") for one in mixed()], FIELDS)


def test_missing_partners_are_told(tmp_path):
    write_ai_toolkit(edits(4), tmp_path)
    (tmp_path / "control/000-edit.png").unlink()
    (tmp_path / "target/001-edit.png").unlink()
    (tmp_path / "target/002-edit.txt").unlink()
    (tmp_path / "target/003-edit.txt").write_text(" \n")
    found = opened("ai_toolkit", tmp_path)
    assert [rejected(found, number) for number in range(4)] == [
        ("file is missing", "the target 000-edit.png has no control picture"),
        ("file is missing", "the control 001-edit.png has no target"),
        ("instruction is empty", "002-edit.txt is missing"),
        ("instruction is empty", ""),
    ]


def test_folders_that_are_not_side_by_side_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="holds no folder `target`: kind ai_toolkit reads target/ and control/"
    ):
        opened("ai_toolkit", tmp_path)
    save(tmp_path / "target/a.png", noise(0))
    with pytest.raises(FileNotFoundError, match="holds no folder `control`"):
        opened("ai_toolkit", tmp_path)
    save(tmp_path / "control/a.png", noise(0))
    save(tmp_path / "control/a.jpg", noise(0))
    with pytest.raises(ValueError, match="holds a.jpg and a.png: remove the one that is not meant."):
        opened("ai_toolkit", tmp_path)


@pytest.mark.parametrize("layout", list(WRITERS))
def test_every_layout_is_told_by_its_files_and_can_be_written_from_another(tmp_path, layout):
    made = [one.but(task="remove", class_origin="ball") for one in edits()]
    WRITERS[layout](made, tmp_path / "first")
    assert guess_kind(tmp_path / "first") == layout
    split = "all" if layout == "instructpix2pix" else "train"
    config = InputConfig(layout, str(tmp_path / "first"), split, max_side=None)
    done = export(config, "jsonl", tmp_path / "second")
    assert done.written == 3
    found = records(opened("jsonl", tmp_path / "second"))
    assert [one.wordings for one in found] == [one.wordings for one in made]
    if layout != "instructpix2pix":
        assert_same(found, made, "source target mask")


def test_splits_are_told_by_folders_and_files(tmp_path):
    for split in ("train", "test"):
        write_magicbrush(edits(1), tmp_path / "a" / split)
        dump(tmp_path / f"b/{split}.jsonl", "{}")
        dump(tmp_path / f"c/{split}/x.parquet", "")
    assert [splits_of(*one) for one in (("magicbrush", tmp_path / "a"), ("jsonl", tmp_path / "b"))] == [
        ["train", "test"], ["train", "test"],
    ]  # fmt: skip
    assert splits_of("parquet", tmp_path / "c") == ["train", "test"]
    assert splits_of("magicbrush", tmp_path / "a/train") == ["train"]


def test_what_is_of_no_layout_is_told(tmp_path):
    with pytest.raises(ValueError, match="is of no layout that is known by its files: name it with --kind"):
        guess_kind(tmp_path)
    with pytest.raises(ValueError, match="is no file of pairs: name a folder"):
        guess_kind(dump(tmp_path / "a.json", []))
    with pytest.raises(FileNotFoundError, match="there is no .*none: check the path."):
        guess_kind(tmp_path / "none")


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_writes_another_layout_and_names_what_it_left_out(tmp_path):
    write_ai_toolkit(edits(4), tmp_path / "in")
    (tmp_path / "in/control/002-edit.png").unlink()
    done = run(tmp_path / "in", "--to", "magicbrush", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"Wrote 3 records as magicbrush to {tmp_path / 'out'}" in done.output
    assert "1 left out, file is missing: 002-edit: the target 002-edit.png has no control picture" in done.output
    assert len(records(opened("magicbrush", tmp_path / "out"))) == 3
    again = run(tmp_path / "in", "--to", "magicbrush", "-o", tmp_path / "out")
    assert (again.exit_code, "holds files: name a new or empty folder." in again.output) == (2, True)
    few = run(
        tmp_path / "in", "--kind", "ai_toolkit", "--to", "jsonl", "-o", tmp_path / "few", "--start", 1, "--count", 1
    )
    assert few.exit_code == 0
    assert [one.key for one in records(opened("jsonl", tmp_path / "few"))] == ["001-edit"]


def test_the_command_refuses_in_one_sentence(tmp_path):
    write_ai_toolkit(edits(1), tmp_path / "in")
    wrong = run(tmp_path / "in", "--to", "magicbrash", "-o", tmp_path / "x")
    assert wrong.exit_code == 2
    assert "insightedit: no layout 'magicbrash' can be written: did you mean magicbrush?" in wrong.output
    assert not (tmp_path / "x").exists()
    os.remove(tmp_path / "in/control/000-edit.png")
    none = run(tmp_path / "in", "--to", "jsonl", "-o", tmp_path / "y")
    assert "no record of" in none.output
    assert "could be written: file is missing." in none.output
    assert "is a file: name a folder." in run(tmp_path / "in", "--to", "jsonl", "-o", dump(tmp_path / "z", "")).output
