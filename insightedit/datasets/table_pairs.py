"""Rows of a table as editing pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insightedit.config.schema import SourceConfig
from insightedit.datasets.columns import Columns, recognise, roles_of
from insightedit.datasets.pairs import EXPRESSIVE, Listing, Pair, json_column
from insightedit.datasets.reading import FIELDS, NO_TEXT, Content, ReadError, inside, tried, words
from insightedit.datasets.tables import Row, open_rows

STYLES = ("simple", "advanced")
FACTS = ("class_origin", "class_target", "detailed_origin", "detailed_target")
JSON_FACTS = ("scores", "truth", "notes")
IGNORED = ("key", "split", "reference_sizes", "style")


def open_table(config: SourceConfig) -> Listing:
    """JSON lines or CSV with paths, parquet or a saved data set with pictures, tar shards, or an image folder.

    Paths start from the folder of their file, or from `images`.
    """
    place = Path(str(config.path))
    rows = open_rows(config.kind, place, config.split)
    told = dict(config.columns)
    columns = recognise(rows.columns, told, place)
    images = None if config.images is None else Path(config.images)

    def make(number: int) -> Pair:
        row = rows.row(number)
        key = row.get("key")
        key = key if isinstance(key, str) and key.strip() else rows.key(number)
        found = columns if columns.is_text else Columns(roles_of(tuple(row), tuple(told.items())).roles)
        try:
            return pair_of_row(row, key, found, images or rows.file(number).parent)
        except ReadError as error:
            raise ReadError(error.reason, error.detail, key) from None

    def group(number: int) -> str:
        own = rows.key(number)
        try:
            row = rows.row(number)
        except ReadError:
            return own
        found = (row[name] for name in ("key", "img_id") if isinstance(row.get(name), str | int))
        return str(next(found, own)).partition("/")[0]

    by = group if {"key", "img_id"} & {*rows.columns} else None
    return Listing(len(rows), make, rows.key, rows.files, rows.columns, is_text=columns.is_text, group=by)


def pair_of_row(row: Row, key: str, columns: Columns, folder: Path) -> Pair:
    """A row as a pair; pictures are content, or paths below `folder`."""
    instructions = _instructions(row, columns)
    if columns.is_text:
        return Pair(key, instructions)
    source, target, mask, references = (
        _value(row, columns, role) for role in ("source", "target", "mask", "references")
    )
    if target is None:
        raise ReadError(FIELDS, f"no target picture among {', '.join(row)}")
    caption, task = _value(row, columns, "caption"), _value(row, columns, "task")
    facts: dict[str, Any] = {name: row[name] for name in FACTS if isinstance(row.get(name), str)}
    facts |= {name: told for name in JSON_FACTS if isinstance(told := json_column(row.get(name)), dict)}
    used = {one for found in columns.roles.values() for one in found} | {*FACTS, *JSON_FACTS, *IGNORED}
    rest = {name: value for name, value in row.items() if name not in used and _is_plain(value)}
    return Pair(
        key,
        instructions,
        None if source is None else _content(source, folder, "source"),
        _content(target, folder, "target"),
        # several images, or one of squares side by side
        tuple(_content(one, folder) for one in references or ())
        if references is None or isinstance(references, list)
        else _content(references, folder),
        json_column(row.get("reference_sizes")),
        None if mask is None else tried(lambda one: _content(one, folder, "mask"), mask),
        task if isinstance(task, str) else "",
        caption if isinstance(caption, str) else "",
        {**facts, "notes": {**rest, **facts.get("notes", {})}},
    )


def _value(row: Row, columns: Columns, role: str) -> Any:
    """The first value of a role that is there; an empty text or list is none."""
    found = (row.get(name) for name in columns.roles.get(role, ()))
    return next((value for value in found if value is not None and value not in ("", [])), None)


def _content(value: Any, folder: Path, role: str = "") -> Content:
    """An image's content, or the path of its file; that of a `role` may stand in a list of one."""
    if role and isinstance(value, list):
        if len(value) != 1:
            raise ReadError(FIELDS, f"{len(value)} {role} pictures: an edit has one")
        value = value[0]
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        value = value.get("path")
    return value if isinstance(value, bytes) else inside(folder, value)


def _instructions(row: Row, columns: Columns) -> dict[str, tuple[str, ...]]:
    """Wordings by kind: `instructions` (kind -> texts), else `instruction`, whose kind `style` tells."""
    found: dict[str, tuple[str, ...]] = {}
    told = json_column(_value(row, columns, "instructions"))
    one = _value(row, columns, "instruction")
    if isinstance(told, dict):
        told = [{"kind": kind, "text": text} for kind, texts in told.items() for text in _texts(texts)]
    for wording in told if isinstance(told, list) else ():
        kind, texts = (wording.get("kind"), wording.get("text")) if isinstance(wording, dict) else ("simple", wording)
        if texts := _texts(texts):
            found[str(kind)] = (*found.get(str(kind), ()), *texts)
    if not found:
        texts = _texts(one)
        if not texts:
            raise ReadError(NO_TEXT, f"`instruction` is {one!r:.40}")
        found = {row["style"] if row.get("style") in STYLES else "simple": texts}
    spoken = _value(row, columns, "expressive")
    if isinstance(spoken, str) and spoken.strip() and EXPRESSIVE not in found:
        found[EXPRESSIVE] = (spoken.strip(),)
    return found


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several; blank ones and what is no text is left out."""
    return tuple(
        words(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one.strip()
    )


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold it."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, str | int | float | bool)
