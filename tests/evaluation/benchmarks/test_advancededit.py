"""AdvancedEdit: the published pipeline's records, forward and swapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.benchmarks.advancededit import load
from tests.evaluation.benchmarks.layouts_one import (
    change_json,
    faults_of,
    only_fault,
    run_lengths,
    write_advancededit,
    write_json,
)

STEP = "3_editing_pair_construction"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_advancededit(tmp_path)


def removals(root: Path) -> Path:
    return root / STEP / "remove_add" / "json_file" / "77.json"


def replacements(root: Path) -> Path:
    return root / STEP / "replace" / "json_file" / "77.json"


def by_id(root: Path, split: str | None = None) -> dict[str, Any]:
    return {sample.sample_id: sample for sample in load(root, split=split)}


def test_good_copy(root: Path) -> None:
    samples = by_id(root)
    assert list(samples) == ["77-0-remove_add", "77-1-remove_add", "77-0-replace", "77-1-replace"]
    removed, added, replaced, back = samples.values()
    photo, made = root / "photos/77.jpg", root / STEP / "remove_add/target_imgs/77_0_blue_teapot.png"
    assert (removed.source, removed.target, removed.category) == (photo, made, "remove")
    assert (added.source, added.target, added.category) == (made, photo, "add")
    assert removed.instruction == "first remove_add" and removed.extra["rewordings"] == "in other words"
    assert (removed.local_caption, added.local_caption, replaced.local_caption) == ("", "blue teapot", "brass lantern")
    assert {sample.cluster for sample in samples.values()} == {"77"}
    assert removed.source_caption == added.target_caption == "A window in the morning."
    assert back.source_caption == "" and back.category == "replace"


def test_swapped_replacements_get_their_captions_swapped(root: Path) -> None:
    benchmark = load(root)
    forward, back = benchmark.samples[2:]
    assert (forward.extra["detailed_caption_origin"], forward.extra["detailed_caption_target"]) == (
        "A teapot.",
        "A lantern.",
    )
    assert (back.extra["detailed_caption_origin"], back.extra["detailed_caption_target"]) == (
        "A lantern.",
        "A teapot.",
    )
    assert any("1 swapped replacements keep the captions of the forward ones" in text for text in benchmark.warnings)

    def put_right(table: dict) -> None:
        table["1"].update(detailed_caption_origin="A lantern.", detailed_caption_target="A teapot.")

    change_json(replacements(root), put_right)
    right = load(root)
    assert right.samples[3].extra == back.extra and not any("keep the captions" in text for text in right.warnings)


def test_run_lengths_become_a_mask(root: Path) -> None:
    sample = by_id(root)["77-0-remove_add"]
    assert sample.mask == root / "unpacked/masks/77-0-remove_add.png"
    with Image.open(sample.mask) as picture:
        values = np.asarray(picture)
    assert values.shape == (12, 16) and (values[4:9, 4:10] == 255).all() and int(values.sum()) == 255 * 30
    written = sample.mask.stat().st_mtime_ns
    assert by_id(root)["77-0-remove_add"].mask.stat().st_mtime_ns == written


def test_masks_need_not_be_there(root: Path) -> None:
    change_json(removals(root), lambda table: [table[key].update(segmentation=None, bbox=None) for key in table])
    assert by_id(root)["77-0-remove_add"].mask is None


def test_the_last_step_counts(root: Path) -> None:
    write_advancededit(root, step="5_quality_evaluation")
    for path in root.glob("5_quality_evaluation/*/target_imgs"):
        for picture in path.iterdir():
            picture.unlink()
    later = root / "5_quality_evaluation/replace/json_file/77.json"
    change_json(later, lambda table: table["0"].update(instruction=["later words"], qwen_VIE_SC=None, qwen_VIE_PQ={}))
    benchmark = load(root)
    assert len(benchmark) == 4 and benchmark.samples[2].instruction == "later words"
    assert any("1 records have no score of the pipeline's judge" in text for text in benchmark.warnings)


def test_reasoning_instructions(tmp_path: Path) -> None:
    root = write_advancededit(tmp_path, reasoning=True)
    change_json(replacements(root), lambda table: table["0"].update(reasoning_instruction2="Find it."))
    samples = by_id(root, "reasoning")
    assert samples["77-1-remove_add"].instruction == "What holds tea in 1? Change it."
    assert samples["77-0-replace"].extra["rewordings"] == "Find it."


def test_reasoning_instructions_that_are_missing(root: Path) -> None:
    faults = faults_of(load, root, "reasoning")
    assert len(faults) == 4
    assert faults[0] == f"{STEP}/remove_add/json_file/77.json, entry 0 has no `reasoning_instruction1`."


def test_invalid_json_is_named(root: Path) -> None:
    removals(root).write_text('{"0": {"task_type": "remove",}}')
    fault = only_fault(load, root)
    assert fault.startswith(f"{STEP}/remove_add/json_file/77.json is not valid JSON (")
    assert "it should hold" in fault


def test_earlier_steps_are_not_read(root: Path) -> None:
    captions = root / "1_caption_object_extraction/1_1_recaption/77.json"
    captions.parent.mkdir(parents=True)
    captions.write_text("A kitchen, {not JSON")
    write_json(root / "2_mask_generation/77.json", {"annotations": []})
    write_json(root / "settings.json", {"colour": "red"})
    benchmark = load(root)
    assert len(benchmark) == 4 and "settings.json holds no records and is left out." in benchmark.warnings
    assert "The published pairs are not released: these are others, and no number compares." in benchmark.differs


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"task_type": "recolour"}, "has the task_type 'recolour': there are remove, add, replace."),
        ({"class_target": "lamp"}, "is of the task remove and has the class_target 'lamp': it has to be empty."),
        ({"class_origin": ""}, "has an empty `class_origin`."),
        ({"origin_img_path": ""}, "has a blank path, as in the published sample: write the pictures' file names"),
        ({"target_img_path": "x/gone.png"}, "Missing target pictures (1): gone.png; get the whole folder again."),
        ({"instruction": []}, "entry 0: instruction is empty: `instruction` is []."),
        ({"bbox": [4, 4, 14, 9]}, "has the bbox [4, 4, 14, 9], which leaves the 16 x 12 picture: it has to be [x, y,"),
        ({"bbox": "4 4"}, "has '4 4' as `bbox`: it has to be [x, y, width, height] in pixels."),
        ({"segmentation": {"size": [12, 16], "counts": [3]}}, "the runs of a mask fill 3 pixels of 12 x 16."),
        ({"segmentation": {"counts": [3]}}, "incomplete: `segmentation` is not COCO's run lengths: 'size'."),
        ({"segmentation": {"size": [12, 16], "counts": [192]}}, "has an empty segmentation: nothing would be edited."),
    ],
)  # fmt: skip
def test_records_are_of_their_shape(root: Path, change: dict, fault: str) -> None:
    change_json(removals(root), lambda table: table["0"].update(change))
    found = faults_of(load, root)
    assert any(fault in one for one in found), found


def test_an_addition_that_is_not_swapped(root: Path) -> None:
    def unswap(table: dict) -> None:
        table["1"].update({key: table["0"][key] for key in ("origin_img_path", "target_img_path")})

    change_json(removals(root), unswap)
    assert only_fault(load, root) == (
        f"{STEP}/remove_add/json_file/77.json, entry 1 adds with the pictures of its removal in the same order: swap "
        "them."
    )


def test_the_same_photo_twice_in_a_step(root: Path) -> None:
    write_json(root / STEP / "again" / "77.json", json.loads(removals(root).read_text()))
    assert only_fault(load, root) == f"{STEP}/remove_add/json_file/77.json is there twice in step 3: remove one."


def test_all_faults_at_once(root: Path) -> None:
    change_json(removals(root), lambda table: table.update({"0": [], "1": {**table["1"], "class_target": ""}}))
    (root / "photos/77.jpg").write_bytes(b"<!DOCTYPE html><html>sign in</html>")
    faults = faults_of(load, root)
    assert faults[0].startswith(f"{STEP}/remove_add/json_file/77.json, entry 0 is []: it has to be {{task_type, orig")
    assert faults[1].endswith("entry 1 has an empty `class_target`.")
    assert faults[2].startswith("Web pages in place of target pictures (1): photos/77.jpg; download them again")


def test_manifest_of_ones_own(root: Path) -> None:
    rows = [*json.loads(removals(root).read_text()).values(), *json.loads(replacements(root).read_text()).values()]
    for number, row in enumerate(rows):
        row["id"] = f"pair {number}"
    write_json(root / "manifest.json", rows)
    benchmark = load(root)
    assert [sample.sample_id for sample in benchmark] == ["pair_0", "pair_1", "pair_2", "pair_3"]
    assert benchmark.samples[3].extra["detailed_caption_origin"] == "A lantern."
    lines = "\n".join(json.dumps(row) for row in rows)
    (root / "manifest.jsonl").write_text(lines)
    assert only_fault(load, root) == "It holds manifest.json and manifest.jsonl: remove one."
    (root / "manifest.json").unlink()
    assert load(root).samples == benchmark.samples
    (root / "manifest.jsonl").unlink()
    write_json(root / "manifest.json", {"a": rows[0]})
    del rows[0]["id"]
    write_json(root / "manifest.json", {"a": rows[0]})
    assert list(by_id(root)) == ["a"]


def test_nothing_to_read(tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {"colour": "red"})
    fault = only_fault(load, tmp_path)
    assert fault == "It holds neither a manifest.json nor *.json files of the pipeline's steps 3 to 5."
    assert run_lengths()["counts"][0] == 4 * 12 + 4
