"""What a model's name in the settings stands for: a folder, a hub id, or a miniature that is built or trained here."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

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
    """Turn a miniature's id (`miniature:SIZE/PART`) into a folder; a folder or a hub id stays as it is.

    Raises:
        ValueError: if there is no such miniature.
        FileNotFoundError: if it was not trained here yet; the message names the command.
    """
    model_id = current_id(model_id)
    if not model_id.startswith(PREFIX):
        return model_id
    # by name: what builds the miniatures stands above this module
    return importlib.import_module("insightedit.miniatures.folders").find_miniature(model_id)


def processor_path(model: str, name: str) -> str:
    """Folder or hub id that a model's tokenizer or processor is loaded from.

    Args:
        model: folder or hub id of the model itself.
        name: key of `PARTS`.

    Returns:
        The folder `name` beside the model, if that is a part of a finished model or of a diffusers pipeline; else the
        model itself.
    """
    folder = Path(model)
    beside = folder.with_name(name) if folder.name else folder
    return str(beside) if folder.name == PARTS[name] and beside.is_dir() else model
