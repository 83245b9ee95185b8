"""The tables of runs, as commands print them and as a report shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from insightedit.evaluation.core.significance import Resampling
from insightedit.evaluation.reporting.category_tables import paired_table
from insightedit.evaluation.reporting.plots import Spot
from insightedit.evaluation.reporting.published import load_published
from insightedit.evaluation.reporting.runs import ReportRun, all_records
from insightedit.evaluation.reporting.table_formatting import Table
from insightedit.evaluation.reporting.tables import MetricColumn, beside_published, mean_of, results_table

NOT_BESIDE = "These numbers do not stand beside the published ones: the notes say why."
REASON_LENGTH = 300  # letters of a reason that are shown
KEPT = ("psnr_background", "PSNR", "SSIM", "CLIP_I", "DINO", "LPIPS", "L1")  # of a trade-off's horizontal axis


@dataclass(frozen=True)
class Gap:
    """Values that are missing for one reason."""

    method: str
    metric: str
    reason: str
    count: int


def columns_of(runs: Sequence[ReportRun]) -> list[MetricColumn]:
    """All columns of the runs, in their order."""
    return list(dict.fromkeys(column for run in runs for column in run.columns))


def notes_on(runs: Sequence[ReportRun]) -> list[str]:
    """What has to stand below every table: runs that are not finished, networks that were missing, licences."""
    lines = []
    for run in runs:
        if run.card.finished is None:
            lines.append(f"{run.folder} is not finished: run the same command again.")
        lines += [f"{run.folder}, not measured: {reason}" for reason in run.card.missing.values()]
    benchmarks = {run.card.benchmark["title"]: run.card.benchmark for run in runs}
    lines += [
        f"The licence of {title} excludes commercial use: {about['licence']}."
        for title, about in benchmarks.items()
        if about["is_non_commercial"]
    ]
    return lines


def table_of_runs(runs: Sequence[ReportRun], how: Resampling | None = None, title: str | None = None) -> Table:
    """Every method, control rows below, with intervals; a ValueError if nothing was measured."""
    columns = columns_of(runs)
    if not columns:
        raise ValueError(f"nothing was measured: {' '.join(notes_on(runs)) or 'the runs have no records.'}")
    return results_table(
        all_records(runs, columns),
        columns,
        title=title or ", ".join(dict.fromkeys(run.card.benchmark["title"] for run in runs)),
        protocols=protocol_names(runs),
        apart={run.method: run.card.apart for run in runs},
        how=how,
    )


def main_table(runs: Sequence[ReportRun], how: Resampling) -> Table:
    """The table of a report's head, whose page says by itself what cannot be shown."""
    grid = table_of_runs(runs, how, f"Results on {runs[0].benchmark}")
    return replace(grid, remarks=tuple(remark for remark in grid.remarks if "a gap under" not in remark))


def protocol_names(runs: Sequence[ReportRun]) -> dict[str, str]:
    """Hash of a record -> name of its protocol."""
    return {column["hash"]: run.card.protocol["name"] for run in runs for column in run.card.protocol["columns"]}


def published_tables(runs: Sequence[ReportRun], how: Resampling | None, *, only_theirs: bool = False) -> list[Table]:
    """The papers' tables that our numbers belong to: each whose rule is ours, or else each on the same pictures.

    Runs that are not finished, on other data or warned of do not stand beside the papers'. `only_theirs` leaves our
    other metrics out, not the strict variants of the papers'.
    """
    runs = [run for run in runs if not run.card.apart]
    columns, protocols = columns_of(runs), protocol_names(runs)
    mine = {column.metric_name for column in columns if column.metric_variant == "paper"}
    benches = dict.fromkeys(run.benchmark for run in runs)
    tables = []
    for table in load_published().tables_beside(benches, mine, set(protocols.values())):
        theirs = {column.key for column in table.columns}
        extra = [one for one in columns if one.metric_variant == "strict" or one.metric_name not in theirs]
        if only_theirs:
            extra = [one for one in extra if one.metric_name in theirs]
        records = all_records(runs, columns)
        tables.append(beside_published(records, table, extra=extra, protocols=protocols, how=how))
    return tables


def paired_runs(
    runs: Sequence[ReportRun], columns: Sequence[MetricColumn], primary: Collection[str], how: Resampling
) -> Table:
    """The first run against the others on shared samples, without control rows; see `paired_table`."""
    own = {run.method for run in runs}
    records = (record for record in all_records(runs) if record.method in own)
    return paired_table(records, runs[0].method, columns, bench=runs[0].benchmark, primary=primary, how=how)


def gaps(runs: Sequence[ReportRun]) -> list[Gap]:
    """Missing values, counted by method, metric and reason; most first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for record in all_records(runs):
        if record.value is None:
            reason = " ".join(str(record.error).split())[:REASON_LENGTH]
            counts[record.method, f"{record.metric_name} ({record.metric_variant})", reason] += 1
    return [Gap(*place, count) for place, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def spots(runs: Sequence[ReportRun], how: Resampling) -> tuple[MetricColumn, MetricColumn, list[Spot]] | None:
    """What the trade-off needs: (preserved, edited, runs); None for one run, or without a preservation metric."""
    edited = runs[0].headline
    known = {one.metric_name: one for one in reversed(runs[0].columns)}
    preserving = [known[name] for name in KEPT if name in known and name != edited.metric_name]
    shared = [one for one in preserving if all(run.column(one).values for run in runs)]
    if len(runs) < 2 or not shared or not all(run.column(edited).values for run in runs):
        return None
    kept = shared[0]
    found = [
        Spot(run.method, mean_of(run.column(kept), how), mean_of(run.column(edited), how), run.guidance)
        for run in runs
    ]
    return kept, edited, found
