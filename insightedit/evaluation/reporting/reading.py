"""The folder of a benchmark run as what tables and reports are made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from insightedit.evaluation.core import run_folder
from insightedit.evaluation.core.failures import FAILURES
from insightedit.evaluation.core.records import read_records
from insightedit.evaluation.core.run_folder import RunCard, RunSample
from insightedit.evaluation.reporting.report import CONTROLS
from insightedit.evaluation.reporting.runs import FailureCount, ReportRun
from insightedit.evaluation.reporting.tables import MetricColumn

LOOKS: dict[str, dict[str, str]] = {  # metric of scenes -> how its column looks
    **{name: {"label": name} for name in ("success", "progress", "balanced", "leak", "exact")},
    "psnr_background": {"label": "background dB", "template": "{:.1f}"},
    "discriminates": {"label": "right object"},
    "discrimination_chance": {"label": "(by chance)"},
    "iou": {"label": "overlap"},
    "predicate_f1": {"label": "predicate F1"},
    "pair_success": {"label": "success in pairs"},
}


def read_report_run(folder: Path) -> ReportRun:
    """Read a folder that a benchmark run wrote.

    Raises:
        FileNotFoundError: if it is none.
        ValueError: if a file is damaged.
    """
    card = run_folder.read_run(folder)
    records = partial(read_records, folder / run_folder.RECORDS)
    measured, methods, facts = set(), set(), []
    for one in records():
        methods.add(one.method)
        if one.method == card.method and not (one.error or "").startswith("not measured"):  # a network was missing
            measured.add((one.metric_name, one.metric_variant))
            facts += [one.facts] if one.metric_name == "success" and one.facts else []
    is_strict = all(one["metric_variant"] == "strict" for one in card.protocol["columns"])
    columns = []
    for one in card.protocol["columns"]:
        name = one["metric_name"]
        plain = (
            {"label": MetricColumn(name).heading().label} if is_strict else {}
        )  # of one variant, nobody need say which
        columns.append(MetricColumn(name, one["metric_variant"], one.get("better"), **LOOKS.get(name, plain)))
    return ReportRun(
        folder=folder,
        card=card,
        records=records,
        samples=_samples(folder),
        columns=tuple(column for column in columns if column.key in measured),
        facts=_benchmark_facts(card),
        warnings=(*_benchmark_warnings(card), *(_missing_rows(methods) if facts else ())),
        failures=_failures(facts),
        verdicts=dict(Counter(one["verdict"] for one in facts).most_common()),
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
        "Scenes": _pairs(protocol.get("scenes") or {}),
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


def _missing_rows(methods: Collection[str]) -> list[str]:
    wanted = CONTROLS["new" if "empty_backdrop" in methods else "editing"]
    return [f"Control row {name} could not be computed." for name in wanted if name not in methods]


def _failures(facts: Sequence[Mapping[str, Any]]) -> tuple[FailureCount, ...]:
    primary = Counter(one["failure"] for one in facts)
    carried = Counter(code for one in facts for code in one["failures"])
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
