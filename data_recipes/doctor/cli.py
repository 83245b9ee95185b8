"""`insightedit doctor data PATH`: what is wrong with a set of editing pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from insightedit.console import Command, command_group

EXAMPLES = """For example:

  insightedit doctor data data/train

  insightedit doctor data MagicBrush --kind magicbrush --sheet suspicious.html

  insightedit doctor data data/train --against magicbrush=MagicBrush/test --against Reason-Edit --json

Each picture is read once, nothing is written but the sheet. The exit code is 1 where something was found, 0 where not.

Swapped pairs are told where the edit has a direction that pixels show: something is removed or added, a colour or a
tone is named; and by AdvancedEdit's file names. A replacement looks alike both ways. Shifts are told from whole
pixels on. Crops and mirrored copies are not recognised as duplicates.
"""

app = command_group("Find what is wrong before hours are spent on it.")


@app.command(cls=Command, epilog=EXAMPLES, no_args_is_help=True)
def data(
    path: Annotated[Path, typer.Argument(help="File or folder of editing pairs, in any layout that is read.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="A kind of `data.sources`: jsonl, csv, parquet, webdataset, arrow, imagefolder, folders, magicbrush, "
            "instructpix2pix, advancededit, reasonedit, mige. Default: told by the files."
        ),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeat it. Default: all.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TESTSET",
            help="Folder of a test set, or NAME=FOLDER, whose pictures must not occur; any layout; repeat it.",
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Only the first records of each split.")] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder that paths in the files start from. Default: the files' own.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="ROLE=NAME", help="E.g. source=before target=after; repeat it."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also write the suspicious pairs to this .html or .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Look for swapped, shifted, resized, doubled and leaked pairs, bad masks, wrong instructions, damaged files."""
    from data_recipes.doctor.examine import examine
    from data_recipes.doctor.findings import print_report, write_sheet
    from insightedit.console import console, counting_bar
    from insightedit.files import check_outside, check_paths
    from insightedit.images.sheets import check_sheet_path

    if sheet is not None:
        check_sheet_path(sheet)
        inputs = [path, *(word.rpartition("=")[2] for word in against or ())]
        check_paths({"--sheet": sheet}, {"the data": inputs})
        for folder in inputs if sheet.exists() else ():
            check_outside("--sheet", sheet, "the data", folder)
    with counting_bar("records") as told:
        diagnosis = examine(
            path,
            kind=kind,
            splits=split or (),
            against=against or (),
            count=count,
            images=images,
            columns=dict(word.partition("=")[::2] for word in columns or ()),
            progress=told,
        )
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict(), ensure_ascii=False, indent=1))
    else:
        print_report(diagnosis, console())
    if sheet is not None:
        write_sheet(diagnosis, sheet)
        typer.echo(f"{sheet}  suspicious pairs", err=as_json)
    if diagnosis.findings:
        raise typer.Exit(1)
