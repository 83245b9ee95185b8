"""Reason-Edit: stems instead of places in sorted lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.reason_edit import CARD, GROUPS, load
from tests.evaluation.benchmarks.layouts_one import faults_of, mask, only_fault, picture, write_reason_edit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_reason_edit(tmp_path)


def test_good_copy(root: Path) -> None:
    benchmark = load(root)
    assert len(benchmark) == 12 and benchmark.card is CARD
    assert [sample.category for sample in benchmark][::2] == list(GROUPS)
    first, last = benchmark.samples[0], benchmark.samples[-1]
    assert first.sample_id == "1-Left-Right-001"
    assert first.instruction == "Turn cat 1 of 1-Left-Right into a dog" and first.local_caption == "dog 1"
    assert first.source == root / "1-Left-Right/001.png" and first.mask == root / "1-Left-Right/001_mask.jpg"
    assert first.target is None
    assert last.extra == {"line": "2", "group": "Reasoning", "result_alias": "Reasoning_metrics_1/0002"}
    assert {s.extra["group"] for s in benchmark if s.category != "6-Reasoning"} == {"Understanding"}
    assert load(root.parent).samples == benchmark.samples and load(root.parent).version == benchmark.version


def test_jpeg_masks_and_a_subset_are_warnings(root: Path) -> None:
    warnings = load(root).warnings
    assert any(text.startswith("12 masks are JPEG or WebP") for text in warnings)
    assert "12 of the 219 published samples are here: numbers do not compare with published ones." in warnings


def test_mask_in_png_is_a_mask_although_published_scripts_take_it_for_a_picture(root: Path) -> None:
    (root / "3-Mirror/001_mask.jpg").unlink()
    png = mask(root / "3-Mirror/001_mask.png")
    benchmark = load(root)
    mirror = [sample for sample in benchmark if sample.category == "3-Mirror"]
    assert [sample.mask for sample in mirror] == [png, root / "3-Mirror/002_mask.jpg"]
    assert any("3-Mirror has masks in PNG (001_mask.png)" in text for text in benchmark.warnings)


def test_a_line_belongs_to_the_picture_of_its_place_in_alphabetical_order(root: Path) -> None:
    place = root / "4-Color"
    for old, new in (("001", "2"), ("002", "10")):
        (place / f"{old}.png").rename(place / f"{new}.png")
        (place / f"{old}_mask.jpg").rename(place / f"{new}_mask.jpg")
    benchmark = load(root)
    ten, two = (sample for sample in benchmark if sample.category == "4-Color")
    assert ten.sample_id == "4-Color-10" and ten.instruction.startswith("Turn cat 1 ")
    assert ten.mask == place / "10_mask.jpg" and two.mask == place / "2_mask.jpg"
    assert any("4-Color has numbers without leading zeros" in text for text in benchmark.warnings)


def test_reasoning_is_found_under_its_other_name(root: Path) -> None:
    (root / "6-Reasoning").rename(root / "Reasoning-231115")
    assert [sample.category for sample in load(root)][-2:] == ["6-Reasoning", "6-Reasoning"]


def test_missing_folders_are_a_warning_and_no_folder_is_a_fault(root: Path, tmp_path: Path) -> None:
    for group in ("2-Relative-Size", "3-Mirror"):
        (root / group).rename(tmp_path / f"elsewhere-{group}")
    benchmark = load(root)
    assert len(benchmark) == 8
    assert "Folders are missing: 2-Relative-Size, 3-Mirror; averages are over the others." in benchmark.warnings
    (tmp_path / "empty").mkdir()
    assert only_fault(load, tmp_path / "empty").startswith("It holds none of the folders 1-Left-Right, 2-Rel")


def test_a_group_there_twice(root: Path) -> None:
    shutil.copytree(root / "6-Reasoning", root / "Reasoning-231115")
    assert only_fault(load, root) == "6-Reasoning and Reasoning-231115 are the same group: remove one."


def test_one_picture_too_many_shifts_all_that_follow(root: Path) -> None:
    picture(root / "1-Left-Right/003.png")
    faults = faults_of(load, root)
    assert faults[0] == "1-Left-Right has pictures without a mask (1): 003.png."
    assert faults[1].startswith("1-Left-Right holds 3 pictures and Left_Right_text.txt 2 lines: they go together")
    assert len(faults) == 2


def test_one_line_too_few(root: Path) -> None:
    (root / "2-Relative-Size/Size_text.txt").write_text("Make it a dog CLIP: dog\n")
    assert "2-Relative-Size holds 2 pictures and Size_text.txt 1 lines" in only_fault(load, root)
    (root / "2-Relative-Size/Size_text.txt").write_text("\n")
    assert "Size_text.txt 0 lines" in only_fault(load, root)


def test_mask_without_a_picture_is_not_paired_with_the_next(root: Path) -> None:
    (root / "5-Multiple-Objects/001_mask.jpg").rename(root / "5-Multiple-Objects/01_mask.jpg")
    assert faults_of(load, root) == (
        "5-Multiple-Objects has pictures without a mask (1): 001.png.",
        "5-Multiple-Objects has masks without a picture (1): 01_mask.jpg.",
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Make it a dog", "line 2, has no 'CLIP:' before its label: 'Make it a dog'."),
        ("CLIP: dog", "line 2, has no instruction: 'CLIP: dog'."),
        ("Make it a dog CLIP:  ", "line 2, has no label after 'CLIP:'."),
    ],
)
def test_a_line_has_both_parts(root: Path, line: str, fault: str) -> None:
    (root / "3-Mirror/Mirror_text.txt").write_text(f"Make it a dog CLIP: dog\r\n{line}\r\n")
    # trailing blanks of the last line are the file's end, as for the published scripts
    expected = fault if line.strip() == line else "has no 'CLIP:' before its label: 'Make it a dog CLIP:'."
    assert only_fault(load, root).endswith(expected)


def test_a_label_is_cut_as_the_published_script_cuts_it(root: Path) -> None:
    (root / "3-Mirror/Mirror_text.txt").write_text("Make it  CLIP:  a dog \nSay CLIP: cat CLIP: dog\n")
    benchmark = load(root)
    first, second = (sample for sample in benchmark if sample.category == "3-Mirror")
    assert (first.instruction, first.local_caption) == ("Make it", " a dog ")
    assert (second.instruction, second.local_caption) == ("Say", "cat ")
    assert any("line 2, has 'CLIP:' twice" in text for text in benchmark.warnings)


def test_all_faults_at_once(root: Path) -> None:
    (root / "1-Left-Right/001.png").write_bytes(b"")
    (root / "2-Relative-Size/Size_text.txt").unlink()
    (root / "3-Mirror/001_mask.jpg").unlink()
    assert faults_of(load, root) == (
        "2-Relative-Size/Size_text.txt is missing.",
        "3-Mirror has pictures without a mask (1): 001.png.",
        "Empty source pictures (1): 1-Left-Right/001.png; copy them again.",
    )


def test_there_is_one_split(root: Path) -> None:
    with pytest.raises(ValueError, match="Reason-Edit has no split 'test': it has one only, leave it out."):
        load(root, split="test")
