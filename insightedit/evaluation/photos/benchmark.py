"""The photos benchmark: what an editor makes of photographs at their own size, and what it leaves alone.

It is measured as every other benchmark (`insightedit.evaluation.core.run`), by the protocol `photos_v1`, for any
editor: one that draws something for every request has that counted, one that refuses everything, too. Control rows:
`copy_source`, `oracle` (the exact answer), and for whole-picture operations what an ideal drawing of 64 x 64 pixels
gives, `transferred` (as pipelines carry it over, see `insightedit.images.tone_transfer`), `added_change` (its
difference to the source, enlarged and added) and `upsampled` (itself, enlarged).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.evaluation.benchmarks.photos import CARD
from insightedit.evaluation.core.editing_methods import EditingMethod
from insightedit.evaluation.core.measure import RoundTrip, SampleView
from insightedit.evaluation.core.metric_models import MetricModels
from insightedit.evaluation.core.protocol import PhotoProtocol, Protocol, digest
from insightedit.evaluation.core.protocols import PROTOCOLS
from insightedit.evaluation.core.records import PHOTO_ROWS, read_records
from insightedit.evaluation.core.run import run_benchmark
from insightedit.evaluation.core.run_folder import RECORDS, SILENT, Said, read_said
from insightedit.evaluation.metrics.masks import match_size
from insightedit.evaluation.photos import scoring
from insightedit.evaluation.photos.report import PhotoExample, PhotoReport
from insightedit.evaluation.photos.requests import PhotoRequest, PhotoSet
from insightedit.images.background import compute_edit_map, paste_edit
from insightedit.images.provenance import save_picture
from insightedit.images.reading import read_picture, read_rgb, squash, stretch, to_rgb
from insightedit.images.tones import TONES, apply_tone

LOW_SIDE = 64  # pixels of a side of the drawing behind the three last control rows
SHOWN = 512  # pixels of the longer side of the answers that are kept to be looked at
NUM_EXAMPLES = 24  # on the contact sheet, the first ones
METRICS: dict[str, tuple[str, ...]] = {
    "tone": ("success", "understood", "right_degree", "psnr", "progress", "detail", "wrongly_refused"),
    **dict.fromkeys(("outside", "absent"), ("left_alone", "said_so")),
    "scene": ("wrongly_refused",),
}  # kind of a request -> what is measured on it; the first carries all that was found


@dataclass(frozen=True)
class PhotoSample(BenchmarkSample):
    """A sample whose answer follows from its request."""

    request: PhotoRequest = field(kw_only=True)


def photo_benchmark(which: PhotoSet, keep: Path) -> tuple[Benchmark, Protocol]:
    """The requests as samples, and the protocol, which covers every value of sources and answers.

    Photographs stay where they are; scenes, and answers to be looked at, are kept in the folder `keep`.
    """
    samples, covered = [], hashlib.sha256()
    for request in which:
        source = request.source()
        truth = request.truth(source)
        for part in (request.instruction.encode(), repr(source.shape).encode(), source.tobytes(), truth.tobytes()):
            covered.update(part)
        path = None if request.photo is None else request.photo.path
        sample = PhotoSample(
            request.name,
            request.instruction,
            request.category,
            path or _kept(keep / "sources" / f"{request.name}.png", source),
            _kept(keep / "targets" / f"{request.name}.png", _small(truth)),
            cluster="" if request.photo is None else request.photo.name,
            metrics=METRICS[request.kind],
            request=request,
        )
        samples.append(sample)
    rules = PhotoProtocol(
        which.split, which.seed, which.count, covered.hexdigest(), digest(TONES), LOW_SIDE, scoring.COMPARED
    )
    version = f"{which.split}-{rules.data_sha256[:16]}"
    benchmark = Benchmark(CARD, which.folder, tuple(samples), (), version, which.split, view=PhotoView)
    return benchmark, with_changes(PROTOCOLS["photos_v1"], drawn=rules)


def _kept(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(Image.fromarray(rgb), path)
    return path


def _small(rgb: np.ndarray) -> np.ndarray:
    image = Image.fromarray(rgb)
    image.thumbnail((SHOWN, SHOWN))
    return np.asarray(image)


class PhotoView(SampleView):
    """A `PhotoSample` with its truth."""

    sample: PhotoSample

    def __init__(self, sample: Any, round_trip: RoundTrip | None = None) -> None:
        super().__init__(sample, round_trip)

    @cached_property
    def target(self) -> np.ndarray:
        """(H, W, 3) uint8: the right answer at the source's own size."""
        return self.sample.request.truth(self._source)

    @property
    def _source(self) -> np.ndarray:
        assert self.source is not None
        return self.source

    @property
    def controls(self) -> list[str]:
        """Names of the rows that there are."""
        return list(PHOTO_ROWS if self.sample.request.phrase else PHOTO_ROWS[:2])

    def control(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 of a control row."""
        if name in ("copy_source", "oracle"):
            return self._source if name == "copy_source" else self.target
        phrase = self.sample.request.phrase
        assert phrase is not None
        source, size = self._source, self._source.shape[1::-1]
        small = squash(source, LOW_SIDE)
        drawn = apply_tone(small, phrase).astype(np.float32)
        if name == "transferred":
            evidence = compute_edit_map(drawn, small.astype(np.float32), whole_picture=True)
            return to_rgb(paste_edit(read_picture(source), evidence, None, background_lock=True)[0])
        values = stretch(drawn, size) if name == "upsampled" else source + stretch(drawn - small, size)
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)

    def exact(self, edited: np.ndarray, said: Said = SILENT) -> Mapping[str, Any]:
        """All that can be told of an output, see `insightedit.evaluation.photos.scoring`."""
        output = match_size(edited, self._source)
        return scoring.score_request(self.sample.request, self._source, self.target, output, said)


def evaluate_photos(
    editor: EditingMethod,
    benchmark: Benchmark,
    protocol: Protocol,
    out: Path,
    progress: Callable[[int], object] | None = None,
) -> PhotoReport:
    """Measure an editor on the requests of `photo_benchmark`; the run is kept in the folder `out`.

    An earlier run there is replaced, but for one of the same that was stopped, which goes on. `progress` is called with
    1 after each sample.
    """
    run_benchmark(benchmark, protocol, editor, MetricModels(), out, progress=progress, renew=True)
    records = tuple(record for record in read_records(out / RECORDS) if record.facts)
    assert isinstance(protocol.drawn, PhotoProtocol)
    examples = [_example(sample, editor) for sample in benchmark.samples[:NUM_EXAMPLES]]
    return PhotoReport(protocol.drawn, records, _source_files(benchmark, editor), examples=tuple(examples))


def _source_files(benchmark: Benchmark, editor: EditingMethod) -> dict[str, str]:
    """Sample -> SHA-256 of its source's file, where an editor wrote a file of the same kind itself."""
    if editor.outputs.kind == "model":  # written here, from values
        return {}
    pairs = [(one.sample_id, one.source, editor.outputs.path(one, None)) for one in benchmark if one.source]
    return {
        name: hashlib.sha256(source.read_bytes()).hexdigest()
        for name, source, output in pairs
        if source.suffix.lower() == output.suffix.lower()
    }


def _example(sample: Any, editor: EditingMethod) -> PhotoExample:
    path, view = editor.outputs.path(sample, editor.outputs.seeds[0]), PhotoView(sample)
    output, said = match_size(read_rgb(path), view._source), read_said(path)
    facts = view.exact(output, said)
    return PhotoExample(sample.request, facts, *map(_small, (view._source, output, view.target)))
