"""A table as text: Markdown that also reads well in a terminal, and LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

LETTERS = "abcdefghijklmnoprstuvwxyz"  # no q: it has no raised form
RAISED = dict(zip(LETTERS + "0123456789", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))
EMPTY = "–"
FEW_MARK = "†"

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "²": r"$^2$",
    "†": r"$^\dagger$",
    "–": "--",
}


@dataclass(frozen=True)
class Column:
    """One column's head.

    Attributes:
        label: as printed, without arrow.
        over: heading above this and its neighbours of the same name, "" without.
        better: "higher", "lower" or "n/a"; the best value of a column is marked unless "n/a".
        notes: numbers of the notes that hold for the column.
    """

    label: str
    over: str = ""
    better: str = "n/a"
    notes: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Label with arrow."""
        return self.label + {"higher": "↑", "lower": "↓"}.get(self.better, "")


@dataclass(frozen=True)
class Cell:
    """One place of the table.

    Attributes:
        text: as printed; "" for nothing.
        interval: what stands below it, "" without.
        number: what it is ranked by, None if it is not ranked.
        notes: numbers of the notes that hold for it.
    """

    text: str = ""
    interval: str = ""
    number: float | None = None
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: of the method or category.
        cells: one per heading.
        group: heading beside this and its neighbours of the same name, "" without.
    """

    label: str
    cells: tuple[Cell, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: caption.
        headings: of the columns after the label.
        lines: rows; rules are drawn between their groups.
        notes: footnotes; headings and cells name them by their place here, from 0.
        remarks: sentences below the footnotes.
        corner: head of the labels.

    Raises:
        ValueError: if a row has too few or too many cells.
    """

    title: str
    headings: tuple[Column, ...]
    lines: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    corner: str = "Methods"

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.cells) != len(self.headings):
                raise ValueError(
                    f"row {line.label} has {len(line.cells)} cells for {len(self.headings)} headings: "
                    "give one for each."
                )

    def ranks(self) -> list[list[int]]:
        """For every row and column 1 for the best, 2 for the second best, 0 otherwise; equal numbers share a rank."""
        found = [[0] * len(self.headings) for _ in self.lines]
        for place, heading in enumerate(self.headings):
            numbers = [line.cells[place].number for line in self.lines]
            present = [number for number in numbers if number is not None]
            if heading.better == "n/a" or len(present) < 2:
                continue
            best = sorted(set(present), reverse=heading.better == "higher")[:2]
            for row, number in zip(found, numbers, strict=True):
                row[place] = best.index(number) + 1 if number in best else 0
        return found


@dataclass(frozen=True)
class _Style:
    """How a language writes things."""

    escape: Callable[[str], str]
    best: str
    second: str
    raised: Callable[[Sequence[int]], str]
    small: str

    def cell(self, cell: Cell, rank: int) -> str:
        text = self.escape(cell.text or EMPTY)
        if rank:
            text = (self.best if rank == 1 else self.second).format(text)
        return text + self.raised(cell.notes)

    def heading(self, heading: Column) -> str:
        return self.escape(heading.text) + self.raised(heading.notes)


def mark(number: int) -> str:
    """The sign of a footnote: a letter, then numbers in brackets."""
    return LETTERS[number] if number < len(LETTERS) else f"({number + 1})"


def _raised(numbers: Sequence[int]) -> str:
    signs = "".join(mark(number) for number in numbers)
    return "".join(RAISED.get(sign, {"(": "⁽", ")": "⁾"}.get(sign, sign)) for sign in signs)


def _escape_markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([*|`\\])", r"\\\1", text)


def _escape_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in text.replace("\n", " "))
    return re.sub(r"(?<![\w}])-(?=\.?\d)", "$-$", escaped)  # a minus, not the hyphen of 0-10


def _raised_latex(numbers: Sequence[int]) -> str:
    return f"\\textsuperscript{{{','.join(mark(number) for number in numbers)}}}" if numbers else ""


MARKDOWN = _Style(_escape_markdown, "**{}**", "<u>{}</u>", _raised, "{}")
LATEX = _Style(_escape_latex, "\\textbf{{{}}}", "\\underline{{{}}}", _raised_latex, "{{\\scriptsize {}}}")


def _rows(grid: Table, style: _Style) -> list[tuple[str, list[str]]]:
    """(group, cells) of every printed row; a row of intervals follows its values."""
    with_groups = any(line.group for line in grid.lines)
    printed = []
    previous = None
    for line, ranks in zip(grid.lines, grid.ranks(), strict=True):
        first = [style.escape(line.group) if line.group != previous else ""] if with_groups else []
        values = [style.cell(cell, rank) for cell, rank in zip(line.cells, ranks, strict=True)]
        printed.append((line.group, [*first, style.escape(line.label), *values]))
        if any(cell.interval for cell in line.cells):
            below = [style.small.format(style.escape(cell.interval)) if cell.interval else "" for cell in line.cells]
            printed.append((line.group, [*([""] if with_groups else []), "", *below]))
        previous = line.group
    return printed


def _spans(grid: Table) -> list[tuple[str, int]]:
    """(heading above, columns below it), from left to right; none if there is no such heading."""
    spans = [(over, len(list(members))) for over, members in groupby(grid.headings, lambda one: one.over)]
    return spans if any(over for over, _ in spans) else []


def to_markdown(grid: Table) -> str:
    """GitHub's Markdown, columns padded so that it reads well as plain text.

    The best number of a column is bold, the second underlined; intervals stand in a row below their values. A table
    with headings above headings carries the lower ones in its first row, as Markdown has one head only.
    """
    style = MARKDOWN
    corner = [""] * any(line.group for line in grid.lines) + [style.escape(grid.corner)]
    labels = [*corner, *(style.heading(heading) for heading in grid.headings)]
    body = [cells for _, cells in _rows(grid, style)]
    if spans := _spans(grid):
        head = [""] * len(corner)
        for over, width in spans:
            head += [style.escape(over), *([""] * (width - 1))]
        body.insert(0, labels)
    else:
        head = labels
    widths = [max(3, *(len(row[place]) for row in [head, *body])) for place in range(len(head))]
    left = len(corner)
    ruler = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    table = [
        "| "
        + " | ".join(
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in (head, ruler, *body)
    ]
    notes = [f"- {_raised([place])} {style.escape(note)}" for place, note in enumerate(grid.notes)]
    remarks = [f"- {style.escape(remark)}" for remark in grid.remarks]
    blocks = [f"**{style.escape(grid.title)}**", "\n".join(table), "\n".join(notes + remarks)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_latex(grid: Table, *, label: str = "") -> str:
    r"""A `table` environment that needs the packages booktabs and, for ticks, amssymb.

    Args:
        grid: the table.
        label: for `\ref`, letters, digits and any of ":-_."; "" without.

    Raises:
        ValueError: if the label has other signs.
    """
    if label and not re.fullmatch(r"[\w:.-]+", label, re.ASCII):
        raise ValueError(f"label is {label!r}: take letters, digits and any of : - _ . only.")
    style = LATEX
    with_groups = any(line.group for line in grid.lines)
    left = 2 if with_groups else 1
    head = [f"\\begin{{tabular}}{{{'l' * left}{'c' * len(grid.headings)}}}", "\\toprule"]
    if spans := _spans(grid):
        head += _latex_spans(spans, left)
    corner = [""] * (left - 1) + [style.escape(grid.corner)]
    head.append(_latex_row([*corner, *(style.heading(heading) for heading in grid.headings)]))
    body = []
    for _, rows in groupby(_rows(grid, style), lambda row: row[0]):
        body += ["\\midrule", *(_latex_row(cells) for _, cells in rows)]
    notes = [f"{_raised_latex([place])} {style.escape(note)}" for place, note in enumerate(grid.notes)]
    below = [f"\\par {text}" for text in (*notes, *map(style.escape, grid.remarks))]
    return "\n".join(
        [
            "\\begin{table}[t]",
            "\\centering",
            f"\\caption{{{style.escape(grid.title)}}}",
            *([f"\\label{{{label}}}"] if label else []),
            *head,
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            *(["\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\footnotesize"] if below else []),
            *below,
            *(["\\end{minipage}"] if below else []),
            "\\end{table}",
            "",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    guard = "{}" if cells[0][:1] in ("[", "*") else ""  # else the row before would take it as its argument
    return guard + " & ".join(cells) + r" \\"


def _latex_spans(spans: Sequence[tuple[str, int]], left: int) -> list[str]:
    cells, rules = [""] * left, []
    start = left + 1
    for over, width in spans:
        cells.append(f"\\multicolumn{{{width}}}{{c}}{{{_escape_latex(over)}}}")
        if over:
            rules.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [_latex_row(cells), " ".join(rules)]
