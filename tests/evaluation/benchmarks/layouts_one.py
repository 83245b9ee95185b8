"""Good small copies of published layouts: Reason-Edit, AdvancedEdit, MagicBrush, Emu Edit, EVR, GIER."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.benchmarks.base import BenchmarkError

REASON_TEXTS = {
    "1-Left-Right": "Left_Right_text.txt",
    "2-Relative-Size": "Size_text.txt",
    "3-Mirror": "Mirror_text.txt",
    "4-Color": "Color_text.txt",
    "5-Multiple-Objects": "MultipleObjects_text.txt",
    "6-Reasoning": "Reason_test.txt",
}
EMU_TASKS = ("text", "add", "remove", "color", "local", "style", "background", "global")
PLACE_HOLDER = "a train station in city"


def picture(path: Path, shade: int = 0, size: tuple[int, int] = (16, 12), mode: str = "RGB") -> Path:
    """A picture of one shade with a bright corner, in any folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (shade % 256, 90, 160))
    image.paste((250, 250, 250), (0, 0, 5, 5))
    image.convert(mode).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (16, 12)) -> Path:
    """White on black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, 0)
    image.paste(255, (4, 4, 10, 9))
    image.save(path)
    return path


def picture_with_hole(path: Path, size: tuple[int, int] = (16, 12)) -> Path:
    """A mask as MagicBrush has it: the picture, transparent where it is to be edited."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 4), 200, dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[4:9, 4:10, 3] = 0
    Image.fromarray(pixels).save(path)
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def change_json(path: Path, change: Any) -> None:
    """Read a JSON file, let `change` alter the value in place, write it back."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write_json(path, value)


def write_reason_edit(folder: Path, count: int = 2) -> Path:
    """`ReasonEdit_benckmark_dir` with `count` samples in each of six folders."""
    root = folder / "ReasonEdit_benckmark_dir"
    for number, (group, text) in enumerate(REASON_TEXTS.items()):
        lines = []
        for i in range(1, count + 1):
            picture(root / group / f"{i:03d}.png", shade=number * 40 + i)
            mask(root / group / f"{i:03d}_mask.jpg")
            lines.append(f"Turn cat {i} of {group} into a dog CLIP: dog {i}")
        (root / group / text).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def write_magicbrush(folder: Path, turns: dict[str, int] | None = None, part: str = "test") -> Path:
    """The zip's folder: sessions with so many turns each, masks with holes, both kinds of captions."""
    root = folder / part
    sessions: dict[str, Any] = {}
    captions: dict[str, dict[str, dict[str, str]]] = {"local": {}, "global": {}}
    for name, number in (turns or {"139": 3, "30": 1, "149": 2}).items():
        files = [f"{name}-input.png", *(f"{name}-output{i}.png" for i in range(1, number + 1))]
        for i, file in enumerate(files):
            picture(root / "images" / name / file, shade=int(name) + 10 * i)
        for i in range(1, number + 1):
            picture_with_hole(root / "images" / name / f"{name}-mask{i}.png")
        sessions[name] = [
            {"input": files[i - 1], "mask": f"{name}-mask{i}.png", "output": files[i], "instruction": f"do {name}.{i}"}
            for i in range(1, number + 1)
        ]
        captions["local"][name] = {file: f"local {file}" for file in files[1:]}
        captions["global"][name] = {file: f"global {file}" for file in files}
    write_json(root / "edit_sessions.json", sessions)
    for kind, table in captions.items():
        write_json(root / f"{kind}_descriptions.json", table)
    return root


def emu_rows(count: int = 20, split: str = "test", equal_every: int = 5) -> list[dict[str, Any]]:
    """Rows of the Emu Edit test set; every `equal_every`-th has place-holder captions."""
    rows = []
    for i in range(count):
        is_equal = i % equal_every == 0
        rows.append(
            {
                "instruction": f" Make thing {i} green",
                "image": f"/path/to/emuedit_test_set/{i}.jpg",
                "task": EMU_TASKS[i % len(EMU_TASKS)],
                "split": split,
                "idx": i,
                "hash": f"picture{i // 2}_instruction{i}",
                "input_caption": PLACE_HOLDER if is_equal else f"thing {i}",
                "output_caption": PLACE_HOLDER if is_equal else f"green thing {i}",
            }
        )
    return rows


def write_emu_json(folder: Path, count: int = 20, split: str = "test") -> Path:
    """Rows as MIGE's repository has them, pictures in data/."""
    for i in range(count):
        picture(folder / "data" / f"{i}.jpg", shade=i * 10)
    write_json(folder / f"{split}.json", emu_rows(count, split))
    return folder


def write_emu_parquet(
    folder: Path, rows: dict[str, list[dict[str, Any]]], *, real: int | None = None, results: bool = False
) -> Path:
    """The hub's files, one for each split; rows after the first `real` share one small picture."""
    import pyarrow
    import pyarrow.parquet as parquet

    (folder / "data").mkdir(parents=True, exist_ok=True)
    pool = [picture(folder.parent / "pool" / f"{i}.png", shade=i * 30).read_bytes() for i in range(4)]
    for split, table in rows.items():
        made = []
        for i, row in enumerate(table):
            raw = pool[i % 4] if real is None or i < real else pool[0]
            extra = {"edited_image": {"bytes": pool[3], "path": None}, "model": "emu_edit"} if results else {}
            made.append({**row, "image": {"bytes": raw, "path": None}, **extra})
        path = folder / "data" / f"{split}-00000-of-00001-64edd860175df28a.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(made), path)
    return folder


def write_evr(folder: Path, split: str = "test") -> Path:
    """Three pairs of two photos, one of them a GIF; the first two are the same pair described by others."""
    rows = []
    for i, (photo, ending) in enumerate((("4wfxf2", "jpg"), ("4wfxf2", "jpg"), ("46op9g", "gif"))):
        before, after = f"Reddit.com_{photo}_{photo}.{ending}", f"Reddit.com_{photo}_d66nm3m.{ending}"
        for j, name in enumerate((before, after)):
            picture(folder / "images" / name, shade=20 * j, mode="P" if ending == "gif" else "RGB")
        sents = [f"remove the people {i}", "Remove them ", "delete people"]
        rows.append({"img0": before, "img1": after, "sents": sents, "uid": f"Reddit_{1000 + i}"})
    write_json(folder / f"{split}.json", rows)
    return folder


def write_gier(folder: Path, split: str = "test") -> Path:
    """Three pairs: two with both kinds of requests, one with amateurs' only."""
    rows = []
    for i, photo in enumerate(("2l7rum", "3t13w2", "6c8env")):
        before, after = f"{photo}_{photo}.jpg", f"{photo}_out{i}.jpg"
        picture(folder / "images" / before, shade=i)
        picture(folder / "images" / after, shade=100 + i)
        operator = {"brightness": {"local": False, "ids": []}, "inpaint_obj": {"local": i == 2, "ids": []}}
        rows.append(
            {
                "input": before.replace("_", "/"),
                "output": after,
                "request": "Please help",
                "detailed_request": float("nan"),
                "operator": operator,
                "expert_summary": [] if i == 1 else [f"increase brightness {i}"],
                "amateur_summary": [f"Brighten {i}", f"increase brightness {i}"],
            }
        )
    write_json(folder / "splits" / f"{split}_sess_3.json", rows)
    return folder


def run_lengths(size: tuple[int, int] = (16, 12), box: tuple[int, int, int, int] = (4, 4, 6, 5)) -> dict[str, Any]:
    """A box [x, y, w, h] as COCO's run lengths, column after column."""
    region = np.zeros((size[1], size[0]), dtype=np.uint8)
    region[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    flat = region.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": [size[1], size[0]], "counts": runs[runs > 0].tolist()}


def write_advancededit(folder: Path, *, step: str = "3_editing_pair_construction", reasoning: bool = False) -> Path:
    """One photo with a removal, its swapped addition, a replacement and its swap, as the pipeline writes them."""
    picture(folder / "photos" / "77.jpg", shade=77)
    pairs = {"remove_add": "77_0_blue_teapot.png", "replace": "77_2_teapot_to_lantern.png"}
    shared = {"bbox": [4, 4, 6, 5], "segmentation": run_lengths(), "img_caption": "A window in the morning."}
    for kind, made in pairs.items():
        picture(folder / step / kind / "target_imgs" / made, shade=5)
        there = {"origin_img_path": "/their/machine/77.jpg", "target_img_path": f"/their/machine/{made}"}
        back = {"origin_img_path": f"/their/machine/{made}", "target_img_path": "/their/machine/77.jpg"}
        if kind == "remove_add":
            forth = {"task_type": "remove", "class_origin": "blue_teapot", "class_target": ""}
            swap = {"task_type": "add", "class_origin": "", "class_target": "blue_teapot"}
        else:
            forth = {"task_type": "replace", "class_origin": "teapot", "class_target": "brass_lantern"}
            swap = {"task_type": "replace", "class_origin": "brass_lantern", "class_target": "teapot"}
            captions = {"detailed_caption_origin": "A teapot.", "detailed_caption_target": "A lantern."}
            forth, swap = {**forth, **captions}, {**swap, **captions}  # kept: the published fault
        table = {
            "0": {**shared, **there, **forth, "instruction": [f"first {kind}", "in other words"]},
            "1": {**shared, **back, **swap, "instruction": [f"back {kind}"]},
        }
        if reasoning:
            for key, row in table.items():
                row["reasoning_instruction1"] = f"What holds tea in {key}? Change it."
        write_json(folder / step / kind / "json_file" / "77.json", table)
    return folder


def faults_of(load: Any, folder: Path, split: str | None = None) -> tuple[str, ...]:
    """What a loader finds wrong; each fault has to be one sentence."""
    with pytest.raises(BenchmarkError) as caught:
        load(folder, split=split)
    for fault in caught.value.faults:
        assert fault.endswith(".") and ". " not in fault.replace(" ... ", " "), fault
    return caught.value.faults


def only_fault(load: Any, folder: Path, split: str | None = None) -> str:
    """The one fault that there is."""
    found = faults_of(load, folder, split)
    assert len(found) == 1, found
    return found[0]
