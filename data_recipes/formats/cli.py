"""`python -m data_recipes.formats SRC --to LAYOUT -o DIR`: what a run wrote, for other tools."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from data_recipes.formats.advancededit import write_advancededit
from data_recipes.formats.reading import guess_kind
from data_recipes.formats.writers import (
    write_ai_toolkit,
    write_instructpix2pix,
    write_jsonl,
    write_magicbrush,
    write_mige,
)  # fmt: skip
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from insightedit.console import MAX_RECORDS, MAX_SIDE, Command, did_you_mean, progress_bar
from insightedit.files import check_folder, check_outside

EXAMPLES = """Examples:

  python -m data_recipes.formats runs/pairs --kind parquet --to magicbrush -o out/magicbrush

  python -m data_recipes.formats MagicBrush/train --to ai_toolkit -o out/folders --count 100

  python -m data_recipes.formats out/folders --kind ai_toolkit --to jsonl -o out/jsonl

Layouts that are read: advancededit, magicbrush, instructpix2pix, mige, ai_toolkit, jsonl, parquet, webdataset, arrow.
Layouts that are written: advancededit, magicbrush, instructpix2pix, mige, ai_toolkit, jsonl.
"""

WRITERS: dict[str, Callable[[Iterable[Record], Path], int]] = {
    "advancededit": write_advancededit,
    "magicbrush": write_magicbrush,
    "instructpix2pix": write_instructpix2pix,
    "mige": write_mige,
    "ai_toolkit": write_ai_toolkit,
    "jsonl": write_jsonl,
}

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command, epilog=EXAMPLES, no_args_is_help=True)
def write(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="File or folder of pairs.")],
    to: Annotated[str, typer.Option(help="Layout to write.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; new or empty.")],
    kind: Annotated[str | None, typer.Option(help="Layout of SRC. Default: told by its files.")] = None,
    split: Annotated[str, typer.Option(help="Which split of SRC.")] = "train",
    start: Annotated[int, typer.Option(min=0, max=MAX_RECORDS, help="First record.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, max=MAX_RECORDS, help="So many records at most.")] = None,
    max_side: Annotated[
        int | None,
        typer.Option(min=16, max=MAX_SIDE, help="Longer sides are brought to so many pixels. Default: as they are."),
    ] = None,
) -> None:
    """Write editing pairs in another published layout. Records that cannot be read are counted and named."""
    config = InputConfig(kind or guess_kind(source), str(source), split, count, start, max_side=max_side)
    done = export(config, to, out)
    for reason, number in done.rejected.items():
        typer.echo(f"{number} left out, {reason}: {done.first[reason]}", err=True)
    typer.echo(f"Wrote {done.written} records as {to} to {out}")


@dataclass
class Exported:
    """What an export did: records written, those that could not be read by reason, the first of each as a sentence."""

    written: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)


def export(config: InputConfig, layout: str, out: Path) -> Exported:
    """Write the records of an input in another layout, one at a time, into a new or empty folder."""
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
        with progress_bar(end - config.start, "pairs") as advance:
            for number in range(config.start, end):
                record = opened[number]
                if isinstance(record, Rejected):
                    done.rejected[record.reason] += 1
                    done.first.setdefault(record.reason, f"{record.key}: {record.detail}".rstrip(": "))
                else:
                    yield record
                if advance:
                    advance(1)

    try:
        done.written = WRITERS[layout](readable(), out)
        if not done.written:
            reasons = ", ".join(done.rejected) or f"there are none from {config.start} on"
            raise ValueError(f"no record of {config.path} could be written: {reasons}.")
    except Exception:
        shutil.rmtree(out)  # which was new or empty
        raise
    return done
