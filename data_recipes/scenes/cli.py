"""`python -m data_recipes.scenes`: write scenes as a data set, or look at some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from data_recipes.scenes.writer import COLUMNS, PICTURES, SceneDataSettings, write_dataset
from insightedit.console import Command, one_sentence_errors, progress_bar
from insightedit.images.sheets import GridCell, check_sheet_path, draw_grid, save_sheet
from insightedit.scenes.assets import Assets
from insightedit.scenes.sampler import EditSample
from insightedit.scenes.subjects import SubjectSample

ON_SHEET, TILES_IN_ROW = 24, 12
TILE = 128  # px; smaller pictures are enlarged in whole steps, so that their pixels stay visible
EXAMPLES = """Examples:

  python -m data_recipes.scenes --out data/train --count 10000 --size 128

  python -m data_recipes.scenes --out data/test --split test --format parquet

  python -m data_recipes.scenes --task subject_edits --out data/subject_edits --sheet subject_edits.png

  python -m data_recipes.scenes --sheet look.png --split val --assets pack

The same command again goes on where a run was stopped. One folder holds one split.
"""

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command, epilog=EXAMPLES, no_args_is_help=True)
def write(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; new, empty, or begun by the same command.")
    ] = None,
    count: Annotated[int, typer.Option(help="Pairs to write.")] = 1000,
    size: Annotated[int, typer.Option(help="Side of the square pictures in pixels.")] = 64,
    split: Annotated[str, typer.Option(help="train, val or test: they share no photograph.")] = "train",
    format: Annotated[str, typer.Option(help="webdataset (tar) or parquet.")] = "webdataset",
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes of the same kind.")] = 0,
    shard_size: Annotated[int, typer.Option(help="Pairs a file.")] = 1000,
    start_index: Annotated[int, typer.Option(help="First sample, to share one data set out among machines.")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the first 24 samples on a PNG to look at.")] = None,
    assets: Annotated[Path | None, typer.Option(help="Folder of your own sprites and photographs.")] = None,
    task: Annotated[
        str,
        typer.Option(
            help="edits, told in words; subjects: new pictures of what reference pictures show; subject_edits: scenes "
            "to which it is added, or in which it replaces something."
        ),
    ] = "edits",
) -> None:
    """Write pictures before and after an edit, with the instruction, the exact mask, captions and questions."""
    with one_sentence_errors("the same command goes on from the last whole file."):
        settings = SceneDataSettings(split, count, size, seed, format, shard_size, start_index, task)
        if out is None and sheet is None:
            raise ValueError("nothing to do: name a folder with --out, or a picture with --sheet.")
        pack = Assets.embedded() if assets is None else Assets.from_folder(assets)
        if sheet is not None:
            check_sheet_path(sheet, endings=(".png",))
            sampler = settings.sampler(pack)
            samples = [sampler[i] for i in range(start_index, start_index + min(ON_SHEET, count))]
            pictures = [name for name in ("references", *PICTURES) if name in COLUMNS[task]]
            kind = "scenes" if task == "edits" else f"scenes, {task.replace('_', ' ')}"
            title = f"{kind}, {split}, {size} px, seed {seed}: {' | '.join(pictures)}"
            save_sheet(contact_sheet(samples, title), sheet)
            typer.echo(f"Wrote {sheet}")
        if out is not None:
            with progress_bar(count, "pairs") as advance:
                manifest = write_dataset(out, settings, assets=pack, progress=advance or (lambda pairs: None))
            megabytes = sum(entry["bytes"] for entry in manifest["shards"]) / 1e6
            files = len(manifest["shards"])
            typer.echo(f"Wrote {count} pairs in {files} file{'s' * (files > 1)}, {megabytes:.1f} MB, to {out}")


def contact_sheet(samples: Sequence[EditSample | SubjectSample], title: str) -> Image.Image:
    """Cells of references | source | target | mask, as far as there are any, with instruction and kind below.

    Cells stand four in a row, or fewer where references make them wider. All samples, at least one, are of one sampler.
    """
    if not samples:
        raise ValueError("a contact sheet needs at least one sample.")
    size = samples[0].target.shape[0]
    side = size * max(1, TILE // size) if size <= 2 * TILE else TILE * 2
    most = max(len(sample.references) for sample in samples)
    cells = []
    for sample in samples:
        free = [None] * (most - len(sample.references))  # another sample has one more
        source = [] if sample.source is None else [sample.source]
        images = [
            None if one is None else Image.fromarray(one).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            for one in (*sample.references, *free, *source, sample.target, sample.mask.astype(np.uint8) * 255)
        ]
        kind = f"#{sample.index}  {sample.task}, {sample.category}, {sample.style}".replace("_", " ")
        cells.append(GridCell(tuple(images), sample.instruction, kind))
    return draw_grid(title, cells, TILES_IN_ROW)
