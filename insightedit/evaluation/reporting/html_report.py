"""The report of a run, or of several on the same samples, as one HTML file that needs nothing else.

Numbers derive from the records, samples are chosen by rule, text is escaped, and the page may load nothing: its content
security policy allows data addresses, this style and this script only. It reads without JavaScript, too; the script
sorts tables. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.evaluation.core.significance import CategoryTable, Resampling, power_hint
from insightedit.evaluation.core.statistics import FEW
from insightedit.evaluation.reporting import plots, run_tables
from insightedit.evaluation.reporting.choice import choose
from insightedit.evaluation.reporting.pictures import CardMaker, contact_sheet, sheet_names
from insightedit.evaluation.reporting.runs import ReportRun, merge_runs, read_report_run, with_votes
from insightedit.evaluation.reporting.table_formatting import ARROWS, FEW_MARK, mark
from insightedit.evaluation.reporting.tables import BINARY, MetricColumn
from insightedit.files import write_text
from insightedit.images.picture_files import figure_address
from insightedit.images.provenance import save_picture

if TYPE_CHECKING:
    from insightedit.evaluation.judge.votes import AlignReport

NAME = "report.html"
MAX_GAPS = 60  # lines of the table of missing values

Tables = Mapping[MetricColumn, CategoryTable]


def write_html_report(
    folders: Sequence[Path],  # of runs; the first one's categories and order of samples hold
    path: Path | None = None,  # of the HTML file, beside which sheets go; `report.html` in the first folder if None
    *,
    order: str | None = None,  # metric that tells best from worst, "NAME" or "NAME:VARIANT"; None for the run's own
    how: Resampling | None = None,  # of the intervals
    seed: int = 0,  # of the hash that draws random samples
    with_sheets: bool = True,  # also write `contact_sheets/CATEGORY.png`, without categories `contact_sheet.png`
    votes: AlignReport | None = None,  # of raters, on the pictures of these runs
) -> list[Path]:
    """Write the report of a run or several, and a contact sheet of each category; gives paths, the HTML file first."""
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
    """The report as HTML text."""
    from jinja2 import Environment, StrictUndefined

    how = how or Resampling()
    first, headlines = runs[0], [run.headline for run in runs]  # a run without a number is refused at once
    main = run_tables.main_table(runs, how)  # before all else: it refuses two protocols
    tables = {run.method: _by_category(run, how) for run in runs}
    shared = [
        one for one in first.columns if one.heading().better != "n/a" and all(run.column(one).values for run in runs)
    ]
    primary, is_paired = (headlines[0].metric_name,), len(runs) > 1 and bool(shared)
    pairs = run_tables.paired_runs(runs, shared, primary, how) if is_paired else None
    maker = CardMaker(runs)
    missing = run_tables.gaps(runs)
    template = files("insightedit").joinpath("templates/evaluation.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"signs": lambda notes: " ".join(map(mark, notes)), "sort_key": _sort_key}
    text = environment.from_string(template).render(
        title=" and ".join(dict.fromkeys(run.title for run in runs)),
        runs=runs,
        main=main,
        power=power_hint(first.column(headlines[0]).n),
        pairs=pairs,
        categories=[
            run_tables.metrics_by_category(run.method, tables[run.method], len(run.column(headline).categories))
            for run, headline in zip(runs, headlines, strict=True)
        ],
        published=run_tables.published_tables(runs, how, only_theirs=True),
        plots=_plots(runs, tables, how) if find_spec("matplotlib") else [],
        can_plot=find_spec("matplotlib") is not None,
        order=first.order.heading().label,
        blocks=[(block, maker.cards(block)) for block in choose(first, seed=seed)],
        several=len(runs) > 1,
        gaps=missing[:MAX_GAPS],
        more_gaps=len(missing) - MAX_GAPS,
    )
    for tag in ("style", "script"):  # the page's policy names the hash of its one style and script: no other may run
        begin = text.index(f"<{tag}>") + len(tag) + 2
        inside = text[begin : text.index(f"</{tag}>", begin)]
        digest = base64.b64encode(hashlib.sha256(inside.encode("utf-8")).digest()).decode("ascii")
        text = text.replace(f"{tag.upper()}-DIGEST", f"sha256-{digest}", 1)
    return text


def _sort_key(text: str) -> str:
    """The number that a cell's text begins with, "" without."""
    found = re.match(r"[^\d.-]*(-?\d+(?:\.\d+)?)", text)
    return found[1] if found else ""


def _by_category(run: ReportRun, how: Resampling) -> Tables:
    """Each metric by category; those without any value are left out."""
    found = {metric: run.column(metric) for metric in run.columns}
    return {metric: run_tables.table_by_category(column, how) for metric, column in found.items() if column.values}


def _plots(runs: Sequence[ReportRun], tables: Mapping[str, Tables], how: Resampling) -> list[dict[str, str]]:
    """Plots as SVG, and what they show."""
    first = runs[0]
    figures: list[tuple[Any, str]] = []
    if trade := run_tables.spots(runs, how):
        kept, edited = (f"{one.label} {ARROWS[one.better]}" for one in (trade[0].heading(), trade[1].heading()))
        caption = f"Trade-off: {edited} against {kept}, 95 % intervals."
        figures.append((plots.tradeoff(kept, edited, trade[2]), caption))
    bars = {method: found[first.headline] for method, found in tables.items() if first.headline in found}
    if bars and len(next(iter(bars.values())).rows) > 1:
        label = first.headline.heading().label
        caption = f"{label} by category, 95 % intervals; {FEW_MARK}: fewer than {FEW} samples."
        figures.append((plots.category_bars(label, bars), caption))
    columns = []
    for metric in first.columns:
        flat = {run.method: list(run.column(metric).means.values()) for run in runs if run.column(metric).values}
        if flat and metric.metric_name not in BINARY and metric.heading().better != "n/a":
            columns.append((metric.heading().label, flat))
    if columns:
        caption = "Distribution of each metric over the samples; dashed: means."
        figures.append((plots.distributions(columns), caption))
    return [{"address": figure_address(figure), "caption": caption} for figure, caption in figures]


def write_sheets(runs: Sequence[ReportRun], folder: Path, *, seed: int = 0) -> list[Path]:
    """Write a contact sheet of each category, or one without; none if no pictures were kept. Returns their paths."""
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
