"""A data set, or what a run wrote, in another layout."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_recipes.formats.advancededit_writer import write_advancededit
from data_recipes.formats.writers import (
    write_ai_toolkit,
    write_instructpix2pix,
    write_jsonl,
    write_magicbrush,
    write_mige,
)  # fmt: skip
from data_recipes.runner.inputs import Input, InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from insightedit.console import did_you_mean
from insightedit.files import check_folder, check_outside

WRITERS: dict[str, Callable[[Iterable[Record], Path], int]] = {
    "advancededit": write_advancededit,
    "magicbrush": write_magicbrush,
    "instructpix2pix": write_instructpix2pix,
    "mige": write_mige,
    "ai_toolkit": write_ai_toolkit,
    "jsonl": write_jsonl,
}


@dataclass
class Exported:
    """What an export did: records written, those that could not be read by reason, the first of each as a sentence."""

    written: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)


def writer(layout: str) -> Callable[[Iterable[Record], Path], int]:
    """The function that writes a layout.

    Raises:
        ValueError: if there is none of that name.
    """
    if layout not in WRITERS:
        raise ValueError(f"no layout {layout!r} can be written: {did_you_mean(layout, WRITERS)}")
    return WRITERS[layout]


def export(
    config: InputConfig, layout: str, out: Path, *, progress: Callable[[int], object] = lambda done: None
) -> Exported:
    """Write the records of an input in another layout, one at a time; `progress` is told after each.

    Raises:
        ValueError: if there is no such layout, the input cannot be opened, `out` holds files, or a record does not fit.
        OSError: if something cannot be read or written.
    """
    write = writer(layout)
    opened = open_input(config)
    check_folder(out)
    check_outside("--out", out, "the source", config.path)
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} holds files: name a new or empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    done = Exported()
    try:
        done.written = write(_readable(opened, config, done, progress), out)
        if not done.written:
            reasons = ", ".join(done.rejected) or f"there are none from {config.start} on"
            raise ValueError(f"no record of {config.path} could be written: {reasons}.")
    except Exception:
        shutil.rmtree(out)  # which was new or empty
        raise
    return done


def span(opened: Input, config: InputConfig) -> range:
    """The numbers of the records that a config asks for."""
    end = len(opened) if config.count is None else min(len(opened), config.start + config.count)
    return range(config.start, end)


def _readable(
    opened: Input, config: InputConfig, done: Exported, progress: Callable[[int], object]
) -> Iterator[Record]:
    for number in span(opened, config):
        record = opened[number]
        progress(1)
        if isinstance(record, Rejected):
            done.rejected[record.reason] += 1
            done.first.setdefault(record.reason, f"{record.key}: {record.detail}".rstrip(": "))
            continue
        yield record
