"""A pipeline around an editor's parts: the live ones, or copies to be saved."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import nn

from insightedit.pipelines.edit import ComposedEditPipeline, InsightEditPipeline
from insightedit.pipelines.interleaved import InterleavedEditPipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor


def pipeline_from_editor(
    editor: Editor, config: Config, dtype: torch.dtype | None = None, **replaced: Any
) -> InsightEditPipeline | InterleavedEditPipeline:
    """A pipeline of an editor's parts, with the settings of its config; for previews and measurements during training.

    Nothing is copied or merged where `dtype` is None: the pipeline draws with the weights as they stand, and leaves
    each part in the mode (training or not) in which it found it. With one, it has copies on the CPU, to be saved; but
    what is `replaced` is taken as it is. To save one, use `export_editor`.
    """
    if editor.denoiser is None or editor.vae is None:
        raise ValueError("this editor has no generator (stage 1): there is nothing to draw with; use stage 2 or 3.")
    scheduler: Any = editor.noise_scheduler
    reader: Any = editor.comprehension
    parts = {**reader.parts(), "bridge": editor.bridge, "vae": editor.vae, editor.denoiser_part: editor.denoiser}
    if reader.reads_references:
        # MIGE draws with DPM-Solver++ of order 2 on the training schedule
        sampler = {"algorithm_type": "dpmsolver++", "solver_order": 2, "timestep_spacing": "linspace"}
        parts |= {"scheduler": DPMSolverMultistepScheduler.from_config(scheduler.config, **sampler)}
        kind: Any = InterleavedEditPipeline
    else:
        from insightedit.modeling.pretrained import load_image_processor

        encoder = replaced.get("image_encoder", getattr(editor, "image_encoder", None))
        parts |= {
            "scheduler": type(scheduler).from_config(scheduler.config),
            "image_encoder": encoder,
            "feature_extractor": encoder and load_image_processor(config.generation.image_encoder),
        }
        usual = (config.comprehension.kind, config.generation.denoiser.kind) == ("llava", "unet")
        kind = InsightEditPipeline if usual else ComposedEditPipeline
    own = {name: part for name, part in parts.items() if name not in replaced}
    parts = replaced | (own if dtype is None else {name: copy_of(part, dtype) for name, part in own.items()})
    pipeline = kind(**parts, **pipeline_settings(config, kind))
    if "mllm" in parts and pipeline.mllm is reader.parts()["mllm"]:
        pipeline.use_comprehension(reader)  # whose LoRA is live
    return pipeline


def pipeline_settings(config: Config, kind: type) -> dict[str, Any]:
    """Settings of a pipeline of a class, by name, that follow from a config."""
    guidance, generation, reads = config.guidance, config.generation, config.comprehension
    settings = {
        **vars(reads),
        "comprehension_settings": asdict(reads),
        "resolution": generation.resolution,
        "scale_source_latents": generation.scale_source_latents,
        "default_guidance_scale": guidance.guidance_scale,
        "default_image_guidance_scale": guidance.image_guidance_scale,
        "default_num_inference_steps": guidance.num_inference_steps,
        "image_prompt_scale": generation.image_prompt_scale,
    }
    scale, steps = guidance.creation_guidance_scale, guidance.creation_inference_steps
    settings["default_creation_guidance_scale"] = guidance.guidance_scale if scale is None else scale
    settings["default_creation_inference_steps"] = guidance.num_inference_steps if steps is None else steps
    return {name: value for name, value in settings.items() if name in kind._settings}


def copy_of(part: Any, dtype: torch.dtype) -> Any:
    """A module's copy on the CPU, to be saved; anything else as it is."""
    return copy.deepcopy(part).to(device="cpu", dtype=dtype).eval() if isinstance(part, nn.Module) else part


def sample_edits(editor: Editor, config: Config, samples: Sequence) -> list[np.ndarray]:
    """Edit samples with the weights as they stand; what training draws to be looked at.

    They are objects with `source` (H, W, 3) uint8 and `instruction`; where instructions carry pictures, with
    `reference_images`, and `source` may be None. Each gives one (H, W, 3) uint8 picture, at the config's resolution.
    """
    pipeline: Any = pipeline_from_editor(editor, config)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"background_lock": False, "output_type": "np"}
    if editor.comprehension.reads_references:  # tasks differ from sample to sample
        edited = [
            pipeline(s.source, s.instruction, reference_images=list(s.reference_images), seed=seed, **settings).images[
                0
            ]
            for seed, s in enumerate(samples)
        ]
    else:
        edited = pipeline(
            image=[s.source for s in samples],
            instruction=[s.instruction for s in samples],
            seed=list(range(len(samples))),
            batch_size=len(samples),
            **settings,
        ).images
    return [np.asarray(np.clip(np.asarray(e) * 255.0 + 0.5, 0, 255), dtype=np.uint8) for e in edited]
