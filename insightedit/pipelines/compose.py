"""A pipeline around an editor's live parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.config.schema import Config
from insightedit.model.editor import Editor
from insightedit.model.interleaved_editor import InterleavedEditor
from insightedit.pipelines.compose_interleaved import compose_interleaved
from insightedit.pipelines.edit import InsightEditPipeline
from insightedit.pipelines.interleaved import InterleavedEditPipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor


def pipeline_from_editor(
    editor: Editor | InterleavedEditor, config: Config
) -> InsightEditPipeline | InterleavedEditPipeline:
    """A pipeline over the live parts of an editor, for previews and measurements during training.

    Nothing is copied or merged: the pipeline draws with the weights as they stand, and leaves each part in
    the mode (training or not) in which it found it. To save one, use `export_editor`.

    Raises:
        ValueError: if the editor was built without a generator (stage 1).
    """
    if isinstance(editor, InterleavedEditor):
        return compose_interleaved(editor, config)
    return compose_pipeline(
        editor,
        config,
        mllm=editor.comprehension.mllm,
        processor=editor.comprehension.processor,
        bridge=editor.bridge,
        vae=editor.vae,
        unet=editor.unet,
        image_encoder=editor.image_encoder,
        comprehension=editor.comprehension,
    )


def compose_pipeline(
    editor: Editor, config: Config, *, comprehension: Any = None, **parts: Any
) -> InsightEditPipeline:
    """A pipeline of an editor's parts, or of what stands for them in an export, with the settings of its config."""
    if editor.unet is None or editor.vae is None:
        raise ValueError("this editor has no generator (stage 1): there is nothing to draw with; use stage 2 or 3.")
    from insightedit.model.opening import load_image_processor

    scheduler: Any = editor.noise_scheduler
    has_encoder = parts.get("image_encoder") is not None
    extractor = load_image_processor(config.generation.image_encoder) if has_encoder else None
    pipeline = InsightEditPipeline(
        **parts,
        scheduler=type(scheduler).from_config(scheduler.config),
        feature_extractor=extractor,
        resolution=config.generation.resolution,
        num_edit_tokens=config.comprehension.num_edit_tokens,
        edit_token=config.comprehension.edit_token,
        scale_source_latents=config.generation.scale_source_latents,
        default_guidance_scale=config.guidance.guidance_scale,
        default_image_guidance_scale=config.guidance.image_guidance_scale,
        default_num_inference_steps=config.guidance.num_inference_steps,
        image_prompt_scale=config.generation.image_prompt_scale,
        describe_prompt=config.comprehension.describe_prompt,
        expressive=config.comprehension.expressive,
        max_new_tokens=config.comprehension.max_new_tokens,
        no_repeat_ngram_size=config.comprehension.no_repeat_ngram_size,
        states_before_tokens=config.comprehension.states_before_tokens,
    )
    if comprehension is not None:
        pipeline.use_comprehension(comprehension)
    return pipeline


def sample_edits(editor: Editor | InterleavedEditor, config: Config, samples: Sequence) -> list[np.ndarray]:
    """Edit scenes with the weights as they stand; what training draws to be looked at.

    Args:
        editor: any editor with a generator.
        config: guidance scales and steps.
        samples: objects with `source` (H, W, 3) uint8 and `instruction`; where instructions carry pictures, with
            `reference_images`, and `source` may be None.

    Returns:
        One (H, W, 3) uint8 picture per sample, at the config's resolution.
    """
    from insightedit.pipelines.compose import pipeline_from_editor

    pipeline: Any = pipeline_from_editor(editor, config)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"background_lock": False, "output_type": "np"}
    if isinstance(editor, InterleavedEditor):  # tasks differ from sample to sample
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
