"""Who makes the pictures that are measured: a folder of any editor, or a pipeline."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn

from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.evaluation.benchmarks.results import pair_results
from insightedit.evaluation.core.measure import RoundTrip, SampleView, open_rgb
from insightedit.evaluation.core.run_folder import PICTURES, SILENT, TURNS, Said, write_said
from insightedit.evaluation.metrics.masks import match_size
from insightedit.generation.autoencoder import decode, encode_source
from insightedit.images.provenance import Provenance, save_picture
from insightedit.images.reading import pixels_to_tensor, squash, stretch, tensor_to_pixels
from insightedit.modeling.pretrained import DIGEST_DIGITS, weights_digest

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import EditFn, Sample
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.interleaved import InterleavedEditPipeline

    Pipeline = InsightEditPipeline | InterleavedEditPipeline


@dataclass(frozen=True)
class EditCall:
    """One call of an editor."""

    instruction: str  # what to do
    source: np.ndarray | None  # (H, W, 3) uint8; None where something is made from nothing
    references: tuple[np.ndarray, ...]  # (h, w, 3) uint8 each
    seed: int  # of the noise, 0..2**32-1


@dataclass(frozen=True)
class EditAnswer:
    """What an editor gives back for a call."""

    picture: np.ndarray  # (H, W, 3) uint8
    said: Said = SILENT  # what it told of it


EditCallFn = Callable[[Sequence[EditCall]], list[EditAnswer]]


class Outputs(Protocol):
    """Pictures to be measured."""

    kind: str  # "model" or "results"
    source: str  # model or folder, for the card
    seeds: tuple[int | None, ...]  # of the pictures; (None,) where nothing is known of them
    batch_size: int  # samples that are prepared together

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """See to it that the pictures of these samples are there."""
        ...

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        ...


@dataclass(frozen=True)
class FolderOutputs:
    """Pictures that another editor made."""

    folder: Path  # where they lie
    paths: Mapping[str, Path]  # sample id -> picture, see `insightedit.evaluation.benchmarks.results`
    kind: str = "results"
    seeds: tuple[int | None, ...] = (None,)
    batch_size: int = 1

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.folder)

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """Nothing is to be done."""

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        return self.paths[sample.sample_id]


@dataclass(frozen=True)
class ModelOutputs:
    """Pictures that a model makes, each saved under the run's folder and never made twice.

    The samples of a batch go through the model together also when a stopped run left some of them: what is made then
    is, bit for bit, what would have been.
    """

    editor: EditCallFn  # makes pictures
    out: Path  # folder of the run
    source: str  # name of the model, for the card
    seeds: tuple[int | None, ...] = (0,)  # runs of the whole benchmark
    batch_size: int = 1  # samples at a time
    software: str = "insightedit"  # for the note in the files
    is_locked: bool = False  # whether the background is the source's
    kind: str = field(default="model", init=False)

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        return self._place(PICTURES, seed) / f"{sample.sample_id}.png"

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """Make what is missing; edits of a session follow one another on the model's own results."""
        if all(self.path(sample, seed).is_file() for sample in samples):
            return
        turns = max(len(sample.earlier) for sample in samples)
        for number in range(1, turns + 2):
            chosen = [sample for sample in samples if number <= len(sample.earlier) + 1]
            calls = []
            for sample in chosen:
                view, drawn = SampleView(sample), draw_seed(sample.sample_id, number, seed)
                source = view.source if number == 1 else open_rgb(self._turn(sample, number - 1, seed))
                told = (*sample.earlier, sample.instruction)[number - 1]
                calls.append(EditCall(told, source, view.references, drawn))
            for sample, call, answer in zip(chosen, calls, self.editor(calls), strict=True):
                path, is_locked = self._turn(sample, number, seed), self.is_locked and sample.source is not None
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    note = Provenance(self.software, call.instruction, call.seed, is_locked)
                    write_said(answer.said, path)  # before the picture, which says that the sample is done
                    save_picture(Image.fromarray(answer.picture), path, note)

    def _turn(self, sample: BenchmarkSample, number: int, seed: int | None) -> Path:
        if number == len(sample.earlier) + 1:
            return self.path(sample, seed)
        return self._place(TURNS, seed) / f"{sample.sample_id}-{number}.png"

    def _place(self, name: str, seed: int | None) -> Path:
        """The first seed's pictures lie in the folder itself."""
        return self.out / name if seed == self.seeds[0] else self.out / name / f"seed-{seed}"


def draw_seed(sample_id: str, number: int, seed: int | None) -> int:
    """Seed of one call, 0..2**32-1, from the sample, its turn and the run's seed; batches do not matter."""
    return zlib.crc32(f"{seed}:{sample_id}:{number}".encode())


@dataclass(frozen=True)
class EditingMethod:
    """Who made the pictures."""

    method: str  # row of the table
    outputs: Outputs  # the pictures
    ckpt_sha: str | None = None  # of the weights; None if nothing is known of them
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the calls, for the card
    cfg: Mapping[str, float] = field(default_factory=dict)  # guidance scales, for the records
    sampler: str = ""  # name and steps, for the records
    round_trip: RoundTrip | None = None  # pictures through the model's autoencoder and back; None without a model
    warnings: tuple[str, ...] = ()  # about the pictures, for the card


def open_model(model: str | None, device: str | None) -> Any:
    """The pipeline of a model, silent; the one that comes along for None."""
    from insightedit.pipelines.loading import load_pipeline

    pipeline = load_pipeline(model, device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def results_editor(
    folder: Path, benchmark: Benchmark, method: str | None, *, partial: bool
) -> tuple[Benchmark, EditingMethod]:
    """Pictures that are there; samples without one are left out."""
    found = pair_results(folder, benchmark, partial=partial)
    there = tuple(sample for sample in benchmark if sample.sample_id in found.paths)
    for warning in found.warnings:
        typer.secho(f"{folder}: {warning}", err=True, fg=typer.colors.YELLOW)
    outputs = FolderOutputs(found.folder, found.paths)
    editor = EditingMethod(method or folder.absolute().name, outputs, warnings=found.warnings)
    return replace(benchmark, samples=there), editor


def model_editor(
    model: str,
    benchmark: Benchmark,
    out: Path,
    method: str | None,
    seeds: tuple[int, ...],
    device: str,
    call: dict[str, Any],
) -> EditingMethod:
    """A model that makes the pictures; a ValueError if it does not read the benchmark's reference pictures."""
    pipeline = open_model(model, device)
    if any(sample.references for sample in benchmark) and not _takes_references(pipeline):
        raise ValueError(
            f"{benchmark.card.title} gives reference pictures, which this model does not read: take a model of "
            "the mige recipe, or --results."
        )
    creates = all(sample.source is None for sample in benchmark)
    return editor_of(pipeline, out, call, seeds=seeds, source=model, creates=creates, method=method)


def editor_of(
    pipeline: Pipeline,
    out: Path,
    call: dict[str, Any],
    *,
    seeds: tuple[int, ...],
    source: str | None = None,
    **of: Any,
) -> EditingMethod:
    """A pipeline that makes the pictures of a run in the folder `out`.

    `call` holds `batch_size`, `background_lock` and settings of the call, `source` names the model; `of` see
    `method_of`.
    """
    edit, name = pipeline_editor(pipeline, **call), source or str(pipeline.name_or_path)
    outputs = ModelOutputs(edit, out, name, seeds, call["batch_size"], is_locked=call["background_lock"])
    return method_of(pipeline, outputs, call, **of)


def method_of(
    pipeline: Pipeline, outputs: Outputs, call: Mapping[str, Any], *, creates: bool = False, method: str | None = None
) -> EditingMethod:
    """A pipeline's pictures, with all that is noted of it.

    Settings are those of `call` and, for None, the pipeline's defaults, which differ where it `creates` pictures from
    nothing; `method`, the row of the table, is the model's name if not given.
    """
    names = {
        "num_inference_steps": "default_creation_inference_steps" if creates else "default_num_inference_steps",
        "guidance_scale": "default_creation_guidance_scale" if creates else "default_guidance_scale",
        "image_guidance_scale": "default_image_guidance_scale",
        "image_prompt_scale": "image_prompt_scale",
    }
    defaults = {key: pipeline.config[name] for key, name in names.items() if name in pipeline.config}
    settings = {**defaults, **given(call)}
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    weights = sorted(f"{name} {weights_digest(part)}" for name, part in modules.items())
    return EditingMethod(
        method or Path(outputs.source).absolute().name,
        outputs,
        ckpt_sha=hashlib.sha256("\n".join(weights).encode()).hexdigest()[:DIGEST_DIGITS],
        settings={**settings, "device": pipeline.device.type},
        cfg={name: value for name, value in settings.items() if name.endswith("_scale")},
        sampler=f"{type(pipeline.scheduler).__name__}-{settings.get('num_inference_steps', '')}".strip("-"),
        round_trip=round_trip_of(pipeline),
    )


def given(call: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of a call's settings."""
    return {name: value for name, value in call.items() if value is not None}


def pipeline_editor(
    pipeline: Pipeline, *, batch_size: int = 1, background_lock: bool = False, **settings: Any
) -> EditCallFn:
    """An editor that calls a pipeline.

    Args:
        pipeline: from `insightedit.pipelines.loading.load_pipeline`.
        batch_size: pictures per forward pass.
        background_lock: off measures the model's own skill; on measures what users get.
        **settings: further arguments of the call, e.g. `num_inference_steps`; None means the model's default.

    Raises:
        ValueError: if the pipeline's call has no such setting; from the editor, if samples have references and the
            pipeline takes none.
    """
    named = given(settings)
    check_settings_of(pipeline, named)

    def edit(calls: Sequence[EditCall]) -> list[EditAnswer]:
        result: Any = pipeline(
            **pictures_of(pipeline, calls),
            instruction=[one.instruction for one in calls],
            seed=[one.seed for one in calls],
            batch_size=batch_size,
            background_lock=background_lock,
            output_type="np",
            **named,
        )
        pictures = [to_uint8(np.asarray(picture)) for picture in result.images]
        return [EditAnswer(picture, said_of(result, number)) for number, picture in enumerate(pictures)]

    return edit


def said_of(result: Any, number: int) -> Said:
    """What a pipeline told of one picture of a call."""
    return Said(
        words=result.expressive_instructions[number],
        understood=result.understood[number],
        confidence=result.confidence[number],
        warnings=tuple(warning.message for warning in result.warnings[number]),
    )


def edit_with(pipeline: Pipeline, *, seed: int = 0, **call: Any) -> EditFn:
    """An edit function for scenes that calls a pipeline.

    Each sample's own seed is drawn from `seed` and the sample, so it does not depend on batches; see `pipeline_editor`
    for the rest.
    """
    editor = pipeline_editor(pipeline, **call)

    def edit(samples: Sequence[Sample]) -> list[np.ndarray]:
        calls = [EditCall(s.instruction, s.source, tuple(s.references), noise_seed(s, seed)) for s in samples]
        answers = zip(editor(calls), samples, strict=True)
        return [match_size(answer.picture, sample.target) for answer, sample in answers]

    return edit


def check_settings_of(pipeline: Pipeline, settings: Mapping[str, Any]) -> None:
    """Refuse, with a ValueError, settings that the pipeline's call does not have."""
    unknown = [name for name in settings if name not in signature(pipeline.__call__).parameters]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown).replace('_', ' ')}: {type(pipeline).__name__} has no such setting; leave it out."
        )


def check_takes_references(pipeline: Pipeline, task: str) -> None:
    """Refuse, with a ValueError, a task with reference pictures where the model reads none."""
    if task != "editing" and not _takes_references(pipeline):
        raise ValueError(
            f"task {task} gives reference pictures, which this model does not read: take a model of the mige recipe, "
            "or --task editing."
        )


def _takes_references(pipeline: Pipeline) -> bool:
    return "reference_images" in signature(pipeline.__call__).parameters


def pictures_of(pipeline: Pipeline, samples: Sequence[Sample | EditCall]) -> dict[str, Any]:
    """The pictures of a call: sources, or None where new pictures are drawn; references where there are any."""
    sources = [sample.source for sample in samples]
    pictures: dict[str, Any] = {"image": None if sources[0] is None else sources}
    if any(sample.references for sample in samples):
        check_takes_references(pipeline, "subject" if sources[0] is None else "subject_editing")
        pictures["reference_images"] = [list(sample.references) for sample in samples]
    return pictures


def noise_seed(sample: Sample, seed: int) -> int:
    """Seed in 0..2**32-1 from the source (without one, the instruction) and the run's seed; pairs share it."""
    shown = sample.instruction.encode() if sample.source is None else sample.source.tobytes()
    return zlib.crc32(f"{seed}:".encode() + shown)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) float in [0, 1] -> uint8, rounded."""
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def round_trip_of(pipeline: Pipeline) -> RoundTrip:
    """Pictures through the pipeline's autoencoder and back, on the same way that edited pictures take."""
    side = pipeline.config["resolution"]

    @torch.no_grad()
    def round_trip(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        back = []
        for picture in pictures:
            pixels = pixels_to_tensor(squash(picture, side))[None].to(pipeline.vae.device)
            drawn = decode(pipeline.vae, encode_source(pipeline.vae, pixels, scaled=True))
            native = stretch(tensor_to_pixels(drawn[0]), (picture.shape[1], picture.shape[0]))
            back.append(np.rint(np.clip(native, 0.0, 255.0)).astype(np.uint8))
        return back

    return round_trip
