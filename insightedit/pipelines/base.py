"""What every pipeline of this package shares: one way through a call, and callbacks.

A call draws at the model's own square resolution. What was drawn is brought back onto the user's own pixels, and with
the background lock every pixel outside the edit mask stays exactly the source's.
"""

from __future__ import annotations

import math
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

from insightedit.generation.autoencoder import decode, encode_source, latent_factor, latent_scale
from insightedit.generation.guidance import branch_weights
from insightedit.generation.sampling import DrawState, StepCallback
from insightedit.images.background import EditComparison, hidden_share, native_map, paste_edit
from insightedit.images.reading import (
    Picture,
    pixels_to_tensor,
    read_picture,
    read_pictures,
    squash,
    tensor_to_pixels,
    to_float,
    to_pil,
    to_rgb,
)
from insightedit.pipelines.folder_pipeline import FolderPipeline
from insightedit.pipelines.functional import (
    DrawSettings,
    compare_decoded,
    eval_mode,
    sample_latents,
    software_versions,
)
from insightedit.pipelines.inputs import (
    EditRequest,
    check_latents,
    check_settings,
    choose_seeds,
    pair_negatives,
    pair_up,
    read_masks,
)
from insightedit.pipelines.warnings import EditWarning, find_warnings, unseen_edit, unusual_settings
from insightedit.types import REFERENCE_PLACEHOLDER, EditCondition

PipelineCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


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


@dataclass(frozen=True)
class Conditions:
    """What a pipeline read: everything that its denoiser is conditioned on.

    Attributes:
        condition: of the instructions.
        null_text_states: (Q, D_text), the bridge's.
        negative: of what is to be avoided, or None.
        expressive: what the language model wrote, or None for each picture.
    """

    condition: EditCondition
    null_text_states: Tensor
    negative: EditCondition | None
    expressive: list[str | None]


class EditPipeline(FolderPipeline):
    """Base of the pipelines; each stands in a module of its own, which imports the classes of its components."""

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]
    _guidance_scale = _image_guidance_scale = 1.0
    _interrupt = False
    _num_timesteps = 0
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

    def check_inputs(
        self, settings: DrawSettings, batch_size: int, output_type: str, callback_tensor_inputs: Sequence[str]
    ) -> None:
        """Refuse what cannot work before any of it is done.

        Raises:
            ValueError: names the argument, its value and what holds.
        """
        check_settings(settings, batch_size, output_type)
        unknown = sorted(set(callback_tensor_inputs) - set(self._callback_tensor_inputs))
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` names {unknown}: this pipeline has only "
                f"{self._callback_tensor_inputs}; callbacks of SDXL, SD3 and ControlNet want what it does not make."
            )

    def _run(self, call: Mapping[str, Any]) -> InsightEditOutput | tuple:
        """What both pipelines' calls do.

        Args:
            call: arguments of `__call__` by name; an image that is None is a blank canvas.
        """
        # 1. Check and complete the arguments
        blank = call["image"] is None and "default_creation_guidance_scale" in self._settings
        given: Any = [None] if blank else read_pictures(call["image"])
        lowercase = self.config["lowercase_instructions"]
        pictures, instructions = pair_up(given, call["instruction"], call["prompt"], lowercase)
        references = self._pair_references(call["reference_images"], instructions)
        usual = self._usual(blank)
        settings = replace(usual, **{name: call[name] for name in asdict(usual) if call.get(name) is not None})
        names = tensor_inputs(call["callback_on_step_end"], call["callback_on_step_end_tensor_inputs"])
        self.check_inputs(settings, call["batch_size"], call["output_type"], names)
        lock, mask, latents, each = (
            call[name] for name in ("background_lock", "mask", "latents", "num_images_per_prompt")
        )
        if blank and (mask is not None or call["mask_threshold"] is not None):
            raise ValueError("a mask was given, but a blank canvas has nothing to keep: leave it out.")
        request = EditRequest(
            pictures,
            instructions,
            choose_seeds(len(pictures), call["seed"], call["generator"], each),
            [None] * len(pictures) if blank else read_masks(mask, pictures, lock),
            pair_negatives(call["negative_prompt"], len(pictures), settings, lowercase),
            latents,
            references,
        ).times(each)
        check_latents(latents, (len(request.pictures), *self._latent_shape()))
        options = self._reading_options(call)

        # 2. Draw at the model's own resolution, `batch_size` pictures at a time
        results: list[Tensor] = []
        evidence: list[EditComparison] = []
        texts: list[str | None] = []
        drawn: list[Picture] = []
        with eval_mode(self.comprehension, self.bridge, self.denoiser, self.vae):
            for part, callback in self._parts(
                request, settings, call["batch_size"], call["callback_on_step_end"], names
            ):
                rgb = [None if picture is None else to_rgb(picture) for picture in part.pictures]
                read = self._read(part, rgb, **options)
                edited, source = self._draw(part, rgb, read, settings, callback)
                results.append(edited)
                texts += read.expressive
                if blank and call["output_type"] != "latent":
                    drawn += map(_as_picture, decode(self.vae, edited))
                elif call["output_type"] != "latent":
                    evidence += compare_decoded(self.vae, edited, source, call["mask_threshold"])
        self.maybe_free_model_hooks()

        # 3. Back onto the users' own pixels; an interrupted call gives what it began
        used = {k: v for k, v in asdict(settings).items() if k in call or k in self._settings}
        used |= {"background_lock": lock, "own_mask": mask is not None}
        used |= self._facts(call, request, len(texts)) | {"batch_size": call["batch_size"]}
        output = self._finish(request, evidence, texts, settings, used, call["output_type"], drawn)
        if call["output_type"] == "latent":
            output.images = torch.cat(results)
        return output if call["return_dict"] else output.to_tuple()

    def _finish(
        self,
        request: EditRequest,
        evidence: list[EditComparison],
        texts: list[str | None],
        settings: DrawSettings,
        used: dict[str, Any],
        output_type: str,
        drawn: Sequence[Picture],
    ) -> InsightEditOutput:
        """What was drawn, on the users' own pixels; `drawn` from blank stands in place of evidence."""
        finished = [_drawn_from_blank(picture) for picture in drawn]
        hidden = []
        for picture, proof, own in zip(request.pictures, evidence, request.masks, strict=False):
            pasted = paste_edit(picture, proof, own, used["background_lock"])
            finished.append((*pasted, native_map(proof, picture.size)))
            hidden.append(hidden_share(picture, proof))
        masks = [where for _, where, _ in finished]
        blank = request.pictures[0] is None
        return InsightEditOutput(
            images=[convert(picture, output_type) for picture, _, _ in finished],
            edit_maps=[edit_map for _, _, edit_map in finished],
            masks=masks,
            expressive_instructions=texts,
            seeds=request.seeds[: len(texts)],
            versions=software_versions(),
            settings=used,
            evidence=evidence,
            warnings=self.find_warnings(request.instructions, masks, texts, settings, blank, hidden),
        )

    def _pair_references(self, references: Any, instructions: Sequence[str]) -> list[list[Picture]] | None:
        """One list of pictures for each instruction, or None where a model reads none."""
        raise NotImplementedError

    def _reading_options(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """What `_read` takes besides, of the arguments of a call."""
        return {}

    def _read(self, request: EditRequest, images: Sequence[np.ndarray | None], **options: Any) -> Conditions:
        """Comprehension and bridging of B requests; images are (H, W, 3) uint8 RGB, or None on a blank canvas."""
        raise NotImplementedError

    def _facts(self, call: Mapping[str, Any], request: EditRequest, count: int) -> dict[str, Any]:
        """What the output's settings say about references, of the first `count` pictures."""
        raise NotImplementedError

    def _draw(
        self,
        request: EditRequest,
        images: Sequence[np.ndarray | None],
        read: Conditions,
        settings: DrawSettings,
        callback: StepCallback,
    ) -> tuple[Tensor, Tensor]:
        """Scaled latents of what was drawn and of the source (zeros for a blank canvas), both (B, C, h, w)."""
        if images[0] is None:
            source_latents = scaled = torch.zeros(len(images), *self._latent_shape(), device=self._execution_device)
        else:
            mode = encode_source(self.vae, self.prepare_image_pixels(images), scaled=False)
            scaled = mode * latent_scale(self.vae)
            source_latents = scaled if settings.scale_source_latents else mode
        edited = sample_latents(
            self.denoiser,
            self.scheduler,
            source_latents,
            read.condition,
            read.null_text_states,
            request.seeds,
            settings,
            callback,
            latents=request.latents,
            negative=read.negative,
        )
        return edited, scaled

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.config["resolution"] // latent_factor(self.vae)
        return self.denoiser.config.in_channels, side, side

    def _usual(self, blank: bool) -> DrawSettings:
        """The model's own settings, for an edit or a picture on a blank canvas."""
        config, task = self.config, "default_creation" if blank else "default"
        return DrawSettings(
            guidance_scale=config[f"{task}_guidance_scale"],
            image_guidance_scale=config["default_image_guidance_scale"],
            num_inference_steps=config["default_creation_inference_steps" if blank else "default_num_inference_steps"],
            image_prompt_scale=config.get("image_prompt_scale", 1.0),
            scale_source_latents=config["scale_source_latents"],
        )

    def find_warnings(
        self,
        instructions: Sequence[str],
        masks: Sequence[np.ndarray],
        understood: Sequence[str | None],
        settings: DrawSettings,
        blank: bool = False,
        hidden: Sequence[float] = (),
    ) -> list[list[EditWarning]]:
        """What a user should know about each edit; without masks (latents) only what words and settings tell."""
        known = self.config["known_words"]
        options = {
            "known": None if known is None else frozenset(known.split()),
            "tokenizer": self.components.get("tokenizer") or getattr(self.components["processor"], "tokenizer", None),
        }
        whole = unusual_settings(settings, self._usual(blank))
        found = []
        for index, told in enumerate(understood):
            text = instructions[index].replace(REFERENCE_PLACEHOLDER, "picture")
            changed = bool(masks[index].any()) if len(masks) else True
            unseen = unseen_edit(hidden[index]) if len(hidden) else []
            found.append(find_warnings(text, told, changed, **options) + unseen + whole)
        return found

    def prepare_image_pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """B x (H, W, 3) uint8 -> (B, 3, S, S) in [-1, 1]: squashed to the model's square, as in training."""
        squares = [pixels_to_tensor(squash(rgb, self.config["resolution"])) for rgb in images]
        return torch.stack(squares).to(self._execution_device)

    def _parts(
        self,
        request: EditRequest,
        settings: DrawSettings,
        batch_size: int,
        on_step_end: PipelineCallback | None,
        names: Sequence[str],
    ) -> Iterator[tuple[EditRequest, StepCallback]]:
        """What shares a forward pass, until a callback interrupts; with what the sampler calls after each step."""
        runs = math.ceil(len(request.pictures) / batch_size)
        self._interrupt = False
        with self.progress_bar(total=settings.num_inference_steps * runs) as bar:
            for start in range(0, len(request.pictures), batch_size):
                callback = self._step_callback(bar, runs, settings, on_step_end, names)
                yield request.part(slice(start, start + batch_size)), callback
                if self._interrupt:
                    break

    def _step_callback(
        self, bar: Any, runs: int, settings: DrawSettings, on_step_end: PipelineCallback | None, names: Sequence[str]
    ) -> StepCallback:
        """What one run of the sampler calls after each step; `runs` of them make up the bar."""
        self._guidance_scale = settings.guidance_scale
        self._image_guidance_scale = settings.image_guidance_scale

        def callback(step: int, timestep: Tensor, state: DrawState) -> None:
            self._num_timesteps = state.num_timesteps
            bar.total = runs * state.num_timesteps  # schedulers of second order take two calls for a step
            bar.update()
            if on_step_end is not None:
                offered = {"latents": state.latents, "prompt_embeds": state.condition.encoder_hidden_states}
                before = self._guidance_scale
                returned = on_step_end(self, step, timestep, {name: offered[name] for name in names}) or {}
                _take(state, {**offered, **returned})
                if self._guidance_scale != before:
                    state.guidance_scale = self._guidance_scale
                if self._guidance_scale == 0 != before:  # diffusers' callbacks say so that guidance is to end
                    state.guidance_scale = state.image_guidance_scale = 1.0
            state.stopped = self._interrupt

        return callback


def tensor_inputs(on_step_end: Any, names: Sequence[str]) -> Sequence[str]:
    """What a callback is given: an official one of diffusers says it itself."""
    official = isinstance(on_step_end, OfficialCallback | MultiPipelineCallbacks)
    return on_step_end.tensor_inputs if official else names


def convert(picture: Picture, output_type: str) -> Image.Image | np.ndarray | Tensor:
    """A picture as a call's `output_type` wants it: "pil", "np" (H, W, C) or "pt" (C, H, W), floats in [0, 1].

    What no Pillow mode can hold (colour of floats or of 16 bits) becomes 8 bits as "pil".
    """
    if output_type == "pil" and picture.mode:
        return to_pil(picture)
    values = to_float(picture)
    if output_type == "pil":
        return to_pil(read_picture(np.rint(values * 255).astype(np.uint8)))
    return values if output_type == "np" else rearrange(torch.from_numpy(values), "h w c -> c h w")


def _take(state: DrawState, returned: dict[str, Tensor]) -> None:
    """Put what a callback gave back in the place of what it was given."""
    state.latents = returned["latents"]
    embeds, held = returned["prompt_embeds"], state.condition.encoder_hidden_states
    if embeds is held:
        return
    if embeds.shape != held.shape:
        raise ValueError(
            f"the callback gave prompt_embeds of shape {tuple(embeds.shape)} back for {tuple(held.shape)}: diffusers' "
            "cut-off callbacks keep one row, so use them with batch_size=1."
        )
    state.condition = replace(state.condition, encoder_hidden_states=embeds)


def _as_picture(pixels: Tensor) -> Picture:
    """(3, H, W) in [-1, 1] -> picture of uint8 RGB."""
    return read_picture(np.rint(tensor_to_pixels(pixels)).astype(np.uint8))


def _drawn_from_blank(picture: Picture) -> tuple[Picture, np.ndarray, np.ndarray]:
    """A new picture with its mask and its edit map: all of it was drawn."""
    everywhere = np.ones(picture.size[::-1], dtype=bool)
    return picture, everywhere, everywhere.astype(np.float32)
