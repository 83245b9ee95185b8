"""InterleavedEditPipeline: instructions with pictures in them; edits a picture, or draws on a blank canvas.

    pipe = InterleavedEditPipeline.from_pretrained(folder_or_hub_id)
    pipe(image="park.png", instruction="add <imagehere> beside the bench", reference_images=["dog.png"], seed=0)
    pipe(instruction="<imagehere> in the snow", reference_images=["dog.png"], seed=0)

Sibling of `insightedit.pipelines.edit.InsightEditPipeline`: the same output, the same way back onto the user's pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, SchedulerMixin
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, T5EncoderModel

from insightedit.bridging.fusion import FusionBridge
from insightedit.comprehension.blip2_t5 import Blip2PictureEncoder, Blip2T5Comprehension
from insightedit.comprehension.prompts import check_placeholders
from insightedit.generation.transformer import EditTransformer
from insightedit.images.reading import Picture, PictureInput, to_rgb
from insightedit.model.editor import understand
from insightedit.pipelines.base import Conditions, EditPipeline, InsightEditOutput, PipelineCallback
from insightedit.pipelines.inputs import EditRequest, pair_references
from insightedit.types import EditCondition


class InterleavedEditPipeline(EditPipeline):
    """Edits, and draws given subjects, by instructions that carry pictures.

    Settings that are not given: see `InsightEditPipeline`.

    Args:
        picture_encoder: BLIP-2's vision tower, Q-Former and projection.
        image_processor: BLIP-2's.
        text_encoder: T5 encoder.
        tokenizer: its tokenizer.
        bridge: feature fusion.
        vae: autoencoder.
        transformer: denoiser.
        scheduler: any diffusers scheduler of the transformer's prediction type; MIGE's is DPM-Solver++.
        resolution: side in pixels of the square the model draws.
        max_length: tokens of one instruction, pictures included.
        max_references: most reference images of one instruction.
        source_in_text: as trained: whether the source is one of the instruction's pictures.
        scale_source_latents: as trained; MIGE scales.
        default_guidance_scale: for edits, where a call names none.
        default_image_guidance_scale: where a call names none.
        default_num_inference_steps: steps of an edit where a call names none.
        default_creation_guidance_scale: on a blank canvas, where a call names none.
        default_creation_inference_steps: likewise.
        known_words: as in `InsightEditPipeline`.
        lowercase_instructions: as in `InsightEditPipeline`.

    Raises:
        ValueError: if `resolution` does not fit the latent grid.
    """

    model_cpu_offload_seq = "picture_encoder->text_encoder->bridge->transformer->vae"
    _denoiser: ClassVar[str] = "transformer"
    _settings: ClassVar[dict[str, Any]] = {
        "resolution": 512,
        "max_length": 256,
        "max_references": 4,
        "scale_source_latents": True,
        "default_guidance_scale": 5.0,
        "default_image_guidance_scale": 1.0,
        "default_num_inference_steps": 60,
        "default_creation_guidance_scale": 7.0,
        "default_creation_inference_steps": 50,
        "source_in_text": True,
        "known_words": None,
        "lowercase_instructions": False,
    }

    def __init__(
        self,
        picture_encoder: Blip2PictureEncoder,
        image_processor: BaseImageProcessor,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        bridge: FusionBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        transformer: EditTransformer,
        scheduler: SchedulerMixin,
        resolution: int | None = None,
        max_length: int | None = None,
        max_references: int | None = None,
        scale_source_latents: bool | None = None,
        default_guidance_scale: float | None = None,
        default_image_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
        default_creation_guidance_scale: float | None = None,
        default_creation_inference_steps: int | None = None,
        source_in_text: bool | None = None,
        known_words: str | None = None,
        lowercase_instructions: bool | None = None,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self._register(given, transformer.config.patch_size, "transformer")
        self._comprehension: Blip2T5Comprehension | None = None

    @property
    def comprehension(self) -> Blip2T5Comprehension:
        """Vision tower, Q-Former and text encoder behind the adapter that training uses, built when first needed."""
        reader = self._comprehension
        parts = (self.picture_encoder, self.text_encoder)
        if reader is None or (reader.picture_encoder, reader.text_encoder) != parts:
            reader = self._comprehension = Blip2T5Comprehension(
                *parts,
                self.tokenizer,
                self.image_processor,
                resolution=self.config.resolution,
                max_length=self.config.max_length,
                max_references=self.config.max_references,
                source_in_text=self.config.source_in_text,
            )
        return reader

    @torch.no_grad()
    def __call__(
        self,
        image: PictureInput | Sequence[PictureInput] | None = None,
        instruction: str | Sequence[str] | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
        reference_images: PictureInput | Sequence[PictureInput] | Sequence[Sequence[PictureInput]] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        background_lock: bool = True,
        mask: PictureInput | Sequence[PictureInput] | None = None,
        mask_threshold: float | None = None,
        num_images_per_prompt: int = 1,
        latents: Tensor | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: PipelineCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> InsightEditOutput | tuple:
        """Edit one or more pictures, or draw new ones.

        Args:
            image: as in `InsightEditPipeline`; None draws on a blank canvas of `resolution` pixels.
            instruction: what to change or to draw, with one `<imagehere>` for each reference image; one for all
                pictures or one each. "the image", "the photo" and "the picture" mean the picture to edit.
            prompt: another name for `instruction`.
            reference_images: pictures of any size and mode; one or a list of them for every instruction, a list of
                lists for one each.
            num_inference_steps: steps of the schedule; None: the model's default for the task.
            guidance_scale: how strongly the instruction is followed; None: the model's default for the task.
            image_guidance_scale: how strongly the source is kept; None: the model's default.
            seed: as in `InsightEditPipeline`.
            generator: as in `InsightEditPipeline`.
            background_lock: as in `InsightEditPipeline`; nothing to lock on a blank canvas.
            mask: where editing is allowed (white), in the source's size; replaces the model's estimate.
            mask_threshold: see `insightedit.images.background.find_mask`; None adapts to the model's noise.
            num_images_per_prompt: as in `InsightEditPipeline`.
            latents: as in `InsightEditPipeline`.
            negative_prompt: what to keep away from, in words alone; else as in `InsightEditPipeline`.
            batch_size: how many pictures share a forward pass. 1 gives the same bytes whatever else is in the
                call; more is faster on an accelerator and equal up to rounding.
            output_type: "pil", "np" (float32 in [0, 1]), "pt" or "latent".
            return_dict: False gives the fields as a tuple.
            callback_on_step_end: as in `InsightEditPipeline`.
            callback_on_step_end_tensor_inputs: as in `InsightEditPipeline`.

        Returns:
            As `InsightEditPipeline`. A picture drawn from blank has a map of ones, a mask that is true everywhere
            and no evidence.

        Raises:
            ValueError: for what does not fit, in one sentence.
            TypeError: for a picture of an unknown kind.
            FileNotFoundError: for a path without a file.
        """
        return self._run(locals())

    def _pair_references(self, references: Any, instructions: Sequence[str]) -> list[list[Picture]]:
        paired = pair_references(references, len(instructions))
        for text, own in zip(instructions, paired, strict=True):
            check_placeholders(text, len(own), self.config.max_references)
        return paired

    def _read(self, request: EditRequest, images: Sequence[np.ndarray | None], **options: Any) -> Conditions:
        references = [[to_rgb(reference) for reference in own] for own in request.references or []]
        negatives = request.negatives
        nothing = [None] * len(images), [[] for _ in images]
        return Conditions(
            self._encode(request.instructions, images, references),
            self.bridge.null_states(),
            None if negatives is None else self._encode(negatives, *nothing),
            [None] * len(images),
        )

    def _facts(self, call: Mapping[str, Any], request: EditRequest, count: int) -> dict[str, Any]:
        return {"reference_images": [len(own) for own in (request.references or [])[:count]]}

    def reference_options(self, references: Sequence[PictureInput]) -> dict[str, Any]:
        """Reference pictures as arguments of a call: one for each `<imagehere>` of the instruction."""
        return {"reference_images": list(references)} if references else {}

    def _encode(
        self,
        instructions: Sequence[str],
        images: Sequence[np.ndarray | None],
        pictures: Sequence[Sequence[np.ndarray]],
    ) -> EditCondition:
        tokens = self.comprehension.tokenize(instructions, images, pictures).to(self._execution_device)
        latent_size = self._latent_shape()[1:]
        return understand(self.comprehension, self.bridge, self.transformer, self.vae, tokens, latent_size)[1]
