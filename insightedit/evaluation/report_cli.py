"""`insightedit eval report`: what one run, or several on the same samples, look like; one HTML file.

insightedit eval report runs/eval                             # OUT/report.html and a contact sheet per category
insightedit eval report runs/eval/a runs/eval/b --out ab.html # side by side, with tests and a trade-off
insightedit eval report runs/eval --by LPIPS:strict           # best and worst by another metric
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insightedit.command_line import one_sentence_errors


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that `insightedit eval` wrote; the first one leads.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file. Default: report.html in the first folder.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Metric that tells best from worst, NAME or NAME:VARIANT.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the hash that draws random samples, and of intervals.")] = 0,
    sheets: Annotated[bool, typer.Option(help="Also write a contact sheet of each category.")] = True,
) -> None:
    """Tables, plots, failures and contact sheets of a run as one HTML file that loads nothing."""
    with one_sentence_errors():
        from insightedit.evaluation.html_report import write_html_report
        from insightedit.evaluation.significance import Resampling

        if out is not None and out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out {out}: name a file that ends in .html.")
        how = Resampling(seed=seed)
        for path in write_html_report(folders, out, order=by, how=how, seed=seed, with_sheets=sheets):
            typer.echo(path)
