"""The folder of a run: whose it is, whether it may go on, where the stage before lies, and what that promised.

The contract of a finished stage says to the next which weights it made, on which base models, with which tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf.errors import OmegaConfBaseException

from insightedit.config.kinds import current_key, saved_settings
from insightedit.config.load import read_saved_config
from insightedit.config.schema import Config, SourceConfig
from insightedit.datasets.mixture import fingerprint_changes
from insightedit.files import installed_versions, write_text
from insightedit.hub.network import MODEL_INDEX
from insightedit.hub.secrets import read_plain_yaml
from insightedit.modeling.pretrained import current_id
from insightedit.training.checkpoint import TRAINER, CheckpointFolder, StageError, stage_weights

if TYPE_CHECKING:
    from insightedit.model.editor import Editor

logger = logging.getLogger(__name__)
_FREE = {
    "data": "num_workers prefetch_factor cache cache_repeat",
    "train": "engine deepspeed deepspeed_files log_every save_every sample_every num_samples validate_every "
    "num_validation keep_checkpoints max_minutes total_minutes",
    "guidance": "guidance_scale image_guidance_scale num_inference_steps creation_guidance_scale "
    "creation_inference_steps",
}
FREE_KEYS = {f"{section}.{name}" for section, names in _FREE.items() for name in names.split()}
FREE_KEYS |= {"output_dir", "init_from"}
"""Settings that may change between two sessions of one run: they do not touch its numbers."""
BATCH_KEYS = {"train.batch_size", "train.gradient_accumulation_steps"}
"""May change with the number of processes, so that their product stays."""
DATA = "data.json"
CONTRACT = "contract.json"
PACKAGES = ("insightedit", "torch", "transformers", "diffusers", "peft", "safetensors", "deepspeed")


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


def claim_run_folder(run_dir: Path, config: Config, world_size: int = 1) -> None:
    """Write `config.yaml` into a new run folder, or compare it with the one of the run that goes on.

    With another number of processes than before (`world_size`), the batch may be made up another way. A StageError
    names every other difference.
    """
    path, settings = run_dir / "config.yaml", asdict(config)
    newest = CheckpointFolder(run_dir / "checkpoints").latest()
    if path.exists() and newest is not None:
        old = saved_settings(yaml.safe_load(path.read_text(encoding="utf-8")))
        before = json.loads((newest / TRAINER).read_text()).get("world_size", world_size)
        changed = differences(old, settings)
        if before != world_size:  # more processes with smaller batches make the same step
            changed = {key: values for key, values in changed.items() if key not in BATCH_KEYS}
        if changed:
            shown = "; ".join(f"{key} was {old}, is {new}" for key, (old, new) in changed.items())
            raise StageError(
                f"{run_dir} was started with other settings: {shown}. Use the old ones to go on, another "
                "output_dir=DIR for a second run, or --restart to start anew (the old run is kept aside)."
            )
        if before != world_size:
            was, now = (
                count * train["batch_size"] * train["gradient_accumulation_steps"]
                for count, train in ((before, old["train"]), (world_size, settings["train"]))
            )
            hint = "" if was == now else " (train.gradient_accumulation_steps can make up for it)"
            logger.warning(
                "goes on with %d processes instead of %d, and %d samples a step instead of %d%s; noise is drawn anew",
                *(world_size, before, now, was, hint),
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(settings, sort_keys=False), durable=True)  # on the disk before the first step


def check_data(run_dir: Path, fingerprint: dict[str, Any], *, fresh: bool, accepts: bool) -> None:
    """Keep the mixture's fingerprint in the folder of a `fresh` run, or compare it in one that goes on.

    A StageError names every source whose files, records or columns changed, unless the user `accepts` that.
    """
    path = run_dir / DATA
    kept = path.is_file() and not fresh
    old = json.loads(path.read_text(encoding="utf-8")) if kept else fingerprint
    if changes := fingerprint_changes(
        old, json.loads(json.dumps(fingerprint))
    ):  # as the file has it: lists, no tuples
        told = " ".join(changes)
        if not accepts:
            raise StageError(
                f"the data changed since {run_dir} began: {told} Put it back, go on with it by "
                "--accept-changed-data, or start anew with --restart."
            )
        logger.warning("goes on with changed data: %s", told)
    write_text(path, json.dumps(fingerprint, indent=1) + "\n", durable=True)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ and matter: key -> (old, new).

    A setting that the package gained since, at its default, and one that it no longer has do not count: a run
    outlives an update that leaves its numbers alone.
    """
    before, after, defaults = flat_settings(old), flat_settings(new), flat_settings(asdict(Config()))
    free = FREE_KEYS | ({"train.max_steps"} if new["optim"]["schedule"] == "constant" else set())
    gained = {key for key in after.keys() - before.keys() if after[key] == defaults.get(key, after)}
    gained = {key for key in gained if not any(key.startswith(f"{part}.") for part in before)}  # part was null
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
    if run_dir.name == f"stage{config.stage.number}":  # another name says nothing of where the others lie
        return run_dir.with_name(f"stage{before[-1]}")
    return Path("runs") / config.recipe / f"stage{before[-1]}"


def base_models(config: Config) -> dict[str, str]:
    """The pretrained parts that a stage's weights sit on, by config key; stage 1 sees no denoiser."""
    reads, generation = config.comprehension, config.generation
    models = {f"comprehension.{name}": getattr(reads, name) for name in reads.base_models}
    models["generation.model"] = generation.model
    if config.stage.objective != "align":
        draws = generation.denoiser
        models |= {
            f"generation.denoiser.{name}": getattr(draws, name) or generation.model for name in draws.base_models
        }
        if config.bridge.iaa is not None:
            models["generation.image_encoder"] = generation.image_encoder
    return {key: current_id(model) for key, model in models.items()}


def config_hash(config: Config) -> str:
    """Short digest of the resolved config."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]


def write_contract(run_dir: Path, config: Config, editor: Editor, steps: int) -> dict[str, Any]:
    """Write `contract.json` into a run folder with a whole checkpoint; returns what was written."""
    contract = {
        "recipe": config.recipe,
        "stage": config.stage.number,
        "steps": steps,
        "base_models": base_models(config),
        "edit_token": getattr(config.comprehension, "edit_token", None),
        "edit_token_ids": [int(i) for i in editor.comprehension.edit_token_ids],
        "keys": {name: list(value.shape) for name, value in sorted(stage_weights(run_dir).items())},
        "config_hash": config_hash(config),
        "packages": installed_versions(*PACKAGES),
    }
    write_text(run_dir / CONTRACT, json.dumps(contract, indent=1) + "\n", durable=True)
    return contract


def read_contract(run_dir: Path, *, command: str | None = None) -> dict[str, Any]:
    """The contract of a finished stage; `command` is what makes its run folder, for the message."""
    make = f" Run `{command}` first" if command else " Run that stage first"
    if not run_dir.is_dir():
        raise StageError(f"the run folder {run_dir} does not exist.{make}, or name another one with --init-from DIR.")
    path = run_dir / CONTRACT
    if not path.is_file():
        newest = CheckpointFolder(run_dir / "checkpoints").latest()
        state = f"it stopped at {newest.name}" if newest else "it has no checkpoint yet"
        again = f"Run `{command}` again, it goes on" if command else "Run that stage again, it goes on"
        raise StageError(f"the stage in {run_dir} has not finished: {state} and there is no {CONTRACT}. {again}.")
    try:
        contract = json.loads(path.read_text())
    except ValueError as error:
        raise StageError(f"{path} is not JSON ({error}): run that stage again with --restart.") from error
    bases = {current_key(key): current_id(model) for key, model in contract["base_models"].items()}
    return {**contract, "base_models": bases}


def check_contract(contract: Mapping[str, Any], config: Config, run_dir: Path) -> None:
    """Refuse an earlier stage whose order, base models or edit tokens do not fit, before anything heavy is loaded."""
    stage, number = contract["stage"], config.stage.number
    if stage > number:
        raise StageError(
            f"stage {number} cannot start from {run_dir}, which holds stage {stage}: stages run in the order "
            f"{', '.join(map(str, config.stages))}."
        )
    before = [other for other in config.stages if other < number]
    if before and stage < before[-1]:
        raise StageError(
            f"stage {number} comes after stage {before[-1]}, but {run_dir} holds stage {stage}: run stage "
            f"{before[-1]} first, or name its run folder with --init-from DIR."
        )
    wanted = base_models(config)
    for key, model in contract["base_models"].items():
        if key in wanted and wanted[key] != model:  # stage 1 saw no denoiser: any will do
            raise StageError(
                f"{run_dir} was trained on {key}={model}, this stage uses {wanted[key]}: its weights would not mean "
                f"the same there. Set {key}={model}, or train stage {stage} on {wanted[key]}."
            )
    tokens, wanted_tokens = len(contract["edit_token_ids"]), getattr(config.comprehension, "num_edit_tokens", 0)
    if tokens and tokens != wanted_tokens:
        raise StageError(
            f"{run_dir} was trained with {tokens} edit tokens, this stage has {wanted_tokens}: "
            f"set comprehension.num_edit_tokens={tokens}."
        )


def stages_behind(run: str | Path) -> list[Path]:
    """Run folders from the first stage to that of `run`, as far as they are still there."""
    folders: list[Path] = []
    current = Path(run)
    # a run that names itself, or a later one, would lead round and round
    while current not in folders and (config := _stage_settings(current)) is not None:
        folders.insert(0, current)
        before = current.parent / f"stage{config['stage']['number'] - 1}"
        current = Path(config["init_from"]) if config.get("init_from") else before
    return folders


def started_from(run: str | Path) -> str | None:
    """What the first of the stages that led to a run started from: a model's folder; None for the base models alone."""
    first = next(iter(stages_behind(run)), None)
    return None if first is None else (_stage_settings(first) or {}).get("init_from")


def read_run(run: Path) -> Config:
    """The config that a run was trained with, or that a model folder carries."""
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"No config.yaml in {run}: name a stage's run folder, e.g. runs/insightedit/stage3.")
    try:
        return read_saved_config(read_plain_yaml(run / "config.yaml"))
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{run / 'config.yaml'} is no config of this version of insightedit: {' '.join(str(error).split())[:200]}"
        ) from error


def _stage_settings(run: Path) -> dict[str, Any] | None:
    """The config that a run folder holds; None where there is none, or another program's, or a model carries it."""
    path = run / "config.yaml"
    if (run / MODEL_INDEX).is_file():
        return None
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except yaml.YAMLError:
        return None
    has_number = isinstance(config, dict) and isinstance(config.get("stage"), dict) and "number" in config["stage"]
    return config if has_number else None


def _completed(value: Any) -> Any:
    """Entries of `data.sources` with what the package gained since at its default, and without what it lost."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return value
    defaults = asdict(SourceConfig())
    entries = [defaults | {key: entry[key] for key in entry.keys() & defaults.keys()} for entry in value]
    return [{key: _completed(inner) for key, inner in entry.items()} for entry in entries]


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted keys; lists are compared whole."""
    if not isinstance(values, dict):
        return {prefix: current_id(values)}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flat_settings(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
