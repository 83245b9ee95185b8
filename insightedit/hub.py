"""Model folders: find the default, load one, export a trained editor as one, describe it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from insightedit.card import known_limits, measured_skill, model_card, training_facts
from insightedit.pipeline import InsightEditPipeline

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.editor import Editor

DEFAULT_MODEL = Path(__file__).parent / "weights" / "default"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PIPELINE_SHIM = """# DiffusionPipeline.from_pretrained(f, custom_pipeline="pipeline", trust_remote_code=True)
from insightedit.pipeline import InsightEditPipeline

__all__ = ["InsightEditPipeline"]
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
        model: folder, training run folder with a `model/` in it, hub id `owner/name`, or None for the
            default.

    Returns:
        Folder path or hub id.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no pipeline.
    """
    if model is None:
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
) -> InsightEditPipeline:
    """Load a pipeline, ready to edit.

    Args:
        model: folder or hub id; None for the model that comes with the package.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the accelerator if there is one.
        dtype: of the weights; None means float16 on a CUDA device and float32 elsewhere.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the model cannot be loaded, or the device is not there.
    """
    device = _find_device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    name = find_model(model)
    try:
        pipeline = InsightEditPipeline.from_pretrained(name, dtype=dtype)
    except OSError as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"Cannot load the model {name}: {first_line}") from error
    return pipeline.to(device)


def _find_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"`device` {device!r} is no device: use cpu, cuda, cuda:0 or mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, True):
        raise ValueError(f"`device` {device} is not there on this machine: use cpu.")
    return device


def pipeline_from_editor(editor: Editor, config: Config) -> InsightEditPipeline:
    """A pipeline over the live parts of an editor, for previews and measurements during training.

    Nothing is copied or merged: the pipeline draws with the weights as they stand, and leaves each part in
    the mode (training or not) in which it found it. To save one, use `export_editor`.

    Raises:
        ValueError: if the editor was built without a generator (stage 1).
    """
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
    scheduler: Any = editor.noise_scheduler
    pipeline = InsightEditPipeline(
        **parts,
        scheduler=type(scheduler).from_config(scheduler.config),
        feature_extractor=_feature_extractor(config) if parts.get("image_encoder") is not None else None,
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
    )
    if comprehension is not None:
        pipeline.use_comprehension(comprehension)
    return pipeline


def _feature_extractor(config: Config) -> Any:
    from transformers import CLIPImageProcessor

    from insightedit.foundation import resolve

    return CLIPImageProcessor.from_pretrained(resolve(config.generation.image_encoder))


def export_run(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    ema: bool = True,
    report: str | os.PathLike | None = None,
) -> Path:
    """Write the newest checkpoint of a training run as a pipeline folder.

    Args:
        run: run folder of stage 2 or 3, with its `config.yaml` and `checkpoints/`.
        folder: where to.
        ema: take the running average of the weights where the run kept one.
        report: `report.json` of `insightedit eval scenes`, whose numbers go into the model card.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if `run` is no run folder.
        ValueError: if it holds no whole checkpoint, or its stage does not draw.
    """
    run = Path(run)
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(
            f"No config.yaml in {run}: name a stage's run folder, e.g. runs/insightedit/stage3."
        )

    from omegaconf import OmegaConf

    from insightedit.build import build_editor
    from insightedit.config.schema import Config
    from insightedit.training.contract import load_stage_weights

    config: Any = OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(run / "config.yaml"))
    )
    editor = build_editor(config)
    load_stage_weights(editor, run, ema=ema)
    facts: dict[str, Any] = {"steps": training_facts(run), "limits": known_limits(config)}
    if report is not None:
        facts["skill"] = measured_skill(Path(report))
    return export_editor(editor, config, folder, card=facts)


def export_editor(
    editor: Editor,
    config: Config,
    folder: str | os.PathLike,
    dtype: torch.dtype = torch.float16,
    *,
    include_image_encoder: bool = True,
    card: dict[str, Any] | None = None,
) -> Path:
    """Write a trained editor as a pipeline folder: LoRA and token rows merged, safetensors, model card.

    The editor itself stays as it is. Which weights it holds (last or averaged) is the caller's choice. An old
    folder of that name is replaced only once the new one is whole.

    Args:
        editor: any editor with a generator.
        config: the run's config.
        folder: where to.
        dtype: of the weights on disk.
        include_image_encoder: whether reference images can be used later; costs the encoder's size.
        card: fields of the model card, see `templates/model_card.md`.

    Returns:
        The folder.

    Raises:
        ValueError: if the editor has no generator, or `folder` exists and is no model folder.
    """
    mllm, processor = editor.comprehension.merged()
    pipeline = _compose(
        editor,
        config,
        mllm=_on_cpu(mllm, dtype),
        processor=processor,
        bridge=_on_cpu(editor.bridge, dtype),
        vae=_on_cpu(editor.vae, dtype),
        unet=_on_cpu(editor.unet, dtype),
        image_encoder=_on_cpu(editor.image_encoder, dtype) if include_image_encoder else None,
    )
    return export_pipeline(pipeline, folder, card={"recipe": config.recipe, **(card or {})})


def _on_cpu(module: Any, dtype: torch.dtype) -> Any:
    return None if module is None else copy.deepcopy(module).to(device="cpu", dtype=dtype).eval()


def export_pipeline(
    pipeline: InsightEditPipeline, folder: str | os.PathLike, *, card: dict[str, Any] | None = None
) -> Path:
    """Save a pipeline with its model card, whole or not at all.

    Raises:
        ValueError: if `folder` exists and is neither empty nor a model folder.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "model_index.json").is_file():
        raise ValueError(
            f"{folder} holds other files and no model_index.json: name a new folder to export into."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        pipeline.save_pretrained(temporary)
        (temporary / "pipeline.py").write_text(_PIPELINE_SHIM, encoding="utf-8")
        (temporary / "README.md").write_text(model_card(pipeline, card), encoding="utf-8")
        temporary.chmod(0o755)
        _swap(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; the old one goes only after that."""
    if not folder.exists():
        os.replace(new, folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-"))
    os.replace(folder, old / folder.name)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


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
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
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
        text = card.read_text(encoding="utf-8")
        license_line = re.search(r"^license: (.+)$", text, re.MULTILINE)
        facts["license"] = license_line.group(1) if license_line else "not stated"
        facts["card"] = str(card)
    return facts
