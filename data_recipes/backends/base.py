"""What recipes ask of models: pictures are (H, W, 3) uint8 RGB arrays, masks (H, W) bool, boxes pixels xyxy.

| backends | method | B things -> B answers, so that a model can batch |
| --- | --- | --- |
| chat, judge, summariser | `answer(questions)` | `Question`s -> texts; "" where there is none |
| detector | `detect(pictures, phrases, truths)` | for each the phrases to look for -> `Detection`s, best first |
| segmenter | `segment(pictures, boxes, truths)` | for each K boxes -> lists of K masks |
| inpainter | `paint(requests)` | `InpaintRequest`s -> pictures of the same sizes, unchanged outside the masks |
| harmoniser | `harmonise(requests)` | `CompositeRequest`s -> the same |

All have a `name` (of the model, for manifests: hub id and revision, or "oracle"), `settings` (what else decides about
the answers, ready for JSON) and their `usage` so far. `truths` are the records' `truth`, one for each picture: real
models ignore them; an oracle, which draws or knows the scene, reads nothing else. A backend is loaded from a config
entry, `backends.NAME: {kind: KIND, ...}`: see `load_backend`.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from insightedit.console import did_you_mean

if TYPE_CHECKING:
    import torch

Truth = Mapping[str, Any]
DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Question:
    """One question to a language model that may see pictures."""

    prompt: str
    pictures: tuple[np.ndarray, ...] = ()  # in the order in which the prompt speaks of them
    task: str = ""  # what the answer is for, e.g. "caption", "objects", "sc": an oracle answers by it
    about: Mapping[str, Any] = field(default_factory=dict)  # what the prompt was made of, for JSON; an oracle reads it
    truth: Truth = field(default_factory=dict)
    attempt: int = 0  # which attempt after an unusable answer, from 0


@dataclass(frozen=True)
class Usage:
    """What was used so far."""

    calls: int = 0  # questions that were answered, from the store or anew
    asked: int = 0  # of those, questions that a model answered anew
    input_tokens: int = 0  # of the new answers; 0 where nobody counts
    output_tokens: int = 0
    cost: float = 0.0  # of the new answers in the config's currency; 0.0 where no price is set
    seconds: float = 0.0  # that were spent waiting for answers


@dataclass(frozen=True)
class InpaintRequest:
    """What to paint where: a picture, and the mask of what may change."""

    picture: np.ndarray
    mask: np.ndarray
    prompt: str = ""  # what shall be seen there; "" = what would be behind it (removal)
    negative_prompt: str = ""
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # e.g. {"class_origin": "dog"}; an oracle reads it


@dataclass(frozen=True)
class CompositeRequest:
    """Something pasted into a picture that shall look as if it belonged there (SmartEdit's fourth picture)."""

    picture: np.ndarray  # with the thing pasted in
    mask: np.ndarray  # the thing's pixels
    background: np.ndarray  # the picture without it
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(choices)}.")


def check_above(name: str, value: float | None, limit: float = 0) -> None:
    """Refuse a number that is not above a limit; None is no number and passes."""
    if value is not None and not value > limit:
        raise ValueError(f"{name} is {value}: give a number above {limit:g}.")


def class_named(path: str, default: str) -> Any:
    """A class by its name: `Name` in the package `default`, or `package.module:Name`."""
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
    """What backends share: a name, settings, and the count of what they were used for; threads may share it."""

    def __init__(self, name: str, settings: Mapping[str, Any], *, price: tuple[float, float] = (0.0, 0.0)) -> None:
        self.name, self.settings = name, dict(settings)
        self._price, self.usage = price, Usage()  # the price of a million tokens, read and written
        self._lock, self._count_lock = threading.Lock(), threading.Lock()

    def count(self, **more: float) -> None:
        """Add to the fields of `Usage`; the cost follows from the tokens."""
        tokens = more.get("input_tokens", 0), more.get("output_tokens", 0)
        more["cost"] = sum(number * price for number, price in zip(tokens, self._price, strict=True)) / 1e6
        with self._count_lock:
            self.usage = replace(self.usage, **{k: getattr(self.usage, k) + v for k, v in more.items()})

    @contextmanager
    def timed(self, calls: int, *, is_alone: bool = True) -> Iterator[None]:
        """Count the seconds inside, and the calls once they are answered; `is_alone`: other threads wait meanwhile."""
        start = time.monotonic()
        try:
            with self._lock if is_alone else nullcontext():
                yield
            self.count(calls=calls)
        finally:
            self.count(seconds=time.monotonic() - start)


@dataclass(eq=False)
class LocalModel(CountedBackend):
    """A model on this machine, whose weights are loaded with its first call; settings out of range are refused."""

    model: str  # hub id or folder
    _: KW_ONLY
    revision: str | None = None  # of the hub's repository
    device: str | None = None  # "cpu", "cuda", "cuda:1"; None for a GPU if there is one
    dtype: str = "auto"  # of the weights; "auto" is `half` on a GPU and float32 elsewhere

    half: ClassVar[str] = "bfloat16"
    deciding: ClassVar[tuple[str, ...]] = ("dtype",)  # settings that decide about the answers
    positive: ClassVar[tuple[str, ...]] = ("batch_size",)

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        for name in self.positive:
            check_above(name, getattr(self, name))
        # of a folder the last part, so that manifests are the same on every machine
        name = Path(self.model).name if Path(self.model).is_dir() else self.model
        settings = {name: getattr(self, name) for name in self.deciding}
        super().__init__(f"{name}@{self.revision}" if self.revision else name, settings)

    def place(self) -> tuple[torch.device, torch.dtype]:
        """Device and precision; a device that is not there is refused."""
        import torch

        from insightedit.modeling.devices import find_device

        found = find_device(self.device)
        chosen = (self.half if found.type == "cuda" else "float32") if self.dtype == "auto" else self.dtype
        return found, getattr(torch, chosen)


_CHATS = {
    "transformers": "data_recipes.backends.chat:LocalChat",
    "endpoint": "data_recipes.backends.chat:EndpointChat",
    "oracle": "data_recipes.oracle.chat:OracleChat",
}
KINDS: dict[str, dict[str, str]] = {
    "chat": _CHATS,
    "judge": {**_CHATS, "oracle": "data_recipes.oracle.judge:OracleJudge"},
    "detector": {
        "grounding_dino": "data_recipes.backends.vision:GroundingDino",
        "oracle": "data_recipes.oracle.vision:OracleDetector",
    },
    "segmenter": {
        "sam": "data_recipes.backends.vision:Sam",
        "sam2": "data_recipes.backends.vision:Sam2",
        "oracle": "data_recipes.oracle.vision:OracleSegmenter",
    },
    "inpainter": {
        "diffusers": "data_recipes.backends.inpaint:DiffusersInpainter",
        "oracle": "data_recipes.oracle.vision:OracleInpainter",
    },
    "harmoniser": {
        "diffusers": "data_recipes.backends.inpaint:DiffusersHarmoniser",
        "statistics": "data_recipes.backends.inpaint:StatisticsHarmoniser",
    },
    "summariser": {"seq2seq": "data_recipes.backends.chat:Seq2SeqSummariser", **_CHATS},
}


def load_backend(name: str, entry: Mapping[str, Any]) -> Any:
    """A backend from its entry in the config's section `backends`; heavy libraries load with the first call only.

    `kind` is one of `KINDS` or `package.module:Class` of your own; all else are arguments of its class. Whatever is not
    known is refused with the nearest name.
    """
    if name not in KINDS:
        raise ValueError(f"backends.{name}: no step asks for one; {did_you_mean(name, KINDS)}")
    given = dict(entry)
    kind = str(given.pop("kind", None))
    made = backend_class(name, kind)
    known = [key for key in inspect.signature(made).parameters if key != "self"]
    for key in given:
        if key not in known:
            raise ValueError(f"backends.{name}.{key}: the kind {kind} has no such setting; {did_you_mean(key, known)}")
    return made(**given)


def backend_class(name: str, kind: str) -> Any:
    """The class of a kind of backend, or the one that `package.module:Class` names."""
    place = KINDS[name].get(kind, kind)
    if ":" not in place:
        raise ValueError(f"backends.{name}.kind is {kind!r}: {did_you_mean(kind, KINDS[name])}")
    module, _, attribute = place.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"backends.{name}.kind is {kind!r}, which cannot be imported: {error}.") from error
    if not inspect.isclass(found) or module.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"backends.{name}.kind is {kind!r}, which is no backend: {did_you_mean(kind, KINDS[name])}")
    return found
