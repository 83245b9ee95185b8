"""Checkpoint files of other projects -> tensors by name. Nothing in them is ever executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_NESTING = 8
_NESTED = "{path} nests its groups of tensors in each other without end: no file of weights does. Fetch it again."
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """One file, read."""

    path: Path
    tensors: dict[str, Tensor]  # on the CPU; mapped from the file where its format allows, so not yet in memory


def source_files(source: Path) -> list[Path]:
    """All files below a source that a checkpoint may be in."""
    if not source.exists():
        raise FileNotFoundError(f"No checkpoint at {source}: give the folder or file that was published.")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix in ENDINGS)
    if not files:
        raise FileNotFoundError(
            f"{source} holds no file ending in {', '.join(ENDINGS)}: give the folder that was published."
        )
    return files


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of tensors.

    Pickles are read by `torch.load(weights_only=True)`, which builds tensors and plain containers and refuses
    everything else. A dictionary under `state_dict`, `model` or `module` alone or beside training state is taken in
    place of the whole; further nesting becomes dots (`{"image_proj": {"proj.weight": ...}}`).
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file {path}: name the file or folder as it was published.")
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}: a checkpoint ends in {', '.join(ENDINGS)}.")
    held = _load(path)
    if not isinstance(held, dict):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, not tensors by name: name the file that holds the weights."
        )
    for _ in range(MAX_NESTING):  # to the weights inside a training file with optimiser, counters and settings
        inner = [held[name] for name in ("state_dict", "module", "model") if isinstance(held.get(name), dict)]
        if not inner:
            break
        held = inner[0]
    else:
        raise ValueError(_NESTED.format(path=path))
    tensors = _flatten(path, held)
    if not tensors:
        raise ValueError(f"{path} holds no tensors: name the file that holds the weights.")
    return Checkpoint(path, tensors)


def _load(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # files from before torch 1.6 cannot be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by another protocol; what cannot be read is told below
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no file of weights alone: it asks for code to be run, or is damaged. Nothing in it was run. "
            "Fetch it again from its authors, or ask them for safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read: it is cut off or damaged. Compare its size with the published one and fetch it "
            "again."
        ) from error


def _flatten(path: Path, held: dict[Any, Any]) -> dict[str, Tensor]:
    """Nested groups of tensors -> tensors by their dotted names."""
    tensors: dict[str, Tensor] = {}
    groups, seen = [("", held, 0)], set()
    while groups:
        prefix, group, depth = groups.pop()
        if id(group) in seen or depth > MAX_NESTING:  # a group within itself, or one that stands for very many
            raise ValueError(_NESTED.format(path=path))
        seen.add(id(group))
        for key, value in group.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                groups.append((f"{name}.", value, depth + 1))
                continue
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"{path}: {name} is a {type(value).__name__}, not a tensor: this is no file of weights as it was "
                    "published. Fetch it again."
                )
            # all its values have to lie in the file: not one value seen as very many
            is_plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
            if not is_plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(
                    f"{path}: {name} is no plain tensor (sparse, quantised, or larger than what the file holds): this "
                    "is no file of weights as it was published. Fetch it again."
                )
            tensors[name] = value.detach()
    return tensors
