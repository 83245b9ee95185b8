"""Settings against a schema of dataclasses: what fits is kept, and each fault says what would fit."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

COMMAND_LINE = "command line"
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


class ConfigError(ValueError):
    """What is wrong with the settings: every fault at once, each with its key, its file and what to do."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults  # one sentence or two each
        many = f"{len(faults)} faults in the settings:\n" + "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(many if len(faults) > 1 else "".join(faults))


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


def config_names(kind: str) -> list[str]:
    """Names of the files in a folder of `configs/`."""
    return sorted(path.stem for path in (config_root() / kind).glob("*.yaml"))


def find_config(kind: str, what: str, name: str | Path, faults: list[str]) -> Path | None:
    """Path of a YAML file, or of the file of that name in `configs/KIND`; None and a fault if there is none."""
    text = str(name)
    if isinstance(name, Path) or text.endswith((".yaml", ".yml")):
        if Path(text).is_file():
            return Path(text)
        faults.append(f"the file {text} does not exist: give the path of a YAML file, or a name of configs/{kind}.")
        return None
    path = config_root() / kind / f"{text}.yaml"
    if path.is_file():
        return path
    known = config_names(kind)
    choice = f"one of {', '.join(known)}, or the path of a .yaml file" if known else "give the path of a .yaml file"
    faults.append(f"the {what} `{text}` is not known{did_you_mean(text, known)}: {choice}.")
    return None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """` (did you mean NEAREST?)`, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def shown_path(path: Path) -> str:
    """A path as a reader knows it: below configs/, below the current folder, or whole."""
    for base in (config_root().parent, Path.cwd()):
        if path.resolve().is_relative_to(base):
            return path.resolve().relative_to(base).as_posix()
    return str(path)


@dataclass(frozen=True)
class SchemaReader:
    """Reads settings that a schema has."""

    schema: type  # a dataclass; its fields may be dataclasses, or lists of them
    synonyms: Mapping[str, str] = field(default_factory=dict)  # other words for a setting -> its dotted path
    # whether texts may take their value from outside the settings, as `${oc.env:NAME}` does: settings are written into
    # run folders, models and their cards, and an environment holds secrets
    reads_outside: bool = False
    parts: Mapping[str, type] = field(default_factory=dict)  # section -> its dataclass, derived from the schema's
    unbuilt: Mapping[str, str] = field(default_factory=dict)  # dotted path that no part has -> why it is refused

    def read_yaml(self, path: Path, faults: list[str]) -> dict[str, Any]:
        """What a YAML file says; nothing and a fault if it cannot be read."""
        try:
            loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=self.reads_outside)
        except (yaml.YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
            faults.append(f"{shown_path(path)} cannot be read as YAML: {one_line(error)}.")
            return {}
        if outside := self._outside(loaded):
            faults.append(f"{shown_path(path)}: {outside}")
            return {}
        if not isinstance(loaded, dict):
            faults.append(f"{shown_path(path)} holds a {type(loaded).__name__}: write `key: value` lines.")
            return {}
        return typing.cast("dict[str, Any]", loaded)

    def fitting(
        self, values: Mapping[Any, Any], origin: str, faults: list[str], schema: type | None = None, prefix: str = ""
    ) -> dict[str, Any]:
        """The part of nested settings that fits the schema (or that of `prefix`); the rest becomes faults."""
        hints = self._hints(schema or self.schema, prefix)
        kept: dict[str, Any] = {}
        for key, value in values.items():
            path = f"{prefix}{key}"
            if key not in hints:
                faults.append(self._unknown(path, [f"{prefix}{name}" for name in hints], origin))
                continue
            nested, is_list = _nested(hints[key])
            if nested and is_list and isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
                kept[key] = [
                    self.fitting(entry, origin, faults, nested, f"{path}[{i}].") for i, entry in enumerate(value)
                ]
            elif nested and not is_list and isinstance(value, Mapping):
                kept[key] = self.fitting(value, origin, faults, nested, f"{path}.")
            else:
                try:
                    OmegaConf.merge(_structured(schema or self.schema), {key: value})  # into a copy
                    kept[key] = value
                except (OmegaConfBaseException, ValueError, TypeError):
                    faults.append(f"{path} ({origin}): got {value!r}, needs {_wanted(hints[key])}.")
        return kept

    def override(self, merged: Any, word: str, faults: list[str]) -> dict[str, Any]:
        """One `key=value` of the command line as nested settings; `merged` holds the lists whose entries it may set."""
        key, equals, text = word.partition("=")
        if not equals:
            faults.append(f"`{word}` ({COMMAND_LINE}) is not of the form key=value.")
            return {}
        full = self.full_path(key.strip(), faults)
        if full is None:
            return {}
        try:
            # as YAML would read it after `key: `
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore[index, call-overload]
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            faults.append(f"{full} ({COMMAND_LINE}): `{text}` cannot be read: {one_line(error)}.")
            return {}
        if outside := self._outside(value):
            faults.append(f"{full} ({COMMAND_LINE}): {outside}")
            return {}
        if "[" in full:
            return self._entry(merged, full, value, faults)
        return self.fitting(_nest(full, value), COMMAND_LINE, faults)

    def _entry(self, merged: Any, path: str, value: Any, faults: list[str]) -> dict[str, Any]:
        """A field of an entry of a list, such as `data.sources[0].path`."""
        match = re.fullmatch(r"([\w.]+)\[(\d+)\]\.(\w+)", path)
        entries = OmegaConf.select(merged, match[1]) if match else None
        if match is None or not OmegaConf.is_list(entries):
            faults.append(f"{path} ({COMMAND_LINE}): no such setting; entries of lists read data.sources[0].path.")
            return {}
        entries = typing.cast("list[Any]", OmegaConf.to_container(entries, resolve=False))
        if int(match[2]) >= len(entries):
            faults.append(f"{path} ({COMMAND_LINE}): {match[1]} has {len(entries)} entries, counted from 0.")
            return {}
        entries[int(match[2])][match[3]] = value
        return self.fitting(_nest(match[1], entries), COMMAND_LINE, faults)

    def full_path(self, key: str, faults: list[str]) -> str | None:
        """Complete a key that leaves out its first parts; None and a fault if that is not possible in one way."""
        head, bracket, rest = key.partition("[")
        if any(head.startswith(f"{path}.") for path in self._open_paths):
            return key
        found = [path for path in self.paths if path == head]
        found = found or [path for path in self.paths if path.endswith(f".{head}")]
        if len(found) == 1:
            return found[0] + bracket + rest
        if found:
            faults.append(f"{key} ({COMMAND_LINE}): could be {' or '.join(found)}: write one of these.")
            return None
        if head in self.unbuilt:
            faults.append(self._unknown(head, [], COMMAND_LINE))
            return None
        leaves: dict[str, str] = {}
        for path in self.paths:
            leaves.setdefault(path if "." in key else path.rpartition(".")[2], path)
        near = difflib.get_close_matches(key, leaves, n=1, cutoff=0.6)
        hint = self._synonym(head) or (
            f" (did you mean {leaves[near[0]]}?)"
            if near
            else "; sections are " + ", ".join(self._hints(self.schema, ""))
        )
        faults.append(f"{key} ({COMMAND_LINE}): no such setting{hint}.")
        return None

    def made(self, merged: Any) -> Any:
        """The dataclasses of merged settings, interpolations resolved; a ConfigError if they are not whole."""
        try:
            return OmegaConf.to_object(merged)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{getattr(error, 'full_key', None) or 'settings'}: {one_line(error)}.") from error

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Dotted paths of all settings and sections of the schema."""
        return tuple(path for path, _ in self._walk(self.schema, ""))

    @cached_property
    def _open_paths(self) -> tuple[str, ...]:
        """Those that take keys of any name."""
        return tuple(path for path, hint in self._walk(self.schema, "") if typing.get_origin(hint) is dict)

    def _hints(self, schema: Any, prefix: str) -> dict[str, Any]:
        """Names and types of the fields of a dataclass that stands below a dotted prefix."""
        hints = typing.get_type_hints(schema)
        names = [one.name for one in fields(schema)]
        return {name: self.parts.get(f"{prefix}{name}", hints[name]) for name in names}

    def _walk(self, schema: type, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in self._hints(schema, prefix).items():
            yield f"{prefix}{name}", hint
            nested, is_list = _nested(hint)
            if nested and not is_list:
                yield from self._walk(nested, f"{prefix}{name}.")

    def _unknown(self, path: str, siblings: list[str], origin: str) -> str:
        """Fault for a key that the schema lacks: the nearest sibling, or where a setting of that name lives."""
        if path in self.unbuilt:
            return f"{path} ({origin}): {self.unbuilt[path]}."
        last = path.rpartition(".")[2]
        elsewhere = [known for known in self.paths if known.rpartition(".")[2] == last]
        if elsewhere:
            return f"{path} ({origin}): no such setting here; it is {' or '.join(elsewhere)}."
        hint = self._synonym(path) or did_you_mean(path, siblings) or did_you_mean(path, self.paths)
        return f"{path} ({origin}): no such setting{hint or '; here are ' + ', '.join(siblings)}."

    def _synonym(self, path: str) -> str:
        last = path.rpartition(".")[2]
        return f" (did you mean {self.synonyms[last]}?)" if last in self.synonyms else ""

    def _outside(self, value: Any) -> str | None:
        """What is wrong with a text that would take its value from outside the settings; None if nothing is."""
        if self.reads_outside:
            return None
        if isinstance(value, dict | list):
            entries = value.values() if isinstance(value, dict) else value
            return next(filter(None, map(self._outside, entries)), None)
        start = value.find("${") if isinstance(value, str) else -1
        if start < 0 or ":" not in value[start : value.rfind("}")]:
            return None
        return (
            f"`{value}` reads something outside the settings, which are written into the run folder and its models: "
            'only ${section.key} is read. Write the value, or let the shell put it in (key="$NAME").'
        )


def _nest(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def _nested(hint: Any) -> tuple[type | None, bool]:
    """The dataclass within a field's type, and whether the field is a list of it."""
    arguments = [hint] if is_dataclass(hint) else list(typing.get_args(hint))
    found = next((part for part in arguments if is_dataclass(part)), None)
    return typing.cast("type | None", found), typing.get_origin(hint) is list


_structured = cache(OmegaConf.structured)  # of a schema; building them anew took most of the time of a load


def _wanted(hint: Any) -> str:
    """A field's type in words."""
    arguments, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_wanted(part) for part in arguments)
    if origin is list:
        return f"a list, each {_wanted(arguments[0])}"
    if origin is dict:
        return "`name: {key: value}` entries" if arguments[1] is Any else "`key: value` lines"
    if is_dataclass(hint):
        return "the settings " + ", ".join(one.name for one in fields(hint))
    return WORDS.get(hint, str(hint))


def one_line(error: Exception) -> str:
    """The words of an error, without the full stop."""
    return " ".join(str(error).split()).rstrip(".")
