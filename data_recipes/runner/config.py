"""The settings of a run: YAML and `key=value` -> one `RecipeConfig`."""

from __future__ import annotations

import difflib
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_recipes.runner.inputs import InputConfig
from insightedit.config.load import ConfigError, config_root
from insightedit.console import MAX_BATCH, MAX_RECORDS, MAX_SCENE_SEED, MAX_SEED, MAX_SIDE, SCENE_SIDES
from insightedit.hub.secrets import without_secrets

COMMAND_LINE = "command line"
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
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


@dataclass
class OutputConfig:
    """What is written.

    Attributes:
        path: folder; new, empty, or begun with the same settings.
        format: parquet (typed pictures) or webdataset (tar).
        shard_size: inputs of a unit; what becomes of them is one file. A run that is stopped loses at most the units
            in work.
        split: name that files begin with; None for the source's.
        licence: for the dataset card, an identifier of the Hub such as cc-by-4.0; None leaves it open.
    """

    path: str | None = None
    format: Literal["parquet", "webdataset"] = "parquet"
    shard_size: int = 200
    split: str | None = None
    licence: str | None = None


@dataclass
class EngineConfig:
    """How the work is done; none of this changes a byte of the result.

    Attributes:
        name: local, processes of this machine; ray, Ray Data.
        workers: local: processes; ray: actors of each model, and of each step without one.
        schedule: unit, a few inputs at a time pass all steps, all models stay loaded; step, each step passes over all
            units before the next begins, only its models are loaded. Ray always streams.
        devices: that workers take in turn, e.g. [cuda:0, cuda:1]; backends with a `device` of their own keep it.
        batch_size: records that a step is given at a time.
        retries: how often a step that fails is tried again before each record is tried alone.
        backoff: seconds before the first of these; doubled each time.
        max_failed: share of a unit's records that may fail in a step before the run is stopped, since then it is not
            the records' fault; looked at from the eighth failure on.
        address: of a Ray cluster; None starts one on this machine.
        num_cpus: that ray reserves for an actor or task.
        num_gpus: that ray reserves for an actor of a step with models.
    """

    name: Literal["local", "ray"] = "local"
    workers: int = 1
    schedule: Literal["unit", "step"] = "unit"
    devices: list[str] = field(default_factory=list)
    batch_size: int = 8
    retries: int = 2
    backoff: float = 1.0
    max_failed: float = 0.5
    address: str | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0


@dataclass
class RecipeConfig:
    """All settings of a run.

    Attributes:
        recipe: one of `data_recipes.recipes.RECIPES`, or the dotted name of a module.
        seed: of everything drawn.
        source: where records come from.
        output: what is written.
        engine: how the work is done.
        backends: name -> `kind` and what its class takes; see `data_recipes.backends`.
        steps: name -> what differs from the step's defaults.
        faults: name -> share of records that are spoilt on purpose, to measure what the recipe catches.
    """

    recipe: str = ""
    seed: int = 0
    source: InputConfig = field(default_factory=InputConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    backends: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """Name that files begin with."""
        return self.output.split or self.source.split

    def deciding(self) -> dict[str, Any]:
        """The settings that decide about the bytes of the result, ready for JSON and without secrets."""
        output = {"format": self.output.format, "shard_size": self.output.shard_size, "split": self.split}
        backends = {
            name: {key: value for key, value in entry.items() if key not in UNDECIDING}
            for name, entry in self.backends.items()
        }
        held = {
            "recipe": self.recipe,
            "seed": self.seed,
            "source": asdict(self.source),
            "output": output,
            "backends": backends,
            "steps": self.steps,
            "faults": self.faults,
        }
        return without_secrets(held)

    @property
    def digest(self) -> str:
        """What tells runs with different results apart: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True).encode()).hexdigest()[:16]


def load_config(
    config: str | Path | None = None, overrides: Sequence[str] = (), *, named: str | None = None
) -> RecipeConfig:
    """Merge defaults < file < `key=value`, and check every value.

    Args:
        config: name of a file in `configs/data`, or the path of a YAML file.
        overrides: `key=value`; a key may leave out its first parts where the rest is unique (`workers=4`).
        named: the recipe, where the command names it; the file may name the same one only.

    Raises:
        ConfigError: with every fault found.
    """
    faults: list[str] = []
    merged: Any = OmegaConf.structured(RecipeConfig)
    if config is not None:
        path = _find(config, faults)
        values = _parse(path, faults) if path else {}
        told = values.get("recipe")
        if named and told and told != named:
            faults.append(f"{config} is for the recipe {told}, not {named}: run `python -m data_recipes {told}`.")
        merged = OmegaConf.merge(merged, _clean(values, RecipeConfig, "", str(config), faults))
    for word in overrides:
        merged = OmegaConf.merge(merged, _override(word, faults))
    if named:
        merged = OmegaConf.merge(merged, {"recipe": named})
    if faults:
        raise ConfigError(*faults)
    try:
        made = typing.cast("RecipeConfig", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'settings'}: {_one_line(error)}.") from error
    check(made)
    return made


def check(config: RecipeConfig) -> None:
    """Refuse values out of range.

    Raises:
        ConfigError: with every fault found.
    """
    split = config.split
    faults = _out_of_range(config)
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


def _out_of_range(config: RecipeConfig) -> list[str]:
    faults = []
    for key, (low, high) in RANGES.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None and not low <= value <= high:  # NaN lies in none
            faults.append(f"{key} is {value}: it has to be from {low} to {high}.")
    return faults


def list_configs() -> list[str]:
    """Names of the files in `configs/data`."""
    return sorted(path.stem for path in (config_root() / "data").glob("*.yaml"))


def _find(config: str | Path, faults: list[str]) -> Path | None:
    text = str(config)
    if isinstance(config, Path) or text.endswith((".yaml", ".yml")):
        if Path(text).is_file():
            return Path(text)
        faults.append(f"the file {text} does not exist: give a YAML file, or a name of configs/data.")
        return None
    path = config_root() / "data" / f"{text}.yaml"
    if path.is_file():
        return path
    known = list_configs()
    told = f"one of {', '.join(known)}, or the path of a .yaml file" if known else "the path of a .yaml file"
    faults.append(f"the config `{text}` is not known{_did_you_mean(text, known)}: give {told}.")
    return None


def _parse(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        faults.append(f"{path} cannot be read as YAML: {_one_line(error)}.")
        return {}
    if not isinstance(loaded, dict):
        faults.append(f"{path} holds a {type(loaded).__name__}: write `key: value` lines.")
        return {}
    return typing.cast("dict[str, Any]", loaded)


def _clean(values: Mapping[Any, Any], schema: Any, prefix: str, origin: str, faults: list[str]) -> dict[str, Any]:
    """The part of `values` that fits the dataclass `schema`; the rest becomes faults."""
    hints = typing.get_type_hints(schema)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if key not in hints:
            near = _did_you_mean(path, [f"{prefix}{name}" for name in hints]) or _did_you_mean(path, _paths())
            faults.append(f"{path} ({origin}): no such setting{near or '; here are ' + ', '.join(hints)}.")
        elif is_dataclass(hints[key]) and isinstance(value, Mapping):
            kept[key] = _clean(value, hints[key], f"{path}.", origin, faults)
        elif _fits(schema, key, value):
            kept[key] = value
        else:
            faults.append(f"{path} ({origin}): got {value!r}, needs {_wanted(hints[key])}.")
    return kept


def _fits(schema: Any, key: str, value: Any) -> bool:
    try:
        OmegaConf.merge(OmegaConf.structured(schema), {key: value})
    except (OmegaConfBaseException, ValueError, TypeError):
        return False
    return True


def _wanted(hint: Any) -> str:
    """A field's type in words."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if typing.get_origin(hint) is list:
        return f"a list, each {_wanted(arguments[0])}"
    if typing.get_origin(hint) is dict:
        return "`name: {key: value}` entries"
    if is_dataclass(hint):
        return "the settings " + ", ".join(one.name for one in fields(hint))
    return " or ".join(_wanted(part) for part in arguments) if arguments else WORDS.get(hint, str(hint))


def _override(word: str, faults: list[str]) -> dict[str, Any]:
    """One `key=value` of the command line as nested settings."""
    key, equals, text = word.partition("=")
    if not equals:
        faults.append(f"`{word}` ({COMMAND_LINE}) is not of the form key=value.")
        return {}
    full = _full_path(key.strip(), faults)
    if full is None:
        return {}
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore[index, call-overload]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        faults.append(f"{full} ({COMMAND_LINE}): `{text}` cannot be read: {_one_line(error)}.")
        return {}
    for part in reversed(full.split(".")):
        value = {part: value}
    return _clean(value, RecipeConfig, "", COMMAND_LINE, faults)


def _full_path(key: str, faults: list[str]) -> str | None:
    if key.partition(".")[0] in {one.name for one in fields(RecipeConfig)}:
        return key
    found = [path for path in _paths() if path.endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        faults.append(f"{key} ({COMMAND_LINE}): could be {' or '.join(found)}: write one of these.")
        return None
    leaves: dict[str, str] = {}
    for path in sorted(_paths(), key=lambda one: one.count(".")):
        leaves.setdefault(path.rpartition(".")[2], path)
    near = difflib.get_close_matches(key, leaves, n=1)
    sections = ", ".join(one.name for one in fields(RecipeConfig))
    told = f" (did you mean {leaves[near[0]]}?)" if near else f"; sections are {sections}"
    faults.append(f"{key} ({COMMAND_LINE}): no such setting{told}.")
    return None


def _paths() -> list[str]:
    """Dotted paths of all settings."""
    return list(_walk(RecipeConfig, ""))


def _walk(schema: Any, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(schema).items():
        yield f"{prefix}{name}"
        if is_dataclass(hint):
            yield from _walk(hint, f"{prefix}{name}.")


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
