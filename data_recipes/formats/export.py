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
from data_recipes.runner.inputs import InputConfig, open_input
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


def export(
    config: InputConfig, layout: str, out: Path, *, progress: Callable[[int], object] = lambda done: None
) -> Exported:
    """Write the records of an input in another layout, one at a time; `progress` is told after each.

    Raises:
        ValueError: if there is no such layout, the input cannot be opened, `out` holds files, or a record does not fit.
        OSError: if something cannot be read or written.
    """
    if layout not in WRITERS:
        raise ValueError(f"no layout {layout!r} can be written: {did_you_mean(layout, WRITERS)}")
    opened, done = open_input(config), Exported()
    check_folder(out)
    check_outside("--out", out, "the source", config.path)
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} holds files: name a new or empty folder.")
    out.mkdir(parents=True, exist_ok=True)

    def readable() -> Iterator[Record]:
        end = len(opened) if config.count is None else min(len(opened), config.start + config.count)
        for number in range(config.start, end):
            record = opened[number]
            progress(1)
            if isinstance(record, Rejected):
                done.rejected[record.reason] += 1
                done.first.setdefault(record.reason, f"{record.key}: {record.detail}".rstrip(": "))
            else:
                yield record

    try:
        done.written = WRITERS[layout](readable(), out)
        if not done.written:
            reasons = ", ".join(done.rejected) or f"there are none from {config.start} on"
            raise ValueError(f"no record of {config.path} could be written: {reasons}.")
    except Exception:
        shutil.rmtree(out)  # which was new or empty
        raise
    return done
