"""Config entries -> backends."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from insightedit.console import did_you_mean

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
        "statistics": "data_recipes.backends.harmonise:StatisticsHarmoniser",
    },
    "summariser": {"seq2seq": "data_recipes.backends.summarise:Seq2SeqSummariser", **_CHATS},
}


def load_backend(name: str, entry: Mapping[str, Any]) -> Any:
    """A backend from its entry in the config's section `backends`; heavy libraries load with the first call only.

    `kind` is one of `KINDS` or `package.module:Class` of your own; all else are arguments of its class.

    Raises:
        ValueError: if there is no such backend, kind or argument; it names the nearest.
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
    """The class of a kind of backend, or the one that `package.module:Class` names.

    Raises:
        ValueError: if there is none.
    """
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
