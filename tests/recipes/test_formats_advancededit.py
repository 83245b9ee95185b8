"""AdvancedEdit's JSON: what was published is read with its faults, and what we write comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_recipes.formats.advancededit import write_advancededit
from data_recipes.runner.records import ObjectAnnotation, Record
from insightedit.datasets.segmentation import decode_mask, encode_mask
from tests.recipes.format_files import assert_same, dump, edited, noise, opened, records, rejected, same, save

OBJECTS = "1_caption_object_extraction/1_2_object_extraction"
CAPTION = "1_caption_object_extraction/1_1_recaption"
PAIRS = "3_editing_pair_construction"
# what COCO's own tools write for a box of 10 x 10 at (10, 10) in 25 x 25 pixels
BOX = {"size": [25, 25], "counts": "T8:?00000000000000000c3"}
# and for a drawing of 50 x 70 pixels
DRAWING = {
    "size": [50, 70],
    "counts": "0g05b08J4M2N2NA^O1`0OCO=0E090H080IO68DH;>@C>a0_O_O`0j0OWOF<:CM72I24NL43JM92FN;1ENKO72L0LO91J0MO92INO0NO1"
    "22OO0M031O000NO31OO11MO40N011MO41MO21L06OL021L06OL021L06OL021L060J040L060J040L060J040L060J040L060J040L060J040L0"
    "60KO31L060KO31L06OL021L06OL021L06OL021MO41MO21MO40N100NO310O00M0310O00NO1220NO92IONO91KOMO72M0<1EO:2GN63KM34OLM73"
    "JF<;=1G_O_Ob0=AC`07EH=1IO71H090F0:1DO>1_O1b0>2N2N3L6H]O",
}


def test_run_lengths_are_cocos():
    box = np.zeros((25, 25), bool)
    box[10:20, 10:20] = True
    assert encode_mask(box) == BOX
    assert np.array_equal(decode_mask(BOX), box)
    drawing = decode_mask(DRAWING)
    assert drawing.shape == (50, 70)
    assert encode_mask(drawing) == DRAWING


@pytest.mark.parametrize("seed", range(6))
def test_any_mask_comes_back(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 70)))) < rng.random()
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)
    assert not decode_mask(encode_mask(np.zeros((3, 4), bool))).any()
    assert decode_mask(encode_mask(np.ones((3, 4), bool))).all()


def pair(photo: str, task: str, source: np.ndarray, target: np.ndarray, mask: np.ndarray, **more: object) -> Record:
    one, other = {"remove": ("red ball", ""), "add": ("", "red ball")}.get(task, ("red ball", "blue cup"))
    fields = {
        "class_origin": one,
        "class_target": other,
        "detailed_origin": f"A detailed {one}." if one else "",
        "detailed_target": f"A detailed {other}." if other else "",
        "instructions": {"template": (f"{task} it",), "simple": (f"please {task} it", "once more")},
        **more,
    }
    return Record(f"{photo}/{task}", task=task, source=source, target=target, mask=mask, caption="A room.", **fields)


@pytest.fixture
def run() -> list[Record]:
    made = []
    for number in range(2):
        photo = noise(number)
        without, mask = edited(photo, 7)
        other, _ = edited(photo, 8)
        name = f"77{number}"
        made += [pair(name, "remove", photo, without, mask), pair(name, "add", without, photo, mask)]
        reasoning = {"reasoning": ("What rolls? Replace it.", "Find what is round."), "template": ("swap it",)}
        scores = {"instruction_follow": 4.0, "non_overedit": 5.0, "naturalness": 3.0, "mine": 0.5}
        made.append(pair(name, "replace", photo, other, mask, instructions=reasoning, scores=scores))
        swapped = {"class_origin": "blue cup", "class_target": "red ball"}
        swapped |= {"detailed_origin": "A detailed blue cup.", "detailed_target": "A detailed red ball."}
        made.append(pair(name, "replace", other, photo, mask, **swapped))
    return made


def test_pairs_come_back_from_the_steps_files(tmp_path, run):
    assert write_advancededit(run, tmp_path / "out") == 8
    found = records(opened("advancededit", tmp_path / "out"))
    fields = "task source target mask class_origin class_target detailed_origin detailed_target caption"
    assert_same(found, run, f"{fields} scores instructions")
    assert [one.key for one in found[:4]] == [
        "770/remove_add-0", "770/remove_add-1", "770/replace-0", "770/replace-1",
    ]  # fmt: skip


def test_files_are_named_and_numbered_as_published(tmp_path, run):
    write_advancededit(run, tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert f"{PAIRS}/remove_add/target_imgs/770_0_red_ball.png" in names
    assert f"{PAIRS}/replace/target_imgs/770_0_red_ball_to_blue_cup.png" in names
    assert {"4_instruction_recaption/replace/770.json", "5_quality_evaluation/replace/770.json"} <= names
    table = json.loads((tmp_path / f"{PAIRS}/remove_add/json_file/770.json").read_text())
    assert list(table) == ["0", "1"]
    published = {
        "target_img_path",
        "origin_img_path",
        "mask_json_path",
        "instruction",
        "task_type",
        "detailed_caption",
    }
    assert published | {"img_caption", "class_origin", "class_target", "bbox", "segmentation"} <= set(table["0"])
    assert table["0"]["bbox"] == [6, 4, 7, 6]
    assert table["0"]["class_origin"] == "red_ball"
    assert (table["1"]["task_type"], table["1"]["class_origin"]) == ("add", "")
    third = json.loads((tmp_path / f"{PAIRS}/replace/json_file/770.json").read_text())["0"]
    fifth = json.loads((tmp_path / "5_quality_evaluation/replace/770.json").read_text())["0"]
    assert "reasoning_instruction1" not in third
    assert fifth["reasoning_instruction2"] == "Find what is round."
    assert fifth["qwen_VIE_SC"] == {"instruction_follow": 4.0, "non_overedit": 5.0, "reasoning": ""}


def test_the_benchmarks_loader_reads_what_is_written(tmp_path, run):
    from insightedit.evaluation.benchmarks.registry import load_benchmark

    write_advancededit(run, tmp_path / "out")
    assert len(load_benchmark("advancededit", tmp_path / "out")) == 8


def test_a_rejected_partner_leaves_a_gap(tmp_path, run):
    write_advancededit([run[1], *run[4:6]], tmp_path)
    tables = [json.loads((tmp_path / f"{PAIRS}/remove_add/json_file/77{n}.json").read_text()) for n in (0, 1)]
    assert [list(table) for table in tables] == [["1"], ["0", "1"]]


def test_photos_come_back_with_what_was_found_in_them(tmp_path):
    photo = noise(3)
    mask = edited(photo)[1]
    thing = ObjectAnnotation("blue cup", "a cup", "A blue cup on a table.", (6.0, 4.0, 13.0, 10.0), mask, 0.75)
    record = Record("5", image=photo, caption="A table.", things=(thing, ObjectAnnotation("table", "the table")))
    write_advancededit([record], tmp_path)
    (found,) = records(opened("advancededit", tmp_path))
    assert (found.key, found.caption) == ("5", "A table.")
    assert same(found.image, photo)
    assert len(found.things) == 1
    assert same(found.things[0].mask, mask)
    assert found.things[0].box == thing.box
    assert (found.things[0].name, found.things[0].caption, found.things[0].score) == ("blue cup", "a cup", 0.75)
    for file in (tmp_path / "2_mask_generation").iterdir():
        file.unlink()
    (found,) = records(opened("advancededit", tmp_path))
    assert [one.name for one in found.things] == ["blue cup", "table"]


def test_a_larger_photo_has_its_boxes_brought_along(tmp_path):
    annotation = {"class_name": "red_ball", "bbox": [20, 10, 40, 30], "score": [0.5]}
    told = {"image_path": "", "annotations": [annotation], "img_width": 80, "img_height": 60}
    dump(tmp_path / "2_mask_generation/9.json", told)
    save(tmp_path / "9.png", noise(0, (60, 80)))
    (found,) = records(opened("advancededit", tmp_path, max_side=40))
    assert found.things[0].box == (10, 5, 20, 15)


def test_the_published_caption_that_is_no_json_is_told_in_a_sentence(tmp_path):
    dump(tmp_path / CAPTION / "1543.json", '{"caption": "A "quoted" word",}')
    save(tmp_path / "1543.png", noise(0))
    reason, detail = rejected(opened("advancededit", tmp_path))
    assert reason == "file is not valid JSON"
    assert detail.startswith("1543.json: ")
    dump(tmp_path / OBJECTS / "1543.json", {"object_list": [], "img_caption": "A room."})
    assert records(opened("advancededit", tmp_path))[0].caption == "A room."


def published(root, **changes: object) -> dict:
    """Two swapped replacements and a removal as the released sample has them: blank and foreign paths."""
    photo = save(root / "images/1543.jpg", noise(0, (40, 48)))
    folder = root / PAIRS
    save(folder / "replace/target_imgs/1543_2_teapot_to_lantern.png", noise(1))
    save(folder / "remove_add/target_imgs/1543_2_teapot.png", noise(2))
    forward = {
        "origin_img_path": "", "target_img_path": "", "task_type": "replace", "class_origin": "teapot",
        "class_target": "lantern", "detailed_caption_origin": "A teapot.", "detailed_caption_target": "A lantern.",
        "instruction": ["change the teapot to lantern", "swap them"], **changes,
    }  # fmt: skip
    swapped = {**forward, "class_origin": "lantern", "class_target": "teapot"}
    dump(folder / "replace/json_file/1543.json", {"0": forward, "1": swapped})
    removal = {"task_type": "remove", "class_origin": "teapot", "class_target": "", "instruction": ["remove it"]}
    removal |= {"origin_img_path": f"/author/{photo.name}", "target_img_path": "/author/x/1543_2_teapot.png"}
    dump(folder / "remove_add/json_file/1543.json", {"0": removal})
    return forward


def test_blank_and_foreign_paths_are_found_by_name(tmp_path):
    published(tmp_path)
    removal, forward, swapped = records(opened("advancededit", tmp_path))
    assert removal.key == "1543/remove_add-0"
    assert same(removal.target, noise(2))
    assert removal.source.shape == noise(0).shape  # brought to the size of what was made of it
    assert same(forward.target, noise(1))
    assert same(swapped.source, noise(1))
    assert forward.instructions == {"template": ("change the teapot to lantern",), "simple": ("swap them",)}


def test_swapped_pairs_with_the_forward_pairs_captions_get_their_own(tmp_path):
    published(tmp_path)
    _, forward, swapped = records(opened("advancededit", tmp_path))
    assert (forward.detailed_origin, forward.detailed_target) == ("A teapot.", "A lantern.")
    assert (swapped.detailed_origin, swapped.detailed_target) == ("A lantern.", "A teapot.")
    assert swapped.notes == {"corrected": "the captions were those of the forward pair"}
    assert not forward.notes


def test_later_steps_count_and_failed_judges_are_named(tmp_path):
    forward = published(tmp_path)
    judged = {**forward, "qwen_VIE_SC": None, "qwen_VIE_PQ": {"naturalness": 3, "no_artifacts": 4, "reasoning": "ok"}}
    dump(tmp_path / "5_quality_evaluation/replace/1543.json", {"0": judged})
    _, found = records(opened("advancededit", tmp_path))
    assert found.scores == {"naturalness": 3.0, "no_artifacts": 4.0}
    assert found.notes == {"judge_failed": ["qwen_VIE_SC"], "qwen_VIE_PQ reasoning": "ok"}


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"task_type": "paint"}, "record is incomplete", "`task_type` is 'paint': it has to be one of remove, add"),
        ({"instruction": ["  "]}, "instruction is empty", "`instruction` is"),
        ({"segmentation": {"size": [2, 2], "counts": "99"}}, "mask cannot be read", "not COCO's run lengths"),
        ({"class_origin": "kettle"}, "file is missing", "its path is blank, and 0 pictures are called 1543_\\*_kettle"),
        ({"origin_img_path": "gone.jpg"}, "file is missing", "gone.jpg"),
    ],
)  # fmt: skip
def test_faulty_entries_are_told(tmp_path, changes, reason, detail):
    import re

    published(tmp_path, **changes)
    found = rejected(opened("advancededit", tmp_path), 1)
    assert found[0] == reason
    assert re.search(detail, found[1])


def test_other_folders_and_records_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="holds no JSON of AdvancedEdit's steps: name the folder with 1_caption"
    ):
        opened("advancededit", tmp_path)
    photo = noise(0)
    target, mask = edited(photo)
    recolour = Record("1/a", task="recolour", source=photo, target=target, mask=mask, instructions={"simple": ("x",)})
    with pytest.raises(
        ValueError, match="1/a is of the task 'recolour': AdvancedEdit's files hold remove, add, replace"
    ):
        write_advancededit([recolour], tmp_path)
    apart = [pair(name, "remove", photo, target, mask) for name in ("1", "2", "1")]
    with pytest.raises(ValueError, match="the records of 1 do not stand together: sort them by key"):
        write_advancededit(apart, tmp_path)


def test_files_of_another_shape_are_told(tmp_path):
    save(tmp_path / "9.png", noise(0))
    dump(
        tmp_path / "2_mask_generation/9.json", {"image_path": "9.png", "annotations": [{"class_name": "a", "bbox": 1}]}
    )
    reason, detail = rejected(opened("advancededit", tmp_path))
    assert (reason, detail) == ("record is incomplete", "the box of a is 1: it has to be [left, top, right, bottom]")
    dump(tmp_path / "2_mask_generation/9.json", [1, 2])
    assert rejected(opened("advancededit", tmp_path))[0] == "record is incomplete"
    dump(tmp_path / PAIRS / "replace/json_file/9.json", [1])
    reason, detail = rejected(opened("advancededit", tmp_path))
    assert (reason, detail) == ("record is incomplete", "9.json holds a list in place of numbered entries")
    dump(tmp_path / PAIRS / "replace/json_file/9.json", "{broken")
    assert rejected(opened("advancededit", tmp_path))[0] == "file is not valid JSON"
