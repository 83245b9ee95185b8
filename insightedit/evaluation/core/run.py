"""Measure an editor on a benchmark: every sample's picture by every column of a protocol, and controls beside it.

One sample is in memory at a time. Every number goes to `records.jsonl` as soon as it is there, so a run that was
stopped goes on where it was and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.evaluation.core.editing_methods import EditingMethod
from insightedit.evaluation.core.measure import Prediction, SampleView, measure
from insightedit.evaluation.core.metric_models import MetricModels
from insightedit.evaluation.core.protocol import MetricRule, Protocol
from insightedit.evaluation.core.records import MetricRecord, is_control, read_records, write_records
from insightedit.evaluation.core.run_folder import (
    RECORDS,
    RUN,
    SAMPLES,
    SILENT,
    RunCard,
    RunSample,
    Said,
    read_run,
    read_said,
    shorten,
    write_run,
    write_samples,
)
from insightedit.files import check_folder, drop_cut_line, installed_versions, lock_folder
from insightedit.images.reading import read_rgb

Key = tuple[str, str, int | None, str, str]  # method, sample, seed, metric, variant


def run_benchmark(
    benchmark: Benchmark,
    protocol: Protocol,
    editor: EditingMethod,
    models: MetricModels,
    out: Path,
    *,
    progress: Callable[[int], object] | None = None,
    renew: bool = False,
) -> RunCard:
    """Measure, or go on measuring; returns what `run.json` says.

    Args:
        benchmark: all of its samples are measured.
        protocol: by which.
        editor: whose pictures.
        models: from `load_metric_models`.
        out: folder, see `insightedit.evaluation.core.run_folder`; a run in it that was stopped goes on.
        progress: called with 1 after each sample.
        renew: an earlier run in the folder is replaced, but for one of the same that was stopped.

    Raises:
        ValueError: if the folder holds another run or one is at work in it, a picture was changed since it was
            measured, or the method has the name of a control.
        ChatError, MissingReplyError: if a judge gives no reply at all; the run can go on later.
    """
    if is_control(editor.method):
        raise ValueError(f"method is {editor.method!r}, the name of a control row: choose another one.")
    started = time.perf_counter()
    run = _BenchmarkRun(benchmark, protocol, editor, models, out)
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out):
        if renew:
            run.make_room()
        card = run.begin()
        write_records(run.records(progress), out / RECORDS, append=True)
        card = replace(card, finished=_now(), seconds=round(time.perf_counter() - started, 1))
        write_run(card, out)
    return card


@dataclass
class _BenchmarkRun:
    """One run; `done` and `measured` come from what an earlier, stopped one left."""

    benchmark: Benchmark
    protocol: Protocol
    editor: EditingMethod
    models: MetricModels
    out: Path
    done: set[Key] = field(default_factory=set)
    measured: dict[tuple[str, int | None], str] = field(default_factory=dict)
    card: RunCard = field(init=False)

    def __post_init__(self) -> None:
        self.rules = self.protocol.rules_for(self.benchmark.card.name)
        revisions = self.models.revisions
        self.hashes = {rule: self.protocol.column_hash(rule, revisions) for rule in self.rules}
        self.versions = _versions(self.models)
        self.card = self._card()

    def make_room(self) -> None:
        """Drop an earlier run, unless it is this one, unfinished."""
        try:
            before = read_run(self.out)
        except (FileNotFoundError, ValueError):
            before = None
        if before is not None and before.finished is None and before.run_id == self.card.run_id:
            return
        for name in (RUN, SAMPLES, RECORDS):
            (self.out / name).unlink(missing_ok=True)
        if self.editor.outputs.kind == "model":
            for sample in self.benchmark:
                for seed in self.editor.outputs.seeds:
                    self.editor.outputs.path(sample, seed).unlink(missing_ok=True)

    def begin(self) -> RunCard:
        """Check the folder, take what an earlier run left, write card and samples."""
        if (self.out / RUN).is_file():
            before = read_run(self.out)
            if before.run_id != self.card.run_id:
                first, second = _identity(before), _identity(self.card)
                differing = [name for name in first if first[name] != second[name]]
                raise ValueError(
                    f"{self.out} holds another run ({', '.join(differing)} differ; it is {before.method} on "
                    f"{before.benchmark['name']} by {before.protocol['name']}): name another --out, or delete it."
                )
            self.card = replace(self.card, started=before.started)
        elif (self.out / RECORDS).is_file():
            raise ValueError(f"{self.out} holds {RECORDS} but no {RUN}: it is no benchmark run, name another folder.")
        self._resume()
        write_run(self.card, self.out)
        write_samples([self._sample_line(sample) for sample in self.benchmark], self.out)
        return self.card

    def records(self, progress: Callable[[int], object] | None) -> Iterator[MetricRecord]:
        """All records that are not there yet, sample by sample."""
        outputs, samples = self.editor.outputs, iter(self.benchmark)
        while chunk := list(islice(samples, outputs.batch_size)):
            for seed in outputs.seeds:
                outputs.prepare(chunk, seed)
            for sample in chunk:
                view = self._view(sample)
                for seed in outputs.seeds:
                    yield from self._of_editor(view, seed)
                yield from self._of_controls(view)
                self.models.forget()
                if progress is not None:
                    progress(1)

    def _of_editor(self, view: SampleView, seed: int | None) -> Iterator[MetricRecord]:
        sample, editor = view.sample, self.editor
        path = editor.outputs.path(sample, seed)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.measured.get((sample.sample_id, seed), digest) != digest:
            raise ValueError(
                f"{path} was changed since it was measured: name another --out, or delete {self.out / RECORDS}."
            )
        about = {"ckpt_sha": editor.ckpt_sha, "cfg": editor.cfg, "sampler": editor.sampler, "out_png_sha256": digest}
        if rules := self._open(editor.method, sample, seed, self.rules):
            about |= {"method": editor.method, "seed": seed}
            yield from self._measure(view, read_rgb(path), rules, read_said(path), **about)

    def _of_controls(self, view: SampleView) -> Iterator[MetricRecord]:
        """Pictures that nobody edited; judges are not asked about them."""
        silent = [rule for rule in self.rules if not rule.asks_a_judge]
        for name in view.controls:
            rules = self._open(name, view.sample, None, silent)
            if rules and (picture := view.control(name)) is not None:
                sha = self.editor.ckpt_sha if name.startswith("autoencoder") else None
                yield from self._measure(view, picture, rules, SILENT, method=name, ckpt_sha=sha)

    def _view(self, sample: BenchmarkSample) -> SampleView:
        return (self.benchmark.view or SampleView)(sample, self.editor.round_trip)

    def _open(
        self, method: str, sample: BenchmarkSample, seed: int | None, rules: Iterable[MetricRule]
    ) -> list[MetricRule]:
        """The columns that have no record yet."""
        wanted = [rule for rule in rules if not sample.metrics or rule.name in sample.metrics]
        return [rule for rule in wanted if (method, sample.sample_id, seed, rule.name, rule.variant) not in self.done]

    def _measure(
        self, view: SampleView, picture: np.ndarray, rules: list[MetricRule], said: Said, *, method: str, **about: Any
    ) -> Iterator[MetricRecord]:
        sample = view.sample
        output = Prediction(view, picture, self.protocol, self.models, said)
        for rule in rules:
            outcome = measure(output, rule)
            yield MetricRecord(
                run_id=self.card.run_id,
                method=method,
                bench=self.benchmark.card.name,
                bench_version=self.benchmark.version,
                sample_id=sample.sample_id,
                category=sample.category,
                cluster=sample.cluster,
                metric_name=rule.name,
                metric_variant=rule.variant,
                value=outcome.value,
                capped=outcome.capped,
                error=outcome.error,
                protocol_hash=self.hashes[rule],
                lib_versions=self.versions,
                facts=outcome.facts,
                **about,
            )

    def _resume(self) -> None:
        """Take over the records that still hold; drop those of other weights and those a kill cut off."""
        path = self.out / RECORDS
        if not path.is_file():
            return
        drop_cut_line(path)
        rules = {rule.key: rule for rule in self.rules}

        def holds(record: MetricRecord) -> bool:
            return record.metric in rules and self.hashes[rules[record.metric]] == record.protocol_hash

        dropped = 0
        for record in read_records(path):
            if holds(record):
                self.done.add((record.method, record.sample_id, record.seed, *record.metric))
                if record.out_png_sha256 is not None:
                    self.measured[record.sample_id, record.seed] = record.out_png_sha256
                continue
            dropped += 1
            models = rules[record.metric].models if record.metric in rules else ()
            gone = [key for key in models if key in self.models.missing]
            if gone and record.value is not None:
                raise ValueError(
                    f"{self.out} was measured with {', '.join(gone)}, which is missing now and whose numbers would be "
                    f"lost: {self.models.missing[gone[0]]}"
                )
        if dropped:
            write_records(filter(holds, read_records(path)), path)

    def _sample_line(self, sample: BenchmarkSample) -> RunSample:
        outputs, pictures = self.editor.outputs, {name: getattr(sample, name) for name in ("source", "target", "mask")}
        return RunSample(
            **{name: getattr(sample, name) for name in ("sample_id", "instruction", "earlier", "category", "cluster")},
            **{name: None if path is None else shorten(path, self.out) for name, path in pictures.items()},
            references=tuple(shorten(path, self.out) for path in sample.references),
            outputs=tuple(
                {"seed": seed, "path": shorten(outputs.path(sample, seed), self.out)} for seed in outputs.seeds
            ),
        )

    def _card(self) -> RunCard:
        editor, outputs, bench = self.editor, self.editor.outputs, self.benchmark
        benchmark = {
            **{name: getattr(bench.card, name) for name in ("name", "title", "paper", "obtain", "licence")},
            "is_non_commercial": bench.card.is_non_commercial,
            "folder": str(bench.folder),
            "split": bench.split,
            "version": bench.version,
            "samples": len(bench),
            "warnings": list(bench.warnings),
            "differs": list(bench.differs),
        }
        columns = [
            {
                "metric_name": one.name,
                "metric_variant": one.variant,
                "better": one.better,
                "hash": value,
                "why": one.why,
            }
            for one, value in self.hashes.items()
        ]
        protocol = {
            **{name: getattr(self.protocol, name) for name in ("name", "title", "source", "averaging", "hash")},
            "caveats": list(self.protocol.caveats),
            "columns": columns,
            **({} if self.protocol.drawn is None else {"drawn": asdict(self.protocol.drawn)}),
        }
        made = {"kind": outputs.kind, "source": outputs.source, "ckpt_sha": editor.ckpt_sha}
        made |= {"seeds": list(outputs.seeds), "warnings": list(editor.warnings)}
        controls = [name for sample in bench for name in self._view(sample).controls]
        card = RunCard(
            run_id="",
            method=editor.method,
            benchmark=benchmark,
            protocol=protocol,
            models=dict(self.models.about),
            missing=dict(self.models.missing),
            outputs=made,
            settings=dict(editor.settings),
            controls=tuple(dict.fromkeys(controls)),
            versions=self.versions,
            started=_now(),
        )
        digest = hashlib.sha256(json.dumps(_identity(card), sort_keys=True).encode("utf-8")).hexdigest()
        return replace(card, run_id=digest[:16])


def _identity(card: RunCard) -> dict[str, Any]:
    """What decides about a run's numbers, but for weights of encoders, which are in the columns' hashes."""
    return {
        "benchmark": [card.benchmark[name] for name in ("name", "split", "version", "samples")],
        "protocol": card.protocol["hash"],
        "method": card.method,
        "outputs": [card.outputs[name] for name in ("kind", "source", "ckpt_sha", "seeds")],
        "settings": dict(card.settings),
    }


def _versions(models: MetricModels) -> dict[str, str]:
    """Libraries that took part."""
    kinds = {one["kind"] for one in models.about.values()}
    names = ["insightedit", "numpy", "pillow", "scikit-image", "scipy"]
    names += ["torch"] if kinds - {"judge"} else []
    names += ["transformers"] if kinds & {"clip", "dino", "detector", "segmenter"} else []
    names += ["lpips"] if "lpips" in kinds else []
    return installed_versions(*names)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def failures(card: RunCard, records: Iterable[MetricRecord]) -> list[str]:
    """What of the method's outputs has no value, as sentences; missing networks are told elsewhere."""
    failed: dict[tuple[str, str, str], int] = {}
    for record in records:
        if record.method == card.method and record.error and not record.error.startswith("not measured"):
            key = (record.metric_name, record.metric_variant, record.error)
            failed[key] = failed.get(key, 0) + 1
    total = card.benchmark["samples"] * len(card.outputs["seeds"])
    return [
        f"{name} ({variant}): no value for {count} of {total}: {error}"
        for (name, variant, error), count in failed.items()
    ]
