"""A model folder is checked before anything of it is built: files, settings, tensors and their values.

Folders come from anywhere. What is checked here is what decides about safety (no code, no pickles, nothing outside the
folder), about memory and time, and about whether the model is the one that was saved: transformers fills weights that
are missing with random numbers and says so in its log only.
"""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import nn
from transformers import BaseImageProcessor, CLIPTextModel, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils import logging as transformers_logging

import insightedit
from insightedit.comprehension.adapter_checkpoint import AdaptedMllm, read_adapter
from insightedit.comprehension.lora import ADAPTER_FILE
from insightedit.generation.autoencoder import latent_factor
from insightedit.generation.source_denoiser import TRAIN_TIMESTEPS
from insightedit.modeling import model_files
from insightedit.pipelines.edit import ComposedEditPipeline, InsightEditPipeline
from insightedit.pipelines.inputs import check_slots
from insightedit.pipelines.interleaved import InterleavedEditPipeline
from insightedit.pipelines.understanding import Calibration, check_refusals

INDEX = "model_index.json"
PIPELINES: dict[str, type[InsightEditPipeline | InterleavedEditPipeline]] = {
    kind.__name__: kind for kind in (InsightEditPipeline, InterleavedEditPipeline, ComposedEditPipeline)
}
NEEDED = {
    "*processor_config.json": (BaseImageProcessor, ProcessorMixin),
    "tokenizer_config.json": (PreTrainedTokenizerBase, ProcessorMixin),
}  # without which transformers takes settings of its own
SLOTS = {"describe_prompt": "instruction", "edit_token": "index"}
ANY_SIDE = 512  # pixels that every denoiser may be asked for
MAX_SIDES = 4  # times the side that the denoiser was made for: its attention takes memory by the fourth power


def check_model_folder(
    folder: str | Path,
    *,
    finite: bool = True,
    for_training: bool = False,
    variant: str | None = None,
    given: Collection[str] = (),
) -> type[InsightEditPipeline | InterleavedEditPipeline]:
    """Refuse a model folder that is not whole, or does what a model folder must not do; gives the pipeline's class.

    Args:
        folder: with `model_index.json`.
        finite: read all weights and look for NaN and infinity; False reads their headers alone.
        for_training: check the parts that only training reads, too.
        variant: of the weights' files, as in diffusers.
        given: names of components that the caller has, so that the folder's own are not read.
    """
    folder = Path(folder)
    index = model_files.read_json(folder / INDEX)
    model_files.check_settings(folder / INDEX, index)
    kind = pipeline_class(index, folder)
    parts = _parts(folder, index, kind)
    _check_values(folder / INDEX, index, kind)
    if for_training and (folder / "text_encoder").is_dir() and "text_encoder" not in parts:
        parts["text_encoder"] = CLIPTextModel
    built = {
        name: _check_part(folder / name, part, finite, variant) for name, part in parts.items() if name not in given
    }
    _check_together(folder, index.get("resolution", 0), built)
    return kind


def pipeline_class(index: Mapping[str, Any], model: str | Path) -> type[InsightEditPipeline | InterleavedEditPipeline]:
    """The class that a model's `model_index.json` names."""
    named = str(index.get("_class_name"))
    if named not in PIPELINES:
        raise ValueError(
            f"{model} holds a pipeline of the class {named[:100]}, which this package does not run: it runs "
            f"{' and '.join(PIPELINES)}."
        )
    return PIPELINES[named]


def _parts(folder: Path, index: Mapping[str, Any], kind: Any) -> dict[str, type]:
    """Component -> class, of those that the folder holds."""
    wanted = {}
    for name, hint in typing.get_type_hints(kind.__init__).items():
        if name not in ("settings", "return"):
            bases = [base for base in typing.get_args(hint) or (hint,) if base is not type(None)]
            bases = [BaseImageProcessor if issubclass(base, BaseImageProcessor) else base for base in bases]
            wanted[name] = (*bases, AdaptedMllm) if name == "mllm" else tuple(bases)
    strangers = [name for name, value in index.items() if isinstance(value, list) and name not in wanted]
    if strangers:
        raise ValueError(
            f"{folder / INDEX} names a component {strangers[0]}, which {kind.__name__} does not have: export the model "
            "again."
        )
    parts = {}
    for name, bases in wanted.items():
        place = index.get(name)
        if place in (None, [None, None]) and name in kind._optional_components:
            continue
        is_pair = isinstance(place, list) and len(place) == 2 and all(isinstance(one, str) for one in place)
        found = _find_class(*place) if isinstance(place, list) and is_pair else None
        if found is None or not issubclass(found, bases):
            names = " or ".join(base.__name__ for base in bases)
            raise ValueError(
                f"{folder / INDEX} names {str(place)[:100]} as {name}: it has to be {names}, of diffusers, "
                "transformers or this package, or of a module of your own that was imported before."
            )
        parts[name] = found
    return parts


def _find_class(library: str, class_name: str) -> type | None:
    if library in ("diffusers", "transformers"):
        try:
            found = getattr(importlib.import_module(library), class_name, None)
        except (ImportError, RuntimeError):  # both import their classes when they are asked for
            return None
    else:
        found = getattr(insightedit, class_name, None)
        if library not in ("insightedit", *insightedit.OLD_HOMES, getattr(found, "__module__", None)):
            # a part of one's own, whose module its user has imported: no folder makes this package import one
            found = getattr(sys.modules.get(library), class_name, None)
    return found if isinstance(found, type) else None


def _check_values(path: Path, index: Mapping[str, Any], kind: Any) -> None:
    """Settings of the pipeline itself: of the type of their defaults."""
    for name, default in kind._settings.items():
        value = index.get(name)
        if default is None or name not in index:
            continue
        fits = isinstance(value, bool) == isinstance(default, bool) and isinstance(
            value, (int, float) if isinstance(default, float) else type(default)
        )
        if not fits:
            raise ValueError(
                f"{path}: {name} is {str(value)[:100]!r}, and a {type(default).__name__} is needed: export the model "
                "again."
            )
        if name in SLOTS:
            check_slots(f"{path}: {name}", str(value), SLOTS[name])
        elif isinstance(default, int | float) and isinstance(value, int | float) and not 0 <= value <= 1e6:
            raise ValueError(f"{path}: {name} is {value}: it may be 0 to 1e6.")
    try:
        check_refusals(index.get("refusals"))
        Calibration.of(index.get("confidence_calibration"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name in ("num_edit_tokens", "default_num_inference_steps", "max_new_tokens", "max_length"):
        if not 1 <= index.get(name, 1) <= 4096:
            raise ValueError(f"{path}: {name} is {index[name]}: it may be 1 to 4096.")


def _check_part(folder: Path, kind: Any, finite: bool, variant: str | None) -> Any:
    """One component; gives what diffusers builds from its config: a module without memory, or a scheduler."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing, which {INDEX} names: export or fetch the model again.")
    model_files.check_no_code(folder)
    if kind is AdaptedMllm:
        read_adapter(folder)
        built, files = None, [folder / ADAPTER_FILE]
        model_files.read_shapes(files)
    elif issubclass(kind, nn.Module):
        stem = "model" if issubclass(kind, PreTrainedModel) else "diffusion_pytorch_model"
        files = model_files.weight_files(folder, f"{stem}.{variant}" if variant else stem)
        built = _compare(folder, kind, model_files.read_shapes(files), variant)
    else:
        for pattern, bases in NEEDED.items():
            if issubclass(kind, bases) and not any(folder.glob(pattern)):
                raise FileNotFoundError(
                    f"{folder} holds no {pattern.replace('*', '')}: the model is not whole, export or fetch it again."
                )
        for path in sorted(folder.glob("*config.json")):
            if not path.name.startswith("tokenizer"):  # whose longest text is 1e30 tokens, where there is no limit
                model_files.check_settings(path, model_files.read_json(path))
        if not issubclass(kind, SchedulerMixin):
            return None
        with explained(folder, kind):
            return kind.from_config(model_files.read_json(folder / "scheduler_config.json"))  # type: ignore[attr-defined]
    if finite:
        model_files.check_finite_weights(files)
    return built


def _compare(folder: Path, kind: Any, shapes: model_files.Shapes, variant: str | None) -> Any:
    """Names and shapes of a part's tensors with those of the module that its config describes, built without memory."""
    config = model_files.read_json(folder / "config.json")
    model_files.check_settings(folder / "config.json", config, layers=len(shapes))
    is_stock = issubclass(kind, PreTrainedModel)
    said = config.get("model_type" if is_stock else "_class_name")
    wanted = kind.config_class.model_type if is_stock else kind.__name__
    if said not in (wanted, None):
        raise ValueError(f"{folder} holds a {str(said)[:100]}, and {INDEX} says {wanted}: export the model again.")
    if not is_stock:
        with explained(folder, kind), torch.device("meta"):
            module = kind.from_config(config)
        model_files.compare_shapes(folder, shapes, {name: tuple(t.shape) for name, t in module.state_dict().items()})
        return module
    with explained(folder, kind), _silent_transformers():
        # transformers knows older names of its tensors, so it has to compare them itself
        _, report = kind.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] - a pair with loading info
            folder,
            device_map="meta",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({"variant": variant} if variant else {}),
        )
    other = {name: (tuple(held), tuple(wanted)) for name, held, wanted in report["mismatched_keys"]}
    missing = set(report["missing_keys"]) - other.keys()
    model_files.compare_shapes(
        folder,
        {name: held for name, (held, _) in other.items()} | dict.fromkeys(report["unexpected_keys"], ()),
        {name: wanted for name, (_, wanted) in other.items()} | dict.fromkeys(missing, ()),
    )
    return None


@contextmanager
def explained(folder: Path, kind: type) -> Iterator[None]:
    """Whatever a library says about a folder that it cannot build a `kind` from, in one sentence."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError | ValueError) and 0 < len(str(error)) < 2000 and "\n" not in str(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")[:600] or type(error).__name__
        raise ValueError(
            f"{folder} describes no {kind.__name__} ({type(error).__name__}: {reason.rstrip('.')}): its settings are "
            "damaged or of another version; export or fetch the model again."
        ) from error


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Without a progress bar and without a report in the log on what is told as an error."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_together(folder: Path, resolution: int, built: Mapping[str, Any]) -> None:
    """What several parts have to agree about."""
    denoiser, vae, scheduler = built.get("unet") or built.get("transformer"), built.get("vae"), built.get("scheduler")
    if denoiser is None:
        return
    made_for = denoiser.config.get("sample_size")
    if vae is not None and isinstance(made_for, int):
        side = made_for * latent_factor(vae)
        most = max(ANY_SIDE, MAX_SIDES * side)
        if resolution > most:
            raise ValueError(
                f"{folder / INDEX}: resolution is {resolution}: the denoiser was made for {side} pixels, and more than "
                f"{most} would take all memory."
            )
    steps = scheduler.config.num_train_timesteps if scheduler is not None else TRAIN_TIMESTEPS
    if denoiser.config.get("source_prior") and steps != TRAIN_TIMESTEPS:
        raise ValueError(
            f"{folder}/scheduler has {steps} timesteps, and the denoiser was made for {TRAIN_TIMESTEPS}: export the "
            "model again."
        )
