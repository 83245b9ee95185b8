"""The settings of a run: YAML and `key=value` -> one `RecipeConfig`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from data_recipes.runner.inputs import InputConfig
from insightedit.config.settings import ConfigError, SchemaReader, find_config
from insightedit.console import MAX_BATCH, MAX_RECORDS, MAX_SCENE_SEED, MAX_SEED, MAX_SIDE, SCENE_SIDES
from insightedit.hub.secrets import without_secrets

UNDECIDING = (  # settings of backends that change how they are asked, not what they answer
    "batch_size", "concurrency", "device", "key_variable", "max_attempts", "price_input", "price_output", "replies",
    "requests_per_minute", "timeout",
)  # fmt: skip
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, MAX_SEED),
    "source.count": (1, MAX_RECORDS),
    "source.start": (0, MAX_RECORDS),
    "source.size": SCENE_SIDES,
    "source.max_side": (16, MAX_SIDE),
    "source.seed": (0, MAX_SCENE_SEED),
    "output.shard_size": (1, MAX_RECORDS),
    "engine.workers": (1, 1024),
    "engine.batch_size": (1, MAX_BATCH),
    "engine.retries": (0, 100),
    "engine.backoff": (0, 3600),
    "engine.max_failed": (1e-9, 1),
    "engine.num_cpus": (0, 1024),
    "engine.num_gpus": (0, 1024),
}  # what can be null may be null


@dataclass
class OutputConfig:
    """What is written."""

    path: str | None = None  # folder; new, empty, or begun with the same settings
    format: Literal["parquet", "webdataset"] = "parquet"  # parquet (typed pictures) or webdataset (tar)
    # inputs of a unit, whose pairs are one file. A run that is stopped loses the units in work at most
    shard_size: int = 200
    split: str | None = None  # name that files begin with; None for the source's
    licence: str | None = None  # for the dataset card, an identifier of the Hub such as cc-by-4.0; None leaves it open


@dataclass
class EngineConfig:
    """How the work is done; none of this changes a byte of the result."""

    name: Literal["local", "ray"] = "local"  # local, processes of this machine; ray, Ray Data
    workers: int = 1  # local: processes; ray: actors of each model, and of each step without one
    # unit, a few inputs at a time pass all steps, all models stay loaded; step, each step passes over all units before
    # the next begins, only its models are loaded. Ray always streams
    schedule: Literal["unit", "step"] = "unit"
    # that workers take in turn, e.g. [cuda:0, cuda:1]; backends with a `device` of their own keep it
    devices: list[str] = field(default_factory=list)
    batch_size: int = 8  # records that a step is given at a time
    retries: int = 2  # how often a step that fails is tried again before each record is tried alone
    backoff: float = 1.0  # seconds before the first of these; doubled each time
    # share of a unit's records that may fail in a step before the run is stopped, since then it is not the records'
    # fault; looked at from the eighth failure on
    max_failed: float = 0.5
    address: str | None = None  # of a Ray cluster; None starts one on this machine
    num_cpus: float = 1.0  # that ray reserves for an actor or task
    num_gpus: float = 0.0  # that ray reserves for an actor of a step with models

    @property
    def is_phased(self) -> bool:
        """Whether each step passes over all units before the next one begins."""
        return self.name == "local" and self.schedule == "step"


@dataclass
class RecipeConfig:
    """All settings of a run."""

    recipe: str = ""  # one of `data_recipes.recipes.RECIPES`, or the dotted name of a module
    seed: int = 0  # of everything drawn
    source: InputConfig = field(default_factory=InputConfig)  # where records come from
    output: OutputConfig = field(default_factory=OutputConfig)  # what is written
    engine: EngineConfig = field(default_factory=EngineConfig)  # how the work is done
    # name -> `kind` and what its class takes; see `data_recipes.backends`
    backends: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)  # name -> what differs from the step's defaults
    # name -> share of records that are spoilt on purpose, to measure what the recipe catches
    faults: dict[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """Name that files begin with."""
        return self.output.split or self.source.split

    def deciding(self) -> dict[str, Any]:
        """The settings that decide about the bytes of the result, ready for JSON and without secrets."""
        return without_secrets(
            {
                "recipe": self.recipe,
                "seed": self.seed,
                "source": asdict(self.source),
                "output": {"format": self.output.format, "shard_size": self.output.shard_size, "split": self.split},
                "backends": {
                    name: {key: value for key, value in entry.items() if key not in UNDECIDING}
                    for name, entry in self.backends.items()
                },
                "steps": self.steps,
                "faults": self.faults,
            }
        )

    @property
    def digest(self) -> str:
        """What tells runs with different results apart: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True).encode()).hexdigest()[:16]


SETTINGS = SchemaReader(RecipeConfig, reads_outside=True)


def load_config(
    config: str | Path | None = None, overrides: Sequence[str] = (), *, named: str | None = None
) -> RecipeConfig:
    """Merge defaults < file < `key=value`, and check every value; all faults are one ConfigError.

    `config` is a name of `configs/data`, or the path of a YAML file; the keys of `overrides` may leave out their first
    parts where the rest is unique (`workers=4`); `named` is the recipe that the command names: a file has no other.
    """
    faults: list[str] = []
    merged: Any = OmegaConf.structured(RecipeConfig)
    if config is not None:
        path = find_config("data", "config", config, faults)
        values = SETTINGS.read_yaml(path, faults) if path else {}
        told = values.get("recipe")
        if named and told and told != named:
            faults.append(f"{config} is for the recipe {told}, not {named}: run `python -m data_recipes {told}`.")
        merged = OmegaConf.merge(merged, SETTINGS.fitting(values, str(config), faults))
    for word in overrides:
        merged = OmegaConf.merge(merged, SETTINGS.override(merged, word, faults))
    if named:
        merged = OmegaConf.merge(merged, {"recipe": named})
    if faults:
        raise ConfigError(*faults)
    made: RecipeConfig = SETTINGS.made(merged)
    check(made)
    return made


def check(config: RecipeConfig) -> None:
    """Refuse values out of range by a ConfigError with every fault."""
    faults, split = [], config.split
    for key, (low, high) in RANGES.items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(config, section) if section else config, name)
        if value is not None and not low <= value <= high:  # NaN lies in none
            faults.append(f"{key} is {value}: it has to be from {low} to {high}.")
    if not (split and split.replace("-", "").replace("_", "").isalnum()):
        faults.append(f"output.split is {split!r}: files are named by it, so letters, digits, - and _ only.")
    if config.engine.devices:
        from insightedit.modeling.devices import find_device

        for device in config.engine.devices:
            try:
                find_device(device)
            except ValueError as error:
                faults.append(f"engine.devices: {error}")
    for section in ("backends", "steps"):
        faults += [
            f"{section}.{name} is {value!r}: give its settings, as in `{name}: {{key: value}}`."
            for name, value in getattr(config, section).items()
            if not isinstance(value, Mapping) and (value is not None or section == "backends")
        ]
    if faults:
        raise ConfigError(*faults)
