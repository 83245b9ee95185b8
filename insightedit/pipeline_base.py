"""What every pipeline of this package shares: loading that reads no code and no pickles, checks, callbacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from einops import rearrange
from PIL import Image
from torch import Tensor

from insightedit.data.records import REFERENCE_PLACEHOLDER
from insightedit.editing import DrawSettings
from insightedit.imaging import Picture, pixels_to_tensor, squash, to_float, to_pil
from insightedit.request import check_settings, pair_up
from insightedit.words import EditWarning, find_warnings, unusual_settings

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]

PipelineCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class EditPipeline(DiffusionPipeline):
    """Base of the pipelines; each stands in a module of its own, which imports the classes of its components."""

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def register_to_config(self, **kwargs: Any) -> None:
        """As in diffusers, but our own classes stand under the pipeline's module, where loading looks for them."""
        home = next(c.__module__ for c in type(self).__mro__ if c.__module__.startswith("insightedit."))
        super().register_to_config(**{name: _public_name(value, home) for name, value in kwargs.items()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Load a model folder or hub id; arguments as in diffusers.

        Two defaults differ: weights are read from safetensors only, and without `dtype` every part becomes
        float32 (folders hold float16, which a CPU computes slowly).
        """
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        kwargs.setdefault("use_safetensors", True)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

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
                f"`callback_on_step_end_tensor_inputs` names {unknown}: only {self._callback_tensor_inputs}"
            )

    def pair_up(
        self, pictures: list, instruction: str | Sequence[str] | None, prompt: str | Sequence[str] | None
    ) -> tuple[list, list[str]]:
        """As many pictures as instructions, these written as the model was trained to read them."""
        return pair_up(pictures, instruction, prompt, self.config["lowercase_instructions"])

    def find_warnings(
        self,
        instructions: Sequence[str],
        masks: Sequence[np.ndarray],
        understood: Sequence[str | None] | None,
        settings: DrawSettings,
        blank: bool = False,
    ) -> list[list[EditWarning]]:
        """What a user should know about each edit; without masks (latents) only what words and settings tell."""
        known = self.config["known_words"]
        options = {
            "known": None if known is None else frozenset(known.split()),
            "tokenizer": self.components.get("tokenizer") or self.components["processor"].tokenizer,
        }
        changed = [bool(mask.any()) for mask in masks] or [True] * len(instructions)
        texts = [text.replace(REFERENCE_PLACEHOLDER, "picture") for text in instructions]
        return [
            find_warnings(*one, **options) + unusual_settings(settings, self._usual(blank))
            for one in zip(texts, understood or [None] * len(texts), changed, strict=True)
        ]

    def _usual(self, blank: bool) -> DrawSettings:
        """The model's own settings, for an edit or a picture on a blank canvas."""
        raise NotImplementedError

    def prepare_image_pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """B x (H, W, 3) uint8 -> (B, 3, S, S) in [-1, 1]: squashed to the model's square, as in training."""
        squares = [pixels_to_tensor(squash(rgb, self.config["resolution"])) for rgb in images]
        return torch.stack(squares).to(self._execution_device)

    def _step_callback(
        self, bar: Any, on_step_end: PipelineCallback | None
    ) -> Callable[[int, Tensor, Tensor], Tensor | None]:
        def callback(step: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
            bar.update()
            if on_step_end is None:
                return None
            return (on_step_end(self, step, timestep, {"latents": latents}) or {}).get("latents")

        return callback


def convert(picture: Picture, output_type: str) -> Image.Image | np.ndarray | Tensor:
    """A picture as a call's `output_type` wants it: "pil", "np" (H, W, C) or "pt" (C, H, W), floats in [0, 1]."""
    if output_type == "pil":
        return to_pil(picture)
    values = to_float(picture)
    return values if output_type == "np" else rearrange(torch.from_numpy(values), "h w c -> c h w")


def _public_name(value: Any, home: str) -> Any:
    """(`insightedit.generation.unet`, `EditUNet`) -> (`home`, `EditUNet`); anything else unchanged."""
    is_own = isinstance(value, tuple | list) and len(value) == 2 and str(value[0]).startswith("insightedit.")
    return (home, value[1]) if is_own else value
