"""Files of rows, written one row at a time: what the writers of pairs and of scenes share."""

from __future__ import annotations

from typing import IO, Any, Protocol

ROW_GROUP = 100  # rows; the pictures of a group are in memory together


class ShardWriter(Protocol):
    """Puts rows into one open file."""

    def write(self, row: dict[str, Any]) -> None:
        """Take one row of `row_of`."""
        ...

    def close(self) -> None:
        """Write what is left; the file itself stays open."""
        ...


class RowGroups:
    """Rows of a parquet file, written by `ROW_GROUP` of them.

    Args:
        file: open for writing; it stays open.
        schema: of its rows, a `pyarrow.Schema`.
    """

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        from pyarrow import parquet

        self.schema = schema
        self.writer = parquet.ParquetWriter(file, schema)
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Take one row in the schema's types."""
        self.rows.append(row)
        if len(self.rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last rows and the footer."""
        if self.rows:
            self._flush()
        self.writer.close()

    def _flush(self) -> None:
        import pyarrow

        self.writer.write_table(pyarrow.Table.from_pylist(self.rows, schema=self.schema))
        self.rows.clear()


__all__ = ["ROW_GROUP", "RowGroups", "ShardWriter"]
