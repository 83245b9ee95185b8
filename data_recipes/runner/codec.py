"""Chunks on disk between steps, and between the workers of a cluster: exact, fast, and without pickle.

A file of Arrow's stream format with one table a chunk. Its first row is JSON; the others are the pixels that the JSON
names by number, each array once however many records share it. Masks take a bit a pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected

SCHEMA = pa.schema({"text": pa.string(), "pixels": pa.large_binary()})
PICTURES = ("image", "source", "target", "mask")
PLAIN = tuple(
    one.name for one in fields(Record) if one.name not in (*PICTURES, "things", "references")
)  # ready for JSON


class _Arrays:
    """Arrays by number; shared ones once."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.arrays: list[np.ndarray] = []

    def number(self, array: np.ndarray | None) -> int | None:
        if array is None:
            return None
        if id(array) not in self.numbers:
            self.numbers[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return self.numbers[id(array)]


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
    arrays = _Arrays()
    told = {
        "keys": chunk.keys,
        "records": [_record(record, arrays) for record in chunk.records],
        "rejected": [asdict(one) for one in chunk.rejected],
        "last_seen": [_record(record, arrays) for record in chunk.last_seen.values()],
        "passed": chunk.passed,
    }
    told["arrays"] = [[list(one.shape), one.dtype.str] for one in arrays.arrays]
    pixels = [_bits(one) if one.dtype == bool else np.ascontiguousarray(one).tobytes() for one in arrays.arrays]
    return pa.record_batch({"text": [dumps(told), *([None] * len(pixels))], "pixels": [None, *pixels]}, schema=SCHEMA)


def _unpack(batch: pa.RecordBatch) -> Chunk:
    told = json.loads(batch.column("text")[0].as_py())
    column = batch.column("pixels")
    arrays = [
        _array(column[number + 1].as_buffer(), shape, dtype) for number, (shape, dtype) in enumerate(told["arrays"])
    ]
    seen = [_restored(one, arrays) for one in told["last_seen"]]
    return Chunk(
        keys=told["keys"],
        records=[_restored(one, arrays) for one in told["records"]],
        rejected=[Rejected(**one) for one in told["rejected"]],
        last_seen={record.key: record for record in seen},
        passed={name: (numbers[0], numbers[1]) for name, numbers in told["passed"].items()},
    )


def _record(record: Record, arrays: _Arrays) -> dict[str, Any]:
    plain = {name: getattr(record, name) for name in PLAIN}
    pictures = {name: arrays.number(getattr(record, name)) for name in PICTURES}
    things = [{**vars(thing), "mask": arrays.number(thing.mask)} for thing in record.things]
    return {**plain, **pictures, "things": things, "references": [arrays.number(one) for one in record.references]}


def _restored(told: dict[str, Any], arrays: list[np.ndarray]) -> Record:
    def array(number: int | None) -> np.ndarray | None:
        return None if number is None else arrays[number]

    pictures = {name: array(told[name]) for name in PICTURES}
    things = tuple(
        ObjectAnnotation(**{**one, "mask": array(one["mask"]), "box": one["box"] and tuple(one["box"])})
        for one in told["things"]
    )
    wordings = {kind: tuple(texts) for kind, texts in told["instructions"].items()}
    references = tuple(arrays[number] for number in told["references"])
    return Record(**{**told, **pictures, "things": things, "references": references, "instructions": wordings})


def _bits(mask: np.ndarray) -> bytes:
    return np.packbits(mask).tobytes()


def _array(buffer: Any, shape: list[int], dtype: str) -> np.ndarray:
    if np.dtype(dtype) == bool:
        size = int(np.prod(shape))
        return np.unpackbits(np.frombuffer(buffer, np.uint8), count=size).astype(bool).reshape(shape)
    return np.frombuffer(buffer, dtype).reshape(shape).copy()  # the buffer is the whole chunk, and read-only


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
