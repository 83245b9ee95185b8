"""What every pipeline of this package shares: one way through a call, and callbacks.

A call draws at the model's own square resolution. What was drawn is brought back onto the user's own pixels, and with
the background lock every pixel outside the edit mask stays exactly the source's.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks
from diffusers.callbacks import PipelineCallback as OfficialCallback
from diffusers.utils import BaseOutput
from einops import rearrange
from PIL import Image
from torch import Tensor

from insightedit.files import installed_versions
from insightedit.generation.autoencoder import decode, encode_source, latent_factor, latent_scale
from insightedit.generation.guidance import branch_weights
from insightedit.generation.sampling import DrawState, StepCallback, denoise, initial_noise, step_generators
from insightedit.images import reading
from insightedit.images.background import EditComparison, compute_edit_map, hidden_share, native_map, paste_edit
from insightedit.model.editor import understand
from insightedit.modeling.offloading import eval_mode
from insightedit.pipelines import inputs
from insightedit.pipelines.folder_pipeline import FolderPipeline
from insightedit.pipelines.understanding import Signs, refuses, tells_whole_picture, understand_request
from insightedit.pipelines.warnings import (
    EditWarning,
    content_words,
    find_warnings,
    unknown_words,
    unseen_edit,
    unusual_settings,
)
from insightedit.types import REFERENCE_PLACEHOLDER, Answer, EditCondition

PipelineCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass
class InsightEditOutput(BaseOutput):
    """What one call gives back; each list has one entry per picture."""

    # in the size and mode of their sources: PIL images, float32 arrays (H, W, C) or tensors (C, H, W) in [0, 1]; with
    # `output_type="latent"` one tensor (B, C, h, w) and no maps and masks
    images: list[Any] | Tensor
    edit_maps: list[np.ndarray]  # (H, W) float32 in [0, 1], how strongly the model changed each place
    masks: list[np.ndarray]  # (H, W) bool, where pixels may differ: the model's estimate or the user's mask
    expressive_instructions: list[str | None]  # what the language model says it will do; None where it was not asked
    seeds: list[int]  # of the noise; the same seed gives the same bytes, alone or in a batch
    versions: dict[str, str]  # of the software
    settings: dict[str, Any]  # arguments of the call, defaults filled in
    # what the model drew at its own resolution; of what it refused, the source twice
    evidence: list[EditComparison]
    warnings: list[list[EditWarning]]  # reasons to look at the picture twice, most serious first
    # whether the request was understood; where not, the picture is the source, unless the call was to `force` it
    understood: list[bool]
    # 0..1, how likely the right edit was understood; None for a refusal and where the model is not calibrated for it
    confidence: list[float | None]
    signs: list[Signs | None]  # what a confidence is computed of; None without words, for a refusal, and for latents


@dataclass(frozen=True)
class Conditions:
    """What a pipeline read: everything that its denoiser is conditioned on."""

    condition: EditCondition  # of the instructions
    null_text_states: Tensor  # (Q, D_text), the bridge's
    negative: EditCondition | None  # of what is to be avoided


class EditPipeline(FolderPipeline):
    """Base of the pipelines; each stands in a module of its own, which imports the classes of its components."""

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]
    _guidance_scale = _image_guidance_scale = 1.0
    _interrupt = False
    _num_timesteps = 0
    _comprehension: Any = None
    comprehension: Any

    @property
    def guidance_scale(self) -> float:
        """Of the call in progress, or of the last; a callback may set `_guidance_scale`, 0 for no guidance."""
        return self._guidance_scale

    @property
    def image_guidance_scale(self) -> float:
        """Of the call in progress, or of the last."""
        return self._image_guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether predictions are compared with those without text or picture."""
        scales = (self._guidance_scale, self._image_guidance_scale)
        return self._guidance_scale > 0 and len(branch_weights(*scales)) > 1

    @property
    def num_timesteps(self) -> int:
        """Calls of the denoiser for one picture."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback set `_interrupt`: then no further step is taken, and no further picture begun."""
        return self._interrupt

    def check_inputs(self, call: Mapping[str, Any], settings: inputs.DrawSettings, count: int) -> None:
        """Refuse what cannot work before any of it is done: arguments of a call for `count` images, by name."""
        if settings.num_inference_steps < 1:
            raise ValueError(f"`num_inference_steps` is {settings.num_inference_steps}: at least 1 step is needed.")
        for name in ("guidance_scale", "image_guidance_scale", "image_prompt_scale"):
            value = getattr(settings, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"`{name}` is {value}: take a number from 0 upwards.")
        if call["batch_size"] < 1:
            raise ValueError(f"`batch_size` is {call['batch_size']}: at least 1 picture goes through at a time.")
        if call["output_type"] not in inputs.OUTPUT_TYPES:
            raise ValueError(
                f"`output_type` is {call['output_type']!r}: choose one of {', '.join(inputs.OUTPUT_TYPES)}."
            )
        if unknown := sorted(set(_tensor_inputs(call)) - set(self._callback_tensor_inputs)):
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` names {unknown}: this pipeline has only "
                f"{self._callback_tensor_inputs}; callbacks of SDXL, SD3 and ControlNet want what it does not make."
            )
        latents, shape = call["latents"], (count, *self._latent_shape())
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(
                f"`latents` has shape {tuple(latents.shape)}, expected {shape}: standard normal noise, one for each "
                "image that is asked for, in the model's own size."
            )
        if latents is not None and not bool(torch.isfinite(latents).all()):
            raise ValueError("`latents` holds values that are not finite: give standard normal noise.")

    def _run(self, call: Mapping[str, Any]) -> InsightEditOutput | tuple:
        """What both pipelines' calls do with their arguments; an image that is None is a blank canvas."""
        # 1. Check and complete the arguments
        blank = call["image"] is None and "default_creation_guidance_scale" in self._settings
        given: Any = [None] if blank else reading.read_pictures(call["image"])
        lowercase = self.config["lowercase_instructions"]
        pictures, instructions = inputs.pair_up(given, call["instruction"], call["prompt"], lowercase)
        usual = self._usual(blank)
        settings = replace(usual, **{name: call[name] for name in asdict(usual) if call.get(name) is not None})
        lock, mask, each = call["background_lock"], call["mask"], call["num_images_per_prompt"]
        self.check_inputs(call, settings, len(pictures) * each)
        if blank and (mask is not None or call["mask_threshold"] is not None):
            raise ValueError("a mask was given, but a blank canvas has nothing to keep: leave it out.")
        references, options = self._references(call, instructions)
        request = inputs.EditRequest(
            pictures,
            instructions,
            inputs.choose_seeds(len(pictures), call["seed"], call["generator"], each),
            [None] * len(pictures) if blank else inputs.read_masks(mask, pictures, lock),
            inputs.pair_negatives(call["negative_prompt"], len(pictures), settings, lowercase),
            call["latents"],
            references,
        ).times(each)

        # 2. Draw at the model's own resolution, `batch_size` pictures at a time
        is_latent = call["output_type"] == "latent"
        results: list[Tensor] = []
        evidence: list[EditComparison] = []
        answers: list[Answer | None] = []
        drawn: list[reading.Picture] = []
        with eval_mode(self.comprehension, self.bridge, self.denoiser, self.vae):
            for part, callback in self._parts(request, settings, call):
                rgb = [None if picture is None else reading.to_rgb(picture) for picture in part.pictures]
                said = self._say(part, rgb, **options)
                answers += said
                refused = [one is not None and refuses(one.text, self.config) for one in said]
                kept = [i for i, no in enumerate(refused) if call["force"] or not no]  # the others are not drawn
                chosen = [[values[i] for i in kept] for values in (rgb, said)]
                read = self._read(part.part(kept), *chosen, **options) if kept else None
                edited, source = self._draw(part, rgb, kept, read, settings, callback)
                results.append(edited)
                if is_latent:
                    continue
                pixels = [reading.tensor_to_pixels(one) for one in decode(self.vae, edited)]
                if blank:
                    drawn += [reading.read_picture(np.rint(one).astype(np.uint8)) for one in pixels]
                else:  # compared with the source as the autoencoder brings it back
                    back = [reading.tensor_to_pixels(one) for one in decode(self.vae, source)]
                    words = [one and one.text for one in said]
                    told = [tells_whole_picture(text, self.config["known_words"]) for text in words]
                    compared = zip(pixels, back, told, strict=True)
                    evidence += [compute_edit_map(one, of, call["mask_threshold"], all_) for one, of, all_ in compared]
        self.maybe_free_model_hooks()

        # 3. Back onto the users' own pixels; an interrupted call gives what it began
        used = {k: v for k, v in asdict(settings).items() if k in call or k in self._settings}
        used |= {"background_lock": lock, "own_mask": mask is not None}
        if request.references is None:
            used["reference_image"] = call["reference_image"] is not None
        else:
            used["reference_images"] = [len(own) for own in request.references[: len(answers)]]
        used |= {"batch_size": call["batch_size"], "force": call["force"]}
        output = self._finish(request, evidence, answers, settings, used, call["output_type"], drawn)
        if is_latent:
            output.images = torch.cat(results)
        return output if call["return_dict"] else output.to_tuple()

    def _finish(
        self,
        request: inputs.EditRequest,
        evidence: list[EditComparison],
        answers: list[Answer | None],
        settings: inputs.DrawSettings,
        used: dict[str, Any],
        output_type: str,
        drawn: Sequence[reading.Picture],
    ) -> InsightEditOutput:
        """What was drawn, on the users' own pixels; `drawn` from blank stands in place of evidence."""
        images, masks, maps = list(drawn), [], []
        for picture in drawn:  # all of it
            masks.append(np.ones(picture.size[::-1], dtype=bool))
            maps.append(np.ones(picture.size[::-1], dtype=np.float32))
        known, parts = self.config["known_words"], self.components
        options = {
            "known": None if known is None else frozenset(known.split()),
            "tokenizer": parts.get("tokenizer") or getattr(parts["processor"], "tokenizer", None),
        }
        whole = unusual_settings(settings, self._usual(request.pictures[0] is None))
        warnings, found = [], []
        for index, answer in enumerate(answers):  # without evidence (latents) only what words and settings tell
            words = request.instructions[index].replace(REFERENCE_PLACEHOLDER, "picture")
            unknown, proof = unknown_words(words, **options), evidence[index] if evidence else None
            told = understand_request(words, answer, proof, self.config, unknown)
            found.append(told)
            changed, unseen, picture = True, [], request.pictures[index]
            if proof is not None and (told.is_understood or used["force"]):
                edited, mask = paste_edit(picture, proof, request.masks[index], used["background_lock"])
                images.append(edited)
                masks.append(mask)
                maps.append(native_map(proof, picture.size))
                changed, unseen = bool(mask.any()), unseen_edit(hidden_share(picture, proof))
            elif proof is not None:
                images.append(picture)
                masks.append(np.zeros(picture.size[::-1], dtype=bool))
                maps.append(np.zeros(picture.size[::-1], dtype=np.float32))
            own = told.warnings(content_words(unknown), used["force"])
            is_sure = told.confidence is not None
            own = own or find_warnings(words, told.said, changed, **options, is_sure=is_sure)
            warnings.append(own + unseen + whole)
        return InsightEditOutput(
            images=[convert(picture, output_type) for picture in images],
            edit_maps=maps,
            masks=masks,
            expressive_instructions=[told.said for told in found],
            seeds=request.seeds[: len(answers)],
            versions=software_versions(),
            settings=used,
            evidence=evidence,
            warnings=warnings,
            understood=[told.is_understood for told in found],
            confidence=[told.confidence for told in found],
            signs=[told.signs for told in found],
        )

    def _references(
        self, call: Mapping[str, Any], instructions: Sequence[str]
    ) -> tuple[list[list[reading.Picture]] | None, dict[str, Any]]:
        """One list of images for each instruction, None where a model reads none; and what `_read` takes besides."""
        raise NotImplementedError

    def _say(
        self, request: inputs.EditRequest, images: Sequence[np.ndarray | None], **options: Any
    ) -> list[Answer | None]:
        """What the language model writes before it edits, of B requests; None where it is not asked."""
        return [None] * len(images)

    def _read(
        self,
        request: inputs.EditRequest,
        images: Sequence[np.ndarray | None],
        said: Sequence[Answer | None],
        **options: Any,
    ) -> Conditions:
        """Comprehension and bridging of B requests; images are (H, W, 3) uint8 RGB, or None on a blank canvas."""
        raise NotImplementedError

    @torch.no_grad()
    def _understand(
        self, instructions: Sequence[str], images: Sequence[Any], *more: Any, **options: Any
    ) -> EditCondition:
        """Comprehension and bridging; what follows the images goes to the comprehension's `tokenize`."""
        tokens = self.comprehension.tokenize(list(instructions), list(images), *more, **options)
        tokens = replace(tokens, labels=None).to(self.comprehension.device)
        parts, latent_size = (self.comprehension, self.bridge, self.denoiser, self.vae), self._latent_shape()[1:]
        return understand(*parts, tokens, latent_size)[1]

    def _draw(
        self,
        request: inputs.EditRequest,
        images: Sequence[np.ndarray | None],
        kept: Sequence[int],
        read: Conditions | None,
        settings: inputs.DrawSettings,
        callback: StepCallback,
    ) -> tuple[Tensor, Tensor]:
        """Scaled latents of what was drawn and of the source (zeros for a blank canvas), both (B, C, h, w).

        Those that are `kept`, by number, are drawn, as they were `read`; of the others both are the source's.
        """
        device = self._execution_device
        if images[0] is None:
            source_latents = scaled = torch.zeros(len(images), *self._latent_shape(), device=device)
        else:  # squashed to the model's square, as in training
            squares = [reading.pixels_to_tensor(reading.squash(rgb, self.config["resolution"])) for rgb in images]
            mode = encode_source(self.vae, torch.stack(squares).to(device), scaled=False)
            scaled = mode * latent_scale(self.vae)
            source_latents = scaled if settings.scale_source_latents else mode
        if read is None:
            return scaled, scaled
        chosen, device = request.part(kept), source_latents.device
        latents = chosen.latents
        if latents is None:
            latents = initial_noise(chosen.seeds, self._latent_shape(), device=device)
        self.denoiser.set_image_prompt_scale(settings.image_prompt_scale)
        drawn = denoise(
            self.denoiser,
            self.scheduler,
            latents.to(device),
            source_latents[kept].to(self.denoiser.dtype),
            read.condition,
            read.null_text_states,
            settings.guidance_scale,
            settings.image_guidance_scale,
            settings.num_inference_steps,
            callback,
            generators=step_generators(chosen.seeds),
            negative=read.negative,
        )
        edited = scaled.to(drawn.dtype, copy=True)
        edited[kept] = drawn
        return edited, scaled

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.config["resolution"] // latent_factor(self.vae)
        return self.denoiser.config.in_channels, side, side

    def _usual(self, blank: bool) -> inputs.DrawSettings:
        """The model's own settings, for an edit or a picture on a blank canvas."""
        config, task = self.config, "default_creation" if blank else "default"
        return inputs.DrawSettings(
            guidance_scale=config[f"{task}_guidance_scale"],
            image_guidance_scale=config["default_image_guidance_scale"],
            num_inference_steps=config["default_creation_inference_steps" if blank else "default_num_inference_steps"],
            image_prompt_scale=config.get("image_prompt_scale", 1.0),
            scale_source_latents=config["scale_source_latents"],
        )

    def _parts(
        self, request: inputs.EditRequest, settings: inputs.DrawSettings, call: Mapping[str, Any]
    ) -> Iterator[tuple[inputs.EditRequest, StepCallback]]:
        """What shares a forward pass, until a callback interrupts; with what the sampler calls after each step."""
        batch_size = call["batch_size"]
        runs = math.ceil(len(request.pictures) / batch_size)
        self._interrupt = False
        with self.progress_bar(total=settings.num_inference_steps * runs) as bar:
            for start in range(0, len(request.pictures), batch_size):
                self._guidance_scale = settings.guidance_scale
                self._image_guidance_scale = settings.image_guidance_scale
                where = range(len(request.pictures))[start : start + batch_size]
                before = bar.n
                yield request.part(where), self._step_callback(bar, runs, call)
                if bar.n == before and not self._interrupt:  # all of it was refused
                    bar.update(settings.num_inference_steps)
                if self._interrupt:
                    break

    def _step_callback(self, bar: Any, runs: int, call: Mapping[str, Any]) -> StepCallback:
        """What one run of the sampler calls after each step; `runs` of them make up the bar."""
        on_step_end, names = call["callback_on_step_end"], _tensor_inputs(call)

        def callback(step: int, timestep: Tensor, state: DrawState) -> None:
            self._num_timesteps = state.num_timesteps
            bar.total = runs * state.num_timesteps  # schedulers of second order take two calls for a step
            bar.update()
            if on_step_end is not None:
                offered = {"latents": state.latents, "prompt_embeds": state.condition.encoder_hidden_states}
                before = self._guidance_scale
                returned = on_step_end(self, step, timestep, {name: offered[name] for name in names}) or {}
                given, held = offered | returned, state.condition.encoder_hidden_states
                state.latents, embeds = given["latents"], given["prompt_embeds"]
                if embeds.shape != held.shape:
                    raise ValueError(
                        f"the callback gave prompt_embeds of shape {tuple(embeds.shape)} back for {tuple(held.shape)}: "
                        "diffusers' cut-off callbacks keep one row, so use them with batch_size=1."
                    )
                if embeds is not held:
                    state.condition = replace(state.condition, encoder_hidden_states=embeds)
                if self._guidance_scale != before:
                    state.guidance_scale = self._guidance_scale
                if self._guidance_scale == 0 != before:  # diffusers' callbacks say so that guidance is to end
                    state.guidance_scale = state.image_guidance_scale = 1.0
            state.stopped = self._interrupt

        return callback


def _tensor_inputs(call: Mapping[str, Any]) -> Sequence[str]:
    """What a callback is given: an official one of diffusers says it itself."""
    official = isinstance(call["callback_on_step_end"], OfficialCallback | MultiPipelineCallbacks)
    return call["callback_on_step_end"].tensor_inputs if official else call["callback_on_step_end_tensor_inputs"]


def convert(picture: reading.Picture, output_type: str) -> Image.Image | np.ndarray | Tensor:
    """A picture as a call's `output_type` wants it: "pil", "np" (H, W, C) or "pt" (C, H, W), floats in [0, 1].

    What no Pillow mode can hold (colour of floats or of 16 bits) becomes 8 bits as "pil".
    """
    if output_type == "pil" and picture.mode:
        return reading.to_pil(picture)
    values = reading.to_float(picture)
    if output_type == "pil":
        return reading.to_pil(reading.read_picture(np.rint(values * 255).astype(np.uint8)))
    return values if output_type == "np" else rearrange(torch.from_numpy(values), "h w c -> c h w")


def software_versions() -> dict[str, str]:
    """Versions of what decides about the bytes of a result."""
    names = ("insightedit", "torch", "transformers", "diffusers", "numpy", "pillow")
    return {**installed_versions(*names), "python": platform.python_version()}
