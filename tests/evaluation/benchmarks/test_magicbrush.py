"""MagicBrush: two readings of the same sessions, turns in numeric order, masks with holes."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.benchmarks.magicbrush import load
from tests.evaluation.benchmarks.layouts_one import (
    change_json,
    faults_of,
    only_fault,
    picture,
    write_json,
    write_magicbrush,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_magicbrush(tmp_path)


def ids(folder: Path, split: str | None = None) -> list[str]:
    return [sample.sample_id for sample in load(folder, split=split)]


def test_all_turns_start_from_the_true_picture_before(root: Path) -> None:
    benchmark = load(root.parent)
    assert benchmark.split == "all-turn"
    assert [s.sample_id for s in benchmark] == ["30_1", "139_1", "139_inde_2", "139_inde_3", "149_1", "149_inde_2"]
    third = benchmark.samples[3]
    images = root / "images" / "139"
    assert (third.source, third.target) == (images / "139-output2.png", images / "139-output3.png")
    assert (third.instruction, third.turn, third.cluster, third.earlier) == ("do 139.3", 3, "139", ())
    assert third.local_caption == "local 139-output3.png"
    assert third.source_caption == "global 139-output2.png" and third.target_caption == "global 139-output3.png"


def test_final_turns_follow_one_another(root: Path) -> None:
    benchmark = load(root, split="final-turn")
    assert [sample.sample_id for sample in benchmark] == ["30_1", "139_iter_3", "149_iter_2"]
    one, three, _ = benchmark
    images = root / "images" / "139"
    assert (three.source, three.target) == (images / "139-input.png", images / "139-output3.png")
    assert three.earlier == ("do 139.1", "do 139.2") and three.instruction == "do 139.3" and three.turn == 3
    assert three.mask is None and one.mask is not None and one.earlier == ()
    assert benchmark.version != load(root).version


def test_turns_are_in_numeric_order_whatever_the_file_says(tmp_path: Path) -> None:
    root = write_magicbrush(tmp_path, {"7": 12})
    change_json(root / "edit_sessions.json", lambda sessions: sessions["7"].sort(key=lambda t: t["output"]))
    benchmark = load(root)
    assert [sample.turn for sample in benchmark] == list(range(1, 13))
    assert benchmark.samples[9].sample_id == "7_inde_10"
    assert ids(root, "final-turn") == ["7_iter_12"]
    assert any(
        text.startswith("Session 7 has its turns in another order (1, 10, 11, 12, 2") for text in benchmark.warnings
    )


def test_a_mask_is_white_where_the_published_one_has_a_hole(root: Path) -> None:
    sample = load(root).samples[1]
    assert sample.mask == root / "unpacked/masks/139-mask1.png"
    with Image.open(sample.mask) as mask:
        values = np.asarray(mask)
    assert mask.mode == "L" and (values[4:9, 4:10] == 255).all() and int(values.sum()) == 255 * 30
    written = sample.mask.stat().st_mtime_ns
    assert load(root).samples[1].mask.stat().st_mtime_ns == written


def test_missing_turn_is_a_fault(root: Path) -> None:
    change_json(root / "edit_sessions.json", lambda sessions: sessions["139"].pop(1))
    assert faults_of(load, root) == (
        "Session 139 lacks turn 2 (it has 1, 3): every turn from 1 on has to be there once.",
        "Session 139 has no turn for 139-output2.png: edit_sessions.json lacks it, or the picture is of elsewhere.",
    )


def test_missing_last_turn_is_seen_by_its_picture(root: Path) -> None:
    change_json(root / "edit_sessions.json", lambda sessions: sessions["139"].pop(2))
    assert only_fault(load, root, "final-turn").startswith("Session 139 has no turn for 139-output3.png:")


def test_turn_there_twice(root: Path) -> None:
    change_json(root / "edit_sessions.json", lambda sessions: sessions["149"].append(sessions["149"][1]))
    assert faults_of(load, root)[0] == (
        "Session 149 has a turn twice (it has 1, 2, 2): every turn from 1 on has to be there once."
    )


def test_a_turn_starts_from_the_result_before(root: Path) -> None:
    change_json(root / "edit_sessions.json", lambda sessions: sessions["149"][1].update(input="149-input.png"))
    assert only_fault(load, root) == (
        "Session 149, turn 2, starts from 149-input.png: it has to start from 149-output1.png, the result of the "
        "turn before."
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"output": "149-final.png"},
            "has the output '149-final.png': it has to end in -outputN.png, N being its turn.",
        ),
        ({"input": "../149-input.png"}, "Session 149, entry 1: path leads out of the folder: ../149-input.png."),
        ({"instruction": " "}, "Session 149, entry 1 has an empty `instruction`."),
        ({"instruction": 3}, "Session 149, entry 1 has 3 as `instruction`: it has to be a text."),
    ],
)
def test_turns_are_of_their_shape(root: Path, change: dict, fault: str) -> None:
    change_json(root / "edit_sessions.json", lambda sessions: sessions["149"][0].update(change))
    assert any(fault in found for found in faults_of(load, root))


def test_sessions_are_lists_of_turns(root: Path) -> None:
    def spoil(sessions: dict) -> None:
        sessions["30"] = {}
        sessions["149"][0] = "turn"

    change_json(root / "edit_sessions.json", spoil)
    faults = faults_of(load, root)
    assert faults[0] == "Session 30 holds {}: it has to be a list of turns."
    assert "Session 149, entry 1 is 'turn': it has to be {input, mask, output, instruction}." in faults


def test_missing_pictures_and_masks_are_told_by_role(root: Path) -> None:
    (root / "images/30/30-output1.png").unlink()
    (root / "images/149/149-mask2.png").unlink()
    assert faults_of(load, root) == (
        "Missing target pictures (1): images/30/30-output1.png; get the whole folder again.",
        "Missing mask pictures (1): images/149/149-mask2.png; get the whole folder again.",
    )


def test_missing_images_folder(root: Path) -> None:
    (root / "images").rename(root / "pictures")
    assert only_fault(load, root) == "images is missing: it holds a folder of pictures for each session."


def test_captions_that_are_missing_or_equal_are_warnings(root: Path) -> None:
    (root / "local_descriptions.json").unlink()

    def same(captions: dict) -> None:
        captions["30"] = {"30-input.png": "a cat", "30-output1.png": "a cat"}
        del captions["149"]["149-output2.png"]

    change_json(root / "global_descriptions.json", same)
    benchmark = load(root)
    assert benchmark.samples[0].extra == {"equal_captions": "yes"} and benchmark.samples[1].extra == {}
    warnings = " ".join(benchmark.warnings)
    assert "local_descriptions.json is missing: there are no captions of what was edited" in warnings
    assert "1 targets have no global caption (149_inde_2): they are left out of CLIP-T." in warnings
    assert "1 of 6 samples have equal global captions before and after (30_1)" in warnings


def test_strange_folders_are_a_warning(root: Path) -> None:
    picture(root / "images/999/999-input.png")
    assert "1 folders of images have no session in edit_sessions.json: 999." in load(root).warnings


def locked_zip(path: Path) -> Path:
    """A zip whose entry says that it is encrypted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test/edit_sessions.json", "{}")
    raw = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.index(mark) + place
        raw[start : start + 2] = struct.pack("<H", 1)
    path.write_bytes(raw)
    return path


def test_the_zip_with_its_password_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    archive = locked_zip(tmp_path / "got" / "test.zip")
    told = (
        "test.zip is still a zip archive and has a password: unpack it with the one that its publishers give beside "
        "the link, and name the folder."
    )
    assert only_fault(load, tmp_path / "got") == told
    assert only_fault(load, archive) == told
    with zipfile.ZipFile(tmp_path / "open.zip", "w") as plain:
        plain.writestr("a", "b")
    assert only_fault(load, tmp_path / "open.zip") == (
        "open.zip is still a zip archive: unpack it and name the folder."
    )


def test_wrong_folders(tmp_path: Path) -> None:
    assert only_fault(load, tmp_path) == "It holds no edit_sessions.json, neither itself nor in test/."
    dev = write_magicbrush(tmp_path, part="dev")
    told = only_fault(load, dev)
    assert told == "The folder is called dev, and the test split was asked for: ask for a split that begins with dev-."
    assert ids(dev, "dev-final-turn") == ids(tmp_path, "dev-final-turn") == ["30_1", "139_iter_3", "149_iter_2"]
    with pytest.raises(
        ValueError, match="MagicBrush has no split 'test': choose one of all-turn, final-turn, dev-all"
    ):
        load(dev, split="test")


def hub_copy(folder: Path, turns: list[tuple[int, int]]) -> Path:
    import pyarrow
    import pyarrow.parquet as parquet

    def cell(name: str, shade: int) -> dict:
        return {"bytes": picture(folder.parent / "pool" / f"{name}.png", shade).read_bytes(), "path": f"{name}.png"}

    rows = [
        {
            "img_id": str(session),
            "turn_index": turn,
            "source_img": cell(f"{session}-{turn - 1}", turn - 1),
            "mask_img": cell(f"{session}-{turn}-mask", 0),
            "instruction": f"do {session}.{turn}",
            "target_img": cell(f"{session}-{turn}", turn),
        }
        for session, turn in turns
    ]
    (folder / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / "dev-00000-of-00001.parquet")
    return folder


def test_the_hubs_dev_rows(tmp_path: Path) -> None:
    folder = hub_copy(tmp_path / "hub", [(30, 1), (7, 2), (7, 1)])
    benchmark = load(folder, split="dev-all-turn")
    assert [sample.sample_id for sample in benchmark] == ["7_1", "7_inde_2", "30_1"]
    second = benchmark.samples[1]
    assert second.instruction == "do 7.2" and second.target == folder / "unpacked/dev/7-2-target_img.png"
    assert second.target.read_bytes() == (tmp_path / "pool" / "7-2.png").read_bytes()
    assert "The hub's rows have no captions: CLIP-T needs those of the zip." in benchmark.warnings
    assert ids(folder, "dev-final-turn") == ["7_iter_2", "30_1"]
    assert only_fault(load, folder).startswith("It holds the hub's parquet files, which have train and dev only:")


def test_the_hubs_rows_lack_a_turn(tmp_path: Path) -> None:
    folder = hub_copy(tmp_path / "hub", [(30, 1), (7, 1), (7, 3)])
    assert only_fault(load, folder, "dev-all-turn") == (
        "Session 7 lacks turn 2 (it has 1, 3): every turn from 1 on has to be there once."
    )


def test_broken_sessions_file(root: Path) -> None:
    (root / "edit_sessions.json").write_text('{"30": [')
    assert only_fault(load, root).startswith("edit_sessions.json is not valid JSON (Expecting value")
    write_json(root / "edit_sessions.json", [])
    assert only_fault(load, root).startswith("edit_sessions.json holds an empty list: it should hold {ID: [{input,")
