"""Who makes the pictures that are measured: a folder of any editor, or a pipeline."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import typer
from torch import nn

from insightedit.evaluation.benchmarks.results import pair_results
from insightedit.evaluation.core.measure import RoundTrip
from insightedit.evaluation.core.outputs import EditCall, EditCallFn, FolderOutputs, ModelOutputs, Outputs
from insightedit.evaluation.metrics.masks import match_size
from insightedit.generation.autoencoder import decode, encode_source
from insightedit.images.reading import pixels_to_tensor, squash, stretch, tensor_to_pixels
from insightedit.modeling.pretrained import DIGEST_DIGITS, weights_digest

if TYPE_CHECKING:
    from insightedit.evaluation.benchmarks.base import Benchmark
    from insightedit.evaluation.scenes.benchmark import EditFn, Sample
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.interleaved import InterleavedEditPipeline

    Pipeline = InsightEditPipeline | InterleavedEditPipeline


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
    """A model that makes the pictures.

    Raises:
        ValueError: if the benchmark gives reference pictures, which the model does not read.
    """
    pipeline = open_model(model, device)
    if any(sample.references for sample in benchmark) and not _takes_references(pipeline):
        raise ValueError(
            f"{benchmark.card.title} gives reference pictures, which this model does not read: take a model of "
            "the mige recipe, or --results."
        )
    edit, is_locked = pipeline_editor(pipeline, **call), call["background_lock"]
    outputs = ModelOutputs(edit, out, str(model), seeds, call["batch_size"], is_locked=is_locked)
    creates = all(sample.source is None for sample in benchmark)
    return method_of(pipeline, outputs, call, creates=creates, method=method)


def method_of(
    pipeline: Pipeline, outputs: Outputs, call: Mapping[str, Any], *, creates: bool, method: str | None = None
) -> EditingMethod:
    """A pipeline's pictures, with all that is noted of it.

    Args:
        pipeline: that makes them; defaults are filled into the settings where it has them.
        outputs: the pictures.
        call: arguments of the pipeline's calls; None means the model's default.
        creates: whether pictures are made from nothing instead of edited.
        method: row of the table; name of the model if not given.
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

    def edit(calls: Sequence[EditCall]) -> list[np.ndarray]:
        result: Any = pipeline(
            **pictures_of(pipeline, calls),
            instruction=[one.instruction for one in calls],
            seed=[one.seed for one in calls],
            batch_size=batch_size,
            background_lock=background_lock,
            output_type="np",
            **named,
        )
        return [to_uint8(np.asarray(picture)) for picture in result.images]

    return edit


def edit_with(pipeline: Pipeline, *, seed: int = 0, **call: Any) -> EditFn:
    """An edit function for scenes that calls a pipeline.

    Args:
        pipeline: from `insightedit.pipelines.loading.load_pipeline`.
        seed: of the noise; each sample's own seed is drawn from it and the sample, so it does not depend on
            batches.
        **call: see `pipeline_editor`, which also says what is raised.
    """
    editor = pipeline_editor(pipeline, **call)

    def edit(samples: Sequence[Sample]) -> list[np.ndarray]:
        calls = [EditCall(s.instruction, s.source, tuple(s.references), noise_seed(s, seed)) for s in samples]
        return [match_size(picture, sample.target) for picture, sample in zip(editor(calls), samples, strict=True)]

    return edit


def check_settings_of(pipeline: Pipeline, settings: Mapping[str, Any]) -> None:
    """Refuse settings that the pipeline's call does not have.

    Raises:
        ValueError: names them.
    """
    unknown = [name for name in settings if name not in signature(pipeline.__call__).parameters]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown).replace('_', ' ')}: {type(pipeline).__name__} has no such setting; leave it out."
        )


def check_takes_references(pipeline: Pipeline, task: str) -> None:
    """Refuse a task with reference pictures where the model reads none.

    Raises:
        ValueError: with what to do.
    """
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
    """Seed in 0..2**32-1 from the source (or from the instruction, where there is none) and the run's seed.

    Both halves of a minimal pair share it.
    """
    shown = sample.instruction.encode() if sample.source is None else sample.source.tobytes()
    return zlib.crc32(f"{seed}:".encode() + shown)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) float in [0, 1] -> uint8, rounded."""
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def round_trip_of(pipeline: Pipeline) -> RoundTrip:
    """Pictures through the pipeline's autoencoder and back, on the same way that edited pictures take.

    Args:
        pipeline: its `vae` and resolution are used.
    """
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
