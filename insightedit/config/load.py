"""YAML files and the command line -> one `Config`.

Later layers win: schema < recipe < stage < overlays, in their order < `key=value`. A recipe or an overlay may
hold a section `stage1:`, `stage2:` or `stage3:`; it counts for that stage only, right after the file it stands in
(a recipe's after the stage's file, which is more general than it).

An overlay says how large parts are, not which parts there are: its settings for a section that is `null` so far (a
recipe without `bridge.iaa`) are left out. `key=value` on the command line switches a section on again.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from insightedit.config.ranges import range_faults
from insightedit.config.schema import Config
from insightedit.config.synonyms import SYNONYMS

STAGE_SECTION = re.compile(r"stage[0-9]+")
COMMAND_LINE = "command line"


class ConfigError(ValueError):
    """What is wrong with the settings: every fault at once, each with its key, its file and what to do.

    Attributes:
        faults: one sentence or two per fault.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        many = f"{len(faults)} faults in the settings:\n" + "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(many if len(faults) > 1 else "".join(faults))


@dataclass(frozen=True)
class _Layer:
    """Settings of one origin: a file, a stage's section of it, or one word of the command line."""

    values: dict[str, Any]
    origin: str
    is_overlay: bool = False


def load_config(
    recipe: str | Path,
    stage: int | str | Path | None = None,
    overlays: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> Config:
    """Merge all layers, check every value against the schema, and hand out plain dataclasses.

    Args:
        recipe: name of a file in `configs/recipes`, or the path of a YAML file.
        stage: 1, 2, 3, a name in `configs/stages`, or the path of a YAML file; None = no stage's settings.
        overlays: names in `configs/overlays` or paths of YAML files, later ones win.
        overrides: `key=value`; a key may leave out its first parts where the rest is unique
            (`max_steps=2` for `train.max_steps=2`).

    Returns:
        The whole config, interpolations resolved.

    Raises:
        ConfigError: with every fault found.
    """
    faults: list[str] = []
    layers = _file_layers(recipe, stage, overlays, faults)
    merged = OmegaConf.structured(Config)
    for layer in layers:
        merged = _merge(merged, layer, faults)
    for word in overrides:
        merged = _override(merged, word, faults)
    if faults:
        raise ConfigError(*faults)
    config = _to_dataclasses(merged)
    if faults := range_faults(config):
        raise ConfigError(*faults)
    if stage is not None and config.stage.number not in config.stages:
        known = ", ".join(map(str, config.stages))
        raise ConfigError(
            f"the recipe {config.recipe} has the stages {known}; stage {config.stage.number} is not one of them."
        )
    return config


def dump_config(config: Config, path: str | Path) -> None:
    """Write a whole config as YAML; `load_config(path)` reads the same config back."""
    Path(path).write_text(yaml.safe_dump(asdict(config), sort_keys=False), encoding="utf-8")


def config_root() -> Path:
    """The folder `configs/`: inside the package where it is installed, beside it in a checkout.

    Raises:
        FileNotFoundError: if the installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "recipes").is_dir():
            return folder
    raise FileNotFoundError(f"no configs/recipes in or beside {package}: install insightedit anew.")


def list_recipes() -> list[str]:
    """Names of the recipes that come along."""
    return _names("recipes")


def list_overlays() -> list[str]:
    """Names of the overlays that come along."""
    return _names("overlays")


def _names(kind: str) -> list[str]:
    return sorted(path.stem for path in (config_root() / kind).glob("*.yaml"))


def _file_layers(
    recipe: str | Path, stage: int | str | Path | None, overlays: Sequence[str | Path], faults: list[str]
) -> list[_Layer]:
    """Layers of all files in merging order; what cannot be read becomes a fault."""
    section = None if stage is None else _stage_name(stage)
    general, special = _read("recipes", recipe, faults)
    layers = [_Layer({"recipe": Path(recipe).stem}, "file name"), general]
    if stage is not None:
        own, more = _read("stages", stage if isinstance(stage, Path) else section or "", faults)
        faults += [f"{name} ({own.origin}): a stage's own file cannot hold sections of stages." for name in more]
        number = own.values.get("stage", {}).get("number") if isinstance(own.values.get("stage"), dict) else None
        section = f"stage{number}" if number is not None else section
        layers.append(own)
    layers += [layer for name, layer in special.items() if name == section]
    _check_idle(special, section, faults)
    for overlay in overlays:
        general, special = _read("overlays", overlay, faults)
        used = [general, *(layer for name, layer in special.items() if name == section)]
        layers += [replace(layer, is_overlay=True) for layer in used]
        _check_idle(special, section, faults)
    return layers


def _stage_name(stage: int | str | Path) -> str:
    text = str(stage)
    return f"stage{text}" if text.isdecimal() else text


def _check_idle(sections: dict[str, _Layer], active: str | None, faults: list[str]) -> None:
    """Look for mistakes in the sections of other stages too: they would surface hours later."""
    for name, layer in sections.items():
        if name != active:
            _clean(layer.values, Config, "", layer.origin, faults)


def _read(kind: str, name: str | Path, faults: list[str]) -> tuple[_Layer, dict[str, _Layer]]:
    """One file: its general settings, and its sections by stage."""
    path = _find(kind, name, faults)
    values = _parse(path, faults) if path else {}
    origin = _shown(path) if path else str(name)
    sections = {}
    for key in [key for key in values if isinstance(key, str) and STAGE_SECTION.fullmatch(key)]:
        section = values.pop(key)
        if isinstance(section, dict):
            sections[key] = _Layer(section, f"{origin}, section {key}")
        elif section is not None:
            faults.append(f"{key} ({origin}): holds settings of that stage, got {section!r}: indent them below it.")
    return _Layer(values, origin), sections


def _find(kind: str, name: str | Path, faults: list[str]) -> Path | None:
    """Path of a configuration file, None and a fault if there is none."""
    text = str(name)
    if isinstance(name, Path) or text.endswith((".yaml", ".yml")):
        if Path(text).is_file():
            return Path(text)
        faults.append(f"the file {text} does not exist: give the path of a YAML file, or a name of configs/{kind}.")
        return None
    path = config_root() / kind / f"{text}.yaml"
    if path.is_file():
        return path
    known = _names(kind)
    what = kind.removesuffix("s")
    faults.append(
        f"the {what} `{text}` is not known{_did_you_mean(text, known)}: one of {', '.join(known)}, or the path of "
        "a .yaml file."
    )
    return None


def _parse(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        faults.append(f"{_shown(path)} cannot be read as YAML: {_one_line(error)}.")
        return {}
    if outside := _outside(loaded):
        faults.append(f"{_shown(path)}: {outside}")
        return {}
    if not isinstance(loaded, dict):
        faults.append(f"{_shown(path)} holds a {type(loaded).__name__}: write `key: value` lines.")
        return {}
    return typing.cast("dict[str, Any]", loaded)


def _outside(value: Any) -> str | None:
    """What is wrong with a text that would take its value from outside the settings; None if nothing is.

    What settings say is written into run folders, models and their cards, and an environment holds secrets.
    """
    if isinstance(value, dict | list):
        entries = value.values() if isinstance(value, dict) else value
        return next(filter(None, map(_outside, entries)), None)
    start = value.find("${") if isinstance(value, str) else -1
    if start < 0 or ":" not in value[start : value.rfind("}")]:
        return None
    return (
        f"`{value}` reads something outside the settings, which are written into the run folder and its models: only "
        '${section.key} is read. Write the value, or let the shell put it in (key="$NAME").'
    )


def _merge(merged: Any, layer: _Layer, faults: list[str]) -> Any:
    values = _clean(layer.values, Config, "", layer.origin, faults)
    return OmegaConf.merge(merged, _for_present_sections(values, merged) if layer.is_overlay else values)


def _for_present_sections(values: dict[str, Any], merged: Any) -> dict[str, Any]:
    """Settings without those of sections that are switched off so far."""
    nested = {key: value for key, value in values.items() if isinstance(value, dict)}
    present = {
        key: _for_present_sections(value, merged[key]) for key, value in nested.items() if merged[key] is not None
    }
    return {key: value for key, value in values.items() if key not in nested} | present


def _clean(values: Mapping[Any, Any], schema: type, prefix: str, origin: str, faults: list[str]) -> dict[str, Any]:
    """The part of `values` that fits the dataclass `schema`; the rest becomes faults."""
    hints = typing.get_type_hints(schema)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if key not in hints:
            faults.append(_unknown(path, [f"{prefix}{name}" for name in hints], origin))
            continue
        nested, is_list = _nested(hints[key])
        if nested and is_list and isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
            kept[key] = [_clean(entry, nested, f"{path}[{i}].", origin, faults) for i, entry in enumerate(value)]
        elif nested and not is_list and isinstance(value, Mapping):
            kept[key] = _clean(value, nested, f"{path}.", origin, faults)
        elif problem := _misfit(schema, key, value, hints[key]):
            faults.append(f"{path} ({origin}): {problem}")
        else:
            kept[key] = value
    return kept


def _nested(hint: Any) -> tuple[type | None, bool]:
    """The dataclass within a field's type, and whether the field is a list of it."""
    arguments = [hint] if is_dataclass(hint) else list(typing.get_args(hint))
    found = next((part for part in arguments if is_dataclass(part)), None)
    return typing.cast("type | None", found), typing.get_origin(hint) is list


def _misfit(schema: type, key: str, value: Any, hint: Any) -> str | None:
    """What is wrong with a value, None if it fits."""
    try:
        OmegaConf.merge(OmegaConf.structured(schema), {key: value})
    except (OmegaConfBaseException, ValueError, TypeError):
        return f"got {value!r}, needs {_wanted(hint)}."
    return None


def _wanted(hint: Any) -> str:
    """A field's type in words."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _wanted(part) for part in arguments)
    if typing.get_origin(hint) is list:
        return f"a list, each {_wanted(arguments[0])}"
    if is_dataclass(hint):
        return "the settings " + ", ".join(field.name for field in fields(hint))
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, str(hint))


def _unknown(path: str, siblings: list[str], origin: str) -> str:
    """Fault for a key that the schema lacks: the nearest sibling, or where a setting of that name lives."""
    last = path.rpartition(".")[2]
    elsewhere = [known for known in _paths() if known.rpartition(".")[2] == last]
    if elsewhere:
        return f"{path} ({origin}): no such setting here; it is {' or '.join(elsewhere)}."
    hint = (
        _synonym(last)
        or _did_you_mean(path, siblings)
        or _did_you_mean(path, _paths())
        or "; here are " + ", ".join(siblings)
    )
    return f"{path} ({origin}): no such setting{hint}."


def _synonym(last: str) -> str:
    return f" (did you mean {SYNONYMS[last]}?)" if last in SYNONYMS else ""


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


@cache
def _paths() -> tuple[str, ...]:
    """Dotted paths of all settings and sections of the schema."""
    return tuple(_walk(Config, ""))


def _walk(schema: type, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(schema).items():
        yield f"{prefix}{name}"
        nested, is_list = _nested(hint)
        if nested and not is_list:
            yield from _walk(nested, f"{prefix}{name}.")


def _override(merged: Any, word: str, faults: list[str]) -> Any:
    """Merge one `key=value` of the command line."""
    key, equals, text = word.partition("=")
    if not equals:
        faults.append(f"`{word}` ({COMMAND_LINE}) is not of the form key=value.")
        return merged
    full = _full_path(key.strip(), faults)
    if full is None:
        return merged
    try:
        value = _value(text)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        faults.append(f"{full} ({COMMAND_LINE}): `{text}` cannot be read: {_one_line(error)}.")
        return merged
    if outside := _outside(value):
        faults.append(f"{full} ({COMMAND_LINE}): {outside}")
        return merged
    if "[" in full:
        return _override_entry(merged, full, value, faults)
    values: Any = value
    for part in reversed(full.split(".")):
        values = {part: values}
    return _merge(merged, _Layer(values, COMMAND_LINE), faults)


def _value(text: str) -> Any:
    """A value as YAML would read it after `key: `."""
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore[index, call-overload]


def _override_entry(merged: Any, path: str, value: Any, faults: list[str]) -> Any:
    """Set a field of an entry of a list, such as `data.sources[0].path`."""
    match = re.fullmatch(r"([\w.]+)\[(\d+)\]\.(\w+)", path)
    entries = OmegaConf.select(merged, match[1]) if match else None
    if match is None or not OmegaConf.is_list(entries):
        faults.append(f"{path} ({COMMAND_LINE}): no such setting; entries of lists read data.sources[0].path.")
        return merged
    entries = typing.cast("list[Any]", OmegaConf.to_container(entries, resolve=False))
    if int(match[2]) >= len(entries):
        faults.append(f"{path} ({COMMAND_LINE}): {match[1]} has {len(entries)} entries, counted from 0.")
        return merged
    entries[int(match[2])][match[3]] = value
    values: Any = entries
    for part in reversed(match[1].split(".")):
        values = {part: values}
    return _merge(merged, _Layer(values, COMMAND_LINE), faults)


def _full_path(key: str, faults: list[str]) -> str | None:
    """Complete a key that leaves out its first parts; None and a fault if that is not possible in one way."""
    head, bracket, rest = key.partition("[")
    found = [path for path in _paths() if path == head] or [path for path in _paths() if path.endswith(f".{head}")]
    if len(found) == 1:
        return found[0] + bracket + rest
    if found:
        faults.append(f"{key} ({COMMAND_LINE}): could be {' or '.join(found)}: write one of these.")
        return None
    leaves: dict[str, str] = {}
    for path in _paths():
        leaves.setdefault(path if "." in key else path.rpartition(".")[2], path)
    near = difflib.get_close_matches(key, leaves, n=1, cutoff=0.6)
    hint = _synonym(head.rpartition(".")[2]) or (
        f" (did you mean {leaves[near[0]]}?)" if near else "; sections are " + ", ".join(typing.get_type_hints(Config))
    )
    faults.append(f"{key} ({COMMAND_LINE}): no such setting{hint}.")
    return None


def _to_dataclasses(merged: Any) -> Config:
    try:
        return typing.cast("Config", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'settings'}: {_one_line(error)}.") from error


def _shown(path: Path) -> str:
    """A path as a reader knows it: below configs/, below the current folder, or whole."""
    for base in (config_root().parent, Path.cwd()):
        if path.resolve().is_relative_to(base):
            return path.resolve().relative_to(base).as_posix()
    return str(path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
