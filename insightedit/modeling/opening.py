"""Base models that a config names are opened; what cannot be opened is told by its key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from insightedit.config.load import ConfigError
from insightedit.modeling.model_ids import resolve_model_id
from insightedit.modeling.pretrained import load_pretrained
from insightedit.modeling.processor_path import processor_path

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor


@contextmanager
def open_base_model(key: str, model: str, what: str) -> Iterator[str]:
    """Load a base model inside this block.

    Args:
        key: setting that names it.
        model: its value: folder, hub id, or a miniature's id.
        what: what it should be, for the message.

    Yields:
        Folder or hub id, for `from_pretrained`.

    Raises:
        ConfigError: if loading fails, with the first line of the reason.
        FileNotFoundError: if a miniature was not trained; says how to.
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
    """What makes pictures ready for an image encoder.

    Args:
        model: folder or hub id of the encoder.
    """
    from transformers import CLIPImageProcessor

    with open_base_model("generation.image_encoder", model, "a CLIP model with its image processor") as folder:
        return load_pretrained(CLIPImageProcessor, processor_path(folder, "feature_extractor"))
