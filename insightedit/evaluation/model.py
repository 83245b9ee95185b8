"""A pipeline as the benchmark wants it: scenes in, uint8 pictures out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from insightedit.generation.autoencoder import decode, encode_source
from insightedit.imaging import pixels_to_tensor, squash, stretch, tensor_to_pixels

if TYPE_CHECKING:
    from data_recipes.scenes import EditSample
    from insightedit.evaluation.scenes import EditFn, RoundTripFn
    from insightedit.pipeline import InsightEditOutput, InsightEditPipeline


def edit_with(
    pipeline: InsightEditPipeline,
    *,
    seed: int = 0,
    batch_size: int = 1,
    background_lock: bool = False,
    **settings: Any,
) -> EditFn:
    """An edit function that calls a pipeline.

    Args:
        pipeline: from `insightedit.hub.load_pipeline`.
        seed: of the noise; each sample's own seed is drawn from it and the sample, so it does not depend on
            batches.
        batch_size: pictures per forward pass.
        background_lock: off measures the model's own skill; on measures what users get.
        **settings: further arguments of the call, e.g. `num_inference_steps`.
    """

    def edit(samples: Sequence[EditSample]) -> list[np.ndarray]:
        result = cast(
            "InsightEditOutput",
            pipeline(
                image=[sample.source for sample in samples],
                instruction=[sample.instruction for sample in samples],
                seed=[noise_seed(sample, seed) for sample in samples],
                batch_size=batch_size,
                background_lock=background_lock,
                output_type="np",
                **settings,
            ),
        )
        return [to_uint8(np.asarray(picture)) for picture in result.images]

    return edit


def noise_seed(sample: EditSample, seed: int) -> int:
    """Seed in 0..2**32-1 from the picture and the run's seed: both edits of a minimal pair share it."""
    return zlib.crc32(f"{seed}:".encode() + sample.source.tobytes())


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) float in [0, 1] -> uint8, rounded."""
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def round_trip_of(pipeline: InsightEditPipeline) -> RoundTripFn:
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
