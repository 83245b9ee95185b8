"""What the doctor finds, in the terminal and as a sheet: kinds of faults, each with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.console import titled_table
from insightedit.datasets import reading
from insightedit.images.sheets import PairCard, Paragraph, Section, Sheet, SheetTable, Tile, write_pair_sheet

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 5  # findings of a fault in the terminal

FAULTS: dict[str, tuple[str, str]] = {  # what is wrong, and what to do
    "swapped": ("source and target swapped", "exchange the two pictures, or the columns they come from"),
    "misaligned": ("target shifted against its source", "make the pair anew without the shift, or drop it"),
    "resized": ("pictures of different sizes", "bring source, target and mask to one size, or drop the pair"),
    "empty_mask": ("mask is empty", "write a mask of what changes, or leave the mask out"),
    "full_mask": ("mask covers the whole picture", "write a mask of what changes, or leave the mask out"),
    "mask_elsewhere": ("mask is not where the picture changes", "check which mask belongs to the pair"),
    "wrong_task": ("instruction names another task", "check which instruction belongs to the pair"),
    "duplicate": ("near-duplicate of another pair", "keep one of them"),
    "split_leak": ("picture is in two splits", "move all pairs of a picture into one split"),
    "test_leak": ("picture is in a test set", "drop the pair, or results on that test set are worth nothing"),
    "unreadable": ("picture cannot be read", "get the file again, or drop the pair"),
    "unsafe_path": ("path leads out of its folder", "do not unpack it; ask whoever made it, or write it anew"),
    "identical": ("nothing changes between source and target", "drop the pair, or find its real target"),
    "no_instruction": ("instruction is empty", "write one, or drop the pair"),
    "missing": ("file is missing", "get it again, or drop the pair"),
    "incomplete": ("record is incomplete", "complete it, or drop it"),
    "not_utf8": ("text is not in UTF-8", "save the file in UTF-8"),
    "unreadable_mask": ("mask cannot be read", "get it again, or leave the mask out; training does without"),
    "not_json": ("file is not valid JSON", "write it again as JSON, or drop it"),
}
OF_REASON = {
    reading.MISSING: "missing",
    reading.DAMAGED: "unreadable",
    reading.NO_TEXT: "no_instruction",
    reading.OUTSIDE: "unsafe_path",
    reading.FIELDS: "incomplete",
    reading.NOT_JSON: "not_json",
    reading.AMBIGUOUS: "incomplete",
    reading.NOT_TEXT: "not_utf8",
    reading.BAD_MASK: "unreadable_mask",
}


@dataclass(frozen=True)
class Finding:
    """One fault."""

    fault: str  # a key of `FAULTS`
    where: str  # the record, or the file
    detail: str = ""  # what was seen
    file: str = ""  # that the record is read from
    split: str = ""

    @property
    def place(self) -> str:
        """The record, with its split and file as far as they tell more."""
        name = Path(self.file).name
        told = [part for part in (self.split, name if name not in self.where else "") if part]
        return f"{self.where} ({', '.join(told)})" if told else self.where


@dataclass(frozen=True)
class Shown:
    """A suspicious pair, small, to be looked at: pictures (h, w, 3) uint8 by name, and its instruction."""

    finding: Finding
    pictures: Mapping[str, np.ndarray]
    instruction: str = ""


@dataclass
class Diagnosis:
    """What was found in a data set."""

    path: str  # that was looked at
    kind: str  # of layout
    splits: dict[str, int] = field(default_factory=dict)  # -> records
    findings: list[Finding] = field(default_factory=list)  # in the order of `FAULTS`
    shown: list[Shown] = field(default_factory=list)  # pairs to look at, a few of each kind
    unchecked: list[str] = field(default_factory=list)  # what could not be told, as sentences
    compared: dict[str, int] = field(default_factory=dict)  # test set -> how many of its pictures were compared with
    seconds: float = 0.0

    @property
    def records(self) -> int:
        """All that were read."""
        return sum(self.splits.values())

    @property
    def counts(self) -> dict[str, int]:
        """Fault -> findings, in the order of `FAULTS`."""
        found = Counter(one.fault for one in self.findings)
        return {fault: found[fault] for fault in FAULTS if found[fault]}

    @property
    def summary(self) -> list[str]:
        """The first lines of the report."""
        splits = ", ".join(f"{split} {count}" for split, count in self.splits.items()) or "no record"
        speed = f", {self.records / self.seconds:.0f} a second" if self.seconds > 0 else ""
        lines = [f"{self.path}: {self.kind}, {splits}; {self.seconds:.1f} s{speed}"]
        lines += [f"Compared with {count} pictures of {name}." for name, count in self.compared.items()]
        return lines if self.findings else [*lines, "Nothing was found."]

    def first(self, fault: str) -> list[Finding]:
        """The first findings of a fault."""
        return [one for one in self.findings if one.fault == fault][:LISTED]

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        findings = [vars(one) | dict(zip(("what", "remedy"), FAULTS[one.fault], strict=True)) for one in self.findings]
        names = ("path", "kind", "splits", "records", "counts", "findings", "unchecked", "compared", "seconds")
        told = {name: getattr(self, name) for name in names}
        return told | {"findings": findings, "seconds": round(self.seconds, 1)}


def print_report(diagnosis: Diagnosis, console: Console) -> None:
    """Counts, the first findings of each fault, what to do, and what could not be told."""
    from rich.markup import escape

    for line in diagnosis.summary:
        console.print(escape(line))
    if diagnosis.counts:
        table = titled_table("What was found", ("fault", "what to do"), ("found",))
        for fault, count in diagnosis.counts.items():
            table.add_row(*FAULTS[fault], str(count))
        console.print(table)
    for fault, count in diagnosis.counts.items():
        console.print(f"\n{FAULTS[fault][0]}, {count}:", style="bold")
        for one in diagnosis.first(fault):
            console.print(escape(f"  {one.place}  {one.detail}"), soft_wrap=True)
        if count > LISTED:
            console.print(f"  ... and {count - LISTED} more; --json lists all")
    for line in diagnosis.unchecked:
        console.print(escape(f"\n{line}"), style="dim")


def write_sheet(diagnosis: Diagnosis, path: Path) -> None:
    """Write the suspicious pairs as HTML or PNG; raises what `check_sheet_path` does."""
    sections = []
    for fault, count in diagnosis.counts.items():
        shown = [one for one in diagnosis.shown if one.finding.fault == fault]
        cards = []
        for one in shown or [Shown(finding, {}) for finding in diagnosis.first(fault)]:
            tiles = tuple(Tile(name, pixels) for name, pixels in one.pictures.items())
            lines = tuple(Paragraph.of(text) for text in (one.instruction, one.finding.detail) if text)
            cards.append(PairCard(one.finding.place, tiles, lines))
        what, remedy = FAULTS[fault]
        sections.append(Section(f"{what} ({count})", tuple(cards), f"What to do: {remedy}."))
    rows = tuple((FAULTS[fault][0], str(count), FAULTS[fault][1]) for fault, count in diagnosis.counts.items())
    tables = (SheetTable("What was found", ("fault", "found", "what to do"), rows),) if rows else ()
    notes = (*diagnosis.summary, *diagnosis.unchecked)
    write_pair_sheet(Sheet(f"Pair doctor: {Path(diagnosis.path).name}", notes, tables, tuple(sections)), path)
