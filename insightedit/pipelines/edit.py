"""InsightEditPipeline: pictures and instructions in, edited pictures out.

The model draws at its own square resolution. What it drew is brought back onto the user's own pixels, and
with the background lock every pixel outside the edit mask stays exactly the source's.

    pipe = InsightEditPipeline.from_pretrained(folder_or_hub_id)
    result = pipe(image="photo.png", instruction="replace the left dog with a fox", seed=0)
    result.images[0].save("edited.png")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, SchedulerMixin
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection, PreTrainedModel, ProcessorMixin

from insightedit.bridging.bridge import EditBridge
from insightedit.comprehension.adapted import (
    AdaptedMllm as AdaptedMllm,  # folders with an adapter name it; see `ModelMixin` above
)
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.generation.autoencoder import latent_factor
from insightedit.generation.sampling import StepCallback
from insightedit.generation.unet import EditUNet
from insightedit.images.background import EditComparison, hidden_share, native_map, paste_edit
from insightedit.images.reading import Picture, PictureInput, read_pictures, to_rgb
from insightedit.modeling.offloading import execution_device
from insightedit.pipelines.base import EditPipeline, PipelineCallback, UNetPipelineMixin, convert, tensor_inputs
from insightedit.pipelines.functional import (
    DrawSettings,
    compare_decoded,
    edit_pixels,
    eval_mode,
    software_versions,
    understand,
)
from insightedit.pipelines.inputs import EditRequest, check_latents, check_slots, choose_seeds, read_masks
from insightedit.pipelines.warnings import EditWarning
from insightedit.types import EditCondition

DESCRIBE_PROMPT = "How does the picture look after this edit: {instruction}"


@dataclass
class InsightEditOutput(BaseOutput):
    """What one call gives back; each list has one entry per picture.

    Attributes:
        images: edited pictures in the size and mode of their sources: PIL images, float32 arrays (H, W, C) in
            [0, 1] or tensors (C, H, W) in [0, 1]; with `output_type="latent"` one tensor (B, C, h, w) and no
            maps and masks.
        edit_maps: (H, W) float32 in [0, 1], how strongly the model changed each place.
        masks: (H, W) bool, where pixels may differ from the source's: the model's estimate or the user's
            mask.
        expressive_instructions: what the language model says it will do; None where it was not asked to.
        seeds: of the noise; the same seed gives the same bytes, alone or in a batch.
        versions: of the software.
        settings: arguments of the call, defaults filled in.
        evidence: what the model drew at its own resolution.
        warnings: reasons to look at the picture twice, most serious first; see `insightedit.pipelines.warnings`.
    """

    images: list[Any] | Tensor
    edit_maps: list[np.ndarray]
    masks: list[np.ndarray]
    expressive_instructions: list[str | None]
    seeds: list[int]
    versions: dict[str, str]
    settings: dict[str, Any]
    evidence: list[EditComparison]
    warnings: list[list[EditWarning]]


def finish(
    pipeline: EditPipeline,
    request: EditRequest,
    latents: list[Tensor],
    evidence: list[EditComparison],
    texts: list[str | None],
    settings: DrawSettings,
    used: dict[str, Any],
    output_type: str,
    whole: Sequence[Picture] = (),
) -> InsightEditOutput:
    """Bring what was drawn onto the users' own pixels.

    Args:
        pipeline: what drew.
        request: what was asked for; an interrupted call gives what it began.
        latents: what was drawn, (B, C, h, w) for each forward pass.
        evidence: of edits; none where latents are asked for.
        texts: what the language model said.
        settings: how it was drawn.
        used: all settings of the call, for the result.
        output_type: "pil", "np", "pt" or "latent".
        whole: pictures that were drawn from blank, in place of evidence.
    """
    finished: list[Any] = [drawn_from_blank(picture) for picture in whole]
    for picture, proof, mask in zip(request.pictures, evidence, request.masks, strict=False):
        pasted = paste_edit(picture, proof, mask, used["background_lock"])
        finished.append((*pasted, native_map(proof, picture.size)))
    masks = [where for _, where, _ in finished]
    return InsightEditOutput(
        images=torch.cat(latents)
        if output_type == "latent"
        else [convert(picture, output_type) for picture, _, _ in finished],
        edit_maps=[edit_map for _, _, edit_map in finished],
        masks=masks,
        expressive_instructions=texts,
        seeds=request.seeds[: len(texts)],
        versions=software_versions(),
        settings=used,
        evidence=evidence,
        warnings=pipeline.find_warnings(
            request.instructions[: len(texts)],
            masks,
            texts,
            settings,
            request.pictures[0] is None,
            [hidden_share(picture, proof) for picture, proof in zip(request.pictures, evidence, strict=False)],
        ),
    )


def drawn_from_blank(picture: Picture) -> tuple[Picture, np.ndarray, np.ndarray]:
    """A new picture with its mask and its edit map: all of it was drawn."""
    everywhere = np.ones(picture.size[::-1], dtype=bool)
    return picture, everywhere, everywhere.astype(np.float32)


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
        self.register_modules(
            mllm=mllm,
            processor=processor,
            bridge=bridge,
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )
        self._register_settings(bridge, given)
        check_slots("`describe_prompt`", self.config.describe_prompt, "instruction")
        check_slots("`edit_token`", self.config.edit_token, "index")
        resolution = self.config.resolution
        grid = latent_factor(vae) * 2 ** (len(unet.config.block_out_channels) - 1)
        if resolution % grid:
            raise ValueError(
                f"`resolution` {resolution} does not fit autoencoder and UNet: take a multiple of {grid}."
            )
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
        # 1. Check and complete the arguments
        if reference_images is not None:
            raise ValueError(
                "`reference_images` was given, but this model reads no pictures inside an instruction: take a model "
                "that does (recipe mige), or `reference_image` for what the result should look like."
            )
        pictures, instructions = self.pair_up(read_pictures(image), instruction, prompt)
        settings = self._fill_in(num_inference_steps, guidance_scale, image_guidance_scale, image_prompt_scale)
        names = tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self.check_inputs(settings, batch_size, output_type, names)
        request = EditRequest(
            pictures,
            instructions,
            choose_seeds(len(pictures), seed, generator, num_images_per_prompt),
            read_masks(mask, pictures, background_lock),
            self.pair_negatives(negative_prompt, len(pictures), settings),
            latents,
        ).times(num_images_per_prompt)
        pictures = request.pictures
        check_latents(latents, (len(pictures), self.unet.config.in_channels, *self._latent_size()))
        image_embeds = None if reference_image is None else self.encode_reference(reference_image)

        # 2. Edit at the model's own resolution, `batch_size` pictures at a time
        drawn: list[Tensor] = []
        evidence: list[EditComparison] = []
        texts: list[str | None] = []
        with eval_mode(self.comprehension, self.bridge, self.unet, self.vae):
            for part, callback in self._parts(request, settings, batch_size, callback_on_step_end, names):
                rgb = [to_rgb(picture) for picture in part.pictures]
                speaks = describe or self.config.expressive
                words = self.describe_edit(part.instructions, rgb) if speaks else [None] * len(rgb)
                condition = self.encode_instruction(part.instructions, rgb, image_embeds, words)
                texts += words
                edited, source = self._draw(part, rgb, condition, settings, callback)
                drawn.append(edited)
                if output_type != "latent":
                    evidence += compare_decoded(self.vae, edited, source, mask_threshold)
        self.maybe_free_model_hooks()

        # 3. Back onto the users' own pixels
        used = {**asdict(settings), "background_lock": background_lock, "own_mask": mask is not None}
        used |= {"reference_image": reference_image is not None, "batch_size": batch_size}
        output = finish(self, request, drawn, evidence, texts, settings, used, output_type)
        return output if return_dict else output.to_tuple()

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
        condition = understand(self.comprehension, self.bridge, instructions, images, self._latent_size(), words)
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

    def _draw(
        self,
        request: EditRequest,
        images: Sequence[np.ndarray],
        condition: EditCondition,
        settings: DrawSettings,
        callback: StepCallback,
    ) -> tuple[Tensor, Tensor]:
        negatives = request.negatives
        null = self.bridge.null_states(self.comprehension.edit_embeddings.to(execution_device(self.bridge)))
        return edit_pixels(
            self.vae,
            self.unet,
            self.scheduler,
            self.prepare_image_pixels(images),
            condition,
            null,
            request.seeds,
            settings,
            callback,
            latents=request.latents,
            negative=None if negatives is None else self.encode_instruction(negatives, images),
        )

    def set_ip_adapter_scale(self, scale: float) -> None:
        """Weight of the image branch from here to the end of a picture; what diffusers' callbacks call."""
        self.unet.set_image_prompt_scale(scale)

    def _latent_size(self) -> tuple[int, int]:
        side = self.config.resolution // latent_factor(self.vae)
        return side, side

    def _usual(self, blank: bool) -> DrawSettings:
        return self._fill_in(None, None, None, None)

    def _fill_in(
        self, steps: int | None, guidance: float | None, image_guidance: float | None, image_prompt: float | None
    ) -> DrawSettings:
        config = self.config
        return DrawSettings(
            guidance_scale=config.default_guidance_scale if guidance is None else guidance,
            image_guidance_scale=config.default_image_guidance_scale if image_guidance is None else image_guidance,
            num_inference_steps=config.default_num_inference_steps if steps is None else steps,
            image_prompt_scale=config.image_prompt_scale if image_prompt is None else image_prompt,
            scale_source_latents=config.scale_source_latents,
        )
