"""Encoders of pictures and texts: CLIP by open_clip or transformers, and DINO v1; weights from the disk only.

Metrics (`insightedit.evaluation.metrics.similarity`) take anything that has the methods of `ImageEncoder` or
`ImageTextEncoder`. Which model a published number was computed with:

| model | open_clip | transformers | used by |
| --- | --- | --- | --- |
| CLIP B/32 | `ViT-B-32-quickgelu` | `openai/clip-vit-base-patch32` | MagicBrush, MIGE |
| CLIP L/14 | `ViT-L-14-quickgelu` | `openai/clip-vit-large-patch14` | SmartEdit, InsightEdit, InstructPix2Pix |
| DINO v1 S/16 | | `facebook/dino-vits16` | MagicBrush, MIGE, DreamBooth |

DINO v2, or v1 with patches of 8 px (DreamBench++), give other numbers. The two CLIPs agree but for texts that need
repair: open_clip, like OpenAI's `clip`, undoes HTML entities and makes typographic quotes plain, transformers does not.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from insightedit.evaluation.metrics.preprocess import CLIP_MEAN, CLIP_STD, Preprocess, clip_preprocess, dino_preprocess
from insightedit.evaluation.metrics.pretrained import Device, Source, first_line, load_model, read
from insightedit.modeling.pretrained import weights_digest

ARCHIVED_NUMBERS = ("input_resolution", "context_length", "vocab_size")  # beside the weights in OpenAI's archives
OPEN_CLIP_MODELS = {
    "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu",
    "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu",
}  # hub id -> as open_clip calls it
OPENAI_METHODS = ("openai", "instructpix2pix")  # preprocesses of scripts that used OpenAI's `clip`
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@runtime_checkable
class ImageEncoder(Protocol):
    """What a metric of pictures needs; runs keep its `name`, and as `revision` which weights exactly."""

    def image_features(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """B pictures (H, W, 3) uint8 RGB of any sizes -> (B, D) float32 on the CPU, not normalised."""
        ...


@runtime_checkable
class ImageTextEncoder(ImageEncoder, Protocol):
    """What a metric of pictures and texts needs."""

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """B texts, cut to what the encoder reads (77 tokens for CLIP) -> (B, D) as those of pictures, comparable."""
        ...


class _Encoder(ABC):
    """A network with what prepares its inputs: a tokenizer, and a preprocess whose size has to be the model's."""

    def __init__(self, model: Any, tokenizer: Any = None, *, name: str, preprocess: Preprocess) -> None:
        self.model, self.tokenizer, self.name, self.preprocess = model.eval(), tokenizer, name, preprocess
        self._device = next(model.parameters()).device

    @cached_property
    def revision(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    @torch.no_grad()
    def image_features(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """See `ImageEncoder`."""
        pixel_values = torch.stack([self.preprocess(picture) for picture in pictures])  # [b, 3, s, s]
        return self._encode_image(pixel_values.to(self._device)).float().cpu()

    @abstractmethod
    def _encode_image(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) float32 -> (B, D)."""


class OpenClipEncoder(_Encoder):
    """A CLIP of open_clip, or what has `encode_image` and `encode_text`; `tokenizer`: B texts -> (B, T) int64."""

    def _encode_image(self, pixel_values: Tensor) -> Tensor:
        return self.model.encode_image(pixel_values)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """See `ImageTextEncoder`."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self._device)).float().cpu()


class ClipEncoder(_Encoder):
    """A CLIP of transformers (`CLIPModel` and `CLIPTokenizer`)."""

    def _encode_image(self, pixel_values: Tensor) -> Tensor:
        # transformers 5 gives an output object whose `pooler_output` is the *projected* feature
        return self.model.get_image_features(pixel_values=pixel_values).pooler_output

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """See `ImageTextEncoder`. Filled up to CLIP's 77 tokens, as in OpenAI's `tokenize`."""
        how = {"padding": "max_length", "max_length": self.model.config.text_config.max_position_embeddings}
        tokens = self.tokenizer(list(texts), truncation=True, return_tensors="pt", **how)
        # no attention mask: the feature is read at the first end token, and no token sees a later one
        return self.model.get_text_features(input_ids=tokens.input_ids.to(self._device)).pooler_output.float().cpu()


class DinoEncoder(_Encoder):
    """DINO (`transformers.ViTModel`): the class token behind the last norm."""

    def _encode_image(self, pixel_values: Tensor) -> Tensor:
        # not the `pooler_output` of transformers, which is one more layer that DINO never trained
        return self.model(pixel_values=pixel_values).last_hidden_state[:, 0]


def load_clip(
    model: Source = "openai/clip-vit-base-patch32",
    *,
    weights: Source | None = None,
    preprocess: str = "openai",
    device: Device = "cpu",
) -> ClipEncoder | OpenClipEncoder:
    """A CLIP from the disk, in float32, in the library that a published number was computed with.

    Scripts that prepare pictures as OpenAI's `clip` does also repair texts as it does, and so does open_clip: where
    its copy of the weights is on this disk, it is taken for them. Others used transformers.

    `model` is a hub id, or a folder of transformers; `weights` where they are, if not in a cache: a folder of
    transformers, or a file for open_clip; `preprocess` a name of `insightedit.evaluation.metrics.preprocess.METHODS`.
    """
    from transformers import CLIPModel, CLIPTokenizer

    ours = OPEN_CLIP_MODELS.get(os.fspath(model))
    shared: dict[str, Any] = {"preprocess": preprocess, "device": device}
    if weights is not None and os.path.isfile(weights):
        if ours is None:
            raise ValueError(
                f"{weights} is a file, and {model} has no name in open_clip: name a folder of transformers, or one of "
                f"{', '.join(OPEN_CLIP_MODELS)}."
            )
        return load_open_clip(ours, checkpoint=weights, **shared)
    if weights is None and ours is not None and preprocess in OPENAI_METHODS:
        with suppress(FileNotFoundError, RuntimeError):  # not fetched, or open_clip is not installed
            return load_open_clip(ours, **shared)
    source = model if weights is None else weights
    network = load_model(CLIPModel, source, device=device)
    tokenizer = read(CLIPTokenizer.from_pretrained, source, local_files_only=True)
    way = clip_preprocess(preprocess, size=network.config.vision_config.image_size)
    return ClipEncoder(network, tokenizer, name=os.fspath(source), preprocess=way)


def load_dino(
    model: Source = "facebook/dino-vits16", *, preprocess: str = "openai", device: Device = "cpu"
) -> DinoEncoder:
    """DINO of transformers from the disk, in float32; arguments and errors as of `load_clip`."""
    from transformers import ViTModel

    network = load_model(ViTModel, model, device=device, add_pooling_layer=False)
    way = dino_preprocess(preprocess, size=network.config.image_size)
    return DinoEncoder(network, name=os.fspath(model), preprocess=way)


def load_open_clip(
    model: str = "ViT-B-32-quickgelu",
    *,
    pretrained: str = "openai",
    checkpoint: Source | None = None,
    preprocess: str = "openai",
    device: Device = "cpu",
) -> OpenClipEncoder:
    """A CLIP of open_clip from the disk, in float32.

    `model` and `pretrained` are what open_clip calls them: OpenAI's weights need the names that end in `-quickgelu`,
    a checkpoint of one's own may have any. `checkpoint` is a file with the weights (.safetensors, a state dict, or
    OpenAI's own archive); None looks where open_clip and OpenAI's `clip` keep theirs.
    """
    try:
        import open_clip
    except ImportError as error:
        raise RuntimeError(
            "this encoder needs open_clip, which is not installed: pip install open_clip_torch."
        ) from error
    config = open_clip.get_model_config(model)
    if config is None:
        raise ValueError(f"open_clip knows no model {model!r}: see open_clip.list_models().")
    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if settings.get("quick_gelu", config.get("quick_gelu", False)) != config.get("quick_gelu", False):
        plain = model.removesuffix("-quickgelu")
        raise ValueError(
            f"{model} and the weights {pretrained!r} differ in their activation, which would shift every score: "
            f"name {plain if plain != model else f'{model}-quickgelu'}."
        )
    path = _cached_open_clip(open_clip, model, pretrained) if checkpoint is None else Path(checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f"No file at {path}: checkpoint names one file with CLIP's weights.")
    network = _read_open_clip(open_clip, model, path).to(device)
    size = network.visual.image_size
    side = size if isinstance(size, int) else size[0]
    means = tuple(settings.get("mean", CLIP_MEAN)), tuple(settings.get("std", CLIP_STD))
    way, name = Preprocess(preprocess, side, side, *means), f"open_clip:{model}/{pretrained}"
    return OpenClipEncoder(network, open_clip.get_tokenizer(model), name=name, preprocess=way)


def _cached_open_clip(open_clip: Any, model: str, pretrained: str) -> Path:
    """Where open_clip or OpenAI's `clip` put the weights."""
    from huggingface_hub import try_to_load_from_cache

    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if not settings:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(
            f"open_clip knows no weights {pretrained!r} of {model} (it knows: {known}): name those, or give their "
            "file as checkpoint."
        )
    repository, file = os.path.split(settings.get("hf_hub", ""))
    for name in (file,) if file else OPEN_CLIP_FILES:
        found = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(found, str):
            return Path(found)
    archive = Path.home() / ".cache" / "clip" / os.path.basename(settings.get("url") or "none")
    if archive.is_file():
        return archive
    raise FileNotFoundError(
        f'The weights {pretrained!r} of {model} are not on this disk: `python -c "import open_clip; '
        f"open_clip.create_model('{model}', '{pretrained}')\"` fetches them once, or give their file as checkpoint."
    )


def _read_open_clip(open_clip: Any, model: str, path: Path) -> Any:
    """The network with the weights of a file; OpenAI publishes CLIP as archives of TorchScript, others as tensors."""
    try:
        if not zipfile.is_zipfile(path):
            names = []
        else:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                # torch's own reader of archives runs no pickle, but code that the archive brings
                if any(name.endswith(".py") and b"__setstate__" in archive.read(name) for name in names):
                    raise ValueError("the archive brings code that would run while it is read")
        if not any(name.endswith("/constants.pkl") for name in names):  # no archive of TorchScript
            return open_clip.create_model(model, pretrained=str(path), precision="fp32", weights_only=True)
        network = open_clip.create_model(model, precision="fp32")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch keeps TorchScript for old files only
            weights = torch.jit.load(str(path), map_location="cpu").state_dict()
        network.load_state_dict({k: v for k, v in weights.items() if k not in ARCHIVED_NUMBERS})
        return network
    except (RuntimeError, OSError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"{path} does not hold the weights of {model} ({type(error).__name__}: {first_line(error)}): name the "
            "model that they belong to."
        ) from error
