"""Secrets stay in the environment: they are in nothing that is written, and no foreign file may ask for them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8  # characters; what is shorter could stand anywhere by chance


def without_secrets(held: Any) -> Any:
    """A copy of nested settings in which the value of a variable whose name matches `NAMES` is `${oc.env:NAME}`."""
    variables = sorted(os.environ.items())
    secrets = {value: name for name, value in variables if NAMES.search(name) and len(value) >= SHORTEST}

    def hide(text: str) -> str:
        for value, name in secrets.items():
            text = text.replace(value, f"${{oc.env:{name}}}")
        return text

    return map_texts(held, hide)


def map_texts(held: Any, change: Callable[[str], str]) -> Any:
    """A copy of nested dicts, lists and tuples in which every text but the keys is changed."""
    if isinstance(held, dict):
        return {key: map_texts(value, change) for key, value in held.items()}
    if isinstance(held, list | tuple):
        return type(held)(map_texts(value, change) for value in held)
    return change(held) if isinstance(held, str) else held


def read_plain_yaml(path: str | Path) -> Any:
    """A YAML file's settings that may come from elsewhere; a ValueError if `${...}` would be filled from here."""
    from omegaconf import OmegaConf

    found = re.search(r"\\*\$\{[^}\n]{0,80}\}?", Path(path).read_text(encoding="utf-8"))
    if found:
        raise ValueError(
            f"{path} holds {found[0]}, to be filled in where it is read: a run writes plain values, so write the value "
            "there yourself if you know whose file it is."
        )
    return OmegaConf.load(path)
