"""Rows as shards of a data set: parquet with typed pictures, or webdataset tars. The same rows give the same bytes.

A row is a dictionary: `__name__`, without dots and slashes, and columns: PNG as bytes, several PNG as a list, None for
no picture, and plain values. Training reads both kinds as they are: `data.sources: [{kind: parquet, path: OUT}]`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from PIL import Image

from insightedit.images.reading import read_rgb

ROW_GROUP = 100  # rows; the pictures of a group are in memory together
COMPRESS_LEVEL = 1  # packing well takes longer than most steps
REFERENCES = "references"  # the column with several pictures


def png(array: np.ndarray) -> bytes:
    """PNG of (H, W, 3) or (H, W) uint8, or of an (H, W) bool mask as black and white."""
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


class ParquetShard:
    """Typed columns of an `arrow_schema`; `datasets.load_dataset("parquet", ...)` gives decoded pictures."""

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        from pyarrow import parquet

        self.schema, self.rows = schema, list[dict[str, Any]]()
        self.writer = parquet.ParquetWriter(file, schema)

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row."""
        name = row["__name__"]
        typed = {
            column: {"bytes": value, "path": f"{name}.{column}.png"} if isinstance(value, bytes) else value
            for column, value in row.items()
            if column != "__name__"
        }
        if REFERENCES in row:
            named = enumerate(row[REFERENCES])
            typed[REFERENCES] = [{"bytes": one, "path": f"{name}.reference{number}.png"} for number, one in named]
        self.rows.append(typed)
        if len(self.rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self.rows:
            self.writer.write_table(pyarrow.Table.from_pylist(self.rows, schema=self.schema))
        self.rows.clear()

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self._flush()
        self.writer.close()


def arrow_schema(columns: Mapping[str, str | tuple[str, ...]]) -> Any:
    """The Arrow schema of rows, with the feature types that the `datasets` library reads from its metadata.

    `columns`: name -> `image`, `images` (a list), the name of an arrow type, or the names of the texts in a list.
    """
    import pyarrow

    picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    types, features = {}, {}
    for name, kind in columns.items():
        if isinstance(kind, tuple):
            types[name] = pyarrow.list_(pyarrow.struct(dict.fromkeys(kind, pyarrow.string())))
            texts = {part: {"dtype": "string", "_type": "Value"} for part in kind}
            features[name] = {"feature": texts, "_type": "List"}
        elif kind == "images":
            types[name], features[name] = pyarrow.list_(picture), {"feature": {"_type": "Image"}, "_type": "List"}
        elif kind == "image":
            types[name], features[name] = picture, {"_type": "Image"}
        else:
            types[name], features[name] = pyarrow.type_for_alias(kind), {"dtype": kind, "_type": "Value"}
    return pyarrow.schema(list(types.items()), {"huggingface": json.dumps({"info": {"features": features}})})


class TarShard:
    """Members NAME.source.png, .target.png, .mask.png, .references.png and .json; owner and time are zero.

    References stand side by side as squares; what is not square stands in the middle of one on white. With `has_sizes`
    the JSON tells as `reference_sizes` how large each reference is.
    """

    def __init__(self, file: IO[bytes], *, has_sizes: bool = False) -> None:
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.parts, self.has_sizes = set[str](), has_sizes

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row; `RunStopped` if its members are not those of the rows before, as the format asks for."""
        name = row["__name__"]
        members = {f"{column}.png": value for column, value in row.items() if isinstance(value, bytes)}
        left_out = {column for column, value in row.items() if isinstance(value, bytes) or value is None}
        facts = {column: value for column, value in row.items() if column not in {*left_out, "__name__", REFERENCES}}
        references = [read_rgb(content) for content in row.get(REFERENCES) or ()]
        if references:
            side = max(max(one.shape[:2]) for one in references)
            squares = np.full((side, side * len(references), 3), 255, np.uint8)
            for number, one in enumerate(references):
                height, width = one.shape[:2]
                top, left = (side - height) // 2, number * side + (side - width) // 2
                squares[top : top + height, left : left + width] = one
            members["references.png"] = png(squares)
        if self.has_sizes:
            facts["reference_sizes"] = json.dumps([array.shape[:2] for array in references])
        parts = set(members)
        self.parts = self.parts or parts
        if parts != self.parts:
            from data_recipes.runner.flow import RunStopped

            raise RunStopped(
                f"{row.get('key', name)} has {', '.join(sorted(parts))} and pairs before it have "
                f"{', '.join(sorted(self.parts))}: all samples of a webdataset have the same members; write "
                "output.format=parquet."
            )
        members["json"] = json.dumps(facts, ensure_ascii=False).encode()
        for part, content in sorted(members.items()):
            info = tarfile.TarInfo(f"{name}.{part}")
            info.size, info.mode = len(content), 0o444  # as webdataset's writer has it
            self.tar.addfile(info, io.BytesIO(content))

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self.tar.close()
