"""Tables whose pictures are written out once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from insightedit.datasets.notes import Notes
from insightedit.datasets.unpacking import open_tables, split_tables, unpack
from tests.evaluation.benchmarks.layouts_one import emu_rows, write_emu_parquet


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    folder = write_emu_parquet(tmp_path / "hub", {"test": emu_rows(3), "validation": emu_rows(2)})
    return Notes(folder, "Toy", "Draw it yourself.")


def rows_of(notes: Notes) -> list[dict]:
    rows = open_tables(notes, split_tables(notes.folder, "test"), ("image",))
    return [] if rows is None else unpack(notes, rows, "test", ("image", "other"), lambda row: row["idx"])


def test_files_of_a_split_are_those_with_its_name_as_a_word(tmp_path: Path) -> None:
    names = (
        "data/test-00010-of-1.parquet",
        "data/test-00002-of-1.parquet",
        "default/test/0.parquet",
        "latest-0.parquet",
    )
    for name in (*names, "data/dev-0.parquet", "testing.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in split_tables(tmp_path, "test")]
    assert found == [names[1], names[0], names[2]]
    assert split_tables(tmp_path, "dev") == [tmp_path / "data/dev-0.parquet"]


def test_shape_and_rows(notes: Notes) -> None:
    rows = open_tables(notes, split_tables(notes.folder, "test"), ())
    assert len(rows) == 3 and rows.columns[:3] == ["instruction", "image", "task"]
    assert open_tables(notes, rows.files, (), only=("task", "idx")).row(1) == {"task": "add", "idx": 1}
    made = rows_of(notes)
    assert [row["image"].name for row in made] == ["0-image.png", "1-image.png", "2-image.png"]
    assert made[1]["input_caption"] == "thing 1" and not notes.faults


def test_a_second_visit_reads_the_index_until_the_tables_change(notes: Notes, tmp_path: Path) -> None:
    first = rows_of(notes)
    index = notes.folder / "unpacked/test/index.json"
    changed = json.loads(index.read_text())
    changed["rows"][0]["task"] = "from the index"
    changed["rows"][1]["image"] = "../../unpacked/test/1-image.png"  # stays in the folder all the same
    index.write_text(json.dumps(changed))
    again = rows_of(notes)
    assert again[0]["task"] == "from the index" and again[1]["image"] == first[1]["image"]
    first[2]["image"].unlink()
    assert rows_of(notes)[0]["task"] == "text" and first[2]["image"].is_file()
    write_emu_parquet(tmp_path / "hub", {"test": emu_rows(2)})
    assert len(rows_of(notes)) == 2 and not notes.faults


def test_damaged_tables(notes: Notes) -> None:
    file = split_tables(notes.folder, "test")[0]
    raw = file.read_bytes()
    file.write_bytes(raw[:-20])
    assert rows_of(notes) == []
    assert notes.faults[0].startswith("data/test-00000-of-00001-64edd860175df28a.parquet is no whole parquet file (")
    file.write_bytes(raw[:4] + b"\xff" * 400 + raw[404:])
    assert rows_of(notes) == []
    assert notes.faults[1].startswith(
        "The pictures of test-00000-of-00001-64edd860175df28a.parquet cannot be unpacked to"
    )
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert rows_of(notes) == []
    assert notes.faults[2].endswith(".parquet is a Git LFS pointer: run `git lfs pull` in the folder.")


def test_rows_of_the_same_number(notes: Notes) -> None:
    files = split_tables(notes.folder, "test")
    unpack(notes, open_tables(notes, files, ()), "test", ("image",), lambda _: "same")
    assert notes.faults == [f"Several rows of {files[0].name} have the same number (same-image): one would be lost."]


def test_a_folder_that_cannot_be_written(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert rows_of(notes) == []
    assert notes.faults == ["unpacked/test cannot be written, where pictures are unpacked to: give the right to."]


def test_without_pyarrow_the_message_says_what_to_install(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    files = split_tables(notes.folder, "test")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert open_tables(notes, files, ()) is None
    assert notes.faults == ["Parquet files need pyarrow to be read: `pip install insightedit[data]`."]
