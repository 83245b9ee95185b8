"""Checkpoint files of other projects -> tensors by name. Nothing in them is ever executed."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """One file, read.

    Attributes:
        path: the file.
        tensors: its tensors by name, on the CPU; mapped from the file where its format allows, so not yet in memory.
    """

    path: Path
    tensors: dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of tensors.

    Pickles are read by `torch.load(weights_only=True)`, which builds tensors and plain containers and refuses
    everything else. A dictionary under `state_dict`, `model` or `module` alone or beside training state is taken in
    place of the whole; further nesting becomes dots (`{"image_proj": {"proj.weight": ...}}`).

    Args:
        path: file with one of `ENDINGS`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another ending, is damaged, holds code, or holds other values than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file {path}: name the file or folder as it was published.")
    if path.suffix not in ENDINGS:
        raise ValueError(
            f"{path} ends in {path.suffix or 'nothing'}: a checkpoint ends in {', '.join(ENDINGS)}."
        )
    held = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    tensors = _flatten(path, _weights_in(held))
    if not tensors:
        raise ValueError(f"{path} holds no tensors: name the file that holds the weights.")
    return Checkpoint(path, tensors)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(_damaged(path)) from error


def _read_pickle(path: Path) -> dict[str, Any]:
    mapped = zipfile.is_zipfile(path)  # files from before torch 1.6 cannot be mapped
    try:
        held = torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no file of weights alone: it asks for code to be run, or is damaged. Nothing in it was run. "
            "Fetch it again from its authors, or ask them for safetensors."
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(_damaged(path)) from error
    if not isinstance(held, dict):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, not tensors by name: name the file that holds the weights."
        )
    return held


def _damaged(path: Path) -> str:
    return (
        f"{path} cannot be read: it is cut off or damaged. Compare its size with the published one and fetch it "
        "again."
    )


def _weights_in(held: dict[str, Any]) -> dict[str, Any]:
    """Inside of a training file: the weights without optimiser, counters and settings."""
    for name in ("state_dict", "module", "model"):
        if isinstance(held.get(name), dict):
            return _weights_in(held[name])
    return held


def _flatten(path: Path, held: dict[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in held.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            tensors |= _flatten(path, value, f"{name}.")
        elif isinstance(value, Tensor):
            tensors[name] = value.detach()
        else:
            raise ValueError(
                f"{path}: {name} is a {type(value).__name__}, not a tensor: this is no file of weights as it was "
                "published. Fetch it again."
            )
    return tensors
