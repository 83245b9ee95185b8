"""Finished pairs as rows of a data set: parquet with typed pictures, or webdataset tars. Same pairs, same bytes.

Training reads both as they are: `data.sources: [{kind: parquet, path: OUT}]`.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import IO, Any

import numpy as np
from PIL import Image

from data_recipes.formats.shards import RowGroups, ShardWriter
from data_recipes.runner.codec import dumps
from data_recipes.runner.flow import RunStopped
from data_recipes.runner.records import Record
from insightedit.images.reading import read_rgb
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
COMPRESS_LEVEL = 1  # packing well takes longer than most steps


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
        found = self.packed.get(id(array))
        if found is None:
            found = (array, png(array))  # the array is kept, or its id could come again
            self.packed[id(array)] = found
        return found[1]


def png(array: np.ndarray) -> bytes:
    """PNG of (H, W, 3) uint8, or of an (H, W) bool mask as black and white."""
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


def row_of(record: Record, name: str, split: str, encoder: PictureEncoder) -> dict[str, Any]:
    """Everything about a pair: pictures as PNG bytes or None, the rest as plain values.

    Args:
        record: a pair that passed `Record.check`.
        name: of the sample within its data set, without dots and slashes; `__name__` in the row.
        split: of the data set.
        encoder: of its pictures.

    Returns:
        The keys of `COLUMNS` and `__name__`. `instruction` is the first wording that is not expressive and, where there
        are references, names them; references that no wording names are left out.
    """
    encoder.begin(record.key)
    pictures = {part: getattr(record, part) for part in PICTURES}
    references = [encoder.png(one) for one in _named(record)]
    texts = {
        "task": record.task, "class_origin": record.class_origin, "class_target": record.class_target,
        "caption": record.caption, "detailed_origin": record.detailed_origin,
        "detailed_target": record.detailed_target, "key": record.key, "split": split,
    }  # fmt: skip
    row = {
        **{part: None if array is None else encoder.png(array) for part, array in pictures.items()},
        "references": references,
        "instruction": instruction_of(record),
        "expressive_instruction": next(iter(record.instructions.get("expressive", ())), ""),
        "instructions": [
            {"kind": kind, "text": text} for kind, found in record.instructions.items() for text in found
        ],
        **{part: dumps(getattr(record, part)) for part in ("scores", "truth", "notes")},
        **texts,
    }
    return {"__name__": name, **{column: row[column] for column in COLUMNS}}


def instruction_of(record: Record) -> str:
    """The wording that stands first in the row."""
    plain = [text for kind, texts in record.instructions.items() if kind != "expressive" for text in texts]
    wordings = plain or list(record.wordings)
    return next((text for text in wordings if REFERENCE_PLACEHOLDER in text), wordings[0])


def _named(record: Record) -> tuple[np.ndarray, ...]:
    return record.references if REFERENCE_PLACEHOLDER in instruction_of(record) else ()


def open_shard(file: IO[bytes], format: str) -> ShardWriter:
    """A writer of rows into an open file; `format` is parquet or webdataset."""
    return ParquetShard(file) if format == "parquet" else TarShard(file)


class ParquetShard:
    """Typed columns; `datasets.load_dataset("parquet", ...)` gives decoded pictures."""

    def __init__(self, file: IO[bytes]) -> None:
        self.groups = RowGroups(file, parquet_schema())

    def write(self, row: dict[str, Any]) -> None:
        """Take one row of `row_of`."""
        name = row["__name__"]
        pictures: dict[str, Any] = {
            part: None if row[part] is None else {"bytes": row[part], "path": f"{name}.{part}.png"}
            for part in PICTURES
        }
        pictures["references"] = [
            {"bytes": content, "path": f"{name}.reference{number}.png"}
            for number, content in enumerate(row["references"])
        ]
        self.groups.add({**{column: row[column] for column in COLUMNS}, **pictures})

    def close(self) -> None:
        """Write the last rows and the footer."""
        self.groups.close()


def parquet_schema() -> Any:
    """The Arrow schema of a row, with the feature types that the `datasets` library reads from its metadata."""
    import pyarrow

    picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    wording = pyarrow.struct({"kind": pyarrow.string(), "text": pyarrow.string()})
    arrow = {"references": pyarrow.list_(picture), "instructions": pyarrow.list_(wording)}
    arrow |= dict.fromkeys(PICTURES, picture)
    image, text = {"_type": "Image"}, {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {
        "references": {"feature": image, "_type": "List"},
        "instructions": {"feature": {"kind": text, "text": text}, "_type": "List"},
        **dict.fromkeys(PICTURES, image),
    }
    told = {"info": {"features": {name: features.get(name, text) for name in COLUMNS}}}
    return pyarrow.schema(
        [(name, arrow.get(name, pyarrow.string())) for name in COLUMNS], {"huggingface": json.dumps(told)}
    )


class TarShard:
    """Members NAME.source.png, .target.png, .mask.png, .references.png and .json; owner and time are zero.

    References stand side by side as squares; what is not square stands in the middle of one on white, and
    `reference_sizes` in the JSON says how large it is.

    Raises:
        RunStopped: if the samples of a file are not of the same members, which the format asks for.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.parts: set[str] | None = None

    def write(self, row: dict[str, Any]) -> None:
        """Take one row of `row_of`."""
        facts = {column: row[column] for column in COLUMNS if column not in (*PICTURES, "references")}
        members = {f"{part}.png": row[part] for part in PICTURES if row[part] is not None}
        facts["reference_sizes"] = "[]"
        if row["references"]:
            members["references.png"], sizes = strip(row["references"])
            facts["reference_sizes"] = json.dumps(sizes)
        self._check(set(members), row["key"])
        members["json"] = json.dumps(facts, ensure_ascii=False).encode()
        for part, content in members.items():
            info = tarfile.TarInfo(f"{row['__name__']}.{part}")
            info.size = len(content)
            self.tar.addfile(info, io.BytesIO(content))

    def close(self) -> None:
        """Write the end of the archive."""
        self.tar.close()

    def _check(self, parts: set[str], key: str) -> None:
        if self.parts is None:
            self.parts = parts
        if parts != self.parts:
            raise RunStopped(
                f"{key} has {', '.join(sorted(parts))} and pairs before it have {', '.join(sorted(self.parts))}: all "
                "samples of a webdataset have the same members; write output.format=parquet."
            )


def strip(pictures: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    """PNG of pictures side by side in squares as large as the longest side, and their heights and widths."""
    arrays = [read_rgb(content) for content in pictures]
    side = max(max(array.shape[:2]) for array in arrays)
    squares = np.full((side, side * len(arrays), 3), 255, np.uint8)
    for number, array in enumerate(arrays):
        height, width = array.shape[:2]
        top, left = (side - height) // 2, number * side + (side - width) // 2
        squares[top : top + height, left : left + width] = array
    return png(squares), [(array.shape[0], array.shape[1]) for array in arrays]
