"""A pipeline as the benchmark wants it: scenes in, uint8 pictures out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from insightedit.evaluation.core.outputs import EditCall, EditCallFn, given
from insightedit.evaluation.metrics.masks import match_size
from insightedit.generation.autoencoder import decode, encode_source
from insightedit.images.reading import pixels_to_tensor, squash, stretch, tensor_to_pixels

if TYPE_CHECKING:
    from insightedit.evaluation.core.measure import RoundTrip
    from insightedit.evaluation.scenes.benchmark import EditFn, Sample
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.interleaved import InterleavedEditPipeline

    Pipeline = InsightEditPipeline | InterleavedEditPipeline


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
    if task != "editing" and "reference_images" not in signature(pipeline.__call__).parameters:
        raise ValueError(
            f"task {task} gives reference pictures, which this model does not read: take a model of the mige recipe, "
            "or --task editing."
        )


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
