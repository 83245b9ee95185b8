"""What the doctor finds: kinds of faults, each with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insightedit.datasets import reading

FAULTS: dict[str, tuple[str, str]] = {
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

UNUSABLE = {*OF_REASON.values()} - {"unreadable_mask"}
"""Faults of records that training leaves out, all of which `insightedit.datasets` names."""


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        fault: a key of `FAULTS`.
        where: the record, or the file.
        detail: what was seen.
        file: that the record is read from.
        split: of the data set.
    """

    fault: str
    where: str
    detail: str = ""
    file: str = ""
    split: str = ""

    @property
    def what(self) -> str:
        """The fault in words."""
        return FAULTS[self.fault][0]

    @property
    def remedy(self) -> str:
        """What to do."""
        return FAULTS[self.fault][1]


@dataclass(frozen=True)
class Shown:
    """A suspicious pair, small, to be looked at: pictures (h, w, 3) uint8 by name, and its instruction."""

    finding: Finding
    pictures: Mapping[str, np.ndarray]
    instruction: str = ""


@dataclass
class Diagnosis:
    """What was found in a data set.

    Attributes:
        path: that was looked at.
        kind: of layout.
        splits: split -> records.
        findings: in the order in which they were found.
        shown: pairs to look at, a few of each kind.
        unchecked: what could not be told, as sentences.
        compared: test set -> how many of its pictures were compared with.
        seconds: that it took.
    """

    path: str
    kind: str
    splits: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)
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

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "path": self.path,
            "kind": self.kind,
            "splits": self.splits,
            "records": self.records,
            "counts": self.counts,
            "findings": [{**vars(one), "what": one.what, "remedy": one.remedy} for one in self.findings],
            "unchecked": self.unchecked,
            "compared": self.compared,
            "seconds": round(self.seconds, 1),
        }


def examples(findings: Sequence[Finding], fault: str, limit: int) -> list[Finding]:
    """The first findings of a fault."""
    return [one for one in findings if one.fault == fault][:limit]
