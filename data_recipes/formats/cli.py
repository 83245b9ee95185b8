"""`python -m data_recipes.formats SRC --to LAYOUT -o DIR`: what a run wrote, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insightedit.console import MAX_RECORDS, MAX_SIDE, Command, one_sentence_errors

EXAMPLES = """Examples:

  python -m data_recipes.formats runs/pairs --kind parquet --to magicbrush -o out/magicbrush

  python -m data_recipes.formats MagicBrush/train --to ai_toolkit -o out/folders --count 100

  python -m data_recipes.formats out/folders --kind ai_toolkit --to jsonl -o out/jsonl

Layouts that are read: advancededit, magicbrush, instructpix2pix, mige, ai_toolkit, jsonl, parquet, webdataset, arrow.
Layouts that are written: advancededit, magicbrush, instructpix2pix, mige, ai_toolkit, jsonl.
"""

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m data_recipes.formats")


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
    with one_sentence_errors():
        from data_recipes.formats.export import export
        from data_recipes.formats.kinds import guess_kind
        from data_recipes.runner.inputs import InputConfig
        from insightedit.console import progress_bar

        config = InputConfig(kind or guess_kind(source), str(source), split, count, start, max_side=max_side)
        with progress_bar(count or 0, "pairs") as advance:
            done = export(config, to, out, progress=advance or (lambda done: None))
        for reason, number in done.rejected.items():
            typer.echo(f"{number} left out, {reason}: {done.first[reason]}", err=True)
        typer.echo(f"Wrote {done.written} records as {to} to {out}")
