"""A table, and how it is written: Markdown that also reads well in a terminal, and LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

ARROWS = {"higher": "↑", "lower": "↓", "n/a": ""}
LETTERS = "abcdefghijklmnoprstuvwxyz"  # no q: it has no raised form
RAISED = dict(zip(LETTERS + "0123456789()", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾", strict=True))
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
    """One column's head."""

    label: str  # as printed, without arrow
    over: str = ""  # heading above this and its neighbours of the same name, "" without
    better: str = "n/a"  # "higher", "lower" or "n/a"; the best value of a column is marked unless "n/a"
    notes: tuple[int, ...] = ()  # numbers of the notes that hold for the column

    @property
    def text(self) -> str:
        """Label with arrow."""
        return self.label + ARROWS[self.better]


@dataclass(frozen=True)
class Cell:
    """One place of the table."""

    text: str = ""  # as printed; "" for nothing
    interval: str = ""  # what stands below it, "" without
    number: float | None = None  # what it is ranked by, None if it is not ranked
    notes: tuple[int, ...] = ()  # numbers of the notes that hold for it


@dataclass(frozen=True)
class Row:
    """One row."""

    label: str  # of the method or category
    cells: tuple[Cell, ...]  # one per heading
    group: str = ""  # heading beside this and its neighbours of the same name, "" without


@dataclass(frozen=True)
class Table:
    """A table; ValueError if a row has too few or too many cells."""

    title: str  # caption
    headings: tuple[Column, ...]  # of the columns after the label
    lines: tuple[Row, ...]  # rows; rules are drawn between their groups
    notes: tuple[str, ...] = ()  # footnotes; headings and cells name them by their place here, from 0
    remarks: tuple[str, ...] = ()  # sentences below the footnotes
    corner: str = "Methods"  # head of the labels

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.cells) != len(self.headings):
                raise ValueError(
                    f"row {line.label} has {len(line.cells)} cells for {len(self.headings)} headings: "
                    "give one for each."
                )

    @property
    def has_groups(self) -> bool:
        """Whether any row stands beside a heading."""
        return any(line.group for line in self.lines)

    @property
    def spans(self) -> list[tuple[str, int]]:
        """(heading above, columns below it), from left to right; none if there is no such heading."""
        spans = [(over, len(list(members))) for over, members in groupby(self.headings, lambda one: one.over)]
        return spans if any(over for over, _ in spans) else []

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
    """How a language writes things: letters, cells of rank 0, 1 and 2, signs of footnotes, intervals."""

    escape: Callable[[str], str]
    ranked: tuple[str, str, str]
    raised: Callable[[Sequence[int]], str]
    small: str

    def head(self, grid: Table) -> list[str]:
        """The row of headings."""
        labels = [self.escape(one.text) + self.raised(one.notes) for one in grid.headings]
        return [*[""] * grid.has_groups, self.escape(grid.corner), *labels]

    def rows(self, grid: Table) -> list[tuple[str, list[str]]]:
        """(group, cells) of every printed row; a row of intervals follows its values."""
        printed: list[tuple[str, list[str]]] = []
        for line, ranks in zip(grid.lines, grid.ranks(), strict=True):
            is_first = not printed or printed[-1][0] != line.group
            group = [self.escape(line.group) if is_first else ""] * grid.has_groups
            values = [
                self.ranked[rank].format(self.escape(cell.text or EMPTY)) + self.raised(cell.notes)
                for cell, rank in zip(line.cells, ranks, strict=True)
            ]
            printed.append((line.group, [*group, self.escape(line.label), *values]))
            below = [self.small.format(self.escape(one.interval)) if one.interval else "" for one in line.cells]
            if any(below):
                printed.append((line.group, [*[""] * grid.has_groups, "", *below]))
        return printed


def mark(number: int) -> str:
    """The sign of a footnote: a letter, then numbers in brackets."""
    return LETTERS[number] if number < len(LETTERS) else f"({number + 1})"


def _raised(numbers: Sequence[int]) -> str:
    return "".join(RAISED[sign] for number in numbers for sign in mark(number))


def _escape_markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([*|`\\])", r"\\\1", text)


def _escape_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in text.replace("\n", " "))
    return re.sub(r"(?<![\w}])-(?=\.?\d)", "$-$", escaped)  # a minus, not the hyphen of 0-10


def _raised_latex(numbers: Sequence[int]) -> str:
    return f"\\textsuperscript{{{','.join(mark(number) for number in numbers)}}}" if numbers else ""


MARKDOWN = _Style(_escape_markdown, ("{}", "**{}**", "<u>{}</u>"), _raised, "{}")
LATEX = _Style(_escape_latex, ("{}", "\\textbf{{{}}}", "\\underline{{{}}}"), _raised_latex, "{{\\scriptsize {}}}")


def to_markdown(grid: Table) -> str:
    """GitHub's Markdown, padded to read well as plain text; it has one head only: lower headings are the first row."""
    escape = MARKDOWN.escape
    left = 1 + grid.has_groups
    rows = [MARKDOWN.head(grid), *(cells for _, cells in MARKDOWN.rows(grid))]
    if grid.spans:
        rows.insert(0, [""] * left + [text for over, n in grid.spans for text in (escape(over), *[""] * (n - 1))])
    widths = [max(3, *(len(row[place]) for row in rows)) for place in range(len(rows[0]))]
    rows.insert(1, ["-" * width if n < left else "-" * (width - 1) + ":" for n, width in enumerate(widths)])
    signs = ["<" if n < left else ">" for n in range(len(widths))]  # names to the left, numbers to the right
    looks = "| " + " | ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=True)) + " |"
    table = "\n".join(looks.format(*row) for row in rows)
    below = [f"- {_raised([place])} {escape(note)}" for place, note in enumerate(grid.notes)]
    below += [f"- {escape(remark)}" for remark in grid.remarks]
    return "\n\n".join(block for block in (f"**{escape(grid.title)}**", table, "\n".join(below)) if block) + "\n"


def to_latex(grid: Table) -> str:
    """A `table` environment that needs the packages booktabs and, for ticks, amssymb."""
    escape = LATEX.escape
    left = 1 + grid.has_groups
    lines = ["\\begin{table}[t]", "\\centering", f"\\caption{{{escape(grid.title)}}}"]
    lines += [f"\\begin{{tabular}}{{{'l' * left}{'c' * len(grid.headings)}}}", "\\toprule"]
    if grid.spans:
        rules, start = [], left + 1
        for over, width in grid.spans:
            if over:
                rules.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        spans = [f"\\multicolumn{{{width}}}{{c}}{{{escape(over)}}}" for over, width in grid.spans]
        lines += [_latex_row([*[""] * left, *spans]), " ".join(rules)]
    lines.append(_latex_row(LATEX.head(grid)))
    for _, rows in groupby(LATEX.rows(grid), lambda row: row[0]):
        lines += ["\\midrule", *(_latex_row(cells) for _, cells in rows)]
    lines += ["\\bottomrule", "\\end{tabular}"]
    below = [f"{_raised_latex([place])} {escape(note)}" for place, note in enumerate(grid.notes)]
    if below := [f"\\par {text}" for text in (*below, *map(escape, grid.remarks))]:
        lines += ["\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\footnotesize", *below, "\\end{minipage}"]
    return "\n".join([*lines, "\\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    guard = "{}" if cells[0][:1] in ("[", "*") else ""  # else the row before would take it as its argument
    return guard + " & ".join(cells) + r" \\"
