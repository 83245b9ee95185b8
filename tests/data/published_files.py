"""Small copies of the published data sets' folders, written by the tests."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 10)  # height, width


def picture(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(path)
    return path


def as_json(path: Path, values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def instructpix2pix(root: Path, count: int = 20) -> Path:
    for number in range(count):
        name = f"{number:07d}"
        as_json(root / name / "prompt.json", {"input": "a", "edit": f"make it {number}", "output": "b"})
        for seed in (1, 2):
            picture(root / name / f"{seed}_0.jpg", 10)
            picture(root / name / f"{seed}_1.jpg", 100 * seed)
    as_json(root / "seeds.json", [[f"{number:07d}", [1, 2]] for number in range(count)])
    return root


def rows(columns: tuple[str, str, str]) -> object:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    source, text, target = columns
    black, white = (Image.fromarray(np.full((*SIZE, 3), v, np.uint8)) for v in (0, 255))
    return Dataset.from_dict(
        {source: [black, black], text: ["make it white", "whiten it"], target: [white, white]},
        features=Features({source: ImageFeature(), text: Value("string"), target: ImageFeature()}),
    )


def magicbrush(root: Path) -> Path:
    turns = [
        {"input": "7-input.png", "mask": "7-mask1.png", "output": "7-output1.png", "instruction": "a fox"},
        {"input": "7-output1.png", "mask": "7-mask2.png", "output": "7-output2.png", "instruction": "snow"},
    ]
    for number, name in enumerate(("7-input.png", "7-output1.png", "7-output2.png")):
        picture(root / "images/7" / name, 50 * number)
    as_json(root / "edit_sessions.json", {"7": turns})
    return root


def reasonedit(root: Path) -> Path:
    picture(root / "a.png", 0)
    picture(root / "b.png", 255)
    entry = {"origin_img_path": "a.png", "target_img_path": "b.png", "instruction": ["one", "two", "three"]}
    as_json(root / "train.json", {"0000": entry, "0001": {**entry, "target_img_path": "gone.png"}})
    return root


def llava(root: Path) -> Path:
    picture(root / "train2017/1.jpg")
    talk = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A dog."},
        {"from": "human", "value": "Which colour?"},
        {"from": "gpt", "value": "Brown."},
    ]
    good = {"id": "1", "image": "1.jpg", "conversations": talk}
    broken = {"id": "2", "image": "1.jpg", "conversations": talk[::-1]}
    as_json(root / "llava_instruct_150k.json", [good, broken])
    return root


def cc12m(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    lines = ["http://a.b/1.jpg\ta dog on a sofa", "a cat\thttps://a.b/2.jpg", "no tab at all", "http://a.b/3.jpg\t"]
    (root / "cc12m.tsv").write_text("\n".join(lines) + "\n")
    return root


def coco_stuff(root: Path) -> Path:
    labels = np.full(SIZE, 255, np.uint8)
    labels[:4] = 0  # person
    labels[4:8, :5] = 2  # brick wall
    (root / "maps/train2017").mkdir(parents=True)
    Image.fromarray(labels).save(root / "maps/train2017/000001.png")
    (root / "maps/labels.txt").write_text("0: unlabeled\n1: person\n2: sky-other\n3: wall-brick\n")
    picture(root / "images/train2017/000001.jpg")
    return root


def square(left: int, top: int, side: int) -> list[int]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def refcoco(root: Path) -> Path:
    picture(root / "train2014/x.jpg")
    height, width = SIZE
    runs = [2 * height, 3, height * width - 2 * height - 3]  # three pixels of the third column
    instances = {
        "images": [{"id": 5, "file_name": "x.jpg", "height": height, "width": width}],
        "annotations": [
            {"id": 1, "segmentation": [square(1, 1, 3)]},
            {"id": 2, "segmentation": [square(6, 6, 2)]},
            {"id": 3, "segmentation": {"counts": runs, "size": list(SIZE)}},
        ],
    }
    as_json(root / "instances.json", instances)
    said = [{"sent": "left dog"}]
    refs = [
        {"ref_id": 0, "ann_id": 1, "image_id": 5, "split": "train", "sentences": said},
        {"ref_id": 1, "ann_id": 3, "image_id": 5, "split": "train", "sentences": said},
        {"ref_id": 2, "ann_id": 2, "image_id": 5, "split": "val", "sentences": said},
    ]
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root


def grefcoco(root: Path) -> Path:
    refcoco(root)
    (root / "refs(unc).p").unlink()
    ref = {"image_id": 5, "split": "train", "sentences": [{"sent": "both dogs"}]}
    refs = [
        {**ref, "ref_id": 0, "ann_id": [1, 2], "no_target": False},
        {**ref, "ref_id": 1, "ann_id": [-1], "no_target": True},
        {**ref, "ref_id": 2, "ann_id": [404], "no_target": False},
    ]
    as_json(root / "grefs(unc).json", refs)
    return root


def reasonseg(root: Path) -> Path:
    corners = [[1, 1], [6, 1], [6, 6], [1, 6]]
    hole = [[3, 3], [4, 3], [4, 4], [3, 4]]
    shapes = [{"label": "target", "points": corners}, {"label": "ignore", "points": hole}]
    for name, those in (("a", shapes), ("b", [])):
        picture(root / f"train/{name}.jpg")
        as_json(root / f"train/{name}.json", {"text": ["what barks?"], "is_sentence": True, "shapes": those})
    return root
