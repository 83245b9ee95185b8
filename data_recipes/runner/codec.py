"""Chunks on disk between steps, and between the workers of a cluster: exact, fast, and without pickle.

A zip with a JSON file a chunk; the arrays that it names by number lie beside it, each once however many records share
it.
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

from data_recipes.runner.flow import Chunk
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.rows import dumps

PICTURES = ("image", "source", "target", "mask")


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
    return dumps(facts), [array for _, array in numbered.values()]


def _unpack(text: bytes, arrays: list[np.ndarray]) -> Chunk:
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

    facts = json.loads(text)
    return Chunk(
        keys=facts["keys"],
        records=[record(one) for one in facts["records"]],
        rejected=[Rejected(**one) for one in facts["rejected"]],
        last_seen={one["key"]: record(one) for one in facts["last_seen"]},
        passed={name: (entered, left) for name, (entered, left) in facts["passed"].items()},
    )
