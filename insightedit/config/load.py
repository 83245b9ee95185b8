"""YAML files and the command line -> one `Config`.

Later layers win: schema < recipe < stage < overlays, in their order < `key=value`. A recipe or an overlay may
hold a section `stage1:`, `stage2:` or `stage3:`; it counts for that stage only, right after the file it stands in
(a recipe's after the stage's file, which is more general than it).

An overlay says how large parts are, not which parts there are: its settings for a section that is `null` so far (a
recipe without `bridge.iaa`) are left out. `key=value` on the command line switches a section on again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from insightedit.config.kinds import (
    DEFAULTS,
    KINDS,
    by_kind,
    chosen_kinds,
    current_key,
    current_settings,
    put_section,
    saved_settings,
    section_of,
    settings_class,
)
from insightedit.config.ranges import range_faults
from insightedit.config.schema import Config
from insightedit.config.settings import ConfigError, SchemaReader, config_names, config_root, find_config, shown_path

__all__ = ["ConfigError", "config_root", "dump_config", "list_overlays", "list_recipes", "load_config"]

list_recipes, list_overlays = partial(config_names, "recipes"), partial(config_names, "overlays")
"""Names of the recipes, and of the overlays, that come along."""
STAGE_SECTION = re.compile(r"stage[0-9]+")
_OTHER_NAMES = {
    "comprehension.lora.alpha": "lora_alpha",
    "comprehension.lora.dropout": "lora_dropout",
    "comprehension.lora.rank": "lora_r lora_rank",
    "comprehension.quantization": "load_in_4bit load_in_8bit",
    "data.num_workers": "dataloader_num_workers",
    "data.sources": "dataset dataset_name train_data_dir",
    "generation.model": "pretrained_model_name_or_path",
    "generation.resolution": "image_size",
    "guidance.drop_both": "conditioning_dropout_prob",
    "loss.min_snr_gamma": "snr_gamma",
    "optim.betas": "adam_beta1 adam_beta2 beta1 beta2",
    "optim.eps": "adam_epsilon",
    "optim.lr": "learning_rate",
    "optim.max_grad_norm": "gradient_clipping",
    "optim.name": "optimizer use_8bit_adam",
    "optim.schedule": "lr_scheduler lr_scheduler_type",
    "optim.warmup_steps": "lr_warmup_steps",
    "optim.weight_decay": "adam_weight_decay",
    "output_dir": "output",
    "train.batch_size": "per_device_train_batch_size train_batch_size",
    "train.ema_decay": "use_ema",
    "train.keep_checkpoints": "checkpoints_total_limit save_total_limit",
    "train.log_every": "logging_steps",
    "train.max_steps": "epochs max_train_steps num_epochs num_steps num_train_epochs num_train_steps",
    "train.precision": "bf16 dtype fp16 mixed_precision",
    "train.save_every": "checkpointing_steps save_steps",
    "train.validate_every": "eval_steps validation_steps",
}
SYNONYMS = {theirs: ours for ours, names in _OTHER_NAMES.items() for theirs in names.split()}
"""Last part of a key as transformers, diffusers, peft or kohya's scripts name it -> ours."""


@dataclass(frozen=True)
class _Layer:
    """Settings of one origin: a file, a stage's section of it, or one word of the command line."""

    values: dict[Any, Any]
    origin: str
    is_overlay: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict)  # in force where it is merged, by section


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
    layers, idle = _file_layers(recipe, stage, overlays, faults)
    # as this version writes them, each with the kinds in force there: its own, or those chosen before it
    values = [current_settings(layer.values, is_overlay=layer.is_overlay) for layer in layers]
    layers = [
        replace(layer, values=values[place], kinds=chosen_kinds(values[: place + 1]))
        for place, layer in enumerate(layers)
    ]
    parted = (word.partition("=") for word in overrides)
    words = [f"{current_key(key.strip())}{equals}{value}" for key, equals, value in parted]
    kinds = chosen_kinds(values, words)
    reader = schema_reader(kinds, faults)
    for layer in idle:  # a mistake in another stage's section would surface hours later
        reader.fitting(_of_kinds(layer, kinds, faults), layer.origin, faults)
    merged = _defaults(reader, kinds)
    for layer in layers:
        values = reader.fitting(_of_kinds(layer, kinds, faults), layer.origin, faults)
        merged = OmegaConf.merge(merged, _for_present_sections(values, merged) if layer.is_overlay else values)
    for word in words:
        merged = OmegaConf.merge(merged, reader.override(merged, word, faults))
    if faults:
        raise ConfigError(*faults)
    config: Config = reader.made(merged)
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


def read_saved_config(loaded: Any) -> Config:
    """The config that a run folder's `config.yaml`, as OmegaConf read it, holds: of this version or of 0.1.

    Raises:
        ConfigError: if a kind does not exist.
        ValueError: if a part is of a module that nobody imported: a folder from elsewhere runs no code.
        OmegaConfBaseException: if a setting does not fit.
    """
    faults: list[str] = []
    values: Any = saved_settings(OmegaConf.to_container(loaded, resolve=False))  # type: ignore[arg-type]
    kinds = chosen_kinds([values])
    for section, kind in kinds.items():
        if isinstance(kind, str) and kind not in KINDS[section] and kind.partition(":")[0] not in sys.modules:
            raise ValueError(
                f"{section}.kind in a saved config is {kind[:100]}, and a folder never makes this package import a "
                "module: if you trust it, import it yourself and call this from Python."
            )
    reader = schema_reader(kinds, faults)
    if faults:
        raise ConfigError(*faults)
    return OmegaConf.to_object(OmegaConf.merge(_defaults(reader, kinds), values))  # type: ignore[return-value]


def _file_layers(
    recipe: str | Path, stage: int | str | Path | None, overlays: Sequence[str | Path], faults: list[str]
) -> tuple[list[_Layer], list[_Layer]]:
    """Layers of all files in merging order, and the sections of other stages; what cannot be read becomes a fault."""
    section = f"stage{stage}" if str(stage).isdecimal() else stage and str(stage)
    general, special = _read("recipes", recipe, faults)
    layers = [_Layer({"recipe": Path(recipe).stem}, "file name"), general]
    if stage is not None:
        own, more = _read("stages", stage if isinstance(stage, Path) else str(section), faults)
        faults += [f"{name} ({own.origin}): a stage's own file cannot hold sections of stages." for name in more]
        number = section_of(own.values, "stage").get("number")
        section = f"stage{number}" if number is not None else section
        layers.append(own)
    layers += [layer for name, layer in special.items() if name == section]
    idle = [layer for name, layer in special.items() if name != section]
    for overlay in overlays:
        general, special = _read("overlays", overlay, faults)
        used = [general, *(layer for name, layer in special.items() if name == section)]
        layers += [replace(layer, is_overlay=True) for layer in used]
        idle += [layer for name, layer in special.items() if name != section]
    return layers, idle


def _read(kind: str, name: str | Path, faults: list[str]) -> tuple[_Layer, dict[str, _Layer]]:
    """One file: its general settings, and its sections by stage."""
    path = find_config(kind, kind.removesuffix("s"), name, faults)
    values = SchemaReader(Config).read_yaml(path, faults) if path else {}
    origin = shown_path(path) if path else str(name)
    sections = {}
    for key in [key for key in values if isinstance(key, str) and STAGE_SECTION.fullmatch(key)]:
        section = values.pop(key)
        if isinstance(section, dict):
            sections[key] = _Layer(section, f"{origin}, section {key}")
        elif section is not None:
            faults.append(f"{key} ({origin}): holds settings of that stage, got {section!r}: indent them below it.")
    return _Layer(values, origin), sections


def schema_reader(kinds: dict[str, str], faults: list[str]) -> SchemaReader:
    """Reads settings of the chosen kinds; a kind that does not exist becomes a fault, and the default stands for it."""
    parts, unbuilt = {}, {}
    for section, kind in kinds.items():
        try:
            parts[section] = settings_class(section, kind)
        except ValueError as error:
            faults.append(f"{section}.kind is {kind}: {error}")
            kinds[section] = DEFAULTS[section]
            parts[section] = settings_class(section, DEFAULTS[section])
        own = {one.name for one in fields(parts[section])}
        for other, (settings, _) in KINDS[section].items():
            reason = f"is a setting of {section}.kind {other}, and {kind} is built: leave it out"
            unbuilt |= {f"{section}.{one.name}": reason for one in fields(settings) if one.name not in own}
    return SchemaReader(Config, SYNONYMS, parts=parts, unbuilt=unbuilt)


def _defaults(reader: SchemaReader, kinds: Mapping[str, str]) -> Any:
    """Every setting at its default."""
    config = Config()
    for section, settings in reader.parts.items():
        outer, _, name = section.rpartition(".")
        setattr(getattr(config, outer) if outer else config, name, settings(kind=kinds[section]))
    return OmegaConf.structured(config)


def _of_kinds(layer: _Layer, kinds: Mapping[str, str], faults: list[str]) -> dict[Any, Any]:
    """What a layer says with what it says of the chosen kinds alone; mistakes in the rest are faults, too."""
    values = layer.values if layer.kinds else current_settings(layer.values, is_overlay=True)
    for section, chosen in kinds.items():
        if found := section_of(values, section):
            told = by_kind(section, found, layer.kinds.get(section, chosen))
            for kind in told.keys() & KINDS[section].keys() - {chosen}:
                other = SchemaReader(KINDS[section][kind][0])
                other.fitting(told[kind], layer.origin, faults, prefix=f"{section}.")
            values = put_section(values, section, told.get(chosen, {}))
    return values


def _for_present_sections(values: dict[str, Any], merged: Any) -> dict[str, Any]:
    """Settings without those of sections that are switched off so far."""
    nested = {key: value for key, value in values.items() if isinstance(value, dict)}
    present = {
        key: _for_present_sections(value, merged[key]) for key, value in nested.items() if merged[key] is not None
    }
    return {key: value for key, value in values.items() if key not in nested} | present
