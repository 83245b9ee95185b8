"""InsightEditPipeline: images and instructions in, edited images out.

pipe = InsightEditPipeline.from_pretrained(folder_or_hub_id)
result = pipe(image="photo.png", instruction="replace the left dog with a fox", seed=0)
result.images[0].save("edited.png")
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, ModelMixin, SchedulerMixin
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from insightedit.bridging.bridge import EditBridge
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.config.kinds import KINDS, part_class
from insightedit.generation.denoiser import Denoiser
from insightedit.generation.unet import EditUNet
from insightedit.images.reading import PictureInput, read_pictures, to_rgb
from insightedit.modeling.offloading import eval_mode, execution_device
from insightedit.pipelines.base import Conditions, EditPipeline, InsightEditOutput, PipelineCallback
from insightedit.pipelines.folder_pipeline import UNetPipelineMixin
from insightedit.pipelines.inputs import EditRequest, check_slots
from insightedit.types import Answer, EditCondition


class InsightEditPipeline(EditPipeline, UNetPipelineMixin):
    """Edits images by instruction. Beside its parts the constructor takes settings by name.

    Args:
        resolution: side in pixels of the square that the model draws.
        num_edit_tokens: R; `edit_token` is their name pattern.
        scale_source_latents: as trained; InstructPix2Pix and SmartEdit do not scale.
        default_guidance_scale: s_T where a call names none; `default_image_guidance_scale` s_I,
            `image_prompt_scale` lambda, and `default_num_inference_steps` likewise.
        describe_prompt: what `describe=True` asks the language model.
        expressive: it was trained to write what will change before it edits (MGIE).
        max_new_tokens: of the longest text that it writes; `no_repeat_ngram_size` as in `generate_text`.
        states_before_tokens: see `LlavaComprehension`; as trained.
        known_words: every word that the model was taught, parted by spaces; None where nobody knows.
        refusals: how what it writes begins where it cannot do what is asked, parted by "|" ("there is no|i cannot"):
            then nothing is drawn. None for a model that never learnt to refuse.
        confidence_calibration: of `result.confidence`, written by `insightedit calibrate`; None for no confidence.
        lowercase_instructions: it was trained on lower-case text only.
    """

    model_cpu_offload_seq = "mllm->bridge->image_encoder->unet->vae"
    _optional_components = ["image_encoder", "feature_extractor"]  # noqa: RUF012 - diffusers' contract
    _settings: ClassVar[dict[str, Any]] = {
        "resolution": 256, "num_edit_tokens": 32, "edit_token": "<img_{index}>", "scale_source_latents": False,
        "default_guidance_scale": 7.5, "default_image_guidance_scale": 1.5, "default_num_inference_steps": 50,
        "image_prompt_scale": 1.0, "describe_prompt": "How does the picture look after this edit: {instruction}",
        "expressive": False, "max_new_tokens": 64, "no_repeat_ngram_size": 0, "states_before_tokens": False,
        "known_words": None, "lowercase_instructions": False, "refusals": None, "confidence_calibration": None,
    }  # fmt: skip

    def __init__(
        self,
        mllm: PreTrainedModel,  # LLaVA-shaped; its tokenizer knows the edit tokens
        processor: ProcessorMixin,
        bridge: EditBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        unet: EditUNet,
        scheduler: SchedulerMixin,  # any of diffusers of the UNet's prediction type
        image_encoder: CLIPVisionModelWithProjection | None = None,  # for `reference_image`
        feature_extractor: CLIPImageProcessor | None = None,  # of the image encoder
        **settings: Any,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self._register(given)
        check_slots("`describe_prompt`", self.config.describe_prompt, "instruction")
        check_slots("`edit_token`", self.config.edit_token, "index")

    @property
    def comprehension(self) -> Any:
        """The MLLM behind the adapter that training uses, built when first needed."""
        if self._comprehension is None or self._comprehension.parts()["mllm"] is not self.mllm:
            self._comprehension = self._build_comprehension()
        return self._comprehension

    def _build_comprehension(self) -> Any:
        names = ("num_edit_tokens", "edit_token", "states_before_tokens")
        return LlavaComprehension(self.mllm, self.processor, **{name: self.config[name] for name in names})

    def use_comprehension(self, comprehension: Any) -> None:
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
        force: bool = False,
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
            force: draw also what the model refuses in words, or is not sure enough that it understood. Of a refusal it
                makes whatever it makes: nothing else was understood.
            batch_size: how many pictures share a forward pass. 1 gives the same bytes whatever else is in the
                call; more is faster on an accelerator and equal up to rounding.
            output_type: "pil", "np" (float32 in [0, 1]), "pt" or "latent".
            return_dict: False gives the fields as a tuple.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step; tensors that it
                returns replace what it got. It may set `_guidance_scale` and `_interrupt` of the pipeline, and may be
                one of `diffusers.callbacks`.
            callback_on_step_end_tensor_inputs: names of what the callback gets: "latents", "prompt_embeds".

        Returns:
            Pictures, edit maps, masks, seeds and versions. A request that was not understood (`result.understood`: the
            model refused it in words, or its `confidence` is below the model's threshold) gives the source unchanged,
            an empty mask and a map of zeros, and `result.warnings` says why; what was drawn of an unsure one is its
            `evidence`. Without `refusals` and `confidence_calibration` in the model's folder everything counts as
            understood. Latents are not judged by confidence, which needs the picture.

        Raises:
            ValueError: for what does not fit, in one sentence.
            TypeError: for a picture of an unknown kind.
            FileNotFoundError: for a path without a file.
        """
        return self._run(locals())

    def _references(self, call: Mapping[str, Any], instructions: Sequence[str]) -> tuple[None, dict[str, Any]]:
        if call["reference_images"] is not None:
            raise ValueError(
                "`reference_images` was given, but this model reads no pictures inside an instruction: take a model "
                "that does (recipe mige), or `reference_image` for what the result should look like."
            )
        given = call["reference_image"]
        embeds = None if given is None else self.encode_reference(given)
        return None, {"image_embeds": embeds, "describe": call["describe"] or self.config.expressive}

    def _say(
        self, request: EditRequest, images: Sequence[Any], describe: bool = False, **options: Any
    ) -> list[Answer | None]:
        return [*self.describe_edit(request.instructions, images)] if describe else [None] * len(images)

    def _read(
        self,
        request: EditRequest,
        images: Sequence[Any],
        said: Sequence[Answer | None],
        image_embeds: Tensor | None = None,
        **options: Any,
    ) -> Conditions:
        embeddings = self.comprehension.edit_embeddings
        embeddings = None if embeddings is None else embeddings.to(execution_device(self.bridge))
        negatives = request.negatives and self.encode_instruction(request.negatives, images)
        words = [answer and answer.text for answer in said]
        condition = self.encode_instruction(request.instructions, images, image_embeds, words)
        return Conditions(condition, self.bridge.null_states(embeddings), negatives)

    def encode_instruction(
        self,
        instructions: Sequence[str],
        images: Sequence[np.ndarray],
        image_embeds: Tensor | None = None,
        expressive_instructions: Sequence[str | None] | None = None,
    ) -> EditCondition:
        """Comprehension and bridging of B texts and B images (H, W, 3) uint8 RGB.

        `image_embeds` (1, D_img) of a real picture stand in place of the predicted ones; what the language model wrote
        is read again by an `expressive` model.
        """
        words = expressive_instructions if self.config.expressive else None
        condition = self._understand(instructions, images, replies=words)
        if image_embeds is None:
            return condition
        embeds = image_embeds.to(condition.encoder_hidden_states).expand(len(instructions), -1)
        return replace(condition, image_embeds=embeds)

    def describe_edit(self, instructions: Sequence[str], images: Sequence[np.ndarray]) -> list[Answer]:
        """What the language model says it will do, or that it cannot; greedy, so repeatable."""
        questions = [self.config.describe_prompt.format(instruction=instruction) for instruction in instructions]
        longest, ngram = self.config.max_new_tokens, self.config.no_repeat_ngram_size
        return self.comprehension.answer(questions, list(images), longest, ngram)

    def encode_reference(self, reference_image: PictureInput) -> Tensor:
        """(1, D_img) projected CLIP embedding of a real picture; a ValueError for a model that cannot use one."""
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
        """Reference pictures as arguments of a call: this model takes one, of what the result should look like."""
        if len(references) > 1:
            raise ValueError(
                f"{len(references)} reference pictures were given, this model takes one, of what the result should "
                "look like: leave the others out."
            )
        return {"reference_image": references[0]} if references else {}

    def set_ip_adapter_scale(self, scale: float) -> None:
        """Weight of the image branch from here to the end of a picture; what diffusers' callbacks call."""
        self.denoiser.set_image_prompt_scale(scale)


class ComposedEditPipeline(InsightEditPipeline):
    """Edits as `InsightEditPipeline` does, with whatever reads and draws.

    The settings of what reads are one, `comprehension_settings`: as in a config's `comprehension`, its `kind` among
    them. A kind of a module that was not imported is refused: a model folder makes this package import nothing.
    """

    model_cpu_offload_seq = "mllm->bridge->image_encoder->unet->transformer->vae"
    _optional_components = ["processor", "unet", "transformer", "image_encoder", "feature_extractor"]  # noqa: RUF012
    _settings: ClassVar[dict[str, Any]] = {"comprehension_settings": {"kind": "llava"}} | {
        name: default
        for name, default in InsightEditPipeline._settings.items()
        if name not in ("num_edit_tokens", "edit_token", "states_before_tokens")
    }

    def __init__(
        self,
        mllm: PreTrainedModel | ModelMixin,
        bridge: EditBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        scheduler: SchedulerMixin,
        processor: ProcessorMixin | PreTrainedTokenizerBase | None = None,
        unet: Denoiser | None = None,  # this one draws,
        transformer: Denoiser | None = None,  # or this one
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        **settings: Any,
    ) -> None:
        given = dict(locals())
        super(InsightEditPipeline, self).__init__()
        denoisers = [one for one in (unet, transformer) if one is not None]
        if len(denoisers) != 1:
            raise ValueError(f"{len(denoisers)} denoisers were given: `unet` or `transformer`, one of them, draws.")
        self._register(given)
        kind = str(self.config["comprehension_settings"].get("kind"))
        module = kind.partition(":")[0]
        if kind not in KINDS["comprehension"] and module not in sys.modules:
            raise ValueError(
                f"this model reads with {kind[:100]}, and a model folder makes this package import nothing: write "
                f"`import {module[:100]}` first if you know whose it is."
            )

    def _build_comprehension(self) -> Any:
        settings = self.config["comprehension_settings"]
        parts = {"mllm": self.mllm, "processor": self.processor}
        return part_class("comprehension", settings["kind"]).from_parts(parts, settings)
