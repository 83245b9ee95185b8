"""Emu Edit: the split that is meant, and captions that say nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.emu_edit import CARD, ROWS, TASKS, load
from tests.evaluation.benchmarks.layouts_one import (
    EMU_TASKS,
    change_json,
    emu_rows,
    faults_of,
    only_fault,
    write_emu_json,
    write_emu_parquet,
    write_json,
)


def test_published_numbers_agree_with_each_other() -> None:
    assert sum(TASKS.values()) == ROWS["test"] == 3589 and ROWS["validation"] == 2022
    assert CARD.is_non_commercial and CARD.licence == "CC-BY-NC-4.0"


def test_rows_as_json(tmp_path: Path) -> None:
    benchmark = load(write_emu_json(tmp_path))
    assert len(benchmark) == 20 and benchmark.split == "test"
    seventh = benchmark.samples[7]
    assert (seventh.sample_id, seventh.instruction, seventh.category) == ("7", "Make thing 7 green", "global")
    assert (seventh.source, seventh.target) == (tmp_path / "data/7.jpg", None)
    assert (seventh.source_caption, seventh.target_caption) == ("thing 7", "green thing 7")
    assert seventh.cluster == benchmark.samples[6].cluster == "picture3"
    assert any("excludes commercial use" in text for text in benchmark.warnings)


def test_equal_captions_are_counted_and_marked(tmp_path: Path) -> None:
    benchmark = load(write_emu_json(tmp_path))
    assert [s.sample_id for s in benchmark if s.extra.get("equal_captions") == "yes"] == ["0", "5", "10", "15"]
    assert any(
        text.startswith("4 of 20 rows have equal captions before and after (0, 5, 10 and 1 more): CLIP-T and CLIP")
        and text.endswith("are taken over the other 16, as in MIGE.")
        for text in benchmark.warnings
    )


def test_the_hubs_files_are_unpacked_byte_for_byte(tmp_path: Path) -> None:
    rows = {"test": emu_rows(6), "validation": emu_rows(4, "validation")}
    folder = write_emu_parquet(tmp_path / "hub", rows)
    benchmark = load(folder)
    assert len(benchmark) == 6 and len(load(folder, split="validation")) == 4
    sample = benchmark.samples[5]
    assert sample.source == folder / "unpacked/test/5-image.png"
    assert sample.source.read_bytes() == (tmp_path / "pool/1.png").read_bytes()
    assert not any("other way round" in text for text in benchmark.warnings)
    assert load(folder).samples == benchmark.samples


def whole(split: str, count: int) -> list[dict]:
    return emu_rows(count, split, equal_every=5)


def test_swapped_splits_are_told_by_their_lengths(tmp_path: Path) -> None:
    rows = {"test": whole("test", ROWS["validation"]), "validation": whole("validation", ROWS["test"])}
    folder = write_emu_parquet(tmp_path / "hub", rows)
    benchmark = load(folder, split="validation")
    assert len(benchmark) == 2022
    assert any("its `test` (2022 rows) was read as validation." in text for text in benchmark.warnings)
    assert not any("published samples are here" in text for text in benchmark.warnings)
    (folder / "data/validation-00000-of-00001-64edd860175df28a.parquet").unlink()
    assert only_fault(load, folder) == (
        "Its `test` has 2022 rows and is the validation split (emu_edit_test_set_generations swaps the names, test has "
        "3589 rows): get its `validation` files."
    )


def test_right_splits_of_full_length_are_left_alone(tmp_path: Path) -> None:
    rows = {"test": whole("test", ROWS["test"]), "validation": whole("validation", ROWS["validation"])}
    benchmark = load(write_emu_parquet(tmp_path / "hub", rows), split="validation")
    assert len(benchmark) == 2022 and not any("other way round" in text for text in benchmark.warnings)
    assert not benchmark.differs
    assert Counter(sample.category for sample in benchmark)["global"] == 2022 // 8


def test_swapped_splits_are_told_by_their_columns(tmp_path: Path) -> None:
    rows = {"test": emu_rows(3, "validation"), "validation": emu_rows(5)}
    folder = write_emu_parquet(tmp_path / "hub", rows, results=True)
    benchmark = load(folder)
    assert len(benchmark) == 5 and len(load(folder, split="validation")) == 3
    extra = benchmark.samples[1].extra
    assert extra["edited_image"] == str(folder / "unpacked/validation/1-edited_image.png")
    assert extra["model"] == "emu_edit" and Path(extra["edited_image"]).is_file()
    (folder / "data/validation-00000-of-00001-64edd860175df28a.parquet").unlink()
    assert "Its `test` has 3 rows and is the validation split" in only_fault(load, folder)


def test_missing_split_and_column(tmp_path: Path) -> None:
    folder = write_emu_parquet(tmp_path / "hub", {"test": emu_rows(3)})
    assert only_fault(load, folder, "validation") == "It holds no validation-*.parquet file."
    rows = [{key: value for key, value in row.items() if key != "task"} for row in emu_rows(3)]
    bare = write_emu_parquet(tmp_path / "bare", {"test": rows})
    assert only_fault(load, bare).startswith(
        "data/test-00000-of-00001-64edd860175df28a.parquet has no column task: it"
    )


def test_json_of_the_other_split(tmp_path: Path) -> None:
    write_emu_json(tmp_path)
    change_json(tmp_path / "test.json", lambda rows: [row.update(split="validation") for row in rows[:3]])
    assert only_fault(load, tmp_path) == "test.json has 3 rows of the split 'validation': test was asked for."
    write_json(tmp_path / "test.json", whole("test", ROWS["validation"]))
    assert faults_of(load, tmp_path)[0] == (
        "test.json has 2022 rows, the number of the validation split: ask for split 'validation'."
    )


def test_no_rows_or_several_files_of_rows(tmp_path: Path) -> None:
    assert only_fault(load, tmp_path).startswith("It holds neither *.parquet nor *.json: one test.json or test.jsonl")
    write_json(tmp_path / "a.json", [1])
    assert only_fault(load, tmp_path) == (
        "a.json has rows that are no objects (0): each should hold {instruction, image, task, split, idx, hash, "
        "input_caption, output_caption}."
    )
    write_json(tmp_path / "b.json", [1])
    assert only_fault(load, tmp_path).startswith("It holds a.json, b.json: one test.json or test.jsonl is read")


def test_jsonl(tmp_path: Path) -> None:
    import json

    write_emu_json(tmp_path, 3)
    (tmp_path / "test.json").unlink()
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row) for row in emu_rows(3)) + "\n")
    assert len(load(tmp_path)) == 3
    (tmp_path / "test.jsonl").write_text("{}\n[]\nnothing\n")
    assert only_fault(load, tmp_path).startswith("test.jsonl has lines that are no JSON objects (2, 3): each should")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"task": "colour"}, "Row 2 (idx 2) has the task 'colour': there are text, add, remove, color"),
        ({"instruction": ""}, "Row 2 (idx 2) has an empty `instruction`."),
        ({"image": "/path/9999.jpg"}, "Missing source pictures (1): 9999.jpg; get the whole folder again."),
        ({"idx": 3}, "Ids occur more than once (3): each names one result file."),
        ({"idx": None, "task": None}, "Row 2 (idx None) has no `task` and no `idx`."),
    ],
)
def test_rows_are_of_their_shape(tmp_path: Path, change: dict, fault: str) -> None:
    write_emu_json(tmp_path)
    change_json(tmp_path / "test.json", lambda rows: rows[2].update(change))
    assert any(fault in found for found in faults_of(load, tmp_path))


def test_pictures_are_found_by_name_unless_two_have_it(tmp_path: Path) -> None:
    write_emu_json(tmp_path, 3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/2.jpg").write_bytes((tmp_path / "data/2.jpg").read_bytes())
    assert (
        "names '/path/to/emuedit_test_set/2.jpg', and several pictures have that name" in faults_of(load, tmp_path)[0]
    )
    change_json(tmp_path / "test.json", lambda rows: rows[2].update(image="other/2.jpg"))
    assert load(tmp_path).samples[2].source == tmp_path / "other/2.jpg"


def test_rows_without_captions_are_a_warning(tmp_path: Path) -> None:
    write_emu_json(tmp_path, 3)
    change_json(tmp_path / "test.json", lambda rows: rows[1].update(output_caption=None))
    benchmark = load(tmp_path)
    assert benchmark.samples[1].target_caption == "" and set(EMU_TASKS) == set(TASKS)
    assert "1 rows have no output caption (1): they are left out of CLIP-T." in benchmark.warnings
