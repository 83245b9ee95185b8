"""The report of a run, or of several on the same samples, as one HTML file that needs nothing else.

Numbers derive from the records, samples are chosen by rule, text is escaped, and the page may load nothing: its content
security policy allows data addresses, this style and this script only. It reads without JavaScript, too; the script
sorts tables. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.evaluation.core.significance import Resampling
from insightedit.evaluation.core.statistics import FEW
from insightedit.evaluation.reporting import grids, plots
from insightedit.evaluation.reporting.choice import choose
from insightedit.evaluation.reporting.pictures import CardMaker, contact_sheet, sheet_names
from insightedit.evaluation.reporting.reading import read_report_run
from insightedit.evaluation.reporting.runs import BINARY, ReportRun, merge_runs, with_votes
from insightedit.evaluation.reporting.table_formatting import FEW_MARK, Column, mark
from insightedit.files import write_text
from insightedit.images.data_addresses import figure_address
from insightedit.images.provenance import save_picture

if TYPE_CHECKING:
    from insightedit.evaluation.judge.votes import AlignReport

NAME = "report.html"
MAX_GAPS = 60  # lines of the table of missing values
ARROWS = {"higher": " ↑", "lower": " ↓", "n/a": ""}


def write_html_report(
    folders: Sequence[Path],
    path: Path | None = None,
    *,
    order: str | None = None,
    how: Resampling | None = None,
    seed: int = 0,
    with_sheets: bool = True,
    votes: AlignReport | None = None,
) -> list[Path]:
    """Write the report of a run, or of several, and a contact sheet of each category.

    Args:
        folders: of benchmark runs, or of scenes reports; the first one's categories and order of samples hold.
        path: of the HTML file; `report.html` in the first folder if not given. Sheets go beside it.
        order: metric that tells best from worst, "NAME" or "NAME:VARIANT"; the run's own if not given.
        how: of the intervals.
        seed: of the hash that draws random samples.
        with_sheets: also write `contact_sheets/CATEGORY.png`, or `contact_sheet.png` without categories.
        votes: of raters, on the pictures of these runs.

    Returns:
        What was written, the HTML file first.

    Raises:
        FileNotFoundError: if a folder holds no run.
        ProtocolMixError: if the runs follow different protocols.
        ValueError: if a run is damaged, benchmarks differ, or the metric is unknown.
    """
    runs = merge_runs([read_report_run(Path(folder)) for folder in folders])
    if votes is not None:
        runs = [with_votes(run, votes) for run in runs]
    if order is not None:
        runs[0] = runs[0].ordered_by(order)
    path = path or Path(folders[0]) / NAME
    html = render_html_report(runs, how=how, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)
    return [path, *(write_sheets(runs, path.parent, seed=seed) if with_sheets else ())]


def render_html_report(runs: Sequence[ReportRun], *, how: Resampling | None = None, seed: int = 0) -> str:
    """The report as HTML text.

    Raises:
        ProtocolMixError: if the runs follow different protocols.
    """
    from jinja2 import Environment, StrictUndefined

    how = how or Resampling()
    grids.check_same_protocol(runs)
    template = files("insightedit").joinpath("templates/evaluation.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"signs": _signs, "sort_key": _sort_key, "spans": _spans}
    text = environment.from_string(template).render(_context(runs, how, seed))
    return _sealed(text)


def _context(runs: Sequence[ReportRun], how: Resampling, seed: int) -> dict[str, Any]:
    """All that the template names."""
    first = runs[0]
    tables = {run.method: grids.category_tables(run, how) for run in runs}
    maker = CardMaker(runs)
    missing = grids.gaps(runs)
    return {
        "title": " and ".join(dict.fromkeys(run.title for run in runs)),
        "runs": runs,
        "main": grids.main_table(runs, how),
        "power": grids.power(first),
        "pairs": grids.pair_table(runs, how),
        "categories": [grids.category_grid(run, tables[run.method]) for run in runs],
        "published": grids.published_tables(runs, how),
        "plots": _plots(runs, tables, how),
        "can_plot": find_spec("matplotlib") is not None,
        "order": first.label(first.order),
        "blocks": [(block, maker.cards(block)) for block in choose(first, seed=seed)],
        "several": len(runs) > 1,
        "gaps": missing[:MAX_GAPS],
        "more_gaps": len(missing) - MAX_GAPS,
    }


def _plots(runs: Sequence[ReportRun], tables: dict[str, Any], how: Resampling) -> list[dict[str, str]]:
    first = runs[0]
    made: list[dict[str, str]] = []
    if find_spec("matplotlib") is None:
        return made
    if trade := grids.spots(runs, how):
        kept, edited = (f"{first.label(one)}{ARROWS[one.heading().better]}" for one in trade[:2])
        caption = f"Trade-off: {edited} against {kept}, 95 % intervals."
        made.append({"address": figure_address(plots.tradeoff(kept, edited, trade[2])), "caption": caption})
    bars = {method: found[first.headline] for method, found in tables.items() if first.headline in found}
    if bars and len(next(iter(bars.values())).rows) > 1:
        label = first.label(first.headline)
        caption = f"{label} by category, 95 % intervals; {FEW_MARK}: fewer than {FEW} samples."
        made.append({"address": figure_address(plots.category_bars(label, bars)), "caption": caption})
    columns = []
    for metric in first.columns:
        values = {run.method: run.column(metric).values for run in runs}
        flat = {m: [sum(v) / len(v) for v in found.values()] for m, found in values.items() if found}
        if flat and metric.metric_name not in BINARY and metric.heading().better != "n/a":
            columns.append((first.label(metric), flat))
    if columns:
        caption = "Distribution of each metric over the samples; dashed: means."
        made.append({"address": figure_address(plots.distributions(columns)), "caption": caption})
    return made


def write_sheets(runs: Sequence[ReportRun], folder: Path, *, seed: int = 0) -> list[Path]:
    """Write a contact sheet of each category, or one if there are none.

    Returns:
        Their paths; none if no pictures were kept.
    """
    first = runs[0]
    if not first.samples:
        return []
    maker = CardMaker(runs)
    categories = list(dict.fromkeys(first.column(first.order).categories.values()))
    paths = []
    for category, name in sheet_names(categories).items():
        blocks = [(block.title, maker.cards(block)) for block in choose(first, category=category, seed=seed)]
        title = f"{first.title}{f', {category}' if category else ''}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(contact_sheet(title, blocks), path)
        paths.append(path)
    return paths


def _signs(notes: Sequence[int]) -> str:
    """Signs of footnotes."""
    return " ".join(mark(number) for number in notes)


def _sort_key(text: str) -> str:
    """The number that a cell's text begins with, "" without."""
    found = re.match(r"[^\d.-]*(-?\d+(?:\.\d+)?)", text)
    return found[1] if found else ""


def _spans(headings: Sequence[Column]) -> list[tuple[str, int]]:
    """(heading above, columns below it) from left to right; none if there is no such heading."""
    spans = [(over, len(list(members))) for over, members in groupby(headings, lambda one: one.over)]
    return spans if any(over for over, _ in spans) else []


def _sealed(html: str) -> str:
    """Put the hashes of the page's one style and one script into its policy: nothing else of the kind may run."""
    for tag in ("style", "script"):
        begin = html.index(f"<{tag}>") + len(tag) + 2
        text = html[begin : html.index(f"</{tag}>", begin)]
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        html = html.replace(f"{tag.upper()}-DIGEST", f"sha256-{digest}", 1)
    return html
