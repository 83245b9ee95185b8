"""InterleavedEditPipeline: instructions with pictures in them; edits a picture, or draws on a blank canvas.

pipe = InterleavedEditPipeline.from_pretrained(folder_or_hub_id)
pipe(image="park.png", instruction="add <imagehere> beside the bench", reference_images=["dog.png"], seed=0)
pipe(instruction="<imagehere> in the snow", reference_images=["dog.png"], seed=0)
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
from insightedit.pipelines.base import Conditions, EditPipeline, InsightEditOutput, PipelineCallback
from insightedit.pipelines.inputs import EditRequest, pair_references
from insightedit.types import Answer


class InterleavedEditPipeline(EditPipeline):
    """Edits, and draws given subjects, by instructions that carry pictures.

    Args:
        resolution: side in pixels of the square that the model draws.
        max_length: tokens of one instruction, pictures included; of pictures at most `max_references`.
        scale_source_latents: as trained; MIGE scales.
        default_guidance_scale: for edits, where a call names none, and so its neighbours; on a blank canvas
            `default_creation_guidance_scale` and `default_creation_inference_steps` count.
        source_in_text: as trained: the source is one of the instruction's pictures.
        known_words: as in `InsightEditPipeline`, and so `lowercase_instructions`.
    """

    model_cpu_offload_seq = "picture_encoder->text_encoder->bridge->transformer->vae"
    _settings: ClassVar[dict[str, Any]] = {
        "resolution": 512, "max_length": 256, "max_references": 4, "scale_source_latents": True,
        "default_guidance_scale": 5.0, "default_image_guidance_scale": 1.0, "default_num_inference_steps": 60,
        "default_creation_guidance_scale": 7.0, "default_creation_inference_steps": 50, "source_in_text": True,
        "known_words": None, "lowercase_instructions": False,
    }  # fmt: skip

    def __init__(
        self,
        picture_encoder: Blip2PictureEncoder,  # BLIP-2's vision tower, Q-Former and projection
        image_processor: BaseImageProcessor,  # BLIP-2's
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        bridge: FusionBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        transformer: EditTransformer,
        scheduler: SchedulerMixin,  # any of diffusers of the transformer's prediction type; MIGE's is DPM-Solver++
        **settings: Any,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self._register(given)

    @property
    def comprehension(self) -> Blip2T5Comprehension:
        """Vision tower, Q-Former and text encoder behind the adapter that training uses, built when first needed."""
        reader = self._comprehension
        parts = (self.picture_encoder, self.text_encoder)
        if reader is None or (reader.picture_encoder, reader.text_encoder) != parts:
            names = ("resolution", "max_length", "max_references", "source_in_text")
            settings = {name: self.config[name] for name in names}
            reader = Blip2T5Comprehension(*parts, self.tokenizer, self.image_processor, **settings)
            self._comprehension = reader
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
        force: bool = False,
        batch_size: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: PipelineCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> InsightEditOutput | tuple:
        """Edit one or more images, or draw new ones, as `InsightEditPipeline` does but for this.

        `image` may be None, which draws on a blank canvas of `resolution` pixels. `instruction` has one `<imagehere>`
        for each reference image; "the image", "the photo" and "the picture" mean the image to edit. `reference_images`
        are of any size and mode: one or a list of them for every instruction, a list of lists for one each.
        `negative_prompt` is in words alone. This model writes nothing before it edits, so it refuses nothing, has no
        confidence, and `force` changes nothing. What is None is the model's default for the task.

        Returns:
            As `InsightEditPipeline`'s. An image drawn from blank has a map of ones, a mask that is true everywhere and
            no evidence.

        Raises:
            ValueError: for what does not fit, in one sentence.
        """
        return self._run(locals())

    def _references(
        self, call: Mapping[str, Any], instructions: Sequence[str]
    ) -> tuple[list[list[Picture]], dict[str, Any]]:
        paired = pair_references(call["reference_images"], len(instructions))
        for text, own in zip(instructions, paired, strict=True):
            check_placeholders(text, len(own), self.config.max_references)
        return paired, {}

    def _read(
        self, request: EditRequest, images: Sequence[np.ndarray | None], said: Sequence[Answer | None], **options: Any
    ) -> Conditions:
        references = [[to_rgb(reference) for reference in own] for own in request.references or []]
        blank: Any = [None] * len(images)
        negatives = request.negatives and self._understand(request.negatives, blank, [[] for _ in images])
        condition = self._understand(request.instructions, images, references)
        return Conditions(condition, self.bridge.null_states(), negatives)

    def reference_options(self, references: Sequence[PictureInput]) -> dict[str, Any]:
        """Reference pictures as arguments of a call: one for each `<imagehere>` of the instruction."""
        return {"reference_images": list(references)} if references else {}
