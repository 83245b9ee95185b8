"""What all backends that load weights need: where they run, in which precision, and under which name."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_recipes.backends.base import Usage
from insightedit.modeling.pretrained import load_pretrained

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


class UsageCounter:
    """Counts what a backend was used for; its threads may share it.

    Args:
        price_input: per million tokens read; None if unknown.
        price_output: per million tokens written; None if unknown.
    """

    def __init__(self, price_input: float | None = None, price_output: float | None = None) -> None:
        self._price = (price_input or 0.0, price_output or 0.0)
        self._usage, self._lock = Usage(), threading.Lock()

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._usage

    def add(self, *, calls: int = 0, asked: int = 0, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Count more."""
        cost = (input_tokens * self._price[0] + output_tokens * self._price[1]) / 1e6
        with self._lock:
            old = self._usage
            self._usage = replace(
                old,
                calls=old.calls + calls,
                asked=old.asked + asked,
                input_tokens=old.input_tokens + input_tokens,
                output_tokens=old.output_tokens + output_tokens,
                cost=old.cost + cost,
            )

    @contextmanager
    def timed(self, calls: int) -> Iterator[None]:
        """Count the seconds inside, and the calls once they are answered."""
        start = time.monotonic()
        try:
            yield
            self.add(calls=calls)
        finally:
            with self._lock:
                self._usage = replace(self._usage, seconds=self._usage.seconds + time.monotonic() - start)


class VisionModel:
    """What backends share that show pictures to a model of transformers; it is loaded with the first call.

    Args:
        model: hub id or folder.
        revision: of the hub's repository.
        device: see `place`.
        dtype: of the weights; "auto" is float32.
        batch_size: pictures at a time.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, model: str, revision: str | None, device: str | None, dtype: str, batch_size: int) -> None:
        check_choice("dtype", dtype, DTYPES)
        check_above("batch_size", batch_size)
        self.name = model_name(model, revision)
        self.settings: dict[str, Any] = {"dtype": dtype}
        self._model_id, self._revision, self._device = model, revision, device
        self._batch_size, self._counter, self._lock = batch_size, UsageCounter(), threading.Lock()
        self._processor: Any = None
        self._model: Any = None

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._counter.usage

    def _place(self, model_class: Any, processor_class: Any) -> None:
        device, dtype = place(self._device, self.settings["dtype"], half="float32")
        self._processor = load_pretrained(processor_class, self._model_id, revision=self._revision)
        loaded = load_pretrained(model_class, self._model_id, revision=self._revision, dtype=dtype)
        self._model = loaded.requires_grad_(False).eval().to(device)
