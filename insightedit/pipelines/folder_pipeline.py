"""What diffusers asks of a pipeline: loading without code and pickles, saving, offloading, parts that are shared."""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.hooks import apply_group_offloading
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.utils import logging
from peft import PeftModel
from torch import Tensor, nn

from insightedit.generation.autoencoder import latent_factor
from insightedit.pipelines.understanding import Calibration, check_refusals

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]

logger = logging.get_logger(__name__)


class FolderPipeline(DiffusionPipeline):
    """A pipeline whose settings come with its parts, and whose folder is checked before it is read.

    The constructor of a subclass names its parts and takes `**settings`; `_settings` has their names and defaults. One
    that is not given is that of the pipeline whose `components` the parts are, else the default.
    """

    _settings: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Put the settings into the constructor's signature, where diffusers looks for what a folder may hold."""
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            own: Any = cls.__init__
            parts = [one for one in inspect.signature(own).parameters.values() if one.name != "settings"]
            settings = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                for name, default in cls._settings.items()
            ]
            own.__signature__ = inspect.Signature([*parts, *settings])

    @property
    def components(self) -> dict[str, Any]:
        """The parts, of which another pipeline with the same settings can be built: `type(p)(**p.components)`."""
        parts = super().components
        parts["bridge"].pipeline_settings = {name: self.config[name] for name in self._settings}
        return parts

    @property
    def denoiser(self) -> Any:
        """The part that predicts noise."""
        return next(one for name in ("unet", "transformer") if (one := getattr(self, name, None)) is not None)

    def _register(self, given: Mapping[str, Any]) -> None:
        """Keep the arguments of a constructor, by name."""
        settings, known = given["settings"], self._settings | getattr(given["bridge"], "pipeline_settings", {})
        if unknown := sorted(settings.keys() - self._settings.keys()):
            raise TypeError(f"`{unknown[0]}` is no setting of {type(self).__name__}: {', '.join(self._settings)} are.")
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        self.register_modules(**{name: given[name] for name in names if name not in self._settings})
        chosen = {name: known[name] if settings.get(name) is None else settings[name] for name in self._settings}
        check_refusals(chosen.get("refusals"))
        Calibration.of(chosen.get("confidence_calibration"))
        self.register_to_config(**chosen)
        grid = self.denoiser.grid * latent_factor(self.vae)
        if chosen["resolution"] % grid:
            raise ValueError(
                f"`resolution` {chosen['resolution']} does not fit autoencoder and {self.denoiser.part}: take a "
                f"multiple of {grid}."
            )

    def register_to_config(self, **kwargs: Any) -> None:
        """As in diffusers, but our own classes stand under the package, where loading looks for them."""
        for name, value in kwargs.items():
            if isinstance(value, tuple | list) and len(value) == 2 and str(value[0]).startswith("insightedit."):
                kwargs[name] = ("insightedit", value[1])
        super().register_to_config(**kwargs)

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
        """As in diffusers, but a part that stands behind peft is refused."""
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
