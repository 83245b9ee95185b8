"""YAML files and the command line -> one `Config`.

Later layers win: schema < recipe < stage < overlays, in their order < `key=value`. A recipe or an overlay may
hold a section `stage1:`, `stage2:` or `stage3:`; it counts for that stage only, right after the file it stands in
(a recipe's after the stage's file, which is more general than it).

An overlay says how large parts are, not which parts there are: its settings for a section that is `null` so far (a
recipe without `bridge.iaa`) are left out. `key=value` on the command line switches a section on again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from insightedit.config.ranges import range_faults
from insightedit.config.schema import Config
from insightedit.config.settings import ConfigError, SchemaReader, config_names, config_root, find_config, shown_path
from insightedit.config.synonyms import SYNONYMS

__all__ = ["ConfigError", "config_root", "dump_config", "list_overlays", "list_recipes", "load_config"]

STAGE_SECTION = re.compile(r"stage[0-9]+")
SETTINGS = SchemaReader(Config, SYNONYMS)


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
        merged = OmegaConf.merge(merged, SETTINGS.override(merged, word, faults))
    if faults:
        raise ConfigError(*faults)
    config: Config = SETTINGS.made(merged)
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


def list_recipes() -> list[str]:
    """Names of the recipes that come along."""
    return config_names("recipes")


def list_overlays() -> list[str]:
    """Names of the overlays that come along."""
    return config_names("overlays")


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
            SETTINGS.fitting(layer.values, layer.origin, faults)


def _read(kind: str, name: str | Path, faults: list[str]) -> tuple[_Layer, dict[str, _Layer]]:
    """One file: its general settings, and its sections by stage."""
    path = find_config(kind, kind.removesuffix("s"), name, faults)
    values = SETTINGS.read_yaml(path, faults) if path else {}
    origin = shown_path(path) if path else str(name)
    sections = {}
    for key in [key for key in values if isinstance(key, str) and STAGE_SECTION.fullmatch(key)]:
        section = values.pop(key)
        if isinstance(section, dict):
            sections[key] = _Layer(section, f"{origin}, section {key}")
        elif section is not None:
            faults.append(f"{key} ({origin}): holds settings of that stage, got {section!r}: indent them below it.")
    return _Layer(values, origin), sections


def _merge(merged: Any, layer: _Layer, faults: list[str]) -> Any:
    values = SETTINGS.fitting(layer.values, layer.origin, faults)
    return OmegaConf.merge(merged, _for_present_sections(values, merged) if layer.is_overlay else values)


def _for_present_sections(values: dict[str, Any], merged: Any) -> dict[str, Any]:
    """Settings without those of sections that are switched off so far."""
    nested = {key: value for key, value in values.items() if isinstance(value, dict)}
    present = {
        key: _for_present_sections(value, merged[key]) for key, value in nested.items() if merged[key] is not None
    }
    return {key: value for key, value in values.items() if key not in nested} | present
