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

from safetensors import SafetensorError
from torch import Tensor, nn

from insightedit.bridging.bridge import nested_settings
from insightedit.generation.autoencoder import encode_alike
from insightedit.hub.network import CONFIG, HUB_ID, MODEL_INDEX
from insightedit.modeling.model_files import read_json
from insightedit.modeling.pretrained import load_pretrained
from insightedit.training.checkpoint import StageError, drawn_buffers, load_stage_weights, load_weights
from insightedit.training.run_folder import flat_settings, previous_run, read_run, started_from

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor

DEFAULT = "default"
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
PARTS = ("qformer", "edit_head", "bim", "iaa")  # of a bridge
FREE = (
    "dropout",
    "token_head",
    "place_head",
    "image_tokens",
)  # of them: no weight means something else, or its shape tells


def is_model(folder: str | Path) -> bool:
    """Whether a folder is a finished model (`insightedit export`, `insightedit import`) rather than a run folder."""
    return (Path(folder) / MODEL_INDEX).is_file()


def init_from_pretrained(config: Config, name: str | None = None) -> Config:
    """The config of a stage that starts where `--init-from NAME` or `init_from` says, or else after the one before."""
    start = name or config.init_from
    config = replace(config, init_from=find_start(start) if start else None)
    before = previous_run(config)
    if before is not None and not is_model(before):  # the stages before may have started from a model
        first = started_from(before)
        before = Path(first) if first and is_model(first) else None
    return pretrained_config(config, before) if before else config


def find_start(name: str) -> str:
    """The folder that `--init-from NAME` means; one that does not exist is returned as it is, and told later.

    A name is a folder, `default` for the model that comes with the package, or a hub id, which is fetched once; a
    StageError if the hub has no model of that name.
    """
    if Path(name).exists():
        return name
    if name == DEFAULT:
        from insightedit.pipelines.loading import default_model

        return str(default_model())
    if not HUB_ID.fullmatch(name):
        return name
    from insightedit.hub.network import fetch_model

    try:
        return str(fetch_model(name))
    except ValueError as error:
        raise StageError(
            f"--init-from {name}: there is no such folder here, and the hub gave no model of that name "
            f"({str(error).rstrip('.')}). Name the run folder of an earlier stage, a model's folder, or a hub id "
            "owner/name."
        ) from None


def pretrained_config(config: Config, folder: str | Path) -> Config:
    """The config of a stage that starts from a model: as given, its base models the finished one's.

    Where a folder holds no text encoder (as before exports did), only the language model is taken. A StageError tells
    why a model cannot be started from.
    """
    from insightedit.pipelines.model_folder import check_model_folder

    folder = Path(folder)
    index = _read(folder, MODEL_INDEX)
    parts = config.comprehension.base_models
    if not set(parts.values()) <= index.keys():
        reads = "a language model" if "mllm" in index else "a text encoder for instructions with pictures"
        raise StageError(
            f"{folder} reads with {reads}, which recipe {config.recipe} does not have: name the model's own recipe "
            "with --recipe."
        )
    _check_settings(folder, _settings(folder, index), config)
    if "mllm" in parts.values() and not (folder / "mllm" / "config.json").is_file():
        raise StageError(
            f"{folder} holds an adapter in place of a language model: export the run again with --merge-lora, or start "
            "from the run folder itself."
        )
    try:
        check_model_folder(folder, for_training=True)
    except (OSError, ValueError) as error:
        raise StageError(f"{folder} is no whole model: {error}") from error
    generation, draws = config.generation, config.generation.denoiser
    needed = {*draws.base_models.values(), "vae"}
    needed |= set() if "text_encoder" in parts.values() else {"text_encoder", "tokenizer"}
    if all((folder / name).is_dir() for name in needed):  # a stage can be built on the folder's generator alone
        encoder = folder / "image_encoder"
        generation = replace(
            generation,
            model=str(folder),
            denoiser=replace(draws, **{name: str(folder) for name in draws.base_models}),
            image_encoder=str(encoder) if encoder.is_dir() else generation.image_encoder,
        )
    places = {name: str(folder / part) for name, part in parts.items()}
    return replace(config, comprehension=replace(config.comprehension, **places), generation=generation)


def load_earlier(editor: Editor, before: Path | None) -> dict[str, Tensor]:
    """Load what a stage starts from into its editor; parameter -> weight, without the base models'."""
    if before is None:
        return {}
    if not is_model(before):
        return load_stage_weights(editor, before)
    weights = load_model_weights(editor, before)
    load_weights(editor, weights, before)
    return weights


def load_model_weights(editor: Editor, folder: str | Path) -> dict[str, Tensor]:
    """What a model holds beyond the config's base models: editor parameter (or buffer) name -> weight.

    The stage's editor tells which parts are wanted, and is left as it is.
    """
    folder, weights = Path(folder), {}
    if editor.vae is not None and not encode_alike(_load_part(editor.vae, folder, "vae"), editor.vae):
        raise StageError(
            f"{folder} draws on another autoencoder than generation.model gives: name the base model that it was "
            "trained on (its README.md lists it) as generation.model."
        )
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


def _settings(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """What decides about a model's weights, by config key: as the config that it carries says.

    Imports, and exports of version 0.1 (the embedded one is), carry none: there it follows from their parts' files.
    """
    if (folder / CONFIG).is_file():
        try:
            held = flat_settings(asdict(read_run(folder)))
        except ValueError as error:
            raise StageError(f"{folder} is no whole model: {error}") from error
    else:
        denoiser = _read(folder, "unet/config.json" if "unet" in index else "transformer/config.json")
        scheduler = _read(folder, "scheduler/scheduler_config.json")
        held = {key: index.get(key.rpartition(".")[2]) for key in DECIDING} | {
            "generation.prediction_type": scheduler.get("prediction_type"),
            "generation.zero_terminal_snr": scheduler.get("rescale_betas_zero_snr"),
            "generation.source_prior": denoiser.get("source_prior"),
        }
        bridge = nested_settings(_read(folder, "bridge/config.json"))
        fuses = bridge.get("_class_name") == "FusionBridge"
        held |= flat_settings(
            {"bridge": {"fusion": bridge} if fuses else {p: bridge.get(f"{p}_config") for p in PARTS}}
        )
    told = {key: value for key, value in held.items() if key in DECIDING or key.startswith("bridge.")}
    return {k: v for k, v in told.items() if v is not None and k.rpartition(".")[2] not in FREE}


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_json(folder / name)
    except (OSError, ValueError) as error:
        raise StageError(
            f"{folder} is no whole model: its {name} cannot be read ({error}). Export or import it again."
        ) from error


def _check_settings(folder: Path, held: dict[str, Any], config: Config) -> None:
    for part in ("bim", "iaa"):  # whose residual and whose image prompt the denoiser was trained with
        if any(key in held for key in (f"bridge.{part}.width", f"bridge.{part}.hidden_dim")) and not getattr(
            config.bridge, part
        ):
            raise StageError(
                f"{folder} has a branch that this config does not build (bridge.{part}=null), and its denoiser counts "
                f"on it: leave bridge.{part} as the recipe has it. stage.use_{part}=false leaves it unused in this "
                "stage."
            )
    # a part that is not built here, or is new here, has no other setting; it is loaded by name, or starts untrained
    wanted = flat_settings(asdict(config))
    other = {key: value for key, value in held.items() if wanted.get(key, value) != value}
    if other:
        said = ", ".join(f"{key}={wanted[key]}" for key in other)
        told = " ".join(f"'{key}={value}'" for key, value in other.items())
        raise StageError(
            f"{folder} was made with other settings than this stage has ({said}): its weights would not mean the same. "
            f"Add {told} to the command."
        )
