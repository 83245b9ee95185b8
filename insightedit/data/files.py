"""Reading what others publish: files that must be there, JSON that must be of a shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from insightedit.config.load import ConfigError


def only_file(path: Path, patterns: tuple[str, ...], kind: str) -> Path:
    """A file itself, or the only one of its kind in a folder.

    Args:
        path: file or folder, as the user gave it.
        patterns: names to look for, e.g. `("*.json",)`.
        kind: name of the source, for messages.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    if path.is_file():
        return path
    found = sorted({file for pattern in patterns for file in path.glob(pattern)})
    wanted = " or ".join(patterns)
    if not found:
        raise ConfigError(f"data.sources: {path} holds no {wanted}: kind `{kind}` needs one; check the path.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(f"data.sources: {path} holds {names}: let `path` name the one that is meant.")
    return found[0]


def folder(path: str | Path | None, kind: str, what: str) -> Path:
    """A folder that has to be there.

    Raises:
        ConfigError: if it is not given, or is no folder.
    """
    if path is None:
        raise ConfigError(f"data.sources: kind `{kind}` needs {what}: give its folder.")
    if not Path(path).is_dir():
        raise ConfigError(f"data.sources: {path} is no folder: kind `{kind}` looks there for {what}.")
    return Path(path)


def read_json(path: Path, wanted: type, kind: str, shape: str) -> Any:
    """A JSON file whose outermost value is of a type.

    Raises:
        ConfigError: if it cannot be read as JSON, or holds another type.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"data.sources: {path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, wanted) or not values:
        raise ConfigError(
            f"data.sources: {path} holds {'an empty ' if not values else 'a '}{type(values).__name__}: kind "
            f"`{kind}` reads {shape}."
        )
    return values
