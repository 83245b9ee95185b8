"""What a protocol measures with: encoders, LPIPS, detector and judge, from the disk; what is missing is named once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import typer
from torch import Tensor

from insightedit.chat.rubrics import RUBRICS
from insightedit.evaluation.core.protocol import Model, Protocol

if TYPE_CHECKING:
    from insightedit.chat.clients import ChatClient

NO_JUDGE = (
    "no judge was named: --judge endpoint --judge-model NAME asks a server, --judge local --judge-model FOLDER a model "
    "on this machine, --judge recorded reads earlier replies."
)


class CachedEncoder:
    """An encoder that encodes every picture and text once until it is told to forget.

    Pictures go through it one at a time, so that a feature does not depend on what was asked for before: a resumed
    run gives the same bits.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.name, self.revision = encoder, encoder.name, encoder.revision
        self._known: dict[str, Tensor] = {}

    def image_features(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """See `insightedit.evaluation.metrics.encoders.ImageEncoder`."""
        keys = [
            hashlib.sha256(repr(p.shape).encode() + np.ascontiguousarray(p).tobytes()).hexdigest() for p in pictures
        ]
        found = [self._known_or(key, self.encoder.image_features, p) for key, p in zip(keys, pictures, strict=True)]
        return torch.cat(found)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """See `insightedit.evaluation.metrics.encoders.ImageTextEncoder`."""
        return torch.cat([self._known_or(text, self.encoder.text_features, text) for text in texts])

    def forget(self) -> None:
        """Drop all features."""
        self._known.clear()

    def _known_or(self, key: str, encode: Callable[[list[Any]], Tensor], one: Any) -> Tensor:
        """(1, D) float32."""
        if key not in self._known:
            self._known[key] = encode([one])
        return self._known[key]


@dataclass(frozen=True)
class MetricModels:
    """What was found of a protocol's models."""

    found: Mapping[str, Any] = field(default_factory=dict)  # key -> encoder, LPIPS net, detector, judge ...
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # key -> kind, name, preprocess, revision
    missing: Mapping[str, str] = field(default_factory=dict)  # key -> why it is not there, with what to do

    @property
    def revisions(self) -> dict[str, str]:
        """Key -> which weights; see `Protocol.column_hash`."""
        return {key: f"{one['name']} {one['revision']}" for key, one in self.about.items()}

    def check_all(self) -> None:
        """Refuse to go on without all models: a ValueError names those that are missing, with what to do."""
        if self.missing:
            listed = " ".join(f"({i}) {reason}" for i, reason in enumerate(self.missing.values(), 1))
            raise ValueError(f"--require-all was given, and {len(self.missing)} are missing: {listed}")

    def forget(self) -> None:
        """Drop cached features, between samples."""
        for one in self.found.values():
            if isinstance(one, CachedEncoder):
                one.forget()


def load_metric_models(
    protocol: Protocol,
    bench: str,
    *,
    judge: ChatClient | None = None,
    given: Mapping[str, Any] | None = None,
    weights: Mapping[str, str] | None = None,
    device: str | torch.device = "cpu",
) -> MetricModels:
    """Load what a protocol's columns take on a benchmark.

    Args:
        protocol: whose models.
        bench: name of the benchmark.
        judge: who is asked where the protocol asks one.
        given: key in the protocol -> ready object, instead of loading it.
        weights: name of a model (hub id, or net of LPIPS) -> folder or file that holds it.
        device: where networks compute.

    Raises:
        ValueError: if `weights` names what the protocol does not take, or holds what cannot be loaded.
        FileNotFoundError: if a path of `weights` is not there.
    """
    models = protocol.models_for(bench)
    paths, ready = dict(weights or {}), dict(given or {})
    if unknown := sorted(set(paths) - {model.name for model in models}):
        known = ", ".join(model.name for model in models if model.kind != "judge") or "no weights"
        raise ValueError(f"{', '.join(unknown)}: {protocol.name} takes {known}.")
    found: dict[str, Any] = {}
    about: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for model in models:
        try:
            one = ready.get(model.key) or _load(model, paths.get(model.name), judge, device)
        except (FileNotFoundError, ValueError, RuntimeError, ImportError) as error:
            if model.name in paths:
                raise
            missing[model.key] = f"{model.name}: {' '.join(str(error).split())}"
            continue
        found[model.key] = CachedEncoder(one) if model.kind in ("clip", "dino") else one
        about[model.key] = {"kind": model.kind, "name": model.name, "preprocess": model.preprocess}
        if model.kind == "lpips":
            weighed = sorted((name, value) for name, value in one.identity.items() if name != "net")
            about[model.key]["revision"] = " ".join(f"{name}:{value}" for name, value in weighed)
        elif model.kind == "judge":
            settings = json.dumps(dict(one.settings), sort_keys=True)
            revision = f"{one.name} rubric:{RUBRICS[model.name].hash} {settings}"
            about[model.key] |= {"revision": revision, "judge": one.name}
        else:
            about[model.key]["revision"] = str(one.revision)
    return MetricModels(found, about, missing)


def read_weights(texts: list[str]) -> dict[str, str]:
    """NAME=PATH as a dictionary; a ValueError for another form, a FileNotFoundError for a path that is not there."""
    found = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise ValueError(f"--weights {text}: give NAME=PATH, e.g. openai/clip-vit-base-patch32=models/clip.")
        if not Path(path).exists():
            raise FileNotFoundError(f"--weights {text}: there is no {path}.")
        found[name] = path
    return found


def _load(model: Model, path: str | None, judge: ChatClient | None, device: str | torch.device) -> Any:
    """The thing itself; FileNotFoundError, ValueError, RuntimeError or ImportError if it is not there."""
    from insightedit.evaluation.metrics import encoders, perceptual, subjects

    where, net = path or model.name, cast("Any", model.name)
    if model.kind == "clip":
        return encoders.load_clip(model.name, weights=path, preprocess=model.preprocess, device=device)
    if model.kind == "dino":
        return encoders.load_dino(where, preprocess=model.preprocess, device=device)
    if model.kind == "lpips":
        return perceptual.build_perceptual(net, trunk=None if path is None else Path(path), device=device)
    if model.kind == "detector":
        return subjects.load_detector(where, device=device)
    if model.kind == "segmenter":
        return subjects.load_segmenter(where, device=device)
    if judge is None:
        raise ValueError(NO_JUDGE)
    return judge


@dataclass(frozen=True)
class JudgeOptions:
    """Who is asked, as on the command line."""

    kind: str | None
    model: str | None
    url: str | None
    key_variable: str
    replies: Path
    rate: float | None


@contextmanager
def open_judge(options: JudgeOptions, device: str) -> Iterator[ChatClient | None]:
    """Who is asked, until the end of the run; None if nobody was named. What an endpoint counted is told at the end."""
    if options.kind is None:
        yield None
        return
    if options.model is None:
        raise ValueError(f"--judge {options.kind} needs --judge-model: the name that its replies are kept under.")
    from insightedit.chat import clients as backends
    from insightedit.chat.replies import ReplyStore

    store = ReplyStore(options.replies)
    if options.kind == "recorded":
        try:
            yield backends.RecordedClient(store, options.model)
        except backends.MissingReplyError as error:
            raise ValueError(str(error)) from error
        return
    if options.kind == "local":
        from insightedit.chat.local import LocalClient
        from insightedit.modeling.pretrained import resolve_model_id

        where = resolve_model_id(options.model)
        name = None if where == options.model else options.model  # a miniature keeps the name that it was asked by
        yield backends.RecordingClient(LocalClient(where, name=name, device=device), store)
        return
    asked = backends.EndpointClient(
        options.model,
        base_url=options.url or backends.OPENAI,
        key_variable=options.key_variable or None,
        requests_per_minute=options.rate,
    )
    try:
        yield backends.RecordingClient(asked, store)
    finally:
        asked.close()
        used = asked.used
        typer.echo(
            f"{options.model}: {used['requests']} requests, {used['read']:,} tokens read, {used['written']:,} written"
        )
