"""Tables and sentences of the studies, derived from records; `docs/ablations.md` is this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from benchmarks.ablations.comparisons import Comparison, Estimate, Measured
from benchmarks.ablations.studies import NOT_BUILT, SUCCESS
from insightedit.evaluation.core.significance import holm
from insightedit.evaluation.reporting import table_formatting as tables
from insightedit.evaluation.reporting.table_formatting import Cell, Table, to_markdown

if TYPE_CHECKING:
    from benchmarks.ablations.experiment import Experiment
    from benchmarks.ablations.studies import Column, Row

SHOWN_CONTROLS = ("copy_source", "empty_backdrop", "autoencoder_source", "autoencoder_backdrop", "autoencoder_target")
TASK_TITLES = {
    "editing": "editing by words",
    "subject": "new pictures of given subjects",
    "subject_editing": "putting a given subject into a picture",
}


def grid(measured: Measured) -> Table:
    """The table of one task: every row with its numbers, and what the reference is ahead of it."""
    study = measured.study
    compared = [column for column in study.columns if column.compared]
    reference = next(row for row in study.rows if row.name == study.reference)
    gain = f"{reference.label} minus this row"
    headings = [tables.Column(column.label, better=column.better) for column in study.columns]
    headings += [tables.Column(column.label, over=gain) for column in compared]
    lines = [_line(measured, row, compared) for row in measured.rows]
    lines += [
        _control_line(name, means, measured) for name, means in measured.controls.items() if name in SHOWN_CONTROLS
    ]
    return Table(
        f"{study.title}: {TASK_TITLES[measured.task]} ({study.source})",
        tuple(headings),
        tuple(lines),
        remarks=tuple(_remarks(measured)),
        corner="trained",
    )


def _line(measured: Measured, row: Row, compared: Sequence[Column]) -> tables.Row:
    cells = [_value_cell(measured.estimate(row.name, column), column) for column in measured.study.columns]
    for column in compared:
        comparison = measured.compare(row.name, column)
        cells.append(_difference_cell(comparison, column))
    return tables.Row(row.label, tuple(cells))


def _value_cell(estimate: Estimate | None, column: Column) -> Cell:
    if estimate is None:
        return Cell()
    low, high = (f"{end:.{column.digits}f}" for end in (estimate.low, estimate.high))
    return Cell(f"{estimate.value:.{column.digits}f}", f"{low} to {high}", round(estimate.value, column.digits))


def _difference_cell(comparison: Comparison | None, column: Column) -> Cell:
    if comparison is None:
        return Cell()
    found = comparison.difference
    low, high = (f"{end:+.{column.digits}f}" for end in (found.low, found.high))
    return Cell(f"{found.value:+.{column.digits}f}", f"{low} to {high}")


def _control_line(name: str, means: Mapping[str, Any], measured: Measured) -> tables.Row:
    cells = []
    for column in measured.study.columns:
        value = None if column.where else means.get(column.metric)
        cells.append(Cell() if value is None else Cell(f"{column.factor * value:.{column.digits}f}"))
    gaps = [Cell() for column in measured.study.columns if column.compared]
    return tables.Row(name.replace("_", " "), (*cells, *gaps), group="")


def _remarks(measured: Measured) -> list[str]:
    if not measured.protocol:
        return ["No run of this table is finished."]
    protocol = measured.protocol
    counts = {row.name: len(measured.records.get(row.name, {})) for row in measured.rows}
    lacking = [row.label for row in measured.rows if counts[row.name] < max(counts.values())]
    remarks = [
        f"{protocol['count']} scenes of the split {protocol['split']} at {protocol['size']} px, scenes protocol "
        f"{protocol['hash']}; training seeds {', '.join(map(str, measured.seeds))}."
    ]
    if lacking:
        remarks.append(f"Fewer seeds than the others, or none yet: {', '.join(lacking)}.")
    return remarks


def sentences(measured: Measured, corrected: Mapping[str, float]) -> list[str]:
    """What the comparisons say, one sentence for each row and compared number.

    Args:
        measured: one task of a study.
        corrected: p-values after Holm's correction by `comparison_key`; those of success.
    """
    study = measured.study
    reference = next(row for row in study.rows if row.name == study.reference)
    told = []
    for row in measured.rows:
        for column in (column for column in study.columns if column.compared):
            comparison = measured.compare(row.name, column)
            if comparison is None:
                continue
            p_value = corrected.get(comparison_key(measured, row)) if column == SUCCESS else None
            told.append(_sentence(reference, row, column, comparison, p_value))
    return told


def _sentence(reference: Row, row: Row, column: Column, comparison: Comparison, p_value: float | None) -> str:
    found = comparison.difference
    seeds = ", ".join(f"{value:+.{column.digits}f}" for value in found.by_seed)
    ends = f"{found.low:+.{column.digits}f} to {found.high:+.{column.digits}f}"
    verdict = "no difference shown"
    if found.excludes_zero:
        verdict = "ahead" if (found.value > 0) == (column.better == "higher") else "behind"
    tested = "" if p_value is None else f"; p {p_value:.2g} over scenes after Holm's correction"
    return (
        f"{reference.label} against {row.label}, {column.label}: {verdict}, {found.value:+.{column.digits}f} "
        f"({ends}), by seed {seeds}{tested}."
    )


def comparison_key(measured: Measured, row: Row) -> str:
    """Names one comparison of success."""
    return f"{measured.study.name}/{measured.task}/{row.name}"


def corrected_p_values(tables: Sequence[Measured]) -> dict[str, float]:
    """P-values of all comparisons of success in the tables, corrected for their number (Holm)."""
    raw = {}
    for measured in tables:
        for row in measured.rows:
            comparison = measured.compare(row.name, SUCCESS)
            if comparison is not None:
                raw[comparison_key(measured, row)] = comparison.p_value
    return holm(raw)


def tables_text(tables: Sequence[Measured]) -> str:
    """All tables with their sentences, as Markdown that reads well in a terminal."""
    corrected = corrected_p_values(tables)
    blocks = []
    for measured in tables:
        told = "".join(f"- {sentence}\n" for sentence in sentences(measured, corrected))
        blocks.append(f"{to_markdown(grid(measured))}{told}")
    return "\n".join(blocks)


def _start(experiment: Experiment) -> str:
    digest = experiment.bases.get("start")
    return (
        "none of these"
        if digest is None
        else f"the embedded default unless `--model` names another; weights `{digest}`"
    )


def write_document(
    experiment: Experiment, tables: Sequence[Measured], *, seeds: Sequence[int], written_by: str
) -> str:
    """The page `docs/ablations.md`.

    Args:
        experiment: whose runs.
        tables: from `comparisons.measured`, study by study.
        seeds: that were asked for.
        written_by: command that writes the page.
    """
    settings = experiment.settings
    text = (
        files("insightedit")
        .joinpath("templates/ablations.md")
        .read_text(encoding="utf-8")
        .format(
            written_by=written_by,
            command=experiment.command,
            hash=experiment.hash,
            steps=settings.steps,
            batch_size=settings.batch_size,
            lr=settings.lr,
            warm_up=max(1, round(0.05 * settings.steps)),
            count=settings.count,
            split=settings.split,
            start=_start(experiment),
            seeds=len(seeds),
        )
    )
    corrected = corrected_p_values(tables)
    studies = list(dict.fromkeys(measured.study for measured in tables))
    for study in studies:
        text += f"\n## {study.title}\n\nAfter {study.source}. {study.published}\n\n{study.about}\n"
        for measured in (one for one in tables if one.study == study):
            told = "".join(f"- {sentence}\n" for sentence in sentences(measured, corrected))
            text += f"\n{to_markdown(grid(measured))}{told}"
    text += "\n## Not built\n\n" + "".join(f"- {what}: {why}\n" for what, why in NOT_BUILT.items())
    return text
