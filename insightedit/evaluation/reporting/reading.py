"""The folder of a benchmark run, or of a scenes report, as one kind of run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from insightedit.evaluation.core import run_folder
from insightedit.evaluation.core.failures import FAILURES
from insightedit.evaluation.core.records import MetricRecord, read_records
from insightedit.evaluation.core.run_folder import RunCard, RunSample
from insightedit.evaluation.reporting.report import CONTROLS, read_report
from insightedit.evaluation.reporting.runs import FailureCount, ReportRun
from insightedit.evaluation.reporting.tables import MetricColumn

SCENES_ROW = "model"
SCENES_COLUMNS = {  # field of a scenes record -> the column it fills
    "success": MetricColumn("success", "strict", "higher", "success"),
    "progress": MetricColumn("progress", "strict", "higher", "progress"),
    "balanced": MetricColumn("balanced", "strict", "higher", "balanced"),
    "leak": MetricColumn("leak", "strict", "lower", "leak"),
    "psnr_background": MetricColumn("psnr_background", "strict", "higher", "background dB", "{:.1f}"),
    "discriminates": MetricColumn("discriminates", "strict", "higher", "right object"),
    "discrimination_chance": MetricColumn("discrimination_chance", "strict", "n/a", "(by chance)"),
    "iou": MetricColumn("iou", "strict", "higher", "overlap"),
    "exact": MetricColumn("exact", "strict", "higher", "exact"),
    "predicate_f1": MetricColumn("predicate_f1", "strict", "higher", "predicate F1"),
}


def read_report_run(folder: Path) -> ReportRun:
    """Read a folder that a benchmark run or `insightedit eval scenes` wrote.

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if a file is damaged.
    """
    if (folder / run_folder.RUN).is_file():
        return _benchmark_run(folder)
    if (folder / "report.json").is_file():
        return _scenes_run(folder)
    raise FileNotFoundError(
        f"No run.json and no report.json in {folder}: name a folder that `insightedit eval` wrote."
    )


def _benchmark_run(folder: Path) -> ReportRun:
    card = run_folder.read_run(folder)
    records = partial(read_records, folder / run_folder.RECORDS)
    measured = {
        (one.metric_name, one.metric_variant)
        for one in records()
        if one.method == card.method and not (one.error or "").startswith("not measured")  # a network was missing
    }
    columns = [
        MetricColumn(one["metric_name"], one["metric_variant"], one.get("better")) for one in card.protocol["columns"]
    ]
    return ReportRun(
        folder=folder,
        card=card,
        records=records,
        samples=_samples(folder),
        columns=tuple(column for column in columns if column.key in measured),
        facts=_benchmark_facts(card),
        warnings=_benchmark_warnings(card),
    )


def _samples(folder: Path) -> dict[str, RunSample]:
    """Id -> sample, with paths that can be opened from anywhere; none where the run kept none."""
    if not (folder / run_folder.SAMPLES).is_file():
        return {}

    def full(path: str | None) -> str | None:
        return None if path is None else str(run_folder.locate(path, folder))

    return {
        one.sample_id: replace(
            one,
            source=full(one.source),
            target=full(one.target),
            mask=full(one.mask),
            references=tuple(str(run_folder.locate(path, folder)) for path in one.references),
            outputs=tuple({**made, "path": full(made["path"])} for made in one.outputs),
        )
        for one in run_folder.read_samples(folder)
    }


def _benchmark_facts(card: RunCard) -> tuple[tuple[str, str], ...]:
    bench, protocol, outputs = card.benchmark, card.protocol, card.outputs
    facts = {
        "Benchmark": bench.get("title") or bench.get("name"),
        "Split": bench.get("split"),
        "Version of its files": bench.get("version"),
        "Samples": bench.get("samples"),
        "Licence": bench.get("licence"),
        "Published by": bench.get("paper"),
        "Protocol": f"{protocol.get('name')}, {protocol.get('title')}",
        "Protocol's hash": protocol.get("hash"),
        "Protocol's source": protocol.get("source"),
        "Averaging": protocol.get("averaging"),
        "Method": card.method,
        "Outputs": f"{outputs.get('kind')}: {outputs.get('source')}",
        "SHA-256 of the weights": outputs.get("ckpt_sha"),
        "Seeds": _listed(seed for seed in outputs.get("seeds", ()) if seed is not None),
        "Settings": _pairs(card.settings),
        "Measured with": _listed(f"{key}: {one.get('name', '')}" for key, one in card.models.items()),
        "Measured": _period(card.started, card.finished),
        "Run": card.run_id,
        "Libraries": _pairs(card.versions),
    }
    return _facts(facts)


def _benchmark_warnings(card: RunCard) -> tuple[str, ...]:
    """What is odd about the run, the benchmark, the rules and the pictures, most general first."""
    unfinished = ["The run is not finished: numbers are of the samples done so far."]
    licence = f"The licence excludes commercial use: {card.benchmark.get('licence')}."
    whys = [
        f"{one['metric_name']} ({one['metric_variant']}): {one['why']}"
        for one in card.protocol["columns"]
        if one.get("why")
    ]
    return tuple(
        dict.fromkeys(
            [
                *(unfinished if card.finished is None else []),
                *([licence] if card.benchmark.get("is_non_commercial") else []),
                *card.benchmark.get("warnings", ()),
                *card.protocol.get("caveats", ()),
                *whys,
                *card.outputs.get("warnings", ()),
            ]
        )
    )


def _scenes_run(folder: Path) -> ReportRun:
    report, lines = read_report(folder)
    protocol, settings = report["protocol"], report["settings"]
    own = Path(str(settings.get("model") or settings.get("results") or SCENES_ROW)).name
    bench, version = _scenes_bench(protocol), _scenes_version(protocol)
    records = [
        record
        for line in lines
        if not line["sample_id"].startswith("pair-")
        for record in _scenes_records(line, own, bench, version)
    ]
    if not any(record.method == own for record in records):
        raise ValueError(f"{folder} has no record of the editor: measure again.")
    mine = [line for line in lines if line["row"] == SCENES_ROW and not line["sample_id"].startswith("pair-")]
    present = {record.metric_name for record in records if record.value is not None}
    return ReportRun(
        folder=folder,
        card=RunCard(
            run_id=protocol["hash"],
            method=own,
            benchmark={
                "name": bench,
                "title": bench.replace("_", " "),
                "version": version,
                "is_non_commercial": False,
            },
            protocol={"name": protocol["name"], "columns": [{"hash": protocol["hash"]}]},
            settings=settings,
            controls=tuple(dict.fromkeys(record.method for record in records if record.method != own)),
            finished=settings.get("date", ""),
        ),
        records=lambda: records,
        samples=_samples(folder),
        columns=tuple(one for one in SCENES_COLUMNS.values() if one.metric_name in present),
        facts=_scenes_facts(report, own),
        warnings=tuple(_missing_rows(records)),
        failures=_failures(mine),
        verdicts=dict(Counter(line["verdict"] for line in mine).most_common()),
    )


def _scenes_facts(report: Mapping[str, Any], own: str) -> tuple[tuple[str, str], ...]:
    protocol, settings = report["protocol"], report["settings"]
    facts = {
        "Benchmark": f"{_scenes_bench(protocol).replace('_', ' ')}, exact ground truth",
        "Split": protocol["split"],
        "Version of the scenes": _scenes_version(protocol),
        "Samples": f"{protocol['count']} at {protocol['size']} px, seed {protocol['seed']}",
        "Protocol": protocol["name"],
        "Protocol's hash": protocol["hash"],
        "Rule": f"success: nearest of all candidates to the right one, progress of at least "
        f"{protocol['min_progress']:g}, leak of at most {protocol['max_leak']:g}",
        "Method": own,
        "Model": settings.get("model"),
        "Results": settings.get("results"),
        "Settings": _pairs({k: v for k, v in settings.items() if k not in ("model", "results", "versions", "date")}),
        "Details": _pairs(report.get("details") or {}),
        "Measured": settings.get("date") or "not recorded",
        "Libraries": _pairs(settings.get("versions") or {}),
    }
    return _facts(facts)


def _scenes_bench(protocol: Mapping[str, Any]) -> str:
    return str(protocol["name"]).removesuffix("_v1")


def _scenes_version(protocol: Mapping[str, Any]) -> str:
    return f"{protocol['split']}-{protocol['data_sha256'][:16]}"


def _missing_rows(records: Sequence[MetricRecord]) -> list[str]:
    present = {record.method for record in records}
    wanted = CONTROLS["new" if "empty_backdrop" in present else "editing"]
    return [f"Control row {name} could not be computed." for name in wanted if name not in present]


def _scenes_records(line: Mapping[str, Any], own: str, bench: str, version: str) -> list[MetricRecord]:
    """One line of a scenes report as flat records; what has no meaning for a scene says so."""
    made = []
    for name, column in SCENES_COLUMNS.items():
        if name not in line:
            continue
        value = None if line[name] is None else float(line[name])
        made.append(
            MetricRecord(
                run_id=line["protocol"],
                method=own if line["row"] == SCENES_ROW else line["row"],
                bench=bench,
                bench_version=version,
                sample_id=line["sample_id"],
                metric_name=column.metric_name,
                metric_variant=column.metric_variant,
                value=value,
                error="has no meaning for this scene" if value is None else None,
                capped=name == "psnr_background" and bool(line["capped"]) and value is not None,
                category=str(line["category"]),
                protocol_hash=line["protocol"],
            )
        )
    return made


def _failures(lines: Sequence[Mapping[str, Any]]) -> tuple[FailureCount, ...]:
    primary = Counter(line.get("failure") for line in lines)
    carried = Counter(code for line in lines for code in line.get("failures", ()))
    return tuple(
        FailureCount(code, text, primary[code], carried[code])
        for code, text in FAILURES.items()
        if primary[code] or carried[code]
    )


def _facts(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in facts.items() if value not in (None, "", ()))


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in values)


def _pairs(entries: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in entries.items()
        if value is not None
    )


def _period(started: str, finished: str | None) -> str:
    return f"{started} to {finished}" if finished else f"{started}, not finished" if started else ""
