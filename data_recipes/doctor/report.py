"""The diagnosis as a table in the terminal, and as a sheet of suspicious pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_recipes.doctor.findings import FAULTS, Diagnosis, examples
from insightedit.images.sheets import PairCard, Paragraph, Section, Sheet, SheetTable, Tile, write_pair_sheet

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 5  # findings of a fault in the terminal


def print_report(diagnosis: Diagnosis, console: Console) -> None:
    """Counts, the first findings of each fault, what to do, and what could not be told."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    for line in summary(diagnosis):
        console.print(escape(line))
    if diagnosis.counts:
        table = RichTable(title="What was found", title_justify="left")
        for name in ("fault", "found", "what to do"):
            table.add_column(name, justify="right" if name == "found" else "left")
        for fault, count in diagnosis.counts.items():
            table.add_row(FAULTS[fault][0], str(count), FAULTS[fault][1])
        console.print(table)
    for fault, count in diagnosis.counts.items():
        console.print(f"\n{FAULTS[fault][0]}, {count}:", style="bold")
        for one in examples(diagnosis.findings, fault, LISTED):
            console.print(escape(f"  {_place(one.where, one.file, one.split)}  {one.detail}"), soft_wrap=True)
        if count > LISTED:
            console.print(f"  ... and {count - LISTED} more; --json lists all")
    for line in diagnosis.unchecked:
        console.print(escape(f"\n{line}"), style="dim")


def summary(diagnosis: Diagnosis) -> list[str]:
    """The first lines of the report."""
    splits = ", ".join(f"{split} {count}" for split, count in diagnosis.splits.items()) or "no record"
    speed = f", {diagnosis.records / diagnosis.seconds:.0f} a second" if diagnosis.seconds > 0 else ""
    lines = [f"{diagnosis.path}: {diagnosis.kind}, {splits}; {diagnosis.seconds:.1f} s{speed}"]
    for name, count in diagnosis.compared.items():
        lines.append(f"Compared with {count} pictures of {name}.")
    if not diagnosis.findings:
        lines.append("Nothing was found.")
    return lines


def _place(where: str, file: str, split: str) -> str:
    name = Path(file).name
    told = [part for part in (split, name if name and name not in where else "") if part]
    return f"{where} ({', '.join(told)})" if told else where


def write_sheet(diagnosis: Diagnosis, path: Path) -> None:
    """Write the suspicious pairs as HTML or PNG.

    Raises:
        ValueError, FileNotFoundError: if the path cannot be a sheet.
    """
    sections = []
    for fault, count in diagnosis.counts.items():
        shown = [one for one in diagnosis.shown if one.finding.fault == fault]
        cards = tuple(
            PairCard(
                _place(one.finding.where, one.finding.file, one.finding.split),
                tuple(Tile(name, pixels) for name, pixels in one.pictures.items()),
                tuple(Paragraph.of(text) for text in (one.instruction, one.finding.detail) if text),
            )
            for one in shown
        )
        listed = () if shown else tuple(
            PairCard(_place(one.where, one.file, one.split), (), (Paragraph.of(one.detail),) if one.detail else ())
            for one in examples(diagnosis.findings, fault, LISTED)
        )  # fmt: skip
        title = f"{FAULTS[fault][0]} ({count})"
        sections.append(Section(title, cards or listed, f"What to do: {FAULTS[fault][1]}."))
    rows = tuple((FAULTS[fault][0], str(count), FAULTS[fault][1]) for fault, count in diagnosis.counts.items())
    tables = (SheetTable("What was found", ("fault", "found", "what to do"), rows),) if rows else ()
    notes = (*summary(diagnosis), *diagnosis.unchecked)
    write_pair_sheet(Sheet(f"Pair doctor: {Path(diagnosis.path).name}", notes, tables, tuple(sections)), path)
