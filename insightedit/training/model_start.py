"""Start a stage from a finished model in place of an earlier stage's run folder: fine-tune an export or an import.

The model's language model becomes the stage's base model (a new LoRA starts at zero on it); its bridge and denoiser are
loaded by name. Autoencoder, text encoder, image encoder and noise schedule are the model's own; a folder without text
encoder (editing does not need it) leaves them to the config, whose base models have to be the model's. What the model
does not have (a branch that is new here) starts untrained.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from insightedit.bridging.bridge import nested_settings
from insightedit.hub.network import CONFIG, HUB_ID
from insightedit.modeling.model_files import read_json
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.contract import drawn_buffers
from insightedit.training.errors import StageError
from insightedit.training.run_folder import previous_run, read_run, started_from

if TYPE_CHECKING:
    from insightedit.config.schema import Config, GenerationConfig
    from insightedit.model.editor import Editor

INDEX = "model_index.json"
DEFAULT = "default"
ABSENT = object()
FREE = ("dropout", "token_head", "place_head", "image_tokens")
"""Settings of the bridge's branches that may differ: the weights mean the same, or their shapes tell."""
DECIDING = (
    "comprehension.num_edit_tokens",
    "comprehension.edit_token",
    "comprehension.states_before_tokens",
    "generation.scale_source_latents",
    "generation.prediction_type",
    "generation.zero_terminal_snr",
    "generation.source_prior",
)
"""Settings without which a model's weights mean something else, besides those of its bridge."""
TOLERANCE = 2e-3  # of two autoencoders, of which one may have been rounded to float16 or bfloat16


def is_model(folder: str | Path) -> bool:
    """Whether a folder is a finished model (`insightedit export`, `insightedit import`) rather than a run folder."""
    return (Path(folder) / INDEX).is_file()


def init_from_pretrained(config: Config, name: str | None = None) -> Config:
    """The config of a stage that starts where `--init-from NAME` says.

    Args:
        config: as the files and the command line have it.
        name: see `find_start`; None for `config.init_from`, or the stage before.

    Raises:
        StageError: see `find_start` and `pretrained_config`.
    """
    start = name or config.init_from
    config = replace(config, init_from=find_start(start) if start else None)
    model = model_behind(config)
    return pretrained_config(config, model) if model else config


def find_start(name: str) -> str:
    """What `--init-from NAME` means.

    Args:
        name: a folder; `default` for the model that comes with the package; or a hub id `owner/name`, which is fetched
            (once; the hub's cache keeps it).

    Returns:
        A folder's path. One that does not exist is returned as it is: what is missing there is told later.

    Raises:
        StageError: if there is neither a folder nor a model on the hub of that name.
    """
    if Path(name).exists():
        return name
    if name == DEFAULT:
        from insightedit.pipelines.loading import default_model

        return str(default_model())
    return _fetch(name) if HUB_ID.fullmatch(name) else name


def _fetch(name: str) -> str:
    from insightedit.hub.network import fetch_model

    try:
        return str(fetch_model(name))
    except ValueError as error:
        raise StageError(
            f"--init-from {name}: there is no such folder here, and the hub gave no model of that name "
            f"({str(error).rstrip('.')}). Name the run folder of an earlier stage, a model's folder, or a hub id "
            "owner/name."
        ) from None


def model_behind(config: Config) -> Path | None:
    """The finished model that a stage starts from, itself or through the stages before it; None for none."""
    before = previous_run(config)
    if before is None or is_model(before):
        return before
    start = started_from(before)
    return Path(start) if start and is_model(start) else None


def pretrained_config(config: Config, folder: str | Path) -> Config:
    """The config of a stage that starts from a model: as given, its base models the finished one's.

    Args:
        config: of the stage.
        folder: of the model.

    Returns:
        The config with its base models the model's; where a folder holds no text encoder (as before exports did), only
        the language model.

    Raises:
        StageError: if the model is not whole, of another kind, holds an adapter without its language model, or was
            made with settings that this config does not have.
    """
    folder = Path(folder)
    index = _read(folder, INDEX)
    parts = config.comprehension.base_models
    if not set(parts.values()) <= index.keys():
        reads = "a language model" if "mllm" in index else "a text encoder for instructions with pictures"
        raise StageError(
            f"{folder} reads with {reads}, which recipe {config.recipe} does not have: name the model's own recipe "
            "with --recipe."
        )
    own = _own_config(folder)
    _check_branches(folder, config, own)
    _check_settings(folder, _settings(folder, index, own), config)
    if "mllm" in parts.values() and not (folder / "mllm" / "config.json").is_file():
        raise StageError(
            f"{folder} holds an adapter in place of a language model: export the run again with --merge-lora, or start "
            "from the run folder itself."
        )
    _check_whole(folder)
    places = {name: str(folder / part) for name, part in parts.items()}
    return replace(
        config,
        comprehension=replace(config.comprehension, **places),
        generation=_with_own_bases(config.generation, folder, has_text_states="text_encoder" in places),
    )


def _check_whole(folder: Path) -> None:
    from insightedit.pipelines.model_folder import check_model_folder

    try:
        check_model_folder(folder, for_training=True)
    except (OSError, ValueError) as error:
        raise StageError(f"{folder} is no whole model: {error}") from error


def _with_own_bases(part: GenerationConfig, folder: Path, *, has_text_states: bool) -> GenerationConfig:
    """The generator that lies in a model's folder, if a stage can be built on it alone."""
    draws = part.denoiser
    needed = [*draws.base_models.values(), "vae"] + ([] if has_text_states else ["text_encoder", "tokenizer"])
    if not all((folder / name).is_dir() for name in needed):
        return part
    encoder = folder / "image_encoder"
    return replace(
        part,
        model=str(folder),
        denoiser=replace(draws, **{name: str(folder) for name in draws.base_models}),
        image_encoder=str(encoder) if encoder.is_dir() else part.image_encoder,
    )


def load_model_weights(editor: Editor, folder: str | Path) -> dict[str, Tensor]:
    """What a finished model holds beyond the base models of the config.

    Args:
        editor: of the stage; tells which parts are wanted, and is left as it is.
        folder: of the model.

    Returns:
        Editor parameter (or drawn buffer) name -> weight, as stored.

    Raises:
        StageError: if the model is not whole, or draws on another autoencoder.
    """
    folder, weights = Path(folder), {}
    if editor.vae is not None:
        _check_autoencoder(editor.vae, folder)
    parts = {"bridge": editor.bridge} | ({editor.denoiser_part: editor.denoiser} if editor.denoiser_part else {})
    for name, part in parts.items():
        held = _load_part(part, folder, name)
        found = dict(held.named_parameters(remove_duplicate=False)) | drawn_buffers(held)
        weights |= {f"{name}.{key}": value.detach() for key, value in found.items()}
    return weights


def _load_part(part: nn.Module, folder: Path, name: str) -> Any:
    """The model's own part of that name, of the class of `part`."""
    loader: Any = type(part)
    try:
        return load_pretrained(loader, folder / name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StageError(
            f"{folder} is no whole model for this config: its {name}/ cannot be loaded as {loader.__name__} "
            f"({reason}). Export or import it again, or name the base models that it was made with."
        ) from error


def _own_config(folder: Path) -> Config | None:
    """The config that a model carries; None of one without (as imports are, and exports of version 0.1)."""
    if not (folder / CONFIG).is_file():
        return None
    try:
        return read_run(folder)
    except ValueError as error:
        raise StageError(f"{folder} is no whole model: {error}") from error


def _settings(folder: Path, index: dict[str, Any], own: Config | None) -> dict[str, Any]:
    """What the model was made with, by config key: as its config says, or else as follows from its parts' files."""
    found = {
        f"bridge.{branch}.{name}": value
        for branch, given in _branches(folder, own).items()
        for name, value in given.items()
        if name not in FREE
    }
    if own is not None:
        found |= {key: _get(own, key) for key in DECIDING}
        return {key: value for key, value in found.items() if value not in (None, ABSENT)}
    denoiser = _read(folder, "unet/config.json" if "unet" in index else "transformer/config.json")
    scheduler = _read(folder, "scheduler/scheduler_config.json")
    places = {
        "prediction_type": scheduler.get("prediction_type"),
        "zero_terminal_snr": scheduler.get("rescale_betas_zero_snr"),
        "source_prior": denoiser.get("source_prior"),
    }
    names = {key: key.rpartition(".")[2] for key in DECIDING}
    found |= {key: places[name] if name in places else index.get(name) for key, name in names.items()}
    return {key: value for key, value in found.items() if value is not None}


def _branches(folder: Path, own: Config | None) -> dict[str, dict[str, Any]]:
    """Settings of the branches that the model's bridge has; some are of no config (widths of its neighbours)."""
    if own is not None:
        return {name: given for name, given in asdict(own.bridge).items() if given is not None}
    held = nested_settings(_read(folder, "bridge/config.json"))
    if held.get("_class_name") == "FusionBridge":
        return {"fusion": held}
    names = ("qformer", "edit_head", "bim", "iaa")
    return {name: held[f"{name}_config"] for name in names if held.get(f"{name}_config") is not None}


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_json(folder / name)
    except (OSError, ValueError) as error:
        raise StageError(
            f"{folder} is no whole model: its {name} cannot be read ({error}). Export or import it again."
        ) from error


def _check_branches(folder: Path, config: Config, own: Config | None) -> None:
    for key in ("bim", "iaa"):
        if key in _branches(folder, own) and getattr(config.bridge, key) is None:
            raise StageError(
                f"{folder} has a branch that this config does not build (bridge.{key}=null), and its denoiser counts "
                f"on it: leave bridge.{key} as the recipe has it. stage.use_{key}=false leaves it unused in this stage."
            )


def _check_settings(folder: Path, held: dict[str, Any], config: Config) -> None:
    wanted = {key: _get(config, key) for key in held}
    other = {key: value for key, value in held.items() if wanted[key] not in (value, ABSENT)}
    if other:
        said = ", ".join(f"{key}={wanted[key]}" for key in other)
        told = " ".join(f"'{key}={value}'" for key, value in other.items())
        raise StageError(
            f"{folder} was made with other settings than this stage has ({said}): its weights would not mean the same. "
            f"Add {told} to the command."
        )


def _get(config: Config, key: str) -> Any:
    """A setting, or ABSENT where the part it belongs to is not built (or is only in the model)."""
    value: Any = config
    for name in key.split("."):
        value = ABSENT if value is None else getattr(value, name, ABSENT)
        if value is ABSENT:
            break
    return value


@torch.no_grad()
def _check_autoencoder(vae: nn.Module, folder: Path) -> None:
    held = _load_part(vae, folder, "vae")
    theirs, ours = held.state_dict(), vae.state_dict()
    if theirs.keys() != ours.keys() or not all(
        value.shape == ours[name].shape
        and torch.allclose(value.float(), ours[name].float().to(value.device), rtol=TOLERANCE, atol=TOLERANCE)
        for name, value in theirs.items()
    ):
        raise StageError(
            f"{folder} draws on another autoencoder than generation.model gives: name the base model that it was "
            "trained on (its README.md lists it) as generation.model."
        )
