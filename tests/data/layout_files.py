"""Sets of pairs in every layout that is read, with a fault in some of their records; written by the tests."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 24


@dataclass(frozen=True)
class Row:
    """One record as it is to be written; `None` is left out or null, and what is no picture is written as it is."""

    name: str
    source: bytes | str | None
    target: bytes | str | None
    words: Any


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, seed: int = 0) -> Row:
    one = 1000 * seed + 2 * number
    return Row(f"photo {number}", png(one), png(one + 1), f"do it {number}")


# what is wrong with a record; all of them make it useless
FAULTS: dict[str, Callable[[Row], Row]] = {
    "source is damaged": lambda one: replace(one, source=bytes(one.source)[: len(bytes(one.source)) // 2]),
    "target is a web page": lambda one: replace(one, target=b"<html>not found</html>"),
    "target is empty": lambda one: replace(one, target=b""),
    "source is missing": lambda one: replace(one, source="gone.png"),
    "target is missing": lambda one: replace(one, target="deep/gone.png"),
    "target is null": lambda one: replace(one, target=None),
    "source is null": lambda one: replace(one, source=None),
    "no words": lambda one: replace(one, words="  "),
    "words are null": lambda one: replace(one, words=None),
    "source leads out": lambda one: replace(one, source="../outside.png"),
    "target leads out": lambda one: replace(one, target="{root}/../outside.png"),
    "target is a folder": lambda one: replace(one, target="pics"),
    "target is a pipe": lambda one: replace(one, target="pipe.png"),
    "placeholders without pictures": lambda one: replace(one, words="put <imagehere> there"),
}


def write_set(layout: str, root: Path, rows: list[Row]) -> None:
    """Write rows below `root`; beside it lies `outside.png`, in it a pipe."""
    root.mkdir(parents=True)
    (root.parent / "outside.png").write_bytes(png(1))
    os.mkfifo(root / "pipe.png")
    absolute = [
        replace(one, **{
            role: value.replace("{root}", str(root)) for role in ("source", "target")
            if isinstance(value := getattr(one, role), str)
        })
        for one in rows
    ]  # fmt: skip
    LAYOUTS[layout][0](root, absolute)


def saved(root: Path, name: str, content: bytes | str | None) -> str | None:
    """Path of a picture's file below `root`, as files name it."""
    if not isinstance(content, bytes):
        return content
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return name


def _plain(root: Path, rows: list[Row], names: tuple[str, str, str], folder: str = "pics/") -> list[dict[str, Any]]:
    return [
        {
            names[0]: saved(root, f"{folder}{one.name} a.png", one.source),
            names[1]: saved(root, f"{folder}{one.name} b.png", one.target),
            names[2]: one.words,
        }
        for one in rows
    ]


def _jsonl(root: Path, rows: list[Row], file: str = "train.jsonl") -> None:
    table = _plain(root, rows, ("before", "edited_image", "edit_prompt"))
    lines = [json.dumps(one) for one in table]
    (root / file).write_text("\n\n".join(lines).replace("pics/", "pics\\\\"), encoding="utf-8-sig")


def _csv(root: Path, rows: list[Row], file: str = "train-0.csv") -> None:
    table = _plain(root, rows, ("Source Image", "target_file_name", "instruction"), "" if "meta" in file else "pics/")
    with (root / file).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(table[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(table)


def _struct(content: bytes | str | None) -> dict[str, Any] | None:
    if content is None:
        return None
    return {"bytes": content, "path": "a.png"} if isinstance(content, bytes) else {"bytes": None, "path": content}


def _parquet(root: Path, rows: list[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    schema = pyarrow.schema([("source_img", picture), ("target_img", picture), ("instruction", pyarrow.string())])
    table = [
        {"source_img": _struct(one.source), "target_img": _struct(one.target), "instruction": one.words}
        for one in rows
    ]
    (root / "data").mkdir()
    file = root / "data/train-00000-of-00001-abc.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(table, schema), file, row_group_size=2)


def _arrow(root: Path, rows: list[Row]) -> None:
    """What `Dataset.save_to_disk` leaves; the library itself refuses such folders, and paths of files that are gone."""
    import pyarrow

    picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    schema = pyarrow.schema([("source", picture), ("target", picture), ("edit", pyarrow.string())])
    table = [{"source": _struct(one.source), "target": _struct(one.target), "edit": one.words} for one in rows]
    with pyarrow.OSFile(str(root / "data.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
        for begin in (0, 2):
            writer.write_table(pyarrow.Table.from_pylist(table[begin : begin + 2], schema))
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))


def _tar(root: Path, rows: list[Row]) -> None:
    members = []
    for one in rows:
        members += [(f"{one.name} v1.2.target.PNG", one.target), (f"{one.name} v1.2.source.jpeg", one.source)]
        members += [(f"{one.name} v1.2.txt", None if one.words is None else one.words.encode())]
    with tarfile.open(root / "train-000000.tar", "w") as archive:
        for name, content in sorted(members, key=lambda member: member[0].rpartition(".")[2]):
            if content is not None:
                info = tarfile.TarInfo(name)
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                    content = b""
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def _folders(root: Path, rows: list[Row]) -> None:
    for one in rows:
        for role, content in (("source", one.source), ("target", one.target)):
            place = root / role / f"{one.name}.png"
            place.parent.mkdir(exist_ok=True)
            if isinstance(content, str):
                place.symlink_to(root / "nowhere.png")
            elif content is not None:
                place.write_bytes(content)
        if one.words is not None:
            (root / f"{one.name}.txt").write_text(one.words)


def _magicbrush(root: Path, rows: list[Row]) -> None:
    sessions = {
        one.name: [
            {
                "input": saved(root / "images" / one.name, "a.png", one.source),
                "output": saved(root / "images" / one.name, "b.png", one.target),
                "instruction": one.words,
            }
        ]
        for one in rows
    }
    (root / "edit_sessions.json").write_text(json.dumps(sessions))


def _instructpix2pix(root: Path, rows: list[Row]) -> None:
    for one in rows:
        folder = root / one.name
        folder.mkdir()
        (folder / "prompt.json").write_text(json.dumps({"input": "a", "edit": one.words, "output": "b"}))
        for number, content in enumerate((one.source, one.target)):
            if isinstance(content, bytes):
                (folder / f"7_{number}.jpg").write_bytes(content)
    (root / "seeds.json").write_text(json.dumps([[one.name, ["7"]] for one in rows]))


def _entries(root: Path, rows: list[Row]) -> dict[str, Any]:
    table = _plain(root, rows, ("origin_img_path", "target_img_path", "instruction"))
    for one in table:
        one |= {"instruction": [one["instruction"]], "task_type": "remove", "class_origin": "ball"}
    return {f"{number:04d}": one for number, one in enumerate(table)}


def _reasonedit(root: Path, rows: list[Row]) -> None:
    (root / "train.json").write_text(json.dumps(_entries(root, rows)))


def _advancededit(root: Path, rows: list[Row]) -> None:
    for number, one in enumerate(_entries(root, rows).values()):
        file = root / f"3_editing_pair_construction/remove_add/json_file/{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"0": one}))


def _mige(root: Path, rows: list[Row]) -> None:
    table = _plain(root, rows, ("source_path", "image", "multi_prompt"))
    for one in table:
        words, source = one["multi_prompt"], one["source_path"]
        one["multi_prompt"] = f"{words} in <imagehere>" if words and words.strip() else words
        one |= {"source_path": [source] if source else [], "entity_path": [source] if source else []}
    (root / "train.json").write_text(json.dumps(table))


# layout -> (writer, kind)
LAYOUTS: dict[str, tuple[Callable[[Path, list[Row]], None], str]] = {
    "jsonl": (_jsonl, "jsonl"),
    "csv": (_csv, "csv"),
    "imagefolder, csv": (lambda root, rows: _csv(root, rows, "metadata.csv"), "imagefolder"),
    "imagefolder, jsonl": (lambda root, rows: _jsonl(root, rows, "metadata.jsonl"), "imagefolder"),
    "parquet": (_parquet, "parquet"),
    "hub snapshot": (_parquet, "magicbrush"),
    "arrow": (_arrow, "arrow"),
    "webdataset": (_tar, "webdataset"),
    "folders": (_folders, "folders"),
    "magicbrush": (_magicbrush, "magicbrush"),
    "instructpix2pix": (_instructpix2pix, "instructpix2pix"),
    "reasonedit": (_reasonedit, "reasonedit"),
    "advancededit": (_advancededit, "advancededit"),
    "mige": (_mige, "mige"),
}
