"""MIGE's JSON: one list of prompts in which pictures stand, `<imagehere>` for each.

Source: the files of MIGE's training data and of MIGEBench; `insightedit.data.multi_prompt` trains on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.formats.reading import (
    FIELDS,
    NO_TEXT,
    Finder,
    Listed,
    ReadError,
    place_of,
    read_pixels,
    read_region,
    unique_keys,
)
from data_recipes.pipeline.inputs import Input, InputConfig
from data_recipes.pipeline.records import REFERENCE_PLACEHOLDER, TASKS, Record
from insightedit.data.multi_prompt import SOURCE_WORDS

ANNOTATIONS = "mige.json"


def open_mige(config: InputConfig) -> Input:
    """A JSON list of {image, multi_prompt, entity_path, source_path, width, height}, or the folder that holds it.

    Pictures are found by their paths below the file's folder, else by file name. Where the source stands among the
    entities, words take its place, as in training. The task is told by `task`, which ours have; else it is `edit`, or
    `subject` without a source.

    Raises:
        ValueError: if the config names no path, or the file holds no such list.
        FileNotFoundError: if nothing is there, or the folder has no JSON file, or several.
    """
    file = _file(place_of(config))
    try:
        entries = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} is not valid JSON ({error}): kind mige reads MIGE's list of prompts."
        ) from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{file} holds no list of entries: kind mige reads a JSON list, as MIGE publishes it."
        )
    finder = Finder(file.parent)
    keys = unique_keys(_name(entry, number) for number, entry in enumerate(entries))
    return Listed(keys, lambda number: _record(keys[number], entries[number], finder, config.max_side))


def _file(place: Path) -> Path:
    if place.is_file():
        return place
    found = sorted(place.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "no *.json"
        raise FileNotFoundError(f"{place} holds {names}: let source.path name MIGE's JSON list.")
    return found[0]


def _name(entry: Any, number: int) -> str:
    told = entry.get("key", entry.get("idx")) if isinstance(entry, dict) else None
    return str(told) if isinstance(told, str | int) and str(told) else f"{number:06d}"


def _record(key: str, entry: Any, finder: Finder, max_side: int | None) -> Record:
    if not isinstance(entry, dict):
        raise ReadError(FIELDS, f"the entry is {entry!r:.40}")
    prompt = entry.get("multi_prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ReadError(NO_TEXT, f"`multi_prompt` is {prompt!r:.40}")
    sources, entities = _paths(entry.get("source_path")), _paths(entry.get("entity_path"))
    if len(sources) > 1:
        raise ReadError(FIELDS, f"{len(sources)} pictures in `source_path`: an edit has one, or none")
    texts = prompt.split(REFERENCE_PLACEHOLDER)
    if len(texts) - 1 != len(entities):
        raise ReadError(
            FIELDS, f"{len(texts) - 1} {REFERENCE_PLACEHOLDER} for {len(entities)} pictures in `entity_path`"
        )
    marks = [SOURCE_WORDS if path in sources else REFERENCE_PLACEHOLDER for path in entities]
    told = texts[0] + "".join(mark + text for mark, text in zip(marks, texts[1:], strict=True))
    own = entry.get("instruction")  # ours: the words before the source got its mark
    task = entry.get("task")
    masks = _paths(entry.get("mask_path"))
    caption = entry.get("target_caption")
    return Record(
        key,
        caption=str(entry.get("source_caption") or ""),
        task=task if task in TASKS else "edit" if sources else "subject",
        instructions={"simple": (own.strip() if isinstance(own, str) and own.strip() else told.strip(),)},
        source=read_pixels(finder.find(sources[0]), max_side) if sources else None,
        target=read_pixels(finder.find(entry.get("image")), max_side),
        mask=read_region(finder.find(masks[0]), max_side) if masks else None,
        references=tuple(
            read_pixels(finder.find(path), max_side) for path in entities if path not in sources
        ),
        notes={"caption_target": caption} if isinstance(caption, str) and caption else {},
    )


def _paths(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(path) for path in value] if isinstance(value, list) else []


def write_mige(records: Iterable[Record], out: Path) -> int:
    """Write pictures and `mige.json`; the source gets its own placeholder, as MIGE's data preparation does.

    Args:
        records: pairs, or pictures drawn from blank.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no pair.
    """
    from insightedit.comprehension.interleaved_prompts import place_source

    count = 0
    out.mkdir(parents=True, exist_ok=True)
    with (out / ANNOTATIONS).open("w", encoding="utf-8") as file:
        file.write("[")
        for record in records:
            record.check()
            assert record.target is not None
            name = record.key.replace("/", "-")
            instruction = record.wordings[0]
            entities = [_save(one, out, f"entity/{name}_{n}.png") for n, one in enumerate(record.references)]
            entry: dict[str, Any] = {"key": record.key.replace("/", "-"), "task": record.task}
            entry["image"] = _save(record.target, out, f"target/{name}.png")
            entry["height"], entry["width"] = record.target.shape[:2]
            prompt = instruction
            if record.source is not None:
                prompt, place = place_source(instruction)
                source = _save(record.source, out, f"source/{name}.png")
                entities.insert(place, source)
                entry |= {"source_path": [source], "instruction": instruction}
            if record.mask is not None:
                entry["mask_path"] = _save(record.mask.astype(np.uint8) * 255, out, f"mask/{name}.png")
            entry |= {"entity_path": entities, "multi_prompt": prompt, "source_caption": record.caption}
            if record.notes.get("caption_target"):
                entry["target_caption"] = record.notes["caption_target"]
            file.write((",\n" if count else "\n") + json.dumps(entry, ensure_ascii=False))
            count += 1
        file.write("\n]\n")
    return count


def _save(picture: np.ndarray, out: Path, name: str) -> str:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)
    return name
