"""What one stage promises to the next: the weights it made, on which base models, with which tokens."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from insightedit.bridging.two_way import FourierPositions
from insightedit.config.kinds import current_key
from insightedit.files import write_text
from insightedit.modeling.model_ids import current_id
from insightedit.training.checkpoint import CheckpointFolder, StageError, stage_weights

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor

CONTRACT = "contract.json"
PACKAGES = ("insightedit", "torch", "transformers", "diffusers", "peft", "safetensors", "deepspeed")


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
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    contract = {
        "recipe": config.recipe,
        "stage": config.stage.number,
        "steps": steps,
        "base_models": base_models(config),
        "edit_token": getattr(config.comprehension, "edit_token", None),
        "edit_token_ids": [int(i) for i in editor.comprehension.edit_token_ids],
        "keys": {name: list(value.shape) for name, value in sorted(stage_weights(run_dir).items())},
        "config_hash": config_hash(config),
        "packages": versions,
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
        if key in wanted and wanted[key] != model:
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


def load_stage_weights(editor: nn.Module, run_dir: str | Path, *, ema: bool = True) -> dict[str, Tensor]:
    """Load `stage_weights` of an earlier stage into an editor built with the same base models; returns them."""
    weights = stage_weights(Path(run_dir), ema=ema)
    load_weights(editor, weights, run_dir)
    return weights


@torch.no_grad()
def load_weights(editor: nn.Module, weights: Mapping[str, Tensor], origin: str | Path) -> None:
    """Copy `weights` into the parameters and drawn buffers of the same names; a StageError if one does not fit."""
    parameters = dict(editor.named_parameters(remove_duplicate=False)) | drawn_buffers(editor)
    unknown = [name for name in weights if name not in parameters]
    if unknown:
        raise StageError(
            f"{origin} holds {len(unknown)} weights that this editor does not have, e.g. {', '.join(unknown[:3])}: "
            "comprehension and bridge must be configured as in that run (its config.yaml shows how; of a model, its "
            "bridge/config.json)."
        )
    for name, value in weights.items():
        if parameters[name].shape != value.shape:
            raise StageError(
                f"{origin} holds {name} of shape {tuple(value.shape)}, this editor has "
                f"{tuple(parameters[name].shape)}: widths, depths and token counts must be configured as in that run "
                "(its config.yaml shows how)."
            )
    for name, value in weights.items():  # all have been checked: an editor is loaded whole or left as it was
        parameters[name].copy_(value)


def drawn_buffers(editor: nn.Module, learned: Collection[str] | None = None) -> dict[str, Tensor]:
    """What is drawn at random when an editor is built, never trained, and in no base model.

    It belongs to the weights trained with it (BIM reads places by its Fourier frequencies), so it goes with them from
    stage to stage, whatever the seed or the order in which a later stage builds its parts. With the names of `learned`
    weights, only the buffers of parts that hold one of them.
    """
    found = {}
    for name, module in editor.named_modules():
        part = f"{name.rpartition('.')[0]}."
        if isinstance(module, FourierPositions) and (
            learned is None or any(weight.startswith(part) for weight in learned)
        ):
            found[f"{name}.frequencies"] = module.frequencies
    return found
