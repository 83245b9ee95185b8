"""Editing pairs as others publish them: MagicBrush, InstructPix2Pix, and tables with typed columns.

Columns, files and splits are those of `insightedit.data`, which trains on the same folders; here masks, captions and
all wordings come along too, and nothing is drawn by chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.formats.reading import (
    FIELDS,
    NO_TEXT,
    Listed,
    ReadError,
    inside,
    load_json,
    place_of,
    read_pixels,
    read_region,
    words,
)
from data_recipes.formats.tables import Row, Rows, open_rows
from data_recipes.pipeline.inputs import Input, InputConfig
from data_recipes.pipeline.records import TASKS, Record
from insightedit.data.editing_sets import SPLIT_SHARES
from insightedit.data.sources import (
    EXPRESSIVE_COLUMNS,
    INSTRUCTION_COLUMNS,
    REFERENCE_COLUMNS,
    SOURCE_COLUMNS,
    TARGET_COLUMNS,
)

MASK_COLUMNS = ("mask", "mask_img", "mask_image")
CAPTION_COLUMNS = ("caption_source", "caption", "img_caption", "input_caption", "original_prompt")
TASK_COLUMNS = ("task", "task_type", "edit_type")
PICTURES = {
    "source": SOURCE_COLUMNS,
    "target": TARGET_COLUMNS,
    "mask": MASK_COLUMNS,
    "references": REFERENCE_COLUMNS,
}
FIELDS_OF_RECORDS = ("class_origin", "class_target", "detailed_origin", "detailed_target")
IGNORED = ("__key__", "key", "split")
SESSIONS, SEEDS = "edit_sessions.json", "seeds.json"


def open_table(config: InputConfig) -> Input:
    """JSON lines with paths, parquet with pictures, or tar shards.

    A row becomes a pair by the names of its columns (`source`, `source_image`, `source_img` ...); columns that a record
    has no place for are kept in its notes.

    Raises:
        ValueError: if the config names no path, or there are no such files.
        FileNotFoundError: if nothing is there.
    """
    rows = open_rows(config.kind, place_of(config), config.split)
    return _listed(rows, config)


def _listed(rows: Rows, config: InputConfig) -> Listed:
    keys = rows.keys

    def make(number: int) -> Record:
        row = rows.row(number)
        key = row.get("key")
        key = key if isinstance(key, str) and key else keys[number]
        try:
            return record_of_row(row, key, rows.folder(number), config.max_side)
        except ReadError as error:
            raise ReadError(error.reason, error.detail, key) from None

    return Listed(keys, make)


def record_of_row(row: Row, key: str, folder: Path, max_side: int | None) -> Record:
    """A row as a record.

    Args:
        row: column -> value; pictures as content, or as a path below `folder`.
        key: of the record.
        folder: where paths start.
        max_side: of the pictures.

    Raises:
        ReadError: if a picture or the instruction is missing or cannot be read.
    """
    rest = {name: value for name, value in row.items() if value is not None}
    found = {role: _take(rest, names) for role, names in PICTURES.items()}
    instructions = _instructions(rest)
    scores, truth, kept = (_json_column(rest.pop(name, {})) for name in ("scores", "truth", "notes"))
    task = str(_take(rest, TASK_COLUMNS) or "")
    captions = _take(rest, CAPTION_COLUMNS)
    told = {name: str(rest.pop(name, "")) for name in FIELDS_OF_RECORDS}
    sizes = _json_column(rest.pop("reference_sizes", []))
    references = _references(found["references"], sizes, folder, max_side)
    mask = found["mask"]
    source = None if found["source"] is None else _pixels(found["source"], folder, max_side)
    if found["target"] is None:
        raise ReadError(FIELDS, f"no target picture among {', '.join(row)}")
    notes = {name: value for name, value in rest.items() if name not in IGNORED and _is_plain(value)}
    notes |= kept if isinstance(kept, dict) else {}
    if task and task not in TASKS:
        notes["task"] = task
    return Record(
        key,
        caption=captions if isinstance(captions, str) else "",
        task=task if task in TASKS else "edit" if source is not None else "subject",
        source=source,
        target=_pixels(found["target"], folder, max_side),
        mask=None if mask is None else read_region(_content(mask, folder), max_side),
        instructions=instructions,
        references=references,
        scores=scores if isinstance(scores, dict) else {},
        truth=truth if isinstance(truth, dict) else {},
        notes=notes,
        **told,
    )


def _take(row: Row, names: tuple[str, ...]) -> Any:
    """The value of the first of the columns that is there, taken out of the row."""
    for name in names:
        for column in (name, f"{name}.png", f"{name}.jpg"):
            if column in row:
                return row.pop(column)
    return None


def _instructions(row: Row) -> dict[str, tuple[str, ...]]:
    """Wordings by kind: `instructions` (kind -> texts), else `instruction`, whose kind `style` tells."""
    told = _json_column(row.pop("instructions", None))
    one = _take(row, INSTRUCTION_COLUMNS)
    found: dict[str, tuple[str, ...]] = {}
    if isinstance(told, dict):
        told = [{"kind": kind, "text": text} for kind, texts in told.items() for text in texts or ()]
    for wording in told if isinstance(told, list) else ():
        found[wording["kind"]] = (*found.get(wording["kind"], ()), wording["text"])
    if not found:
        texts = [text.strip() for text in (one if isinstance(one, list) else [one]) if isinstance(text, str)]
        kind = row.get("style") if row.get("style") in ("simple", "advanced") else "simple"
        found = {str(kind): tuple(text for text in texts if text)} if any(texts) else {}
    if not found:
        raise ReadError(NO_TEXT, f"`instruction` is {one!r:.40}")
    expressive = _take(row, EXPRESSIVE_COLUMNS)
    if isinstance(expressive, str) and expressive.strip() and "expressive" not in found:
        found["expressive"] = (expressive.strip(),)
    return found


def _references(value: Any, sizes: Any, folder: Path, max_side: int | None) -> tuple[np.ndarray, ...]:
    """A list of pictures, or one picture of squares side by side, as tar files hold them.

    `sizes` are heights and widths of what stands in the middle of each square; empty where all of it counts.
    """
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(_pixels(one, folder, max_side) for one in value)
    strip = _pixels(value, folder, None)
    height, width = strip.shape[:2]
    if width % height:
        raise ReadError(FIELDS, f"references of {width} x {height} pixels are no squares side by side")
    squares = [strip[:, left : left + height] for left in range(0, width, height)]
    if isinstance(sizes, list) and len(sizes) == len(squares):
        squares = [_middle(square, *size) for square, size in zip(squares, sizes, strict=True)]
    return tuple(np.ascontiguousarray(square) for square in squares)


def _middle(square: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (square.shape[0] - height) // 2, (square.shape[1] - width) // 2
    return square[top : top + height, left : left + width]


def _json_column(value: Any) -> Any:
    """A value that may stand in its column as JSON."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def _pixels(value: Any, folder: Path, max_side: int | None) -> np.ndarray:
    return read_pixels(_content(value, folder), max_side)


def _content(value: Any, folder: Path) -> Path | bytes:
    """A picture's content, or the path of its file."""
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return value["bytes"]
        value = value.get("path")
    return value if isinstance(value, bytes) else inside(folder, value)


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold it."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, str | int | float | bool)


def open_magicbrush(config: InputConfig) -> Input:
    """MagicBrush as a folder with `edit_sessions.json`, or the hub's rows. Every turn is a record, `SESSION/TURN`.

    Masks, white or a hole in a picture, and captions come along where they are.

    Raises:
        ValueError: if the config names no path, or the folder holds neither.
        FileNotFoundError: if nothing is there.
    """
    place = place_of(config)
    root = place / config.split if (place / config.split / SESSIONS).is_file() else place
    if not (root / SESSIONS).is_file():
        return _listed(_hub_rows(config, place, SESSIONS), config)
    sessions = _json(root / SESSIONS, dict, "{id: [{input, mask, output, instruction}, ...]}")
    turns = [
        (name, number, turn) for name, session in sessions.items() for number, turn in enumerate(session, 1)
    ]
    captions = {kind: _captions(root / f"{kind}_descriptions.json") for kind in ("global", "local")}
    keys = [f"{name}/{number}" for name, number, _ in turns]

    def make(index: int) -> Record:
        name, _, turn = turns[index]
        folder = inside(root / "images", name)
        mask = turn.get("mask")
        notes = {"caption_target": captions["global"].get(name, {}).get(turn.get("output"), "")}
        notes["local_description"] = captions["local"].get(name, {}).get(turn.get("output"), "")
        return Record(
            keys[index],
            caption=captions["global"].get(name, {}).get(turn.get("input"), ""),
            task="edit",
            instructions={"simple": (words(turn.get("instruction")),)},
            source=read_pixels(inside(folder, turn.get("input")), config.max_side),
            target=read_pixels(inside(folder, turn.get("output")), config.max_side),
            mask=read_region(inside(folder, mask), config.max_side) if mask else None,
            notes={what: text for what, text in notes.items() if text},
        )

    return Listed(keys, make)


def open_instructpix2pix(config: InputConfig) -> Input:
    """InstructPix2Pix as a folder with `seeds.json`, or the hub's rows. Every seed is a record, `FOLDER/SEED`.

    The split is train, val or test (90, 5 and 5 % of the list, by order), or all.

    Raises:
        ValueError: if the config names no path, there is no such split, or the folder holds neither.
        FileNotFoundError: if nothing is there.
    """
    root = place_of(config)
    if not (root / SEEDS).is_file():
        return _listed(_hub_rows(config, root, SEEDS), config)
    entries = _json(root / SEEDS, list, "[[folder, [seed, ...]], ...]")
    shares = {**SPLIT_SHARES, "all": (0.0, 1.0)}
    if config.split not in shares:
        raise ValueError(f"source.split is {config.split!r}: InstructPix2Pix has {', '.join(shares)}.")
    begin, end = (round(share * len(entries)) for share in shares[config.split])
    pairs = [(str(folder), str(seed)) for folder, seeds in entries[begin:end] for seed in seeds]
    keys = [f"{folder}/{seed}" for folder, seed in pairs]

    def make(index: int) -> Record:
        name, seed = pairs[index]
        folder = inside(root, name)
        prompt = load_json(folder / "prompt.json")
        output = str(prompt.get("output") or "")
        return Record(
            keys[index],
            caption=str(prompt.get("input") or ""),
            task="edit",
            instructions={"simple": (words(prompt.get("edit")),)},
            source=read_pixels(folder / f"{seed}_0.jpg", config.max_side),
            target=read_pixels(folder / f"{seed}_1.jpg", config.max_side),
            notes={"caption_target": output} if output else {},
        )

    return Listed(keys, make)


def _json(path: Path, wanted: type, shape: str) -> Any:
    try:
        value = load_json(path)
    except ReadError as error:
        raise ValueError(f"{path} cannot be read: {error.detail}.") from None
    if not isinstance(value, wanted) or not value:
        raise ValueError(f"{path} holds another kind of JSON: it has to be {shape}.")
    return value


def _captions(path: Path) -> dict[str, Any]:
    """Session -> file -> caption; nothing where there is no such file."""
    try:
        value = load_json(path)
    except ReadError:
        return {}
    return (
        {name: told for name, told in value.items() if isinstance(told, dict)}
        if isinstance(value, dict)
        else {}
    )


def _hub_rows(config: InputConfig, place: Path, wanted: str) -> Rows:
    """The hub's copy: parquet files, also below `data/`, or a folder that `save_to_disk` wrote."""
    for folder in (place, place / "data"):
        try:
            return open_rows("parquet", folder, config.split)
        except ValueError:
            continue
    raise ValueError(
        f"{place} holds no {wanted}, no *.parquet file and no folder of `save_to_disk`: kind {config.kind} reads "
        "one of them; check the path."
    )
