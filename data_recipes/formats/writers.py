"""Writes pairs as MagicBrush, InstructPix2Pix, MIGE, JSON lines and folders, as `insightedit.datasets` reads them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.formats.shards import png
from data_recipes.runner.records import Record
from insightedit.datasets.layouts import SEEDS, SESSIONS
from insightedit.datasets.reading import unique_keys

MIGE = "mige.json"
QUALITY = 95  # of InstructPix2Pix's pictures, which are JPEG


def write_magicbrush(records: Iterable[Record], out: Path) -> int:
    """Write `edit_sessions.json`, the captions, and `images/SESSION/`; a mask is a hole in its source, as published.

    Records that stand together, whose key is equal up to `/` and each of which starts where the one before ended, are
    the turns of one session; all others are sessions of one turn. Of several wordings the first is written. As every
    writer here it takes a new or empty folder and pairs, refuses others, and gives how many were written.
    """
    count, used, sessions = 0, Counter[str](), list[str]()
    captions: dict[str, dict[str, dict[str, str]]] = {"global": {}, "local": {}}
    for session in _sessions(_edits(records, "MagicBrush")):
        plain = session[0].key.split("/")[0]
        used[plain] += 1
        name = unique_keys([plain])[0] + (f"-{used[plain]}" if used[plain] > 1 else "")
        folder, given = out / "images" / name, f"{name}-input.png"
        save_png(session[0].source, folder, given)
        told: dict[str, dict[str, str]] = {"global": {given: session[0].caption}, "local": {}}
        turns = []
        for number, record in enumerate(session, 1):
            made = save_png(record.target, folder, f"{name}-output{number}.png")
            turns.append({"input": given, "output": made, "instruction": record.wordings[0]})
            if record.mask is not None:
                hole = np.dstack([record.source, np.where(record.mask, 0, 255).astype(np.uint8)])
                turns[-1]["mask"] = save_png(hole, folder, f"{name}-mask{number}.png")
            for kind, note in (("global", "caption_target"), ("local", "local_description")):
                told[kind][made] = str(record.notes.get(note, ""))
            given = made
        for kind, texts in told.items():
            captions[kind][name] = {file: text for file, text in texts.items() if text}
        sessions.append(f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(turns, ensure_ascii=False)}")
        count += len(session)
    _write_entries(out / SESSIONS, "{}", sessions)
    for kind, table in captions.items():
        if any(table.values()):
            write_json(out / f"{kind}_descriptions.json", table)
    return count


def _sessions(records: Iterable[Record]) -> Iterator[list[Record]]:
    session: list[Record] = []
    for record in records:
        follows = bool(session) and session[-1].key.split("/")[0] == record.key.split("/")[0]
        if session and not (follows and np.array_equal(session[-1].target, record.source)):  # type: ignore[arg-type]
            yield session
            session = []
        session.append(record)
    if session:
        yield session


def write_instructpix2pix(records: Iterable[Record], out: Path) -> int:
    """Write `seeds.json` and for each pair a folder with `prompt.json`, `0_0.jpg` and `0_1.jpg`.

    Pictures are JPEG, as published, so they come back nearly but not exactly; masks have no place.
    """
    out.mkdir(parents=True, exist_ok=True)
    listed = []
    for record in _edits(records, "InstructPix2Pix"):
        name = record.key.replace("/", "-")
        prompt = {"input": record.caption, "edit": record.wordings[0]}
        prompt["output"] = str(record.notes.get("caption_target", ""))
        write_json(out / name / "prompt.json", prompt)
        for number, picture in enumerate((record.source, record.target)):
            Image.fromarray(picture).save(out / name / f"0_{number}.jpg", quality=QUALITY, subsampling=0)
        listed.append([name, ["0"]])
    write_json(out / SEEDS, listed)
    return len(listed)


def write_jsonl(records: Iterable[Record], out: Path) -> int:
    """Write `train.jsonl` with one row a pair, all its wordings and masks, and the pictures beside it."""
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with (out / "train.jsonl").open("w", encoding="utf-8") as file:
        for name, record in _named(records):
            row: dict[str, Any] = {"key": record.key, "task": record.task, "instruction": list(record.wordings)}
            row["instructions"] = {kind: list(texts) for kind, texts in record.instructions.items()}
            for role in ("source", "target", "mask"):
                if (picture := getattr(record, role)) is not None:
                    row[role] = save_png(picture, out, f"{role}/{name}.png")
            if record.references:
                pictures = enumerate(record.references)
                row["references"] = [save_png(one, out, f"references/{name}-{n}.png") for n, one in pictures]
            for field in ("class_origin", "class_target", "detailed_origin", "detailed_target"):
                row |= {field: getattr(record, field)} if getattr(record, field) else {}
            row |= {"caption_source": record.caption} if record.caption else {}
            row |= {"scores": dict(record.scores)} if record.scores else {}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_ai_toolkit(records: Iterable[Record], out: Path) -> int:
    """Write `target/`, `control/`, and where there are any `mask/`, `control_2/` ...; of wordings the first."""
    count = 0
    for name, record in _named(records):
        pictures = {"target": record.target, "control": record.source, "mask": record.mask}
        pictures |= {f"control_{number}": one for number, one in enumerate(record.references, 2)}
        for folder, picture in pictures.items():
            if picture is not None:
                save_png(picture, out, f"{folder}/{name}.png")
        (out / "target" / f"{name}.txt").write_text(record.wordings[0] + "\n", encoding="utf-8")
        count += 1
    return count


def write_mige(records: Iterable[Record], out: Path) -> int:
    """Write pictures and `mige.json`; the source gets its own placeholder, as MIGE's data preparation does."""
    from insightedit.comprehension.prompts import place_source

    entries = []
    for name, record in _named(records):
        assert record.target is not None
        instruction = record.wordings[0]
        entities = [save_png(one, out, f"entity/{name}_{n}.png") for n, one in enumerate(record.references)]
        entry: dict[str, Any] = {"key": name, "task": record.task}
        entry["image"] = save_png(record.target, out, f"target/{name}.png")
        entry["height"], entry["width"] = record.target.shape[:2]
        prompt = instruction
        if record.source is not None:
            prompt, place = place_source(instruction)
            source = save_png(record.source, out, f"source/{name}.png")
            entities.insert(place, source)
            entry |= {"source_path": [source], "instruction": instruction}
        if record.mask is not None:
            entry["mask_path"] = save_png(record.mask, out, f"mask/{name}.png")
        entry |= {"entity_path": entities, "multi_prompt": prompt, "source_caption": record.caption}
        if record.notes.get("caption_target"):
            entry["target_caption"] = record.notes["caption_target"]
        entries.append(json.dumps(entry, ensure_ascii=False))
    _write_entries(out / MIGE, "[]", entries)
    return len(entries)


def _edits(records: Iterable[Record], layout: str) -> Iterator[Record]:
    """The records, each looked at: a pair of a source by words."""
    for _, record in _named(records):
        if record.source is None or record.references:
            raise ValueError(
                f"{record.key} has {'no source' if record.source is None else 'reference pictures'}: {layout} holds "
                "edits of a source by words; write mige, ai_toolkit or jsonl."
            )
        yield record


def _named(records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
    """(file name, record) of pairs, each looked at."""
    for record in records:
        record.check()
        yield record.key.replace("/", "-"), record


def _write_entries(path: Path, brackets: str, entries: Iterable[str]) -> None:
    """Write a JSON list or object, an entry a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{brackets[0]}\n" + ",\n".join(entries) + f"\n{brackets[1]}\n", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, and the folders around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def save_png(picture: Any, out: Path, name: str) -> str:
    """Write (H, W, C) uint8, or an (H, W) bool mask, as PNG below a folder; gives its name."""
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture))
    return name
