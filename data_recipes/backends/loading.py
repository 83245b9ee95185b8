"""What all backends that load weights need: where they run, in which precision, and under which name."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_recipes.backends.base import Usage

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "float16", "bfloat16")


def model_name(model: str, revision: str | None) -> str:
    """Hub id and revision; of a folder its last part, so that manifests are the same on every machine."""
    name = Path(model).name if Path(model).is_dir() else model
    return f"{name}@{revision}" if revision else name


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of the choices.

    Raises:
        ValueError: naming them.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(choices)}.")


def check_above(name: str, value: float | None, limit: float = 0) -> None:
    """Refuse a number that is not above a limit; None is no number and passes.

    Raises:
        ValueError: if it is not.
    """
    if value is not None and not value > limit:
        raise ValueError(f"{name} is {value}: give a number above {limit:g}.")


def place(device: str | None, dtype: str, half: str = "bfloat16") -> tuple[torch.device, torch.dtype]:
    """Device and precision of a model.

    Args:
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: one of `DTYPES`; "auto" is `half` on a GPU and float32 elsewhere.
        half: what "auto" means on a GPU.

    Raises:
        ValueError: if there is no such device.
    """
    import torch

    from insightedit.modeling.devices import find_device

    found = find_device(device)
    chosen = (half if found.type == "cuda" else "float32") if dtype == "auto" else dtype
    return found, getattr(torch, chosen)


def class_named(path: str, default: str) -> Any:
    """A class by its name: `Name` in the package `default`, or `package.module:Name`.

    Raises:
        ValueError: if there is none.
    """
    module, _, name = path.rpartition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # diffusers' automatic classes import all pipelines
            return getattr(import_module(module or default), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be imported ({error}): name a class of {default}, or package.module:Class of an installed "
            "package."
        ) from error


class CountedBackend:
    """What backends share: a name, settings, and the count of what they were used for; threads may share it.

    Args:
        name: see `base.Backend`.
        settings: see `base.Backend`.
        price: per million tokens, read and written; 0 where it is unknown.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], *, price: tuple[float, float] = (0.0, 0.0)) -> None:
        self.name, self.settings = name, dict(settings)
        self._price, self._usage = price, Usage()
        self._lock, self._count_lock = threading.Lock(), threading.Lock()

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._usage

    def count(self, **more: float) -> None:
        """Add to the fields of `Usage`; the cost follows from the tokens."""
        tokens = more.get("input_tokens", 0), more.get("output_tokens", 0)
        more["cost"] = sum(number * price for number, price in zip(tokens, self._price, strict=True)) / 1e6
        with self._count_lock:
            self._usage = replace(self._usage, **{k: getattr(self._usage, k) + v for k, v in more.items()})

    @contextmanager
    def timed(self, calls: int, *, is_alone: bool = True) -> Iterator[None]:
        """Count the seconds inside, and the calls once they are answered.

        Args:
            calls: questions.
            is_alone: whether other threads wait until this is done, as models on this machine need it.
        """
        start = time.monotonic()
        try:
            with self._lock if is_alone else nullcontext():
                yield
            self.count(calls=calls)
        finally:
            self.count(seconds=time.monotonic() - start)
