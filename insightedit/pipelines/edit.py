"""InsightEditPipeline: pictures and instructions in, edited pictures out.

The model draws at its own square resolution. What it drew is brought back onto the user's own pixels, and
with the background lock every pixel outside the edit mask stays exactly the source's.

    pipe = InsightEditPipeline.from_pretrained(folder_or_hub_id)
    result = pipe(image="photo.png", instruction="replace the left dog with a fox", seed=0)
    result.images[0].save("edited.png")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, SchedulerMixin
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection, PreTrainedModel, ProcessorMixin

from insightedit.bridging.bridge import EditBridge
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.generation.unet import EditUNet
from insightedit.images.reading import PictureInput, read_pictures, to_rgb
from insightedit.modeling.offloading import execution_device
from insightedit.pipelines.base import Conditions, EditPipeline, InsightEditOutput, PipelineCallback
from insightedit.pipelines.folder_pipeline import UNetPipelineMixin
from insightedit.pipelines.functional import eval_mode, understand
from insightedit.pipelines.inputs import EditRequest, check_slots
from insightedit.types import EditCondition

DESCRIBE_PROMPT = "How does the picture look after this edit: {instruction}"


class InsightEditPipeline(EditPipeline, UNetPipelineMixin):
    """Edits pictures by instruction.

    A setting (`resolution` and what follows) that is not given is that of the pipeline whose `components` the parts
    are, else the default of `_settings`.

    Args:
        mllm: LLaVA-shaped model whose tokenizer knows the edit tokens.
        processor: its processor.
        bridge: Q-Former, BIM and IAA.
        vae: autoencoder.
        unet: denoiser.
        scheduler: any diffusers scheduler of the UNet's prediction type.
        image_encoder: CLIP tower for `reference_image`; optional.
        feature_extractor: its image processor; optional.
        resolution: side in pixels of the square the model draws.
        num_edit_tokens: R.
        edit_token: name pattern of the edit tokens.
        scale_source_latents: as trained; InstructPix2Pix and SmartEdit do not scale.
        default_guidance_scale: s_T where a call names none.
        default_image_guidance_scale: s_I where a call names none.
        default_num_inference_steps: steps where a call names none.
        image_prompt_scale: lambda where a call names none.
        describe_prompt: what `describe=True` asks the language model, with a slot {instruction}.
        expressive: the language model was trained to write what will change before it edits (MGIE's expressive
            instruction), so it always does.
        max_new_tokens: longest text that the language model writes, in tokens.
        no_repeat_ngram_size: see `LlavaComprehension.generate_text`.
        states_before_tokens: see `LlavaComprehension`; as trained.
        known_words: every word that the model was taught, parted by spaces; None where nobody knows.
        lowercase_instructions: the model was trained on lower-case text only.

    Raises:
        ValueError: if `resolution` does not fit the latent grid.
    """

    model_cpu_offload_seq = "mllm->bridge->image_encoder->unet->vae"
    _optional_components = ["image_encoder", "feature_extractor"]  # noqa: RUF012 - diffusers' contract
    _settings: ClassVar[dict[str, Any]] = {
        "resolution": 256,
        "num_edit_tokens": 32,
        "edit_token": "<img_{index}>",
        "scale_source_latents": False,
        "default_guidance_scale": 7.5,
        "default_image_guidance_scale": 1.5,
        "default_num_inference_steps": 50,
        "image_prompt_scale": 1.0,
        "describe_prompt": DESCRIBE_PROMPT,
        "expressive": False,
        "max_new_tokens": 64,
        "no_repeat_ngram_size": 0,
        "states_before_tokens": False,
        "known_words": None,
        "lowercase_instructions": False,
    }

    def __init__(
        self,
        mllm: PreTrainedModel,
        processor: ProcessorMixin,
        bridge: EditBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        unet: EditUNet,
        scheduler: SchedulerMixin,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        resolution: int | None = None,
        num_edit_tokens: int | None = None,
        edit_token: str | None = None,
        scale_source_latents: bool | None = None,
        default_guidance_scale: float | None = None,
        default_image_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
        image_prompt_scale: float | None = None,
        describe_prompt: str | None = None,
        expressive: bool | None = None,
        max_new_tokens: int | None = None,
        no_repeat_ngram_size: int | None = None,
        states_before_tokens: bool | None = None,
        known_words: str | None = None,
        lowercase_instructions: bool | None = None,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self._register(given, 2 ** (len(unet.config.block_out_channels) - 1), "UNet")
        check_slots("`describe_prompt`", self.config.describe_prompt, "instruction")
        check_slots("`edit_token`", self.config.edit_token, "index")
        self._comprehension: LlavaComprehension | None = None

    @property
    def comprehension(self) -> LlavaComprehension:
        """The MLLM behind the adapter that training uses, built when first needed."""
        if self._comprehension is None or self._comprehension.mllm is not self.mllm:
            self._comprehension = LlavaComprehension(
                self.mllm,
                self.processor,
                num_edit_tokens=self.config.num_edit_tokens,
                edit_token=self.config.edit_token,
                states_before_tokens=self.config.states_before_tokens,
            )
        return self._comprehension

    def use_comprehension(self, comprehension: LlavaComprehension) -> None:
        """Read with this adapter, whose LoRA may be live, instead of building one."""
        self._comprehension = comprehension

    @torch.no_grad()
    def __call__(
        self,
        image: PictureInput | Sequence[PictureInput],
        instruction: str | Sequence[str] | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        image_prompt_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        background_lock: bool = True,
        mask: PictureInput | Sequence[PictureInput] | None = None,
        mask_threshold: float | None = None,
        num_images_per_prompt: int = 1,
        latents: Tensor | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        reference_image: PictureInput | None = None,
        reference_images: Any = None,
        describe: bool = False,
        batch_size: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: PipelineCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> InsightEditOutput | tuple:
        """Edit one or more pictures.

        Args:
            image: one picture or several: path, PIL, array (H, W, C) of uint8, uint16 or floats in [0, 1],
                tensor (C, H, W) or (B, C, H, W). Any size and mode, see `insightedit.images.reading`.
            instruction: what to change; one for all pictures or one each. One picture goes with several, too.
            prompt: another name for `instruction`, for code written for other pipelines.
            num_inference_steps: steps of the schedule; None: the model's default.
            guidance_scale: how strongly the instruction is followed; None: the model's default.
            image_guidance_scale: how strongly the source is kept; None: the model's default.
            image_prompt_scale: lambda, weight of the image branch; 0 switches it off; None: the model's
                default.
            seed: of the noise, in [0, 2**32); one for every picture or one each. None draws them; see
                `seeds`.
            generator: diffusers' way to seed: one, or one per picture; the seeds are drawn from it.
            background_lock: whether pixels outside the mask stay exactly the source's. Without it the whole
                picture is the model's, brought to the source's size.
            mask: where editing is allowed (white), in the source's size; replaces the model's estimate.
            mask_threshold: see `insightedit.images.background.find_mask`; None adapts to the model's noise.
            num_images_per_prompt: images of each picture; the further ones take the next seeds.
            latents: (B, C, h, w) standard normal noise to start from, one for each image; None draws it from the
                seeds.
            negative_prompt: instruction to keep away from, one for all pictures or one each; it stands where guidance
                would have no text, so guidance has to be at work.
            reference_image: picture whose CLIP embedding is used instead of the predicted one.
            reference_images: refused, this model reads no pictures inside an instruction; see
                `InterleavedEditPipeline`.
            describe: let the language model write what it will do, greedily. An `expressive` model always does.
            batch_size: how many pictures share a forward pass. 1 gives the same bytes whatever else is in the
                call; more is faster on an accelerator and equal up to rounding.
            output_type: "pil", "np" (float32 in [0, 1]), "pt" or "latent".
            return_dict: False gives the fields as a tuple.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step; tensors that it
                returns replace what it got. It may set `_guidance_scale` and `_interrupt` of the pipeline, and may be
                one of `diffusers.callbacks`.
            callback_on_step_end_tensor_inputs: names of what the callback gets: "latents", "prompt_embeds".

        Returns:
            Pictures, edit maps, masks, seeds and versions.

        Raises:
            ValueError: for what does not fit, in one sentence.
            TypeError: for a picture of an unknown kind.
            FileNotFoundError: for a path without a file.
        """
        return self._run(locals())

    def _pair_references(self, references: Any, instructions: Sequence[str]) -> None:
        if references is not None:
            raise ValueError(
                "`reference_images` was given, but this model reads no pictures inside an instruction: take a model "
                "that does (recipe mige), or `reference_image` for what the result should look like."
            )

    def _reading_options(self, call: Mapping[str, Any]) -> dict[str, Any]:
        given = call["reference_image"]
        embeds = None if given is None else self.encode_reference(given)
        return {"image_embeds": embeds, "describe": call["describe"] or self.config.expressive}

    def _read(
        self, request: EditRequest, images: Sequence[Any], image_embeds: Tensor | None = None, describe: bool = False
    ) -> Conditions:
        words = self.describe_edit(request.instructions, images) if describe else [None] * len(images)
        negatives, embeddings = request.negatives, self.comprehension.edit_embeddings
        return Conditions(
            self.encode_instruction(request.instructions, images, image_embeds, words),
            self.bridge.null_states(None if embeddings is None else embeddings.to(execution_device(self.bridge))),
            None if negatives is None else self.encode_instruction(negatives, images),
            words,
        )

    def _draw(self, request: EditRequest, images: Sequence[Any], read: Conditions, *how: Any) -> tuple[Tensor, Tensor]:
        settings = how[0]
        self.denoiser.set_image_prompt_scale(settings.image_prompt_scale)
        return super()._draw(request, images, read, *how)

    def _facts(self, call: Mapping[str, Any], request: EditRequest, count: int) -> dict[str, Any]:
        return {"reference_image": call["reference_image"] is not None}

    def encode_instruction(
        self,
        instructions: Sequence[str],
        images: Sequence[np.ndarray],
        image_embeds: Tensor | None = None,
        expressive_instructions: Sequence[str | None] | None = None,
    ) -> EditCondition:
        """Comprehension and bridging for B pictures.

        Args:
            instructions: B texts.
            images: B pictures (H, W, 3) uint8 RGB.
            image_embeds: (1, D_img) embedding of a real picture in place of the predicted one.
            expressive_instructions: B texts that the language model wrote; an `expressive` model reads them again.
        """
        words = expressive_instructions if self.config.expressive else None
        condition = understand(self.comprehension, self.bridge, instructions, images, self._latent_shape()[1:], words)
        if image_embeds is None:
            return condition
        embeds = image_embeds.to(condition.encoder_hidden_states).expand(len(instructions), -1)
        return replace(condition, image_embeds=embeds)

    def describe_edit(self, instructions: Sequence[str], images: Sequence[np.ndarray]) -> list[str | None]:
        """What the language model says the result will look like; greedy, so repeatable."""
        questions = [self.config.describe_prompt.format(instruction=instruction) for instruction in instructions]
        return list(
            self.comprehension.generate_text(
                questions, list(images), self.config.max_new_tokens, self.config.no_repeat_ngram_size
            )
        )

    def encode_reference(self, reference_image: PictureInput) -> Tensor:
        """(1, D_img) projected CLIP embedding of a real picture.

        Raises:
            ValueError: if the model was saved without image encoder, or has no image branch.
        """
        if self.image_encoder is None or self.feature_extractor is None:
            raise ValueError(
                "`reference_image` was given, but this model came without its image encoder: export it with "
                "one, or give image_encoder and feature_extractor to `from_pretrained`."
            )
        if not self.unet.config.image_tokens:
            raise ValueError("`reference_image` was given, but this model has no image branch to use it in.")
        (picture,) = read_pictures(reference_image)
        pixels = self.feature_extractor(images=to_rgb(picture), return_tensors="pt").pixel_values
        with eval_mode(self.image_encoder):
            encoded = self.image_encoder(pixels.to(self._execution_device, self.image_encoder.dtype))
        return encoded.image_embeds

    def reference_options(self, references: Sequence[PictureInput]) -> dict[str, Any]:
        """Reference pictures as arguments of a call: this model takes one, of what the result should look like.

        Raises:
            ValueError: if there are several.
        """
        if len(references) > 1:
            raise ValueError(
                f"{len(references)} reference pictures were given, this model takes one, of what the result should "
                "look like: leave the others out."
            )
        return {"reference_image": references[0]} if references else {}

    def set_ip_adapter_scale(self, scale: float) -> None:
        """Weight of the image branch from here to the end of a picture; what diffusers' callbacks call."""
        self.denoiser.set_image_prompt_scale(scale)
