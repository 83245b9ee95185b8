"""`insightedit eval report`: what one run, or several on the same samples, look like; one HTML file.

insightedit eval report runs/eval                             # OUT/report.html and a contact sheet per category
insightedit eval report runs/eval/a runs/eval/b --out ab.html # side by side, with tests and a trade-off
insightedit eval report runs/eval --by LPIPS:strict           # best and worst by another metric
insightedit eval report runs/eval --votes a.json --votes b.json --votes c.json --key rating/key.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insightedit.cli.options import Resamples
from insightedit.console import MAX_SEED, one_sentence_errors
from insightedit.files import check_others


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `insightedit eval` wrote; the first one leads.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file. Default: report.html in the first folder.")] = None,
    by: Annotated[str | None, typer.Option(help="Metric that tells best from worst, NAME or NAME:VARIANT.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Of the hash that draws random samples, and of intervals.")
    ] = 0,
    resamples: Resamples = 10_000,
    votes: Annotated[
        list[Path] | None, typer.Option(help="A rater's file of `insightedit eval rate`; repeat it.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="key.json of the raters' page.")] = None,
    sheets: Annotated[bool, typer.Option(help="Also write a contact sheet of each category.")] = True,
) -> None:
    """Tables, plots, failures and contact sheets of a run as one HTML file that loads nothing."""
    with one_sentence_errors():
        from insightedit.evaluation.core.significance import Resampling
        from insightedit.evaluation.reporting.html_report import write_html_report

        if out is not None and out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out {out}: name a file that ends in .html.")
        check_others({"--out": out})
        if bool(votes) != (key is not None):
            raise ValueError("--votes and --key go together: name the raters' files and their page's key.json.")
        align = None
        if votes and key is not None:
            from insightedit.evaluation.judge.votes import count_votes, read_key, read_votes

            align = count_votes(read_key(key), [read_votes(path) for path in votes])
        how = Resampling(resamples=resamples, seed=seed)
        chosen = {"order": by, "seed": seed, "with_sheets": sheets, "votes": align}
        for path in write_html_report(folders, out, how=how, **chosen):
            typer.echo(path)
