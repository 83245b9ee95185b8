"""Model folders: find the default, load one, export a trained editor as one, describe it."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from insightedit.card import (
    DEFAULTS,
    base_facts,
    data_facts,
    known_limits,
    measured_protocol,
    measured_skill,
    model_card,
    shown,
    training_facts,
)
from insightedit.comprehension.adapted import AdaptedMllm
from insightedit.devices import find_device
from insightedit.exporting import (
    DTYPES,
    SHEET,
    Sample,
    check_destination,
    check_finite,
    check_run,
    draw_sheet,
    kind_of_weights,
    owned_files,
    read_run,
    taught_words,
)
from insightedit.fetching import fetch_model
from insightedit.files import replace_folder, staging
from insightedit.interleaved_editor import InterleavedEditor
from insightedit.interleaved_hub import compose_interleaved
from insightedit.interleaved_pipeline import InterleavedEditPipeline
from insightedit.model_files import read_json
from insightedit.model_folder import INDEX, check_model_folder, pipeline_class
from insightedit.pipeline import InsightEditPipeline
from insightedit.push import FACTS
from insightedit.secrets import without_secrets
from insightedit.training.contract import base_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from insightedit.config.schema import Config
    from insightedit.editor import Editor

DEFAULT_MODEL = Path(__file__).parent / "weights" / "default"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PIPELINE_SHIM = """# Only for plain diffusers, which runs code of a folder only where its user allows it;
# InsightEditPipeline.from_pretrained and `insightedit edit` never do.
from {home} import {name}

__all__ = ["{name}"]
"""


def default_model() -> Path:
    """The folder of the model that comes with the package.

    Raises:
        FileNotFoundError: if this installation holds no weights; says how to get some.
    """
    if not (DEFAULT_MODEL / "model_index.json").is_file():
        raise FileNotFoundError(
            f"No default model at {DEFAULT_MODEL}: this installation comes without weights. Name a model "
            "folder or hub id with --model, or train one (stages 1 to 3) and export it there."
        )
    return DEFAULT_MODEL


def find_model(model: str | os.PathLike | None = None) -> str:
    """Turn what the user named into something that `from_pretrained` takes.

    Args:
        model: folder, training run folder with a `model/` in it, hub id `owner/name`, or None (or `default`, where no
            folder has that name) for the one that comes with the package.

    Returns:
        Folder path or hub id.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no pipeline.
    """
    if model is None or (str(model) == "default" and not Path(model).exists()):
        return str(default_model())
    folder = Path(model)
    if folder.is_dir():
        for candidate in (folder, folder / "model"):
            if (candidate / "model_index.json").is_file():
                return str(candidate)
        raise ValueError(
            f"{folder} holds no model_index.json, so it is no model folder: export a finished run into one "
            "with `insightedit export RUN -o FOLDER`."
        )
    if not folder.exists() and _HUB_ID.fullmatch(str(model)) and not str(model).startswith("."):
        return str(model)
    raise FileNotFoundError(
        f"No model folder at {model}: give a folder with a model_index.json, or a hub id owner/name."
    )


def load_pipeline(
    model: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> InsightEditPipeline | InterleavedEditPipeline:
    """Load a pipeline, ready to edit: of whichever class the model's `model_index.json` names.

    Args:
        model: folder or hub id; None for the model that comes with the package.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the accelerator if there is one.
        dtype: of the weights; None means float16 on a CUDA device and float32 elsewhere.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the model cannot be loaded, or the device is not there.
    """
    device = find_device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    name = find_model(model)
    place = name if Path(name).is_dir() else str(fetch_model(name))
    try:
        pipeline = _pipeline_class(place).from_pretrained(place, dtype=dtype)
    except OSError as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"Cannot load the model {name}: {first_line}") from error
    pipeline.register_to_config(_name_or_path=name)
    return pipeline.to(device)


def _pipeline_class(model: str) -> type[InsightEditPipeline | InterleavedEditPipeline]:
    index = Path(model) / INDEX
    return pipeline_class(
        read_json(index) if index.is_file() else InsightEditPipeline.load_config(model), model
    )


def pipeline_from_editor(
    editor: Editor | InterleavedEditor, config: Config
) -> InsightEditPipeline | InterleavedEditPipeline:
    """A pipeline over the live parts of an editor, for previews and measurements during training.

    Nothing is copied or merged: the pipeline draws with the weights as they stand, and leaves each part in
    the mode (training or not) in which it found it. To save one, use `export_editor`.

    Raises:
        ValueError: if the editor was built without a generator (stage 1).
    """
    if isinstance(editor, InterleavedEditor):
        return compose_interleaved(editor, config)
    return _compose(
        editor,
        config,
        mllm=editor.comprehension.mllm,
        processor=editor.comprehension.processor,
        bridge=editor.bridge,
        vae=editor.vae,
        unet=editor.unet,
        image_encoder=editor.image_encoder,
        comprehension=editor.comprehension,
    )


def _compose(
    editor: Editor, config: Config, *, comprehension: Any = None, **parts: Any
) -> InsightEditPipeline:
    if editor.unet is None or editor.vae is None:
        raise ValueError(
            "this editor has no generator (stage 1): there is nothing to draw with; use stage 2 or 3."
        )
    from insightedit.build_data import load_image_processor

    scheduler: Any = editor.noise_scheduler
    has_encoder = parts.get("image_encoder") is not None
    extractor = load_image_processor(config.generation.image_encoder) if has_encoder else None
    pipeline = InsightEditPipeline(
        **parts,
        scheduler=type(scheduler).from_config(scheduler.config),
        feature_extractor=extractor,
        resolution=config.generation.resolution,
        num_edit_tokens=config.comprehension.num_edit_tokens,
        edit_token=config.comprehension.edit_token,
        scale_source_latents=config.generation.scale_source_latents,
        default_guidance_scale=config.guidance.guidance_scale,
        default_image_guidance_scale=config.guidance.image_guidance_scale,
        default_num_inference_steps=config.guidance.num_inference_steps,
        image_prompt_scale=config.generation.image_prompt_scale,
        describe_prompt=config.comprehension.describe_prompt,
        expressive=config.comprehension.expressive,
        max_new_tokens=config.comprehension.max_new_tokens,
        no_repeat_ngram_size=config.comprehension.no_repeat_ngram_size,
        states_before_tokens=config.comprehension.states_before_tokens,
    )
    if comprehension is not None:
        pipeline.use_comprehension(comprehension)
    return pipeline


def export_run(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    ema: bool = True,
    report: str | os.PathLike | None = None,
    merge_lora: bool = True,
    dtype: str = "fp16",
    samples: Sequence[Sample] | int = 0,
    name: str | None = None,
) -> Path:
    """Write the newest checkpoint of a finished run as a pipeline folder.

    Args:
        run: run folder of stage 2 or 3, with its `config.yaml`, `contract.json` and `checkpoints/`.
        folder: where to.
        ema: take the running average of the weights where the run kept one.
        report: `report.json` of `insightedit eval scenes`, whose numbers go into the model card.
        merge_lora: fold the language model's adapter into its weights; False writes the adapter alone, which needs
            the base model wherever it is loaded.
        dtype: fp32, fp16 or bf16, of the weights on disk.
        samples: what the card shows; a number takes that many scenes.
        name: hub id or path that the card's commands name; None for `folder` itself.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if `run` is no run folder.
        ValueError: if the run is not whole, its stage does not draw, or its weights do not fit `dtype`. Then
            nothing is written.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` {dtype!r} is unknown: take one of {', '.join(DTYPES)}.")
    run, folder = Path(run), Path(folder)
    config = read_run(run)
    check_run(run, config, ema=ema, merge_lora=merge_lora)
    check_destination(folder)
    card = run_facts(run, config, ema=ema, report=report)
    card["name"] = name or (folder.name if folder.is_absolute() else folder.as_posix())

    from insightedit.build import build_editor
    from insightedit.exporting import scene_samples
    from insightedit.training.contract import load_stage_weights

    editor: Any = build_editor(config, torch.float32 if dtype == "fp32" else None)
    load_stage_weights(editor, run, ema=ema)
    if isinstance(samples, int):
        samples = scene_samples(samples, config.generation.resolution)
    return export_editor(
        editor,
        config,
        folder,
        DTYPES[dtype],
        card=card,
        merge_lora=merge_lora,
        samples=samples,
        taught=taught_words(run),
    )


def run_facts(
    run: Path, config: Config, *, ema: bool = True, report: str | os.PathLike | None = None
) -> dict[str, Any]:
    """What the model card says about a run; see `insightedit.card.model_card` for the fields.

    Raises:
        ValueError: if `report` is no report.
    """
    facts = {
        **base_facts({k: m for k, m in base_models(config).items() if k not in _unused(config)}),
        "data": data_facts(run),
        "steps": training_facts(run),
        "weights": kind_of_weights(run, ema=ema),
        "limits": known_limits(config),
    }
    if report is not None:
        facts |= {"skill": measured_skill(Path(report)), "protocol": measured_protocol(Path(report))}
    return facts


def _unused(config: Config) -> set[str]:
    """Base models that a config names and its editor does not load."""
    return set() if config.bridge.iaa is not None else {"generation.image_encoder"}


def export_editor(
    editor: Editor | InterleavedEditor,
    config: Config,
    folder: str | os.PathLike,
    dtype: torch.dtype = torch.float16,
    *,
    include_image_encoder: bool = True,
    card: dict[str, Any] | None = None,
    merge_lora: bool = True,
    samples: Sequence[Sample] = (),
    taught: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trained editor as a pipeline folder: safetensors and model card.

    The editor itself stays as it is. Which weights it holds (last or averaged) is the caller's choice. An old
    folder of that name is replaced only once the new one is whole.

    Args:
        editor: any editor with a generator.
        config: the run's config.
        folder: where to.
        dtype: of the weights on disk.
        include_image_encoder: whether reference images can be used later; costs the encoder's size.
        card: fields of the model card, see `insightedit.card.model_card`.
        merge_lora: fold LoRA and token rows into the language model; False writes them as a peft adapter beside the
            base model's name, see `insightedit.comprehension.adapted`.
        samples: edits to draw for the card, with the folder as it will be loaded.
        taught: settings of the pipeline, from `insightedit.exporting.taught_words`.

    Returns:
        The folder.

    Raises:
        ValueError: if the editor has no generator or no adapter, `dtype` cannot hold its weights, or `folder` exists
            and is no model folder.
    """
    check_destination(Path(folder))
    stored = {"recipe": config.recipe, "dtype": str(dtype).removeprefix("torch.")}
    if isinstance(editor, InterleavedEditor):
        pipeline = compose_interleaved(editor, config, dtype)
        pipeline.register_to_config(**(taught or {}))
        _check_parts(pipeline, dtype)
        return export_pipeline(pipeline, folder, card={**stored, **(card or {})}, samples=samples)
    if merge_lora:
        mllm, processor = editor.comprehension.merged()
        mllm = _on_cpu(mllm, dtype)
    else:
        processor = editor.comprehension.processor
        base = config.comprehension.model
        mllm = AdaptedMllm(editor.comprehension.mllm, base=base, dtype=dtype, tokenizer=processor.tokenizer)
    pipeline = _compose(
        editor,
        config,
        mllm=mllm,
        processor=processor,
        bridge=_on_cpu(_in_use(editor.bridge), dtype),
        vae=_on_cpu(editor.vae, dtype),
        unet=_on_cpu(editor.unet, dtype),
        image_encoder=_on_cpu(editor.image_encoder, dtype) if include_image_encoder else None,
    )
    pipeline.register_to_config(**(taught or {}))
    _check_parts(pipeline, dtype)
    kept = (
        "whole, its adapter merged" if merge_lora else f"peft adapter on {shown(config.comprehension.model)}"
    )
    stored["language_model"] = kept
    for_training = {
        "text_encoder": _on_cpu(editor.text_encoder, dtype),
        "tokenizer": editor.tokenizer,
    }
    return export_pipeline(
        pipeline, folder, card={**stored, **(card or {})}, samples=samples, for_training=for_training
    )


def _check_parts(pipeline: InsightEditPipeline | InterleavedEditPipeline, dtype: torch.dtype) -> None:
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            check_finite(name, part, dtype)


def _in_use(bridge: Any) -> Any:
    """The bridge without branches that are switched off: loaded again, they would be on, and nobody trained them."""
    off: dict[str, Any] = {}
    if getattr(bridge, "bim", None) is not None and not bridge.use_bim:
        off |= {"bim_width": None, "bim_place_head": False}
    if getattr(bridge, "iaa", None) is not None and not bridge.use_iaa:
        off["iaa_hidden_dim"] = None
    if not off:
        return bridge
    smaller = type(bridge).from_config({**bridge.config, **off})
    held = bridge.state_dict()
    smaller.load_state_dict({name: held[name] for name in smaller.state_dict()})
    return smaller


def _on_cpu(module: Any, dtype: torch.dtype) -> Any:
    return None if module is None else copy.deepcopy(module).to(device="cpu", dtype=dtype).eval()


def export_pipeline(
    pipeline: InsightEditPipeline | InterleavedEditPipeline,
    folder: str | os.PathLike,
    *,
    card: dict[str, Any] | None = None,
    samples: Sequence[Sample] = (),
    for_training: Mapping[str, Any] | None = None,
) -> Path:
    """Save a pipeline with its model card, whole or not at all.

    Args:
        pipeline: finished parts.
        folder: where to.
        card: fields of the model card, see `insightedit.card.model_card`; also kept as `export.json`.
        samples: edits for the card; the folder is loaded again to draw them, and so is known to load.
        for_training: folder name -> what else a stage needs that starts from this model (`--init-from`) and editing
            does not; each has a `save_pretrained`. None values are left out.

    Raises:
        ValueError: if `folder` exists and is neither empty nor a model folder.
    """
    folder = Path(folder)
    check_destination(folder)
    owned = owned_files(folder)
    facts = without_secrets({**DEFAULTS, **(card or {}), **({"samples": SHEET} if samples else {})})
    with staging(folder, owned) as place:
        new = place / "new"
        pipeline.save_pretrained(new)
        for part, held in (for_training or {}).items():
            if held is not None:
                held.save_pretrained(new / part)
        (new / "pipeline.py").write_text(_shim(pipeline), encoding="utf-8")
        (new / "README.md").write_text(model_card(pipeline, facts), encoding="utf-8")
        (new / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        check_model_folder(new)
        if samples:
            draw_sheet(load_pipeline(new), samples, new / SHEET)
        replace_folder(new, folder, owned)
    return folder


def _shim(pipeline: InsightEditPipeline | InterleavedEditPipeline) -> str:
    """`pipeline.py` of a model folder: for diffusers' own loader, which takes code only if it is told to."""
    kind = type(pipeline)
    return _PIPELINE_SHIM.format(home=kind.__module__, name=kind.__name__)


def describe_model(model: str | os.PathLike | None = None) -> dict[str, str]:
    """What a model folder says about itself, without loading it.

    Args:
        model: folder; None for the default.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is not a local model folder.
    """
    folder = Path(find_model(model))
    if not folder.is_dir():
        raise ValueError(f"{model} is not a folder on this machine: `info` reads local model folders.")
    kind = check_model_folder(folder, finite=False)
    index = kind._settings | read_json(folder / INDEX)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    facts = {
        "folder": str(folder),
        "size": f"{size / 1e6:.1f} MB",
        "resolution": f"{index['resolution']} px",
        "steps": str(index["default_num_inference_steps"]),
        "guidance": f"{index['default_guidance_scale']} text, {index['default_image_guidance_scale']} image",
    }
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        license_line = re.search(r"^license: (.+)$", text, re.MULTILINE)
        facts["license"] = license_line.group(1) if license_line else "not stated"
        facts["card"] = str(card)
    if (folder / FACTS).is_file():
        facts |= _told(read_json(folder / FACTS))
    return {name: _printable(value) for name, value in facts.items()}


def _told(export: dict[str, Any]) -> dict[str, str]:
    """What an export noted about the model, one line a fact; other programs' notes under the same names, too."""
    names = {"recipe": "recipe", "dtype": "weights", "language_model": "language", "weights": "taken from"}
    facts = {name: str(export[key]) for key, name in names.items() if export.get(key)}
    bases = export.get("bases")
    if rows := [base for base in bases if isinstance(base, dict)] if isinstance(bases, list) else []:
        facts["bases"] = "; ".join(f"{row.get('model')} ({row.get('license')})" for row in rows)
    for key in ("steps", "data", "skill", "limits"):
        value = export.get(key)
        if value:
            lines = map(str, value) if isinstance(value, list) else [str(value)]
            facts["training" if key == "steps" else key] = "; ".join(lines)
    return facts


def _printable(text: str) -> str:
    """A line for a terminal, without the control characters that a folder from elsewhere may hold."""
    return "".join(one if one.isprintable() else " " for one in text)
