"""What tables and reports are made of: runs, with their records, their samples and what is known about them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.evaluation.core import run_folder
from insightedit.evaluation.core.columns import MetricValues, ValuesKey, gather
from insightedit.evaluation.core.records import FAILURES, MetricRecord, read_records
from insightedit.evaluation.core.run_folder import RunCard, RunSample
from insightedit.evaluation.reporting.tables import MetricColumn

if TYPE_CHECKING:
    from insightedit.evaluation.judge.votes import AlignReport

JUDGES = ("VIEScore_O", "VIEScore_SC", "VIEScore", "VIEScore_PQ", "Ins_align")
HEADLINES = (
    *("success", "VIEScore_O", "VIEScore_SC", "VIEScore", "VIEScore_PQ", "Ins_align", "CLIPScore", "CLIP_dir"),
    *("CLIP_T", "edit_CLIP_T", "CLIP_I", "edit_CLIP_I", "DINO", "edit_DINO", "CVS", "subj_DINO", "PSNR", "SSIM"),
    *("LPIPS", "L1", "L2"),
)  # what a table's readers look at first
ORDERS = ("progress", *HEADLINES)  # what tells best from worst samples: a success is only yes or no

ASKED_CONTROLS = {  # on scenes, by kind of rules
    "editing": ("copy_source", "oracle", "wrong_object", "oracle_tint", "autoencoder_source", "autoencoder_target"),
    "new": ("empty_backdrop", "oracle", "oracle_tint", "autoencoder_backdrop", "autoencoder_target"),
}
LOOKS: dict[str, dict[str, str]] = {  # metric of scenes or photographs -> how its column looks
    **{name: {"label": name} for name in ("success", "progress", "balanced", "leak", "exact")},
    "psnr_background": {"label": "background dB", "template": "{:.1f}"},
    "discriminates": {"label": "right object"},
    "discrimination_chance": {"label": "(by chance)"},
    "iou": {"label": "overlap"},
    "predicate_f1": {"label": "predicate F1"},
    "pair_success": {"label": "success in pairs"},
    "understood": {"label": "understood"},
    "right_degree": {"label": "degree, too"},
    "psnr": {"label": "dB to the truth", "template": "{:.1f}"},
    "detail": {"label": "detail"},
    "left_alone": {"label": "left alone"},
    "said_so": {"label": "said so"},
    "wrongly_refused": {"label": "wrongly refused"},
}


@dataclass(frozen=True)
class FailureCount:
    """One line of the taxonomy."""

    code: str  # "F1" to "F14"
    text: str  # what it means
    primary: int  # samples that fail by it, or votes that name it
    carried: int | None  # samples that carry it, successes among them; None of votes, which name one


@dataclass(frozen=True)
class ReportRun:
    """One run, whatever wrote it."""

    folder: Path  # it was read from
    card: RunCard  # what was measured, on what, how
    # reads those of the method and of its controls anew, one at a time, so that memory stays flat
    records: Callable[[], Iterable[MetricRecord]]
    # id -> what was asked, with paths that can be opened; of scenes, those whose pictures were kept
    samples: Mapping[str, RunSample]
    columns: tuple[MetricColumn, ...]  # what was measured, in the protocol's order
    missing_rows: tuple[str, ...] = ()  # control rows of scenes that could not be computed
    ordered: MetricColumn | None = None  # the metric that tells best from worst samples, where it was chosen
    failures: tuple[FailureCount, ...] = ()  # the taxonomy, empty without verdicts
    counted: str = "samples"  # what the taxonomy counts: "samples", or raters' "votes"
    verdicts: Mapping[str, int] = field(default_factory=dict)  # verdict -> samples; likewise

    @property
    def method(self) -> str:
        """Name of its own row."""
        return self.card.method

    @property
    def benchmark(self) -> str:
        """Our name of it."""
        return self.card.benchmark["name"]

    @property
    def title(self) -> str:
        """Of the page."""
        return f"{self.method} on {self.card.benchmark.get('title') or self.benchmark}"

    @property
    def facts(self) -> dict[str, Any]:
        """What is to be known about the run -> its value; what has none is left out."""
        card, bench, protocol, outputs = self.card, self.card.benchmark, self.card.protocol, self.card.outputs
        end = f" to {card.finished}" if card.finished else ", not finished"
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
            "Drawn": _pairs(protocol.get("drawn") or {}),
            "Method": card.method,
            "Outputs": f"{outputs.get('kind')}: {outputs.get('source')}",
            "SHA-256 of the weights": outputs.get("ckpt_sha"),
            "Seeds": ", ".join(str(seed) for seed in outputs.get("seeds", ()) if seed is not None),
            "Settings": _pairs(card.settings),
            "Measured with": ", ".join(f"{key}: {one.get('name', '')}" for key, one in card.models.items()),
            "Measured": card.started + end if card.started else "",
            "Run": card.run_id,
            "Libraries": _pairs(card.versions),
        }
        return {name: value for name, value in facts.items() if value not in (None, "")}

    @property
    def warnings(self) -> list[str]:
        """What is odd about the run, the benchmark, the rules and the pictures, most general first."""
        bench, protocol = self.card.benchmark, self.card.protocol
        unfinished = "The run is not finished: numbers are of the samples done so far."
        licence = f"The licence excludes commercial use: {bench.get('licence')}."
        told = [
            *([unfinished] if self.card.finished is None else []),
            *([licence] if bench.get("is_non_commercial") else []),
            *bench.get("warnings", ()),
            *protocol.get("caveats", ()),
            *(f"{o['metric_name']} ({o['metric_variant']}): {o['why']}" for o in protocol["columns"] if o.get("why")),
            *self.card.outputs.get("warnings", ()),
            *(f"Control row {name} could not be computed." for name in self.missing_rows),
        ]
        return list(dict.fromkeys(told))

    @cached_property
    def own(self) -> Mapping[tuple[str, str], MetricValues]:
        """(metric name, variant) -> the method's own numbers, in the order of the records."""
        mine = gather(record for record in self.records() if record.method == self.method)
        return {key.metric: column for key, column in mine.items()}

    def column(self, metric: MetricColumn) -> MetricValues:
        """The method's own numbers by one metric; an empty column if it has none."""
        key = ValuesKey(self.benchmark, *metric.key, self.method)
        return self.own.get(metric.key) or MetricValues(key, "", self.card.benchmark["version"])

    @property
    def headline(self) -> MetricColumn:
        """The metric by category and in the trade-off."""
        return self._first(HEADLINES)

    @property
    def order(self) -> MetricColumn:
        """The metric that tells best from worst samples."""
        return self.ordered or self._first(ORDERS)

    def _first(self, names: Sequence[str]) -> MetricColumn:
        """The paper variant of the first known metric that has a good end."""
        measured = [column for column in self.columns if self.column(column).values]
        if not measured:
            why = " ".join(self.card.missing.values()) or "finish the run first."
            raise ValueError(f"{self.folder} has no number of {self.method} yet: {why}")
        places = {name: place for place, name in enumerate(names)}

        def rank(column: MetricColumn) -> tuple[bool, int, bool]:
            is_blind = column.heading().better == "n/a"
            return is_blind, places.get(column.metric_name, len(places)), column.metric_variant != "paper"

        return min(measured, key=rank)

    def ordered_by(self, wanted: str) -> ReportRun:
        """The same run, its best and worst samples told by another metric, "NAME" or "NAME:VARIANT".

        ValueError if the records have no such metric, or nobody said which of its ends is the good one.
        """
        name, _, variant = wanted.partition(":")
        found = [c for c in self.columns if c.metric_name == name and variant in ("", c.metric_variant)]
        if not found:
            names = ", ".join(dict.fromkeys(f"{c.metric_name}:{c.metric_variant}" for c in self.columns))
            raise ValueError(f"no metric {wanted!r} in {self.folder}: it has {names}.")
        if found[0].heading().better == "n/a":
            raise ValueError(f"{name} has no good and bad end: order the samples by another metric.")
        return replace(self, ordered=found[0])

    def renamed(self, method: str) -> ReportRun:
        """The same run, its own row called otherwise."""

        def records() -> Iterator[MetricRecord]:
            for record in self.records():
                yield replace(record, method=method) if record.method == self.method else record

        return replace(self, card=replace(self.card, method=method), records=records)


def _pairs(entries: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in entries.items()
        if value is not None
    )


def missing_rows(present: Collection[str]) -> tuple[str, ...]:
    """Control rows that scenes always ask for and that could not be computed."""
    wanted = ASKED_CONTROLS["new" if "empty_backdrop" in present else "editing"]
    return tuple(name for name in wanted if name not in present)


def read_report_run(folder: Path) -> ReportRun:
    """Read a folder that a benchmark run wrote."""
    card = run_folder.read_run(folder)
    records = partial(read_records, folder / run_folder.RECORDS)
    measured, methods, facts = set(), set(), []
    for one in records():
        methods.add(one.method)
        if one.method == card.method and not (one.error or "").startswith("not measured"):  # a network was missing
            measured.add((one.metric_name, one.metric_variant))
            facts += [one.facts] if one.facts and one.metric_name != "pair_success" else []
    is_strict = all(one["metric_variant"] == "strict" for one in card.protocol["columns"])
    columns = []
    for one in card.protocol["columns"]:
        name = one["metric_name"]
        # where there is one variant only, no heading need say which
        plain = {"label": MetricColumn(name).heading().label} if is_strict else {}
        columns.append(MetricColumn(name, one["metric_variant"], one.get("better"), **LOOKS.get(name, plain)))
    scenes = [one for one in facts if "failures" in one]
    primary = Counter(one["failure"] for one in scenes)
    carried = Counter(code for one in scenes for code in one["failures"])
    return ReportRun(
        folder=folder,
        card=card,
        records=records,
        samples=_samples(folder),
        columns=tuple(column for column in columns if column.key in measured),
        missing_rows=missing_rows(methods) if scenes else (),
        failures=tuple(
            FailureCount(code, text, primary[code], carried[code])
            for code, text in FAILURES.items()
            if primary[code] or carried[code]
        ),
        verdicts=dict(Counter(one["verdict"] for one in facts).most_common()),
    )


def _samples(folder: Path) -> dict[str, RunSample]:
    """Id -> sample, with paths that can be opened from anywhere; none where the run kept none."""
    if not (folder / run_folder.SAMPLES).is_file():
        return {}

    def full(path: str | None) -> str | None:
        return None if path is None else str(folder / path)

    return {
        one.sample_id: replace(
            one,
            source=full(one.source),
            target=full(one.target),
            mask=full(one.mask),
            references=tuple(str(folder / path) for path in one.references),
            outputs=tuple({**made, "path": full(made["path"])} for made in one.outputs),
        )
        for one in run_folder.read_samples(folder)
    }


def merge_runs(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Runs that can stand on one page, with names of their own; ValueError if benchmark or version differ."""
    shown = [f"{run.benchmark} {run.card.benchmark['version']}" for run in runs]
    merged: list[ReportRun] = []
    taken: set[str] = set()
    twice = {name for name, count in Counter(run.method for run in runs).items() if count > 1}
    for run, measured_on in zip(runs, shown, strict=True):
        if measured_on != shown[0]:
            raise ValueError(
                f"{run.folder} was measured on {measured_on}, {runs[0].folder} on {shown[0]}: make a report of each."
            )
        name = f"{run.method} ({run.folder.name})" if run.method in twice else run.method
        number = 2
        while name in taken:
            name, number = f"{run.method} ({run.folder.name}, {number})", number + 1
        taken |= {name, *run.card.controls}
        merged.append(run if name == run.method else run.renamed(name))
    return merged


def all_records(runs: Sequence[ReportRun], columns: Collection[MetricColumn] | None = None) -> Iterator[MetricRecord]:
    """Records of all runs, one at a time; a control row that several runs have comes from the first of them."""
    wanted = None if columns is None else {column.key for column in columns}
    homes: dict[tuple[str, ...], ReportRun] = {}
    for run in runs:
        for record in run.records():
            metric = record.metric_name, record.metric_variant
            if wanted is not None and metric not in wanted:
                continue
            if record.method == run.method or homes.setdefault((record.method, record.bench, *metric), run) is run:
                yield record


def with_votes(run: ReportRun, votes: AlignReport) -> ReportRun:
    """The run with what raters say, Ins-align by sample and why edits fail; ValueError if it is not on their page."""
    rows = {row.method: row for row in votes.rows}
    if run.method not in rows:
        raise ValueError(f"the raters' page is about {', '.join(rows)}, not {run.method}: give the run's own votes.")
    kinds = {record.sample_id: (record.category, record.cluster) for record in run.records()}
    rated = [
        MetricRecord(
            run_id=votes.page,
            method=run.method,
            bench=run.benchmark,
            bench_version=run.card.benchmark["version"],
            sample_id=name,
            metric_name="Ins_align",
            metric_variant="paper",
            value=value,
            protocol_hash=votes.page,
            category=kinds.get(name, ("", ""))[0],
            cluster=kinds.get(name, ("", ""))[1],
        )
        for name, value in votes.samples[run.method].items()
    ]
    found = rows[run.method].failures
    return replace(
        run,
        records=lambda: chain(run.records(), rated),
        columns=(*run.columns, MetricColumn("Ins_align")),
        failures=tuple(
            FailureCount(code, text, found[code], None) for code, text in FAILURES.items() if code in found
        ),
        counted="votes",
    )
