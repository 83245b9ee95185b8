"""What a model's name in the settings stands for: a folder, a hub id, or a miniature that is built or trained here."""

from __future__ import annotations

import importlib
from typing import Any

PREFIX = "miniature:"
OLD_PREFIX = "foundation:"  # in the configs of saved runs and the cards of saved models


def current_id(model_id: Any) -> Any:
    """A miniature's id as it is spelled now; whatever else is given stays as it is."""
    is_old = isinstance(model_id, str) and model_id.startswith(OLD_PREFIX)
    return PREFIX + model_id.removeprefix(OLD_PREFIX) if is_old else model_id


def resolve_model_id(model_id: str) -> str:
    """Turn a miniature's id into a folder; every other id stays as it is.

    Args:
        model_id: `miniature:SIZE/PART`, see `insightedit.miniatures.folders`; a folder, or a hub id.

    Raises:
        ValueError: if there is no such miniature.
        FileNotFoundError: if it was not trained here yet; the message names the command.
    """
    model_id = current_id(model_id)
    if not model_id.startswith(PREFIX):
        return model_id
    # by name: what builds the miniatures stands above this module
    return importlib.import_module("insightedit.miniatures.folders").find_miniature(model_id)
