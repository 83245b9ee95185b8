"""MIGE's JSON: one list of prompts in which pictures stand, `<imagehere>` for each.

Source: the files of MIGE's training data and of MIGEBench; `insightedit.datasets.layouts` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.runner.records import Record

ANNOTATIONS = "mige.json"


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
