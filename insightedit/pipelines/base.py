"""What every pipeline of this package shares: loading that reads no code and no pickles, checks, callbacks."""

from __future__ import annotations

import functools
import inspect
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.callbacks import MultiPipelineCallbacks
from diffusers.callbacks import PipelineCallback as OfficialCallback
from diffusers.hooks import apply_group_offloading
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.utils import logging
from einops import rearrange
from peft import PeftModel
from PIL import Image
from torch import Tensor, nn

from insightedit.generation.guidance import branch_weights
from insightedit.generation.sampling import DrawState, StepCallback
from insightedit.images.reading import Picture, pixels_to_tensor, read_picture, squash, to_float, to_pil
from insightedit.pipelines.functional import DrawSettings
from insightedit.pipelines.inputs import EditRequest, check_settings, pair_negatives, pair_up
from insightedit.pipelines.warnings import EditWarning, find_warnings, unseen_edit, unusual_settings
from insightedit.types import REFERENCE_PLACEHOLDER

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]

logger = logging.get_logger(__name__)
PipelineCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class EditPipeline(DiffusionPipeline):
    """Base of the pipelines; each stands in a module of its own, which imports the classes of its components."""

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]
    _settings: ClassVar[dict[str, Any]] = {}
    _guidance_scale = _image_guidance_scale = 1.0
    _interrupt = False
    _num_timesteps = 0

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

    @property
    def components(self) -> dict[str, Any]:
        """The parts, from which another pipeline can be built: `InsightEditPipeline(**pipeline.components)`.

        A new pipeline of the same parts takes this one's settings (resolution, defaults, ...) where it is given none.
        """
        parts = super().components
        parts["bridge"].pipeline_settings = {name: self.config[name] for name in self._settings}
        return parts

    def _register_settings(self, bridge: Any, given: dict[str, Any]) -> None:
        """Keep what was given, else what the pipeline that these parts come from had, else the default."""
        known = {**self._settings, **getattr(bridge, "pipeline_settings", {})}
        chosen = {name: known[name] if given[name] is None else given[name] for name in self._settings}
        self.register_to_config(**chosen)

    def register_to_config(self, **kwargs: Any) -> None:
        """As in diffusers, but our own classes stand under the package, where loading looks for them."""
        super().register_to_config(**{name: _public_name(value) for name, value in kwargs.items()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Load a model folder or hub id; arguments as in diffusers.

        The folder is checked first, see `insightedit.pipelines.model_folder.check_model_folder`. Two defaults differ:
        weights are read from safetensors only, and without `dtype` every part becomes float32 (folders hold
        float16, which a CPU computes slowly).

        Raises:
            FileNotFoundError: if the folder lacks a file.
            ValueError: in one sentence, if it is no whole model, or does what a model folder must not do.
        """
        from insightedit.modeling.pretrained import never_asked
        from insightedit.pipelines.model_folder import check_model_folder, explained

        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        if not kwargs.setdefault("use_safetensors", True):
            raise ValueError("use_safetensors=False was given: pickles are not read, export the model again.")
        name = str(pretrained_model_name_or_path)
        folder = name if os.path.isdir(name) else cls.download(name, **kwargs)
        given = [part for part in inspect.signature(cls.__init__).parameters if part in kwargs]
        check_model_folder(folder, variant=kwargs.get("variant"), given=given)
        with explained(Path(folder), cls), never_asked():
            pipeline = super().from_pretrained(folder, **kwargs)
        pipeline.register_to_config(_name_or_path=name)
        return pipeline

    def enable_group_offload(
        self,
        *args: Any,
        offload_to_disk_path: str | os.PathLike | None = None,
        exclude_modules: str | list[str] | None = None,
        **options: Any,
    ) -> None:
        """As in diffusers, but on a disk every part has a new folder of its own.

        diffusers names its files after layers and takes what is there already: parts with layers of one name, and a
        model that was there before, would be read in place of each other.
        """
        if offload_to_disk_path is None:
            super().enable_group_offload(*args, exclude_modules=exclude_modules, **options)
            return
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules or []
        names = list(inspect.signature(super().enable_group_offload).parameters)
        options |= dict(zip(names, args, strict=False))
        os.makedirs(offload_to_disk_path, exist_ok=True)
        for name, part in self.components.items():
            if isinstance(part, nn.Module) and name in excluded:
                part.to(options["onload_device"])
            elif isinstance(part, nn.Module):
                options["offload_to_disk_path"] = tempfile.mkdtemp(prefix=f"{name}-", dir=offload_to_disk_path)
                own = isinstance(part, ModelMixin)
                part.enable_group_offload(**options) if own else apply_group_offloading(part, **options)

    @functools.wraps(DiffusionPipeline.save_pretrained)
    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in diffusers.

        Raises:
            ValueError: if a part stands behind peft, or holds other tensors than it would be loaded with.
        """
        for name, part in self.components.items():
            if isinstance(part, PeftModel):
                raise ValueError(
                    f"`{name}` stands behind peft, whose folder no pipeline would load: put its merge_and_unload() "
                    "in its place, or use `insightedit export` on a training run."
                )
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def download(cls, pretrained_model_name: str | os.PathLike, **kwargs: Any) -> str:
        """Fetch a model from the hub: configurations, tokenizers and safetensors; never code or pickles."""
        from huggingface_hub import snapshot_download

        known = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        options = {name: kwargs[name] for name in known if kwargs.get(name) is not None}
        return snapshot_download(str(pretrained_model_name), allow_patterns=_HUB_FILES, **options)

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

    def pair_up(
        self, pictures: list, instruction: str | Sequence[str] | None, prompt: str | Sequence[str] | None
    ) -> tuple[list, list[str]]:
        """As many pictures as instructions, these written as the model was trained to read them."""
        return pair_up(pictures, instruction, prompt, self.config["lowercase_instructions"])

    def pair_negatives(
        self, negative: str | Sequence[str] | None, count: int, settings: DrawSettings
    ) -> list[str] | None:
        """What to keep away from, one text per picture, written as the model was trained to read them."""
        return pair_negatives(negative, count, settings, self.config["lowercase_instructions"])

    def find_warnings(
        self,
        instructions: Sequence[str],
        masks: Sequence[np.ndarray],
        understood: Sequence[str | None] | None,
        settings: DrawSettings,
        blank: bool = False,
        hidden: Sequence[float] = (),
    ) -> list[list[EditWarning]]:
        """What a user should know about each edit; without masks (latents) only what words and settings tell."""
        known = self.config["known_words"]
        options = {
            "known": None if known is None else frozenset(known.split()),
            "tokenizer": self.components.get("tokenizer") or self.components["processor"].tokenizer,
        }
        changed = [bool(mask.any()) for mask in masks] or [True] * len(instructions)
        texts = [text.replace(REFERENCE_PLACEHOLDER, "picture") for text in instructions]
        whole = unusual_settings(settings, self._usual(blank))
        given = zip(texts, understood or [None] * len(texts), changed, strict=True)
        return [
            find_warnings(*one, **options) + unseen_edit(share) + whole
            for one, share in zip(given, hidden or [0.0] * len(texts), strict=True)
        ]

    def _usual(self, blank: bool) -> DrawSettings:
        """The model's own settings, for an edit or a picture on a blank canvas."""
        raise NotImplementedError

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


class UNetPipelineMixin(StableDiffusionMixin, StableDiffusionLoraLoaderMixin):
    """Stable Diffusion's FreeU and fused projections, and its LoRA files, of which the UNet's part counts.

    There is no text encoder here: its layers in a LoRA file are passed over with a warning.
    """

    _lora_loadable_modules: ClassVar[list[str]] = ["unet"]
    text_encoder = None

    @classmethod
    def load_lora_into_text_encoder(cls, state_dict: dict[str, Tensor], *_: Any, **__: Any) -> None:
        """Pass over what is meant for a text encoder."""
        passed_over = [name for name in state_dict if name.startswith(cls.text_encoder_name)]
        if passed_over:
            logger.warning(
                "The LoRA file holds %d tensors for a text encoder, which this model does not have: only its UNet "
                "part is used.",
                len(passed_over),
            )

    def fuse_lora(self, components: Sequence[str] = ("unet",), **options: Any) -> None:  # type: ignore[override]
        """As in diffusers, of the UNet."""
        super().fuse_lora(components=list(components), **options)

    def unfuse_lora(self, components: Sequence[str] = ("unet",), **options: Any) -> None:  # type: ignore[override]
        """As in diffusers, of the UNet."""
        super().unfuse_lora(components=list(components), **options)


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


def _public_name(value: Any) -> Any:
    """(`insightedit.generation.unet`, `EditUNet`) -> (`insightedit`, `EditUNet`); anything else unchanged."""
    is_own = isinstance(value, tuple | list) and len(value) == 2 and str(value[0]).startswith("insightedit.")
    return ("insightedit", value[1]) if is_own else value
