"""Small folders in the published layouts of MA5k-Req, MIGEBench, DreamBench, GEdit-Bench, ImgEdit-Bench and scenes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

TOKEN_PROMPTS = ["a {0} {1} in the jungle", "a red {0} {1}"]
SUBJECTS = {"backpack": ("backpack", 3), "dog": ("dog", 2), "bear_plushie": ("stuffed animal", 2)}
GEDIT_COLUMNS = (
    "task_type", "key", "instruction", "instruction_language", "input_image", "input_image_raw", "Intersection_exist",
)  # fmt: skip


def picture(path: Path, shade: int = 90, size: tuple[int, int] = (12, 8)) -> Path:
    """A small picture; the ending says its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize(size).point(lambda value: (value + shade) % 256).convert("RGB").save(path)
    return path


def picture_bytes(shade: int, kind: str = "PNG") -> bytes:
    """The same in memory."""
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (shade, 40, 200)).save(file, format=kind)
    return file.getvalue()


def write_json(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def read(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_ma5k(folder: Path, photographs: int = 2) -> Path:
    """Photographs with five targets each in the test split; one more in the training split."""
    rows = []
    for number in range(1, photographs + 1):
        picture(folder / f"images/{number:04d}_O.jpg", number)
        for shade, expert in enumerate("ABCDE"):
            picture(folder / f"images/{number:04d}_{expert}.jpg", 50 * shade + number)
            rows.append(
                {
                    "input": f"{number:04d}_O.jpg",
                    "output": f"{number:04d}_{expert}.jpg",
                    "request": f"brighten the image {expert} ",
                    "request_idx": [1, 2],
                }
            )
    write_json(folder / "annotations/test_sess_1.json", rows[::-1])
    picture(folder / "images/0009_O.jpg")
    picture(folder / "images/0009_A.jpg", 3)
    train = [{"input": "0009_O.jpg", "output": "0009_A.jpg", "request": "darken"}]
    write_json(folder / "annotations/train_sess_1.json", train)
    write_json(folder / "annotations/val_sess_1.json", rows[:1])
    return folder


def migebench_record(task: str, number: int) -> dict[str, Any]:
    """One record with the paths of the publishers' machine."""
    root = f"/path/to/MIGEBench/{task}/{task}_"
    entity = f"{root}entity/{number}_entity_black.jpg"
    source = f"{root}source/{number}_source.jpg"
    add = task == "add"
    return {
        "image": f"{root}target/{number}_target.jpg",
        "source_path": [source],
        "caption": f"{task} a signboard",
        "width": 1024,
        "height": 1024,
        "object": "a signboard",
        "multi_prompt": "Add<imagehere>to<imagehere>." if add else "replace the pencil in<imagehere>with<imagehere>",
        "target_caption": "an alley with a signboard",
        "mask_path": [f"{root}mask/{number}_mask.jpg"],
        "entity_path": [entity, source] if add else [source, entity],
        "entity_dino": "a signboard",
        "entity_path_white": [f"{root}entity/{number}_entity_white.jpg"],
        "idx": number,
        "clip_t": 0.26,
        "crop": "0",
    }


def write_migebench(folder: Path, numbers: tuple[int, ...] = (21, 3)) -> Path:
    """Records of both tasks with all their pictures."""
    for task in ("add", "replace"):
        for number in numbers:
            for place, name in (
                ("entity", "entity_black"),
                ("entity", "entity_white"),
                ("mask", "mask"),
                ("source", "source"),
                ("target", "target"),
            ):
                picture(folder / task / f"{task}_{place}/{number}_{name}.jpg", number)
        write_json(folder / f"{task}_bench.json", [migebench_record(task, number) for number in numbers])
    return folder


def dreambench_text(objects: int = 25, live: int = 25) -> str:
    """`prompts_and_classes.txt` as it is published."""
    classes = "\n".join(f"{name},{kind}" for name, (kind, _) in SUBJECTS.items())
    lists = []
    for title, number, word in (("Object Prompts", objects, "on a rug"), ("Live Subject Prompts", live, "in a hat")):
        texts = [*TOKEN_PROMPTS, *(f"a {{0}} {{1}} {word} {i}" for i in range(25))][:number]
        body = ",\n".join(f"'{text}'.format(unique_token, class_token)" for text in texts)
        lists.append(f"{title}\n\nprompt_list = [\n{body}\n]\n")
    return f"Classes\n\nsubject_name,class\n{classes}\n\nPrompts\n\n" + "\n".join(lists)


def write_dreambench(folder: Path) -> Path:
    """The repository: `dataset` with three subjects; numbers of pictures have gaps, as published."""
    for name, (_, number) in SUBJECTS.items():
        for i in range(number):
            picture(folder / f"dataset/{name}/{2 * i:02d}.jpg", 30 * i)
    (folder / "dataset/prompts_and_classes.txt").write_text(dreambench_text(), encoding="utf-8")
    return folder


def gedit_rows() -> list[dict[str, Any]]:
    """Three edits in two languages; the first two have the same picture."""
    rows = []
    for number, (group, shade) in enumerate((("text_change", 1), ("subject-add", 1), ("style_change", 9))):
        for language in ("en", "cn"):
            raw = picture_bytes(shade, "PNG" if number else "JPEG" if number == 9 else "PNG")
            rows.append(
                {
                    "task_type": group,
                    "key": f"k{number}",
                    "instruction": f"change it {number}" if language == "en" else f"换 {number}",
                    "instruction_language": language,
                    "input_image": {"bytes": raw, "path": None},
                    "input_image_raw": {"bytes": picture_bytes(shade + 1), "path": None},
                    "Intersection_exist": number == 0,
                }
            )
    return rows


def write_gedit(folder: Path, rows: list[dict[str, Any]] | None = None, kind: str = "parquet") -> Path:
    """The table, in two parquet files or one arrow stream."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(gedit_rows() if rows is None else rows)
    if kind == "arrow":
        path = folder / "data-00000-of-00001.arrow"
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
        return folder
    (folder / "data").mkdir()
    for number, part in enumerate((table.slice(0, 4), table.slice(4))):
        parquet.write_table(part, folder / f"data/train-0000{number}-of-00002.parquet")
    return folder


def imgedit_entries() -> dict[str, dict[str, str]]:
    """Entries as the repository has them, out of order."""
    return {
        "1082": {"id": "animal/000342021.jpg", "prompt": "Make the shell smooth.", "edit_type": "alter"},
        "673": {"id": "style/000278574.jpg", "prompt": "Transfer into ukiyo-e style.", "edit_type": "style"},
        "97": {"id": "daily object/000236569.jpg", "prompt": "Add a chandelier.", "edit_type": "add"},
    }


def write_imgedit(folder: Path) -> Path:
    """`Benchmark` of the archive: single turns and hard ones."""
    write_json(folder / "singleturn/singleturn.json", imgedit_entries())
    for entry in imgedit_entries().values():
        picture(folder / "singleturn" / entry["id"])
    hard = {"1": {"id": "000029784.jpg", "prompt": "Remove the lemon."}, "2": {"id": "000065904.jpg", "prompt": "Go."}}
    write_json(folder / "hard/UGE_edit.json", hard)
    for entry in hard.values():
        picture(folder / "hard" / entry["id"])
    return folder


def write_scenes(folder: Path, task: str = "editing", count: int = 3, pairs: int = 1, size: int = 32) -> Path:
    """What `insightedit eval scenes --dump` writes."""
    from insightedit.evaluation.benchmarks.scenes import dump_samples
    from insightedit.evaluation.scenes.benchmark import SceneSet

    dump_samples(folder, SceneSet(count, size, seed=5, pairs=pairs, task=task))
    return folder
