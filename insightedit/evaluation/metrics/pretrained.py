"""Published weights from the disk, never from the network.

What is not there is a FileNotFoundError that names the command which fetches it; another kind of model, weights that
would be random numbers, and a tokenizer without words are a ValueError.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from insightedit.hub.network import HUB_ID
from insightedit.modeling.model_files import check_no_code
from insightedit.modeling.pretrained import check_loaded

Source = str | os.PathLike  # a folder, or a hub id whose files lie in the cache
Device = str | torch.device  # where it computes


def load_model(cls: Any, source: Source, *, device: Device = "cpu", **options: Any) -> Any:
    """A model of transformers, `cls` e.g. `transformers.CLIPModel`, in float32, ready, and without a random weight."""
    where = {"local_files_only": True}
    kind = cls.config_class.model_type
    found = read(cls.config_class.get_config_dict, source, **where)[0].get("model_type")
    if found is None:
        raise FileNotFoundError(f"{source} is not a complete model folder (no config.json): download it again.")
    if found != kind:
        raise ValueError(f"{source} holds a model of type {found!r}, not {kind!r}: name another one.")
    try:
        model, report = read(
            cls.from_pretrained, source, dtype=torch.float32, output_loading_info=True, **where, **options
        )
    except RuntimeError as error:
        raise ValueError(
            f"{source} does not fit a {cls.__name__} ({first_line(error)}): download it again."
        ) from error
    check_loaded(model, report, source)
    return model.to(device).eval()


def read(from_pretrained: Any, source: Source, **options: Any) -> Any:
    """What a class's `from_pretrained(source, local_files_only=True)` gives, with one sentence instead of its error."""
    name = os.fspath(source)
    try:
        check_no_code(Path(name))
        found = from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:  # a tokenizer without files is a ValueError
        if os.path.isdir(name):
            said = f"{name} is not a complete model folder ({first_line(error)}): download it again."
        elif HUB_ID.fullmatch(name):
            said = (
                f"{name} is neither a folder nor in the Hugging Face cache: `hf download {name}` fetches it once, or "
                "name the folder that holds it."
            )
        else:
            said = f"No folder at {name}: name a model folder, or the hub id of a model that was downloaded."
        raise FileNotFoundError(said) from error
    tokenizer = getattr(found, "tokenizer", found)  # where a folder has none, transformers makes one, silently
    if hasattr(tokenizer, "all_special_ids") and len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError(
            f"{source} holds no tokenizer: download it again, with tokenizer.json or the files of its vocabulary."
        )
    return found


def first_line(error: Exception) -> str:
    """What an error says first, to be put in brackets."""
    return str(error).strip().split("\n")[0].rstrip(".:")
