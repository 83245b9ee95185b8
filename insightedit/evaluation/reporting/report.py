"""A scenes report as files and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.console import titled_table
from insightedit.evaluation.core.records import FAILURES, read_records, write_records
from insightedit.evaluation.core.run_folder import RECORDS, RUN
from insightedit.evaluation.core.statistics import Rate, mcnemar
from insightedit.evaluation.reporting.pictures import contact_sheet, example_card
from insightedit.evaluation.reporting.runs import missing_rows
from insightedit.evaluation.scenes.report import MODEL_ROW, is_pair, line_of
from insightedit.files import check_folder, write_text
from insightedit.images.provenance import save_picture

if TYPE_CHECKING:
    from PIL import Image
    from rich.table import Table

    from insightedit.evaluation.core.significance import Interval
    from insightedit.evaluation.scenes.report import PairResult, SceneReport, SceneRow

FILES = ("report.json", RECORDS, "sheet.png")

MEANING = {
    "success": "nearest of all candidates to the right one, at least half way there, leak <= 2 %; 95 % CI",
    "progress": "how far towards the target inside the changed area: 0 no edit, 1 the target, below 0 harm",
    "balanced": "progress and kept background together: 0 no edit, 1 the target",
    "leak": "share of the background off by more than 20 of 255 levels, less the autoencoder's own if known",
    "background": "PSNR of the background, 60 dB at most",
    "right object": "share in which the object meant changed most; chance in brackets",
    "overlap": "IoU of what changed with what should change",
    "sharpness": "gradient energy of the changed area, drawn over true, where the right edit is nearest: 1 as crisp "
    "as the truth, below blurred, above noisy; the autoencoder's target is what can be reached",
}
DETAIL_MEANING = {
    "exact": "the output shows the target's scene, found by drawing: things, tints, 2 % of the side, 15 % of the size",
    "change, keep, F1": "predicates (what stands where, how many, left of, larger than) that came or went as told; "
    "that stayed; harmonic mean",
    "found": "wanted things that stand in the output; the columns after it are about these",
    "kind": "of the right class",
    "colour": "CIEDE2000 between mean colours: mean (90th percentile); so are the next three",
    "place": "distance of the centres, % of the diagonal",
    "size": "|log2| of the ratio of heights",
    "count": "things too many or too few in the whole picture",
    "hist, IoU, SSIM": "colours, outline and structure: likeness to the target's thing, cut out and aligned by moments",
}
WHY_MISSING = {
    "wrong_object": "no scene has another object to edit",
    "autoencoder": "the editor's autoencoder is not known",
}


def write_report(report: SceneReport, folder: Path) -> list[Path]:
    """Write `report.json`, `sheet.png` and, unless the folder is that of the run, `records.jsonl`; each whole."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    write_text(paths[0], json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    if not (folder / RUN).is_file():
        write_records(report.records, paths[1])
    save_picture(scenes_sheet(report), paths[2])
    return paths


def scenes_sheet(report: SceneReport) -> Image.Image:
    """Worst and random samples of a report on one RGB picture."""
    success = report.model.success
    title = (
        f"{success.successes} of {success.n} edits succeed: {rate_text(success)} %, protocol {report.protocol.hash}"
    )
    blocks = {"Worst: lowest relative progress": report.worst, "Random: drawn by the hash of the id": report.random}
    return contact_sheet(title, [(name, [*map(example_card, chosen)]) for name, chosen in blocks.items() if chosen])


def rows_table(report: SceneReport) -> Table:
    """The editor beside its controls."""
    protocol = report.protocol
    what = protocol.name.removesuffix("_v2").replace("_", " ")
    scenes = f"{protocol.split} split, {protocol.count} at {protocol.size} px"
    title = f"{what}, {scenes}, protocol {protocol.hash}"
    table = titled_table(title, [""], ["n", "success %", *list(MEANING)[1:]])
    for row in report.rows:
        means, chance = row.means, row.means["discrimination_chance"]
        cells = (
            row.name.replace("_", " "),
            str(row.success.n),
            rate_text(row.success),
            _number(means["progress"], 2),
            _number(means["balanced"], 2),
            _percent(means["leak"], 1),
            _number(means["psnr_background"], 1) + (f" ({row.capped} capped)" if row.capped else ""),
            "-" if chance is None else f"{_percent(means['discriminates'])} [{_percent(chance)}]",
            _number(means["iou"], 2),
            _number(None if row.sharpness is None else row.sharpness.value, 2),
        )
        table.add_row(*cells, style="bold" if row is report.model else None)
    return table


def missing_controls(report: SceneReport) -> list[str]:
    """A line for every control row that could not be computed, with the reason."""
    return [
        f"{name.replace('_', ' ')}: not computed, {WHY_MISSING[name if name in WHY_MISSING else name.split('_')[0]]}"
        for name in missing_rows([row.name for row in report.rows])
    ]


def details_table(report: SceneReport) -> Table | None:
    """Exactness, predicates and errors of the edited things, the editor beside its controls; None without details."""
    if all(row.exact is None for row in report.rows):
        return None
    title = f"details, {report.details['name']} {report.details['hash']}"
    names = [name for heading in DETAIL_MEANING for name in heading.split(", ")]
    table = titled_table(title, [""], ["exact %", *names[1:]], padding=(0, 1, 0, 0))
    for row in report.rows:
        means, errors = row.means, []
        for name, digits, factor in (("colour", 1, 1.0), ("position", 1, 100.0), ("size", 2, 1.0), ("count", 2, 1.0)):
            mean, high = means[f"{name}_error"], row.p90[f"{name}_error"]
            if mean is None or high is None:
                errors.append("-")
            else:
                errors.append(f"{factor * mean:.{digits}f} ({factor * high:.{digits}f})")
        cells = (
            row.name.replace("_", " "),
            "-" if row.exact is None else rate_text(row.exact),
            *(_number(means[name], 2) for name in ("change_accuracy", "keep_accuracy", "predicate_f1")),
            _percent(means["found"]),
            _percent(means["right_kind"]),
            *errors,
            *(_number(means[name], 2) for name in ("subject_histogram", "subject_iou", "subject_ssim")),
        )
        table.add_row(*cells, style="bold" if row is report.model else None)
    return table


def failures_table(row: SceneRow) -> Table | None:
    """Why samples of one row fail; None if none carries a code."""
    if not row.failures:
        return None
    title = f"{row.name}: why edits fail ({row.success.n - row.success.successes} of {row.success.n})"
    table = titled_table(title, ["", "failure"], ["primary", "carried, successes included"])
    for code, count in row.failures.items():
        table.add_row(code, FAILURES[code], str(row.primary_failures.get(code, 0)), str(count))
    return table


def groups_table(row: SceneRow) -> Table:
    """Success of one row by category, task and style, sharpness by task; a star: fewer than 20 samples."""
    title = f"{row.name}: success by kind of edit (macro mean {100 * row.macro:.1f} %)"
    title += f", sharpness {text}" if (text := _interval(row.sharpness)) else ""
    table = titled_table(title, ["", "kind"], ["n (*: few)", "success %", "sharpness"])
    for grouping, groups in row.groups.items():
        for position, (name, value) in enumerate(groups.items()):
            star = "*" if value.is_small else ""
            sharpness = row.sharpness_by_task.get(name) if grouping == "task" else None
            cells = name.replace("_", " "), f"{value.n}{star}", rate_text(value), _interval(sharpness)
            table.add_row(grouping if position == 0 else "", *cells)
        table.add_section()
    return table


def pairs_line(pairs: PairResult) -> str:
    """Minimal pairs in one sentence."""
    return (
        f"minimal pairs: both right in {rate_text(pairs.both)} % of {pairs.both.n}; "
        f"single edits {100 * pairs.single.value:.1f} %, whose square is {100 * pairs.if_independent:.1f} %"
    )


def rate_text(value: Rate) -> str:
    """Per cent, with the interval."""
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} - {100 * value.high:.1f})"


def _interval(value: Interval | None) -> str:
    if value is None or value.low is None or value.high is None:  # one sample says nothing of others
        return "" if value is None else f"{value.value:.2f}"
    return f"{value.value:.2f} ({value.low:.2f} - {value.high:.2f})"


def _percent(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def read_report(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `write_report` wrote: `report.json`, and all that was found of each output; ValueError if it is damaged."""
    for name in FILES[:2]:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"No {name} in {folder}: name a folder that `insightedit eval scenes --out` wrote."
            )
    try:
        report = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
        records = [line_of(record) for record in read_records(folder / FILES[1]) if record.facts]
    except ValueError as error:
        raise ValueError(
            f"The report in {folder} is damaged or of an earlier version ({error}): evaluate again."
        ) from error
    protocol, rows = (report.get("protocol"), report.get("rows")) if isinstance(report, dict) else (None, None)
    is_named = isinstance(protocol, dict) and "hash" in protocol
    if not is_named or not isinstance(rows, list) or not rows or not all(isinstance(one, dict) for one in rows):
        raise ValueError(f"The report in {folder} lacks its protocol or its rows: evaluate again.")
    return report, records


def comparison_table(reports: Mapping[str, tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> Table:
    """Editors on the same scenes, each tested against the first; columns of details if the rules of all are equal."""
    if len(reports) < 2:
        raise ValueError(f"{len(reports)} report to compare: name at least two different report folders.")
    hashes = {name: report["protocol"]["hash"] for name, (report, _) in reports.items()}
    if len(set(hashes.values())) > 1:
        different = ", ".join(f"{name} {value}" for name, value in hashes.items())
        raise ValueError(f"The reports follow different protocols ({different}): evaluate all on the same scenes.")
    in_detail = len({report["details"]["hash"] for report, _ in reports.values()}) == 1
    numbers = ["success %", "progress", "balanced", "leak", "sharpness", *(("exact %", "F1") if in_detail else ())]
    title = f"protocol {next(iter(hashes.values()))}"
    table = titled_table(title, [""], [*numbers, "McNemar p against the first"])
    outcomes = {
        name: {line["sample_id"]: line["success"] for line in lines if line["row"] == MODEL_ROW}
        for name, (_, lines) in reports.items()
    }
    first = {sample: success for sample, success in next(iter(outcomes.values())).items() if not is_pair(sample)}
    for place, (name, (report, _)) in enumerate(reports.items()):
        row, means = report["rows"][0], report["rows"][0]["means"]
        cells = [rate_text(Rate(**row["success"])), _number(means["progress"], 2), _number(means["balanced"], 2)]
        cells += [_number(means["leak"], 4), _number((row.get("sharpness") or {}).get("value"), 2)]
        if in_detail:
            cells.append("-" if row["exact"] is None else rate_text(Rate(**row["exact"])))
            cells.append(_number(means["predicate_f1"], 2))
        p_value = mcnemar(list(first.values()), [outcomes[name][sample] for sample in first])
        table.add_row(name, *cells, f"{p_value:.3g}" if place else "")
    return table
