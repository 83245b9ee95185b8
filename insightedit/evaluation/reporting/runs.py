"""What a report is made of, read from the folder of a benchmark run or of a scenes report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from insightedit.evaluation import run_folder
from insightedit.evaluation.columns import Column, ColumnKey, gather
from insightedit.evaluation.failures import FAILURES
from insightedit.evaluation.protocols import PROTOCOLS
from insightedit.evaluation.records import MetricRecord, read_records
from insightedit.evaluation.report import CONTROLS, read_report
from insightedit.evaluation.run_folder import RunSample
from insightedit.evaluation.tables import MetricColumn, is_control

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
BINARY = frozenset({"success", "discriminates", "exact", "Ins_align_majority"})
JUDGES = ("VIEScore_O", "VIEScore_SC", "VIEScore", "VIEScore_PQ", "Ins_align")
HEADLINES = (
    *("success", *JUDGES, "CLIPScore", "CLIP_dir", "CLIP_T", "edit_CLIP_T", "CLIP_I", "edit_CLIP_I", "DINO"),
    *("edit_DINO", "CVS", "subj_DINO", "PSNR", "SSIM", "LPIPS", "L1", "L2"),
)  # what a table's readers look at first


@dataclass(frozen=True)
class FailureCount:
    """One line of the taxonomy.

    Attributes:
        code: "F1" to "F14".
        text: what it means.
        primary: samples that fail by it.
        carried: samples that carry it, successes among them.
    """

    code: str
    text: str
    primary: int
    carried: int


@dataclass(frozen=True)
class ReportRun:
    """One run, whatever wrote it.

    Attributes:
        folder: it was read from.
        method: name of its own row.
        benchmark: our name of it.
        version: of the benchmark's files.
        title: of the page.
        facts: (what, value) pairs of the page's head.
        warnings: sentences of the benchmark, the protocol and the pairing.
        records: of the method and of its controls.
        samples: id -> what was asked, with paths that can be opened; of scenes, those whose pictures were kept.
        columns: of the main table.
        protocols: hash of a column -> name of the protocol.
        headline: the metric by category and in the trade-off.
        order: the metric that tells best from worst samples.
        why_missing: what could not be measured at all -> why.
        failures: the taxonomy, empty without verdicts.
        verdicts: verdict -> samples; likewise.
        image_guidance_scale: of the run, None if it has none.
    """

    folder: Path
    method: str
    benchmark: str
    version: str
    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    records: tuple[MetricRecord, ...]
    samples: Mapping[str, RunSample]
    columns: tuple[MetricColumn, ...]
    protocols: Mapping[str, str]
    headline: MetricColumn
    order: MetricColumn
    why_missing: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[FailureCount, ...] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    image_guidance_scale: float | None = None

    @cached_property
    def own(self) -> Mapping[tuple[str, str], Column]:
        """(metric name, variant) -> the method's own numbers, in the order of the records."""
        mine = gather(record for record in self.records if record.method == self.method)
        return {(key.metric_name, key.metric_variant): column for key, column in mine.items()}

    def column(self, metric: MetricColumn) -> Column:
        """The method's own numbers by one metric; an empty column if it has none."""
        key = ColumnKey(self.benchmark, metric.metric_name, metric.metric_variant, self.method)
        return self.own.get((metric.metric_name, metric.metric_variant)) or Column(key, "", self.version)

    def label(self, metric: MetricColumn) -> str:
        """A metric's name, with its variant only where the run has both."""
        text = metric.heading().label
        is_one = all(one.metric_variant == "strict" for one in self.columns)
        return text.removesuffix(" strict") if is_one else text

    def ordered_by(self, wanted: str) -> ReportRun:
        """The same run, its best and worst samples told by another metric.

        Args:
            wanted: "NAME" or "NAME:VARIANT".

        Raises:
            ValueError: if the records have no such metric, or nobody said which of its ends is the good one.
        """
        name, _, variant = wanted.partition(":")
        known = self.columns
        found = [c for c in known if c.metric_name == name and variant in ("", c.metric_variant)]
        if not found:
            names = ", ".join(dict.fromkeys(f"{c.metric_name}:{c.metric_variant}" for c in known))
            raise ValueError(f"no metric {wanted!r} in {self.folder}: it has {names}.")
        if found[0].heading().better == "n/a":
            raise ValueError(f"{name} has no good and bad end: order the samples by another metric.")
        return replace(self, order=found[0])


def read_report_run(folder: Path) -> ReportRun:
    """Read a folder that a benchmark run or `insightedit eval scenes` wrote.

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if a file is damaged, or there are no records yet.
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
    records = tuple(read_records(folder / run_folder.RECORDS))
    if not any(record.method == card.method for record in records):
        raise ValueError(f"{folder} has no record of {card.method} yet: finish the run first.")
    samples = {one.sample_id: _located(one, folder) for one in run_folder.read_samples(folder)}
    bench, protocol, outputs = card.benchmark, card.protocol, card.outputs
    unfinished = (
        () if card.finished else ("The run is not finished: numbers are of the samples done so far.",)
    )
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
    own = dict.fromkeys((r.metric_name, r.metric_variant) for r in records if r.method == card.method)
    columns = tuple(_column(*place, str(protocol.get("name"))) for place in own)
    headline = _headline(columns)
    names = {value: str(protocol.get("name")) for value in card.column_hashes().values()}
    whys = [
        f"{one['metric_name']} strict: {one['why']}" for one in protocol.get("columns", ()) if one.get("why")
    ]
    return ReportRun(
        folder=folder,
        method=card.method,
        benchmark=str(bench.get("name")),
        version=str(bench.get("version")),
        title=f"{card.method} on {bench.get('title') or bench.get('name')}",
        facts=_facts(facts),
        warnings=(
            *unfinished,
            *bench.get("warnings", ()),
            *protocol.get("caveats", ()),
            *whys,
            *outputs.get("warnings", ()),
        ),
        records=records,
        samples=samples,
        columns=columns,
        protocols=names,
        headline=headline,
        order=headline,
        why_missing=card.missing,
        image_guidance_scale=_number(card.settings.get("image_guidance_scale")),
    )


def _column(name: str, variant: str, protocol: str) -> MetricColumn:
    """A column of ours; which end is the good one, as the protocol says where nobody else does."""
    plain = MetricColumn(name, variant)
    if plain.heading().better != "n/a" or protocol not in PROTOCOLS:
        return plain
    rules = PROTOCOLS[protocol].rules
    better = next((rule.better for rule in rules if (rule.name, rule.variant) == (name, variant)), "n/a")
    return replace(plain, better=better)


def _headline(columns: Sequence[MetricColumn]) -> MetricColumn:
    """The metric that readers look at first: the paper variant of the first known one that has a good end."""
    places = {name: place for place, name in enumerate(HEADLINES)}

    def rank(column: MetricColumn) -> tuple[bool, int, bool]:
        is_blind = column.heading().better == "n/a"
        return is_blind, places.get(column.metric_name, len(places)), column.metric_variant != "paper"

    return min(columns, key=rank)


def _scenes_run(folder: Path) -> ReportRun:
    report, lines = read_report(folder)
    protocol, settings = report["protocol"], report["settings"]
    own = Path(str(settings.get("model") or settings.get("results") or SCENES_ROW)).name
    bench = protocol["name"].removesuffix("_v1")
    version = f"{protocol['split']}-{protocol['data_sha256'][:16]}"
    records = [
        record
        for line in lines
        if not line["sample_id"].startswith("pair-")
        for record in _scenes_records(line, own, bench, version)
    ]
    if not any(record.method == own for record in records):
        raise ValueError(f"{folder} has no record of the editor: measure again.")
    samples = {}
    if (folder / run_folder.SAMPLES).is_file():
        samples = {one.sample_id: _located(one, folder) for one in run_folder.read_samples(folder)}
    facts = {
        "Benchmark": f"{bench.replace('_', ' ')}, exact ground truth",
        "Split": protocol["split"],
        "Version of the scenes": version,
        "Samples": f"{protocol['count']} at {protocol['size']} px, seed {protocol['seed']}",
        "Protocol": protocol["name"],
        "Protocol's hash": protocol["hash"],
        "Rule": f"success: nearest of all candidates to the right one, progress of at least "
        f"{protocol['min_progress']:g}, leak of at most {protocol['max_leak']:g}",
        "Method": own,
        "Model": settings.get("model"),
        "Results": settings.get("results"),
        "Settings": _pairs({k: v for k, v in settings.items() if k not in ("model", "results", "versions")}),
        "Details": _pairs(report.get("details") or {}),
        "Measured": settings.get("date") or "not recorded",
        "Libraries": _pairs(settings.get("versions") or {}),
    }
    mine = [line for line in lines if line["row"] == SCENES_ROW and not line["sample_id"].startswith("pair-")]
    present = {record.metric_name for record in records if record.value is not None}
    columns = tuple(one for one in SCENES_COLUMNS.values() if one.metric_name in present)
    return ReportRun(
        folder=folder,
        method=own,
        benchmark=bench,
        version=version,
        title=f"{own} on {bench.replace('_', ' ')}",
        facts=_facts(facts),
        warnings=tuple(_missing_rows(records)),
        records=tuple(records),
        samples=samples,
        columns=columns,
        protocols={protocol["hash"]: protocol["name"]},
        headline=SCENES_COLUMNS["success"],
        order=SCENES_COLUMNS["progress"],
        failures=_failures(mine),
        verdicts=dict(Counter(line["verdict"] for line in mine).most_common()),
        image_guidance_scale=_number(settings.get("image_guidance_scale")),
    )


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


def _located(sample: RunSample, folder: Path) -> RunSample:
    """The sample with paths that can be opened from anywhere."""

    def full(path: str | None) -> str | None:
        return None if path is None else str(run_folder.locate(path, folder))

    return replace(
        sample,
        source=full(sample.source),
        target=full(sample.target),
        mask=full(sample.mask),
        references=tuple(str(run_folder.locate(path, folder)) for path in sample.references),
        outputs=tuple({**one, "path": full(one["path"])} for one in sample.outputs),
    )


def merge_runs(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Runs that can stand on one page: names of their own, each control once.

    Raises:
        ValueError: if benchmark or version differ.
    """
    first = runs[0]
    merged: list[ReportRun] = []
    taken: set[str] = set()
    twice = {name for name, count in Counter(run.method for run in runs).items() if count > 1}
    for run in runs:
        if (run.benchmark, run.version) != (first.benchmark, first.version):
            raise ValueError(
                f"{run.folder} was measured on {run.benchmark} {run.version}, {first.folder} on {first.benchmark} "
                f"{first.version}: make a report of each."
            )
        name = f"{run.method} ({run.folder.name})" if run.method in twice else run.method
        number = 2
        while name in taken:
            name, number = f"{run.method} ({run.folder.name}, {number})", number + 1
        records = [
            replace(r, method=name) if r.method == run.method else r
            for r in run.records
            if r.method == run.method or r.method not in taken
        ]
        taken |= {record.method for record in records}
        merged.append(replace(run, method=name, records=tuple(records)))
    return merged


def is_control_row(record: MetricRecord, runs: Sequence[ReportRun]) -> bool:
    """Whether a record is of a control, be it known by name or simply no run's own row."""
    return is_control(record.method) or record.method not in {run.method for run in runs}


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


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
