"""Editor and config -> `InterleavedEditPipeline`; what `compose` calls where instructions carry pictures."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DPMSolverMultistepScheduler

from insightedit.pipelines.interleaved import InterleavedEditPipeline

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.model.interleaved_editor import InterleavedEditor


def compose_interleaved(
    editor: InterleavedEditor, config: Config, dtype: torch.dtype | None = None
) -> InterleavedEditPipeline:
    """A pipeline over an editor's parts.

    Args:
        editor: any.
        config: guidance scales, steps, lengths.
        dtype: of copies on the CPU, to be saved; None takes the live parts.

    Returns:
        The pipeline, with DPM-Solver++ of order 2 on the training schedule (MIGE).
    """
    guidance = config.guidance
    reader, tokenizer = editor.comprehension, editor.comprehension.tokenizer
    trained: Any = editor.noise_scheduler
    scheduler = DPMSolverMultistepScheduler.from_config(
        trained.config, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace"
    )
    return InterleavedEditPipeline(
        picture_encoder=_ready(reader.picture_encoder, dtype),
        image_processor=tokenizer.image_processor,
        text_encoder=_ready(reader.text_encoder, dtype),
        tokenizer=tokenizer.tokenizer,
        bridge=_ready(editor.bridge, dtype),
        vae=_ready(editor.vae, dtype),
        transformer=_ready(editor.transformer, dtype),
        scheduler=scheduler,
        resolution=config.generation.resolution,
        max_length=tokenizer.max_length,
        max_references=tokenizer.max_references,
        source_in_text=tokenizer.source_in_text,
        scale_source_latents=config.generation.scale_source_latents,
        default_guidance_scale=guidance.guidance_scale,
        default_image_guidance_scale=guidance.image_guidance_scale,
        default_num_inference_steps=guidance.num_inference_steps,
        default_creation_guidance_scale=_or(guidance.creation_guidance_scale, guidance.guidance_scale),
        default_creation_inference_steps=_or(guidance.creation_inference_steps, guidance.num_inference_steps),
    )


def _ready(module: Any, dtype: torch.dtype | None) -> Any:
    return module if dtype is None else copy.deepcopy(module).to(device="cpu", dtype=dtype).eval()


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
