"""Writes pairs as MagicBrush, InstructPix2Pix, JSON lines and folders side by side, as `insightedit.datasets` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.runner.records import Record
from insightedit.datasets.layouts import SEEDS, SESSIONS
from insightedit.datasets.reading import unique_keys

QUALITY = 95  # of InstructPix2Pix's pictures, which are JPEG


def write_magicbrush(records: Iterable[Record], out: Path) -> int:
    """Write `edit_sessions.json`, the captions, and `images/SESSION/`; a mask is a hole in its source, as published.

    Records that stand together, whose key is equal up to `/` and each of which starts where the one before ended, are
    the turns of one session; all others are sessions of one turn. Of several wordings the first is written.

    Args:
        records: pairs of a source by words.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no such pair.
    """
    count, used = 0, dict[str, int]()
    local: dict[str, dict[str, str]] = {}
    globally: dict[str, dict[str, str]] = {}
    with _json_object(out / SESSIONS) as put:
        for session in _sessions(_edits(records, "MagicBrush")):
            plain = session[0].key.split("/")[0]
            used[plain] = used.get(plain, 0) + 1
            name = unique_keys([plain])[0] + (f"-{used[plain]}" if used[plain] > 1 else "")
            put(name, [_turn(out / "images" / name, name, number, one) for number, one in enumerate(session, 1)])
            count += len(session)
            told = {f"{name}-input.png": session[0].caption}
            told |= {
                f"{name}-output{n}.png": str(one.notes.get("caption_target", "")) for n, one in enumerate(session, 1)
            }
            globally[name] = {file: text for file, text in told.items() if text}
            told = {
                f"{name}-output{n}.png": str(one.notes.get("local_description", ""))
                for n, one in enumerate(session, 1)
            }
            local[name] = {file: text for file, text in told.items() if text}
    for kind, table in (("global", globally), ("local", local)):
        if any(table.values()):
            _write_json(out / f"{kind}_descriptions.json", table)
    return count


def _sessions(records: Iterable[Record]) -> Iterator[list[Record]]:
    session: list[Record] = []
    for record in records:
        follows = bool(session) and session[-1].key.split("/")[0] == record.key.split("/")[0]
        if follows and np.array_equal(session[-1].target, record.source):  # type: ignore[arg-type]
            session.append(record)
            continue
        if session:
            yield session
        session = [record]
    if session:
        yield session


def _turn(folder: Path, name: str, number: int, record: Record) -> dict[str, Any]:
    assert record.source is not None
    assert record.target is not None
    given = f"{name}-input.png" if number == 1 else f"{name}-output{number - 1}.png"
    if number == 1:
        _save(record.source, folder / given)
    turn = {"input": given, "output": f"{name}-output{number}.png", "instruction": record.wordings[0]}
    _save(record.target, folder / turn["output"])
    if record.mask is not None:
        alpha = np.where(record.mask, 0, 255).astype(np.uint8)
        turn["mask"] = f"{name}-mask{number}.png"
        _save(np.dstack([record.source, alpha]), folder / turn["mask"])
    return turn


def write_instructpix2pix(records: Iterable[Record], out: Path) -> int:
    """Write `seeds.json` and for each pair a folder with `prompt.json`, `0_0.jpg` and `0_1.jpg`.

    Pictures are JPEG, as published, so they come back nearly but not exactly; masks have no place.

    Args:
        records: pairs of a source by words; of several wordings the first is written.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no such pair.
    """
    out.mkdir(parents=True, exist_ok=True)
    listed = []
    for record in _edits(records, "InstructPix2Pix"):
        name = record.key.replace("/", "-")
        prompt = {"input": record.caption, "edit": record.wordings[0]}
        prompt["output"] = str(record.notes.get("caption_target", ""))
        _write_json(out / name / "prompt.json", prompt)
        for number, picture in enumerate((record.source, record.target)):
            Image.fromarray(picture).save(out / name / f"0_{number}.jpg", quality=QUALITY, subsampling=0)
        listed.append([name, ["0"]])
    _write_json(out / SEEDS, listed)
    return len(listed)


def write_jsonl(records: Iterable[Record], out: Path) -> int:
    """Write `train.jsonl` with one row a pair, all its wordings and masks, and the pictures beside it.

    Args:
        records: pairs.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no pair.
    """
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with (out / "train.jsonl").open("w", encoding="utf-8") as file:
        for record in records:
            record.check()
            name = record.key.replace("/", "-")
            row: dict[str, Any] = {"key": record.key, "task": record.task, "instruction": list(record.wordings)}
            row["instructions"] = {kind: list(texts) for kind, texts in record.instructions.items()}
            mask = None if record.mask is None else record.mask.astype(np.uint8) * 255
            for role, picture in (("source", record.source), ("target", record.target), ("mask", mask)):
                if picture is not None:
                    _save(picture, out / role / f"{name}.png")
                    row[role] = f"{role}/{name}.png"
            if record.references:
                row["references"] = [f"references/{name}-{n}.png" for n in range(len(record.references))]
                for path, picture in zip(row["references"], record.references, strict=True):
                    _save(picture, out / path)
            for field in ("class_origin", "class_target", "detailed_origin", "detailed_target"):
                row |= {field: getattr(record, field)} if getattr(record, field) else {}
            row |= {"caption_source": record.caption} if record.caption else {}
            row |= {"scores": dict(record.scores)} if record.scores else {}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_ai_toolkit(records: Iterable[Record], out: Path) -> int:
    """Write `target/`, `control/`, and where there are any `mask/`, `control_2/` ...

    Args:
        records: pairs; of several wordings the first is written.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no pair.
    """
    count = 0
    for record in records:
        record.check()
        assert record.target is not None
        name = record.key.replace("/", "-")
        pictures = {"target": record.target, "control": record.source}
        pictures |= {f"control_{number}": one for number, one in enumerate(record.references, 2)}
        pictures["mask"] = None if record.mask is None else record.mask.astype(np.uint8) * 255
        for folder, picture in pictures.items():
            if picture is not None:
                (out / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(out / folder / f"{name}.png", compress_level=1)
        (out / "target" / f"{name}.txt").write_text(record.wordings[0] + "\n", encoding="utf-8")
        count += 1
    return count


def _edits(records: Iterable[Record], layout: str) -> Iterator[Record]:
    """The records, each looked at: a pair of a source by words."""
    for record in records:
        record.check()
        if record.source is None or record.references:
            raise ValueError(
                f"{record.key} has {'no source' if record.source is None else 'reference pictures'}: {layout} holds "
                "edits of a source by words; write mige, ai_toolkit or jsonl."
            )
        yield record


class _json_object:
    """A JSON object in a file, entry by entry."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.count = path.open("w", encoding="utf-8"), 0

    def __enter__(self) -> Any:
        self.file.write("{")
        return self._put

    def __exit__(self, *error: object) -> None:
        self.file.write("\n}\n")
        self.file.close()

    def _put(self, name: str, value: Any) -> None:
        told = f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
        self.file.write((",\n" if self.count else "\n") + told)
        self.count += 1


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)
