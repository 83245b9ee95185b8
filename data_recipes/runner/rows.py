"""Records on disk: finished pairs as rows of a data set, and chunks between steps and between machines.

Same pairs, same bytes. Chunks come back exactly, fast, and without pickle: a zip holds a JSON file for each, and the
arrays that it names by number, each once however many records share it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np

from data_recipes.formats.shards import ParquetShard, TarShard, arrow_schema, png
from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from insightedit.types import REFERENCE_PLACEHOLDER

ENDINGS = {"parquet": "parquet", "webdataset": "tar"}
PICTURES = ("source", "target", "mask")
COLUMNS: dict[str, str] = {
    "source": "RGB picture before the edit; none where a pair draws from blank",
    "target": "RGB picture after the edit, of the same size",
    "mask": "white where the edit is meant to change the picture",
    "references": "RGB pictures, one for each `<imagehere>` of the instruction",
    "instruction": "what a user would say: the first wording",
    "expressive_instruction": "what will change, spelled out; empty where no step wrote it",
    "instructions": "all wordings, each with its kind",
    "task": "what the pair does",
    "class_origin": "what is edited; empty where something is added",
    "class_target": "what comes in its place; empty where something is removed",
    "caption": "of the photo",
    "detailed_origin": "detailed caption of what is edited",
    "detailed_target": "detailed caption of what comes",
    "scores": "of the quality step, JSON",
    "truth": "what is known of a rendered picture, JSON",
    "notes": "what steps kept, JSON",
    "key": "unique in the data set",
    "split": "the files' split",
}


class PictureEncoder:
    """Arrays to PNG; the pairs of one photo share pictures, so each array is packed once while they pass."""

    def __init__(self) -> None:
        self.photo = ""
        self.packed: dict[int, tuple[np.ndarray, bytes]] = {}

    def begin(self, key: str) -> None:
        """Told of each record's key; forgets the pictures of the photo before."""
        photo = key.partition("/")[0]
        if photo != self.photo:
            self.photo = photo
            self.packed.clear()

    def png(self, array: np.ndarray) -> bytes:
        """PNG of (H, W, 3) uint8, or of an (H, W) bool mask."""
        if id(array) not in self.packed:
            self.packed[id(array)] = array, png(array)  # the array is kept, or its id could come again
        return self.packed[id(array)][1]


def row_of(record: Record, name: str, split: str, encoder: PictureEncoder) -> dict[str, Any]:
    """A pair that passed `Record.check`: pictures as PNG bytes or None, others as plain values; `__name__` is `name`.

    `instruction` is the first wording that is not expressive and, where there are references, names them; references
    that no wording names are left out.
    """
    encoder.begin(record.key)
    instruction, wordings = instruction_of(record), record.instructions
    row = {name: getattr(record, name, None) for name in COLUMNS}  # texts are as they are
    row |= {name: None if row[name] is None else encoder.png(row[name]) for name in PICTURES}
    row |= {name: dumps(row[name]) for name in ("scores", "truth", "notes")}
    row |= {
        "references": [encoder.png(one) for one in record.references if REFERENCE_PLACEHOLDER in instruction],
        "instruction": instruction,
        "expressive_instruction": next(iter(wordings.get("expressive", ())), ""),
        "instructions": [{"kind": kind, "text": text} for kind, found in wordings.items() for text in found],
        "split": split,
    }
    return {"__name__": name, **row}


def instruction_of(record: Record) -> str:
    """The wording that stands first in the row."""
    wordings = record.plain_wordings or record.wordings
    return next((text for text in wordings if REFERENCE_PLACEHOLDER in text), wordings[0])


def open_shard(file: IO[bytes], format: str) -> ParquetShard | TarShard:
    """A writer of rows into an open file; `format` is parquet or webdataset."""
    return ParquetShard(file, parquet_schema()) if format == "parquet" else TarShard(file, has_sizes=True)


def parquet_schema() -> Any:
    """The Arrow schema of a row."""
    kinds = {**dict.fromkeys(PICTURES, "image"), "references": "images", "instructions": ("kind", "text")}
    return arrow_schema({name: kinds.get(name, "string") for name in COLUMNS})


def write_chunks(file: IO[bytes], chunks: Iterable[Chunk]) -> None:
    """Write chunks one after the other; only one is in memory at a time."""
    with ZipFile(file, "w") as archive:
        for place, chunk in enumerate(chunks):
            text, arrays = _pack(chunk)
            archive.writestr(f"{place}.json", text)
            for number, array in enumerate(arrays):
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                how = ZIP_DEFLATED if array.dtype == bool else ZIP_STORED  # photographs do not become smaller
                archive.writestr(f"{place}/{number}.npy", buffer.getvalue(), how, compresslevel=1)


def read_chunks(source: Path | IO[bytes]) -> Iterator[Chunk]:
    """Chunks as they were written, one after the other."""
    with ZipFile(source) as archive:
        names = set(archive.namelist())
        for place in count():
            if f"{place}.json" not in names:
                return
            arrays = []
            while (name := f"{place}/{len(arrays)}.npy") in names:
                arrays.append(np.load(io.BytesIO(archive.read(name)), allow_pickle=False))
            yield _unpack(archive.read(f"{place}.json"), arrays)


def _pack(chunk: Chunk) -> tuple[str, list[np.ndarray]]:
    numbered: dict[int, tuple[int, np.ndarray]] = {}  # by id, so that shared arrays are kept once

    def number(array: np.ndarray | None) -> int | None:
        return None if array is None else numbered.setdefault(id(array), (len(numbered), array))[0]

    def told(record: Record) -> dict[str, Any]:
        pictures = {name: number(getattr(record, name)) for name in ("image", *PICTURES)}
        things = [{**vars(thing), "mask": number(thing.mask)} for thing in record.things]
        return {**vars(record), **pictures, "things": things, "references": [number(one) for one in record.references]}

    facts = {
        "keys": chunk.keys,
        "records": [told(record) for record in chunk.records],
        "rejected": [asdict(one) for one in chunk.rejected],
        "last_seen": [told(record) for record in chunk.last_seen.values()],
        "passed": chunk.passed,
    }
    return dumps(facts), [array for _, array in numbered.values()]


def _unpack(text: bytes, arrays: list[np.ndarray]) -> Chunk:
    def array(number: int | None) -> np.ndarray | None:
        return None if number is None else arrays[number]

    def record(told: dict[str, Any]) -> Record:
        changes = {
            **{name: array(told[name]) for name in ("image", *PICTURES)},
            "things": tuple(
                ObjectAnnotation(**{**one, "mask": array(one["mask"]), "box": one["box"] and tuple(one["box"])})
                for one in told["things"]
            ),
            "references": tuple(arrays[number] for number in told["references"]),
            "instructions": {kind: tuple(texts) for kind, texts in told["instructions"].items()},
        }
        return Record(**{**told, **changes})

    facts = json.loads(text)
    return Chunk(
        keys=facts["keys"],
        records=[record(one) for one in facts["records"]],
        rejected=[Rejected(**one) for one in facts["rejected"]],
        last_seen={one["key"]: record(one) for one in facts["last_seen"]},
        passed={name: (entered, left) for name, (entered, left) in facts["passed"].items()},
    )


def dumps(value: Any) -> str:
    """JSON with numbers of numpy as plain ones, and mappings of any kind as objects."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} is not ready for JSON")
