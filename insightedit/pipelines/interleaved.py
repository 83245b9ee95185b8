"""InterleavedEditPipeline: instructions with pictures in them; edits a picture, or draws on a blank canvas.

    pipe = InterleavedEditPipeline.from_pretrained(folder_or_hub_id)
    pipe(image="park.png", instruction="add <imagehere> beside the bench", reference_images=["dog.png"], seed=0)
    pipe(instruction="<imagehere> in the snow", reference_images=["dog.png"], seed=0)

Sibling of `insightedit.pipelines.edit.InsightEditPipeline`: the same output, the same way back onto the user's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, SchedulerMixin
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, T5EncoderModel

from insightedit.bridging.fusion import FusionBridge
from insightedit.comprehension.interleaved import Blip2PictureEncoder, InterleavedReader
from insightedit.comprehension.interleaved_prompts import check_placeholders
from insightedit.generation.autoencoder import decode, encode_source, latent_factor, latent_scale
from insightedit.generation.sampling import StepCallback
from insightedit.generation.transformer import EditTransformer
from insightedit.images.background import EditComparison
from insightedit.images.reading import Picture, PictureInput, read_picture, read_pictures, tensor_to_pixels, to_rgb
from insightedit.model.interleaved_editor import read_instruction
from insightedit.pipelines.base import EditPipeline, PipelineCallback, tensor_inputs
from insightedit.pipelines.edit import InsightEditOutput, finish
from insightedit.pipelines.functional import DrawSettings, compare_decoded, eval_mode, sample_latents
from insightedit.pipelines.inputs import EditRequest, check_latents, choose_seeds, pair_references, read_masks
from insightedit.types import EditCondition

UNUSED_PROMPT_SCALE = 1.0  # lambda of an image branch, which a transformer does not have


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
        self.register_modules(
            picture_encoder=picture_encoder,
            image_processor=image_processor,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            bridge=bridge,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
        )
        self._register_settings(bridge, given)
        resolution = self.config.resolution
        grid = latent_factor(vae) * transformer.config.patch_size
        if resolution % grid:
            raise ValueError(
                f"`resolution` {resolution} does not fit autoencoder and transformer: take a multiple of {grid}."
            )
        self._comprehension: InterleavedReader | None = None

    @property
    def comprehension(self) -> InterleavedReader:
        """Vision tower, Q-Former and text encoder behind the adapter that training uses, built when first needed."""
        reader = self._comprehension
        parts = (self.picture_encoder, self.text_encoder)
        if reader is None or (reader.picture_encoder, reader.text_encoder) != parts:
            reader = self._comprehension = InterleavedReader(
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
        # 1. Check and complete the arguments
        blank = image is None
        given: Any = [None] if blank else read_pictures(image)
        pictures, instructions = self.pair_up(given, instruction, prompt)
        references = pair_references(reference_images, len(instructions))
        for text, own in zip(instructions, references, strict=True):
            check_placeholders(text, len(own), self.config.max_references)
        settings = self._fill_in(blank, num_inference_steps, guidance_scale, image_guidance_scale)
        names = tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self.check_inputs(settings, batch_size, output_type, names)
        if blank and (mask is not None or mask_threshold is not None):
            raise ValueError("a mask was given, but a blank canvas has nothing to keep: leave it out.")
        request = EditRequest(
            pictures,
            instructions,
            choose_seeds(len(pictures), seed, generator, num_images_per_prompt),
            [None] * len(pictures) if blank else read_masks(mask, pictures, background_lock),
            self.pair_negatives(negative_prompt, len(pictures), settings),
            latents,
            references,
        ).times(num_images_per_prompt)
        check_latents(latents, (len(request.pictures), *self._latent_shape()))

        # 2. Draw at the model's own resolution, `batch_size` pictures at a time
        results: list[Tensor] = []
        evidence: list[EditComparison] = []
        drawn: list[Picture] = []
        with eval_mode(self.comprehension, self.bridge, self.transformer, self.vae):
            for part, callback in self._parts(request, settings, batch_size, callback_on_step_end, names):
                edited, source = self._draw(part, settings, callback)
                results.append(edited)
                if blank and output_type != "latent":
                    drawn += map(_as_picture, decode(self.vae, edited))
                elif output_type != "latent":
                    evidence += compare_decoded(self.vae, edited, source, mask_threshold)
        count = sum(map(len, results))  # an interrupted call gives what it began
        self.maybe_free_model_hooks()

        # 3. Back onto the users' own pixels
        used = {k: v for k, v in asdict(settings).items() if k != "image_prompt_scale"}
        used |= {"background_lock": background_lock, "own_mask": mask is not None, "batch_size": batch_size}
        used["reference_images"] = [len(own) for own in (request.references or [])[:count]]
        output = finish(self, request, results, evidence, [None] * count, settings, used, output_type, drawn)
        return output if return_dict else output.to_tuple()

    def reference_options(self, references: Sequence[PictureInput]) -> dict[str, Any]:
        """Reference pictures as arguments of a call: one for each `<imagehere>` of the instruction."""
        return {"reference_images": list(references)} if references else {}

    def _draw(self, request: EditRequest, settings: DrawSettings, callback: StepCallback) -> tuple[Tensor, Tensor]:
        """Scaled latents of what was drawn and of the source (zeros for a blank canvas), both (B, C, h, w)."""
        images = [None if picture is None else to_rgb(picture) for picture in request.pictures]
        references = [[to_rgb(reference) for reference in own] for own in request.references or []]
        condition = self._read(request.instructions, images, references)
        negative, negatives = None, request.negatives
        if negatives is not None:
            negative = self._read(negatives, [None] * len(negatives), [[]] * len(negatives))
        if images[0] is None:
            source_latents = scaled = torch.zeros(len(images), *self._latent_shape(), device=self._execution_device)
        else:
            mode = encode_source(self.vae, self.prepare_image_pixels(images), scaled=False)
            scaled = mode * latent_scale(self.vae)
            source_latents = scaled if settings.scale_source_latents else mode
        null = self.bridge.null_states()
        edited = sample_latents(
            self.transformer,
            self.scheduler,
            source_latents,
            condition,
            null,
            request.seeds,
            settings,
            callback,
            latents=request.latents,
            negative=negative,
        )
        return edited, scaled

    def _read(
        self,
        instructions: Sequence[str],
        images: Sequence[np.ndarray | None],
        pictures: Sequence[Sequence[np.ndarray]],
    ) -> EditCondition:
        tokens = self.comprehension.tokenize(instructions, images, pictures).to(self._execution_device)
        return read_instruction(self.comprehension, self.bridge, self.transformer, self.vae, tokens)

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.config.resolution // latent_factor(self.vae)
        return self.transformer.config.in_channels, side, side

    def _usual(self, blank: bool) -> DrawSettings:
        return self._fill_in(blank, None, None, None)

    def _fill_in(
        self, blank: bool, steps: int | None, guidance: float | None, image_guidance: float | None
    ) -> DrawSettings:
        config = self.config
        task = "default_creation" if blank else "default"
        default_steps = config["default_creation_inference_steps" if blank else "default_num_inference_steps"]
        return DrawSettings(
            guidance_scale=config[f"{task}_guidance_scale"] if guidance is None else guidance,
            image_guidance_scale=(config.default_image_guidance_scale if image_guidance is None else image_guidance),
            num_inference_steps=default_steps if steps is None else steps,
            image_prompt_scale=UNUSED_PROMPT_SCALE,
            scale_source_latents=config.scale_source_latents,
        )


def _as_picture(pixels: Tensor) -> Picture:
    """(3, H, W) in [-1, 1] -> picture of uint8 RGB."""
    return read_picture(np.rint(tensor_to_pixels(pixels)).astype(np.uint8))
