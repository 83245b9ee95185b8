"""Models, tokenizers and schedulers of transformers and diffusers, as everything here loads them: whole, and no code.

transformers runs a repository's own code where `trust_remote_code` is on, asks on the terminal where it is left out,
and fills weights that are missing with random numbers. Here it is off, in one place, and what is missing is an error.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from insightedit.config.load import ConfigError
from insightedit.modeling.model_files import check_no_code, is_finite

if TYPE_CHECKING:
    from torch import nn
    from transformers import CLIPImageProcessor

DIGEST_DIGITS = 16  # hex, of SHA-256
PREFIX = "miniature:"
OLD_PREFIX = "foundation:"  # in the configs of saved runs and the cards of saved models
PARTS = {
    "processor": "mllm",
    "feature_extractor": "image_encoder",
    "image_processor": "picture_encoder",
    "tokenizer": "text_encoder",
}
"""Folder of a tokenizer or processor in a model folder -> folder of the part that it belongs to."""


def current_id(model_id: Any) -> Any:
    """A miniature's id as it is spelled now; whatever else is given stays as it is."""
    is_old = isinstance(model_id, str) and model_id.startswith(OLD_PREFIX)
    return PREFIX + model_id.removeprefix(OLD_PREFIX) if is_old else model_id


def resolve_model_id(model_id: str) -> str:
    """Turn a miniature's id into a folder, as `insightedit.miniatures.folders` does; others stay as they are."""
    model_id = current_id(model_id)
    if not model_id.startswith(PREFIX):
        return model_id
    # by name: what builds the miniatures stands above this module
    return importlib.import_module("insightedit.miniatures.folders").find_miniature(model_id)


def processor_path(model: str, name: str) -> str:
    """Folder or hub id that the tokenizer or processor `name`, a key of `PARTS`, of a model is loaded from.

    The folder `name` beside the model, if that is a part of a finished model or of a diffusers pipeline; else its own.
    """
    folder = Path(model)
    beside = folder.with_name(name) if folder.name else folder
    return str(beside) if folder.name == PARTS[name] and beside.is_dir() else model


@contextmanager
def open_base_model(key: str, model: str, what: str) -> Iterator[str]:
    """Load a base model inside this block, from the folder or hub id that it yields.

    A failure becomes a ConfigError that tells the setting `key`, its value `model` (a folder, hub id, or miniature's
    id), `what` it should be, and the first line of the reason.
    """
    place = resolve_model_id(model)
    try:
        yield place
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300].rstrip(".")
        raise ConfigError(
            f"{key}: {model} cannot be loaded as {what} ({reason}). Name a folder or a hub id; a hub id is fetched "
            "once, over the network, and where access has to be granted after `hf auth login`."
        ) from error


def load_image_processor(model: str) -> CLIPImageProcessor:
    """What makes images ready for an image encoder, given as folder or hub id."""
    from transformers import CLIPImageProcessor

    with open_base_model("generation.image_encoder", model, "a CLIP model with its image processor") as folder:
        return load_pretrained(CLIPImageProcessor, processor_path(folder, "feature_extractor"))


def load_pretrained(cls: Any, source: str | os.PathLike, **options: Any) -> Any:
    """`cls.from_pretrained` of a folder or hub id, for transformers and diffusers: no code, and every weight.

    Raises:
        OSError, ValueError: as the class does; and if a local folder names code or files elsewhere, weights are
            missing or not finite, or the hub does not give the model.
    """
    from torch import nn

    check_no_code(Path(source, options.get("subfolder") or ""))
    if not os.path.exists(source):
        from insightedit.hub.network import check_on_hub

        check_on_hub(str(source), options.get("revision"))
    if cls.__module__.startswith("diffusers.") and cls.__name__ == "AutoModel":
        cls = _named_class(source, options)
    if any(base.__module__.startswith("transformers.") for base in cls.__mro__):
        options["trust_remote_code"] = False
    is_model = issubclass(cls, nn.Module) or cls.__name__.startswith("AutoModel")
    if not is_model:
        return cls.from_pretrained(source, **options)
    model, report = cls.from_pretrained(source, output_loading_info=True, **options)
    check_loaded(model, report, source)
    return model


def check_loaded(model: Any, report: Any, source: str | os.PathLike) -> None:
    """Refuse a model with weights that its files did not give (the report is its loader's), or that are not finite."""
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of a {type(model).__name__}, e.g. {missing[0]}, which would be "
            "random numbers: fetch it again, or name another model."
        )
    for name, weight in model.named_parameters():
        if not weight.is_meta and not is_finite(weight.detach()):
            raise ValueError(f"{source}: {name} holds numbers that are not finite: fetch it again.")


def _named_class(source: str | os.PathLike, options: Mapping[str, Any]) -> Any:
    """The model class of diffusers that a `config.json` names; diffusers' own search would take any class."""
    import diffusers

    where = {key: options[key] for key in ("subfolder", "revision") if key in options}
    name = str(diffusers.AutoencoderKL.load_config(source, **where).get("_class_name"))
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.ModelMixin)):
        raise ValueError(
            f"{source} names the class {name[:100]}, which is no model of diffusers: name another folder."
        )
    return found


@contextmanager
def never_asked() -> Iterator[None]:
    """Inside, transformers refuses a repository's own code where it would ask on the terminal.

    For loaders of diffusers, which hand no `trust_remote_code` on to the parts of a pipeline.
    """
    from transformers import dynamic_module_utils

    seconds, dynamic_module_utils.TIME_OUT_REMOTE_CODE = dynamic_module_utils.TIME_OUT_REMOTE_CODE, 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


def recompute_activations(model: Any) -> None:
    """Recompute a transformers model's layers in the backward pass; before 5.24 the method has its old name."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable()
    else:
        model.gradient_checkpointing_enable()


def weights_digest(model: nn.Module) -> str:
    """First 16 hex digits of a SHA-256 over all weights, whatever the file they came from and their names in it."""
    import torch

    hashes = []
    for tensor in model.state_dict().values():
        raw = tensor.detach().cpu().contiguous()
        head = f"{raw.dtype} {tuple(raw.shape)}".encode()
        hashes.append(hashlib.sha256(head + raw.reshape(-1).view(torch.uint8).numpy().tobytes()).digest())
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()[:DIGEST_DIGITS]
