"""The folder of a run: whose it is, whether it may go on, and where the stage before lies."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from insightedit.config.schema import Config, SourceConfig
from insightedit.files import write_text
from insightedit.training.checkpoint import CheckpointFolder
from insightedit.training.errors import StageError

logger = logging.getLogger(__name__)
FREE_KEYS = {
    "output_dir",
    "init_from",
    "data.num_workers",
    "data.prefetch_factor",
    "train.engine",
    "train.log_every",
    "train.save_every",
    "train.sample_every",
    "train.num_samples",
    "train.keep_checkpoints",
    "train.max_minutes",
    "guidance.guidance_scale",
    "guidance.image_guidance_scale",
    "guidance.num_inference_steps",
    "guidance.creation_guidance_scale",
    "guidance.creation_inference_steps",
}
"""Settings that may change between two sessions of one run: they do not touch its numbers."""


def set_aside(run_dir: Path) -> Path | None:
    """Rename an existing run folder to the first free `NAME.old-N`; hours of training are never deleted."""
    if not run_dir.exists():
        return None
    number = 1
    while (aside := run_dir.with_name(f"{run_dir.name}.old-{number}")).exists():
        number += 1
    run_dir.rename(aside)
    logger.info("kept the old run as %s", aside)
    return aside


def claim_run_folder(run_dir: Path, config: Config) -> None:
    """Write `config.yaml` into a new run folder, or compare it with the one of the run that goes on.

    Raises:
        StageError: if the run was started with other settings; every difference is named.
    """
    path = run_dir / "config.yaml"
    if path.exists() and CheckpointFolder(run_dir / "checkpoints").latest() is not None:
        changed = differences(yaml.safe_load(path.read_text()), asdict(config))
        if changed:
            shown = "; ".join(f"{key} was {old}, is {new}" for key, (old, new) in changed.items())
            raise StageError(
                f"{run_dir} was started with other settings: {shown}. Use the old ones to go on, another "
                "output_dir=DIR "
                "for a second run, or --restart to start anew (the old run is kept aside)."
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(asdict(config), sort_keys=False), durable=True)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ and matter: key -> (old, new).

    A setting that the package gained since, at its default, and one that it no longer has do not count: a run
    outlives an update that leaves its numbers alone.
    """
    before, after, defaults = _flat(old), _flat(new), _flat(asdict(Config()))
    free = FREE_KEYS | ({"train.max_steps"} if new["optim"]["schedule"] == "constant" else set())
    gained = {key for key in after.keys() - before.keys() if after[key] == defaults.get(key, after)}
    gained = {
        key for key in gained if not any(key.startswith(f"{part}.") for part in before)
    }  # part was null
    parts = {key.rpartition(".")[0] for key in [*after, *defaults]}
    lost = {key for key in before.keys() - after.keys() if key not in defaults and key not in parts}
    keys = [key for key in {**before, **after} if key not in free | gained | lost]
    return {
        key: (before.get(key), after.get(key))
        for key in keys
        if _completed(before.get(key)) != _completed(after.get(key))
    }


def previous_run(config: Config) -> Path | None:
    """Run folder of the stage before: `init_from`, or the one beside; None for the first stage."""
    if config.init_from:
        return Path(config.init_from)
    before = [stage for stage in config.stages if stage < config.stage.number]
    if not before:
        return None
    run_dir = Path(config.output_dir)
    if run_dir.name == f"stage{config.stage.number}":
        return run_dir.with_name(f"stage{before[-1]}")
    return Path("runs") / config.recipe / f"stage{before[-1]}"


def stages_behind(run: str | Path) -> list[Path]:
    """Run folders from the first stage to this one, as far as they are still there.

    Args:
        run: run folder of the last stage.
    """
    folders: list[Path] = []
    current = Path(run)
    while current not in folders and (config := _stage_settings(current)) is not None:
        folders.insert(0, current)
        before = current.parent / f"stage{config['stage']['number'] - 1}"
        current = Path(config["init_from"]) if config.get("init_from") else before
    return folders


def started_from(run: str | Path) -> str | None:
    """What the first of the stages that led to a run started from: a model's folder; None for the base models alone."""
    first = next(iter(stages_behind(run)), None)
    return None if first is None else (_stage_settings(first) or {}).get("init_from")


def _stage_settings(run: Path) -> dict[str, Any] | None:
    """The config that a run folder holds; None where there is none, or another program's."""
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except yaml.YAMLError:
        return None
    has_number = (
        isinstance(config, dict) and isinstance(config.get("stage"), dict) and "number" in config["stage"]
    )
    return config if has_number else None


def _completed(value: Any) -> Any:
    """Entries of `data.sources` with what the package gained since at its default, and without what it lost."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return value
    defaults = asdict(SourceConfig())
    entries = [defaults | {key: entry[key] for key in entry.keys() & defaults.keys()} for entry in value]
    return [{key: _completed(inner) for key, inner in entry.items()} for entry in entries]


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted keys; lists are compared whole."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
