"""Secrets stay in the environment: they are in nothing that is written, and no foreign file may ask for them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8  # characters; what is shorter could stand anywhere by chance


def without_secrets(held: Any) -> Any:
    """Settings with the variable's name in place of its value, wherever the value of a secret stands.

    Args:
        held: dicts, lists, texts and numbers, nested.

    Returns:
        A copy in which a text that holds the value of an environment variable whose name matches `NAMES` holds
        `${oc.env:NAME}` there.
    """
    variables = sorted(os.environ.items())
    return _hidden(held, {value: name for name, value in variables if NAMES.search(name) and len(value) >= SHORTEST})


def _hidden(held: Any, secrets: dict[str, str]) -> Any:
    if isinstance(held, dict):
        return {key: _hidden(value, secrets) for key, value in held.items()}
    if isinstance(held, list | tuple):
        return type(held)(_hidden(value, secrets) for value in held)
    if isinstance(held, str):
        for value, name in secrets.items():
            held = held.replace(value, f"${{oc.env:{name}}}")
    return held


def read_plain_yaml(path: str | Path) -> Any:
    """The settings of a file that may come from elsewhere, in which `${...}` would be filled from the environment here.

    Args:
        path: YAML that a program wrote, such as a run's `config.yaml`.

    Returns:
        The config, as OmegaConf loads it.

    Raises:
        ValueError: if a value asks to be filled in, or the file is not UTF-8.
        OSError, yaml.YAMLError: as in reading.
    """
    from omegaconf import OmegaConf

    found = re.search(r"\\*\$\{[^}\n]{0,80}\}?", Path(path).read_text(encoding="utf-8"))
    if found:
        raise ValueError(
            f"{path} holds {found[0]}, to be filled in where it is read: a run writes plain values, so write the value "
            "there yourself if you know whose file it is."
        )
    return OmegaConf.load(path)
