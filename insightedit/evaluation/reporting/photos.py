"""A photos report as files and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.console import titled_table
from insightedit.evaluation.core.statistics import Rate, mcnemar
from insightedit.evaluation.photos.report import OperationRow, PhotoReport, PhotoRow, Quartiles
from insightedit.evaluation.reporting.pictures import contact_sheet, photo_card
from insightedit.evaluation.scenes.report import MODEL_ROW
from insightedit.files import write_text
from insightedit.images.provenance import save_picture

if TYPE_CHECKING:
    from PIL import Image
    from rich.table import Table

FILES = ("report.json", "sheet.png")
MEANING = {
    "success": "whole-picture requests: nearest of all operations to the right one, at least half way there; 95 % CI",
    "understood": "of these: the editor's own words name the right operation; in brackets: its degree, too",
    "dB": "of these: PSNR to the exact answer at the photograph's own size, 60 at most; median (quartiles)",
    "detail": "of these: how much of the exact answer's gradient energy is there: 1 as crisp, below blurred; likewise",
    "left alone": "requests outside of its world, or about things that are not there: every value is the photograph's",
    "said so": "of these: the editor says that it is not, or may not be, what was asked for; in brackets: of others",
    "wrongly refused": "whole-picture requests and edits of scenes that came back as they were",
}


def write_photo_report(report: PhotoReport, folder: Path) -> list[Path]:
    """Write `report.json` and `sheet.png` into the folder of the run; each whole."""
    paths = [folder / name for name in FILES]
    write_text(paths[0], json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    save_picture(photos_sheet(report), paths[1])
    return paths


def photos_sheet(report: PhotoReport) -> Image.Image:
    """The first requests, whatever became of them, on one RGB picture."""
    title = f"Requests on photographs, the first {len(report.examples)}, protocol {report.protocol.hash}"
    return contact_sheet(title, [(f"Of all: {headline(report.model)}", [*map(photo_card, report.examples)])])


def headline(row: PhotoRow) -> str:
    """What matters most, in a sentence."""
    parts = {
        "understood": row.understood,
        "right": row.success,
        "declined and left alone": row.left_alone,
        "wrongly refused": row.wrongly_refused,
    }
    return ", ".join(f"{name} {one.successes} of {one.n}" for name, one in parts.items() if one is not None)


def photo_rows_table(report: PhotoReport) -> Table:
    """The editor beside its controls."""
    protocol = report.protocol
    title = f"photos, {protocol.split} split, {protocol.count} requests, protocol {protocol.hash}"
    table = titled_table(title, [""], [f"{name} %" if name in RATES else name for name in MEANING])
    for row in report.rows:
        table.add_row(
            row.name.replace("_", " "),
            _rate(row.success),
            _rate(row.understood, row.right_degree),
            _quartiles(row.psnr, 1),
            _quartiles(row.detail, 2),
            _rate(row.left_alone),
            _rate(row.said_so, row.doubted),
            _rate(row.wrongly_refused),
            style="bold" if row is report.model else None,
        )
    return table


RATES = ("success", "understood", "left alone", "said so", "wrongly refused")


def kinds_line(row: PhotoRow) -> str:
    """Requests that should be declined, and those that should not, by kind."""
    told = [f"left alone, {kind}: {_rate(one)} % of {one.n}" for kind, one in row.left_alone_by.items()]
    told += [f"wrongly refused, {kind}: {_rate(one)} % of {one.n}" for kind, one in row.wrongly_refused_by.items()]
    if row.same_file is not None:
        told.append(f"the very file: {_rate(row.same_file)} % of {row.same_file.n}")
    return "; ".join(told)


def operations_table(row: PhotoRow) -> Table:
    """One row's whole-picture requests by operation, the best first."""
    table = titled_table(f"{row.name}: by operation", [""], ["n", "success %", "understood %", "dB"])

    def best_first(entry: tuple[str, OperationRow]) -> tuple[float, str]:
        return -entry[1].success.value, entry[0]

    for name, one in sorted(row.operations.items(), key=best_first):
        table.add_row(name, str(one.n), _rate(one.success), _rate(one.understood), _quartiles(one.psnr, 1))
    return table


def _rate(value: Rate | None, beside: Rate | None = None) -> str:
    """Per cent with the interval in whole ones: there are many columns; another rate in brackets."""
    if value is None:
        return "-"
    told = f"{100 * value.value:.1f} ({100 * value.low:.0f}-{100 * value.high:.0f})"
    return told if beside is None else f"{told} [{100 * beside.value:.1f}]"


def _quartiles(value: Quartiles | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}-{value.high:.{digits}f})"


def photo_comparison_table(reports: Mapping[str, tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> Table:
    """Editors on the same requests, each tested against the first: whole-picture requests, and those to be declined.

    `reports` are by name, as `insightedit.evaluation.reporting.report.read_report` gives them, of equal protocols.
    """
    title = f"protocol {next(iter(reports.values()))[0]['protocol']['hash']}"
    numbers = ["success %", "understood %", "dB", "left alone %", "wrongly refused %"]
    table = titled_table(title, [""], [*numbers, "McNemar p: success", "left alone"])
    outcomes: dict[str, dict[str, dict[str, bool]]] = {}
    for name, (_, lines) in reports.items():
        mine = [line for line in lines if line["row"] == MODEL_ROW]
        outcomes[name] = {
            key: {line["sample_id"]: line[key] for line in mine if key in line} for key in ("success", "left_alone")
        }
    first = next(iter(outcomes.values()))
    for place, (name, (report, _)) in enumerate(reports.items()):
        row = report["rows"][0]
        rates = {key: _rate(row[key] and Rate(**row[key])) for key in ("success", "understood", "left_alone")}
        refused = _rate(row["wrongly_refused"] and Rate(**row["wrongly_refused"]))
        psnr = _quartiles(row["psnr"] and Quartiles(**row["psnr"]), 1)
        tests = [
            f"{mcnemar(list(known.values()), [outcomes[name][key][one] for one in known]):.3g}" if place else ""
            for key, known in first.items()
        ]
        table.add_row(name, rates["success"], rates["understood"], psnr, rates["left_alone"], refused, *tests)
    return table
