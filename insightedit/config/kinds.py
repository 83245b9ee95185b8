"""Which part stands in a box of the figure: `kind:` in the settings -> its settings' dataclass and its class.

Two sections have kinds, `comprehension` and `generation.denoiser`. Each kind has settings of its own; a file that goes
with several (an overlay) writes them below the kind's name, where they count for that kind alone:

    comprehension:
      llava: {num_edit_tokens: 4}
      blip2_t5: {max_length: 96}

A kind of your own is `MODULE:CLASS`; the class derives from `Comprehension` or `Denoiser`, and its `settings` is a
dataclass that derives from `ComprehensionConfig` or `DenoiserConfig`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from insightedit.config.schema import (
    Blip2T5Config,
    ComprehensionConfig,
    DenoiserConfig,
    LlavaConfig,
    PixArtConfig,
    UNetConfig,
)

# section -> what its kinds' settings derive from, and the kinds: name -> (settings, MODULE:CLASS)
BASES: dict[str, type] = {"comprehension": ComprehensionConfig, "generation.denoiser": DenoiserConfig}
KINDS: dict[str, dict[str, tuple[type, str]]] = {
    "comprehension": {
        "llava": (LlavaConfig, "insightedit.comprehension.llava:LlavaComprehension"),
        "blip2_t5": (Blip2T5Config, "insightedit.comprehension.blip2_t5:Blip2T5Comprehension"),
    },
    "generation.denoiser": {
        "unet": (UNetConfig, "insightedit.generation.unet:EditUNet"),
        "pixart": (PixArtConfig, "insightedit.generation.transformer:EditTransformer"),
    },
}
DEFAULTS = {"comprehension": "llava", "generation.denoiser": "unet"}
RENAMED = {
    "comprehension.reader": "comprehension",
    "generation.transformer": "generation.denoiser",
    "generation.unet": "generation.denoiser.model",
}
"""Keys of version 0.1 -> theirs now; read for one version."""


def settings_class(section: str, kind: Any) -> type:
    """The dataclass of the settings of a kind (a name in `KINDS[section]`, or `MODULE:CLASS`).

    Raises:
        ValueError: if there is no such kind; says which there are.
    """
    if kind in KINDS[section]:
        return KINDS[section][kind][0]
    found = getattr(part_class(section, kind), "settings", None)
    if not (isinstance(found, type) and issubclass(found, BASES[section])):
        raise ValueError(f"{kind} has no `settings`, a dataclass that derives from {BASES[section].__name__}.")
    return found


def part_class(section: str, kind: Any) -> Any:
    """The class of a kind, imported; arguments and errors as `settings_class`."""
    place = KINDS[section][kind][1] if kind in KINDS[section] else kind
    module, colon, name = str(place).partition(":")
    if not colon:
        raise ValueError(f"no such kind: one of {', '.join(KINDS[section])}, or MODULE:CLASS of your own.")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind} cannot be imported ({error}): write MODULE:CLASS of an installed module.") from error


def current_key(key: str) -> str:
    """A dotted key as it is spelled now."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def current_settings(values: Mapping[Any, Any], *, is_overlay: bool = False) -> dict[Any, Any]:
    """Settings of version 0.1, where filling a section chose its part, as they are written now; others as they are.

    The section's settings move below the name of its kind; in an overlay, which chooses nothing, that is all.
    """
    new = dict(values)
    comprehension, generation = new.get("comprehension"), new.get("generation")
    if isinstance(comprehension, Mapping) and "reader" in comprehension:
        new["comprehension"] = comprehension = dict(comprehension)
        reader = comprehension.pop("reader")
        if isinstance(reader, Mapping):
            llava = {key: comprehension.pop(key) for key in list(comprehension)} if not is_overlay else {}
            comprehension |= {"blip2_t5": reader} | ({} if is_overlay else {"kind": "blip2_t5", "llava": llava})
    if isinstance(generation, Mapping) and {"unet", "transformer"} & generation.keys():
        new["generation"] = generation = dict(generation)
        unet, transformer = generation.pop("unet", None), generation.pop("transformer", None)
        denoiser = dict(generation.get("denoiser") or {}) | {"unet": {"model": unet}}
        if isinstance(transformer, Mapping):
            denoiser |= {"pixart": transformer} | ({} if is_overlay else {"kind": "pixart"})
        generation["denoiser"] = denoiser
    return new


def chosen_kinds(layers: Sequence[Mapping[Any, Any]], words: Sequence[str] = ()) -> dict[str, str]:
    """Section -> the kind that the last of some layers names, or the last `key=value` of the command line."""
    kinds = dict(DEFAULTS)
    for section in kinds:
        for values in layers:
            kinds[section] = section_of(values, section).get("kind", kinds[section])
        for word in words:
            key, equals, value = word.partition("=")
            if equals and key.strip() in (f"{section}.kind", f"{section.rpartition('.')[2]}.kind"):
                kinds[section] = value.strip()
    return kinds


def section_of(values: Mapping[Any, Any], section: str) -> Mapping[Any, Any]:
    """What a layer says below a dotted section; nothing where it is not there."""
    node: Any = values
    for name in section.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def by_kind(section: str, values: Mapping[Any, Any], in_force: str) -> dict[str, dict[Any, Any]]:
    """What a layer says of a section, by kind; settings without a kind's name are those of the kind `in_force`."""
    below = {
        name: values[name]
        for name, (settings, _) in KINDS[section].items()
        if isinstance(values.get(name), Mapping) and name not in settings.__dataclass_fields__
    }
    plain = {key: value for key, value in values.items() if key not in below and key != "kind"}
    return {**below, in_force: {**plain, **below.get(in_force, {})}}


def put_section(values: Mapping[Any, Any], section: str, found: Mapping[Any, Any]) -> dict[Any, Any]:
    """A layer with another dotted section."""
    name, _, inner = section.partition(".")
    return {**values, name: put_section(values[name], inner, found) if inner else found}


def saved_settings(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The settings of a run folder's `config.yaml`, of this version or of 0.1, as this version would write them."""
    values = current_settings(values)
    for section, kind in chosen_kinds([values]).items():
        if found := section_of(values, section):
            values = put_section(values, section, {"kind": kind, **by_kind(section, found, kind)[kind]})
    return values
