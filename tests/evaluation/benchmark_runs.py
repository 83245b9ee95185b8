"""What tests of benchmark runs share: tiny random networks, an editor that adds noise, runs on small layouts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insightedit.evaluation.benchmarks.base import Benchmark
from insightedit.evaluation.benchmarks.results import pair_results
from insightedit.evaluation.core.editing_methods import EditAnswer, EditCall, EditingMethod, FolderOutputs
from insightedit.evaluation.core.metric_models import MetricModels, load_metric_models
from insightedit.evaluation.core.protocol import Protocol
from insightedit.evaluation.core.records import MetricRecord, read_records
from insightedit.evaluation.core.run import run_benchmark
from insightedit.evaluation.core.run_folder import RunCard
from insightedit.evaluation.metrics.encoders import ClipEncoder, DinoEncoder
from insightedit.evaluation.metrics.perceptual import Perceptual, build_perceptual
from insightedit.evaluation.metrics.preprocess import clip_preprocess, dino_preprocess
from tests.evaluation.metrics.test_subjects import MarkDetector, MarkSegmenter
from tests.evaluation.metrics.toy_encoders import SIDE, byte_tokenizer, tiny_clip, tiny_dino


@cache
def lpips(net: Any) -> Perceptual:
    return build_perceptual(net, random_seed=0)


def networks(protocol: Protocol, *without: str) -> dict[str, Any]:
    """Real classes with random weights for all that a protocol takes, but for some."""
    made: dict[str, Any] = {}
    for model in protocol.models:
        if model.kind == "clip":
            way = clip_preprocess(model.preprocess, size=SIDE)
            made[model.key] = ClipEncoder(tiny_clip(), byte_tokenizer(), name="tiny", preprocess=way)
        elif model.kind == "dino":
            made[model.key] = DinoEncoder(
                tiny_dino(), name="tiny", preprocess=dino_preprocess(model.preprocess, size=SIDE)
            )
        elif model.kind == "lpips":
            made[model.key] = lpips(model.name)
        elif model.kind == "detector":
            made[model.key] = MarkDetector()
        elif model.kind == "segmenter":
            made[model.key] = MarkSegmenter()
    return {key: one for key, one in made.items() if key not in without}


def tools(protocol: Protocol, benchmark: Benchmark) -> MetricModels:
    return load_metric_models(protocol, benchmark.card.name, given=networks(protocol))


def noisy(picture: np.ndarray, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 with noise that is the same for the same seed."""
    noise = np.random.default_rng(seed).normal(0, 12, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def noise_editor(requests: Sequence[EditCall]) -> list[EditAnswer]:
    """An editor whose answer follows from picture, instruction and seed."""
    made = []
    for one in requests:
        picture = one.source if one.source is not None else one.references[0]
        made.append(EditAnswer(noisy(picture, one.seed ^ zlib.crc32(one.instruction.encode()))))
    return made


def write_results(benchmark: Benchmark, folder: Path, seed: int = 0) -> Path:
    """An editor's pictures under the samples' ids."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in benchmark:
        path = sample.source or sample.references[0]
        with Image.open(path) as opened:  # a GIF stays open otherwise
            picture = np.asarray(opened.convert("RGB"))
        edited = noisy(picture, seed + zlib.crc32(sample.sample_id.encode()))
        Image.fromarray(edited).save(folder / f"{sample.sample_id}.png")
    return folder


def folder_editor(benchmark: Benchmark, folder: Path, method: str = "noise") -> EditingMethod:
    found = pair_results(folder, benchmark)
    return EditingMethod(method, FolderOutputs(found.folder, found.paths), warnings=found.warnings)


def run(benchmark: Benchmark, protocol: Protocol, tmp_path: Path, **settings: Any) -> tuple[RunCard, Path]:
    """A run over noisy pictures; the card and its folder."""
    results = write_results(benchmark, tmp_path / "results")
    out = tmp_path / "out"
    editor = folder_editor(benchmark, results)
    return run_benchmark(benchmark, protocol, editor, tools(protocol, benchmark), out, **settings), out


def values(out: Path, name: str, variant: str = "paper", method: str = "noise") -> dict[str, float | None]:
    """Sample id -> value of a column."""
    return {
        record.sample_id: record.value
        for record in records(out)
        if (record.metric_name, record.metric_variant, record.method) == (name, variant, method)
    }


def records(out: Path) -> list[MetricRecord]:
    return list(read_records(out / "records.jsonl"))
