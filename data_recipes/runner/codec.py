"""Chunks on disk between steps, and between the workers of a cluster: exact, fast, and without pickle.

A file of Arrow's stream format with one table a chunk. Its first row is JSON; the others are the pixels that the JSON
names by number, each array once however many records share it. Masks take a bit a pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.rows import dumps

SCHEMA = pa.schema({"text": pa.string(), "pixels": pa.large_binary()})
PICTURES = ("image", "source", "target", "mask")


def write_chunks(file: IO[bytes], chunks: Iterable[Chunk]) -> None:
    """Write chunks one after the other; only one is in memory at a time."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(file, SCHEMA, options=options) as writer:
        for chunk in chunks:
            writer.write_batch(_pack(chunk))


def read_chunks(source: Path | IO[bytes]) -> Iterator[Chunk]:
    """Chunks as they were written, one after the other."""
    with pa.OSFile(str(source)) if isinstance(source, Path) else source as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            yield _unpack(batch)


def _pack(chunk: Chunk) -> pa.RecordBatch:
    numbered: dict[int, tuple[int, np.ndarray]] = {}  # by id, so that shared arrays are kept once

    def number(array: np.ndarray | None) -> int | None:
        return None if array is None else numbered.setdefault(id(array), (len(numbered), array))[0]

    def told(record: Record) -> dict[str, Any]:
        pictures = {name: number(getattr(record, name)) for name in PICTURES}
        things = [{**vars(thing), "mask": number(thing.mask)} for thing in record.things]
        return {**vars(record), **pictures, "things": things, "references": [number(one) for one in record.references]}

    facts = {
        "keys": chunk.keys,
        "records": [told(record) for record in chunk.records],
        "rejected": [asdict(one) for one in chunk.rejected],
        "last_seen": [told(record) for record in chunk.last_seen.values()],
        "passed": chunk.passed,
    }
    arrays = [array for _, array in numbered.values()]
    facts["arrays"] = [[list(one.shape), one.dtype.str] for one in arrays]
    pixels = [(np.packbits(one) if one.dtype == bool else np.ascontiguousarray(one)).tobytes() for one in arrays]
    return pa.record_batch({"text": [dumps(facts), *([None] * len(pixels))], "pixels": [None, *pixels]}, schema=SCHEMA)


def _unpack(batch: pa.RecordBatch) -> Chunk:
    facts = json.loads(batch.column("text")[0].as_py())
    arrays = []
    for number, (shape, dtype) in enumerate(facts["arrays"], 1):
        buffer = batch.column("pixels")[number].as_buffer()
        if np.dtype(dtype) == bool:
            bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=int(np.prod(shape)))
            arrays.append(bits.astype(bool).reshape(shape))
        else:  # copied, for the buffer is the whole chunk, and read-only
            arrays.append(np.frombuffer(buffer, dtype).reshape(shape).copy())

    def array(number: int | None) -> np.ndarray | None:
        return None if number is None else arrays[number]

    def record(told: dict[str, Any]) -> Record:
        things = (
            ObjectAnnotation(**{**one, "mask": array(one["mask"]), "box": one["box"] and tuple(one["box"])})
            for one in told["things"]
        )
        changes = {
            **{name: array(told[name]) for name in PICTURES},
            "things": tuple(things),
            "references": tuple(arrays[number] for number in told["references"]),
            "instructions": {kind: tuple(texts) for kind, texts in told["instructions"].items()},
        }
        return Record(**{**told, **changes})

    seen = map(record, facts["last_seen"])
    return Chunk(
        keys=facts["keys"],
        records=[record(one) for one in facts["records"]],
        rejected=[Rejected(**one) for one in facts["rejected"]],
        last_seen={one.key: one for one in seen},
        passed={name: (entered, left) for name, (entered, left) in facts["passed"].items()},
    )
