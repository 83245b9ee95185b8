"""A model's tokenizer or processor: in the model's own folder or, of a part of a finished model, beside it."""

from __future__ import annotations

from pathlib import Path

PARTS = {
    "processor": "mllm",
    "feature_extractor": "image_encoder",
    "image_processor": "picture_encoder",
    "tokenizer": "text_encoder",
}
"""Folder of a tokenizer or processor in a model folder -> folder of the part that it belongs to."""


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
