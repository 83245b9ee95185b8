"""A trained editor, or any pipeline, is written as a model folder, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from insightedit.comprehension.adapter_checkpoint import AdaptedMllm
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.config.schema import LlavaConfig
from insightedit.export import checks
from insightedit.export.card import (
    DEFAULTS,
    base_facts,
    carried_config,
    data_facts,
    known_limits,
    measured_facts,
    model_card,
    shown,
    training_facts,
)
from insightedit.files import replace_folder, staging
from insightedit.hub.network import CONFIG, FACTS
from insightedit.hub.secrets import without_secrets
from insightedit.pipelines.compose import copy_of, pipeline_from_editor
from insightedit.pipelines.edit import InsightEditPipeline
from insightedit.pipelines.interleaved import InterleavedEditPipeline
from insightedit.pipelines.loading import load_pipeline
from insightedit.pipelines.model_folder import check_model_folder
from insightedit.training.checkpoint import EMA, CheckpointFolder
from insightedit.training.run_folder import base_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor


_LOADER = """# Only for plain diffusers, which runs code of a folder only where its user allows it;
# InsightEditPipeline.from_pretrained and `insightedit edit` never do.
from insightedit import {name}

__all__ = ["{name}"]
"""
# `pipeline.py` of a model folder, for diffusers' own loader

Reports: TypeAlias = "str | os.PathLike | Sequence[str | os.PathLike] | None"  # files of numbers for the model card


def export_run(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    ema: bool = True,
    report: Reports = None,
    merge_lora: bool = True,
    dtype: str = "fp16",
    samples: Sequence[checks.Sample] | int = 0,
    name: str | None = None,
) -> Path:
    """Write the newest checkpoint of a finished run of stage 2 or 3 as a pipeline folder.

    Args:
        run: with its `config.yaml`, `contract.json` and `checkpoints/`.
        folder: where to; also what is returned.
        ema: take the running average of the weights where the run kept one.
        report: `report.json` of `insightedit eval scenes`, of `insightedit eval photos`, or both, whose numbers go into
            the model card.
        merge_lora: fold the language model's adapter into its weights; False writes the adapter alone, which needs
            the base model wherever it is loaded, see `insightedit.comprehension.adapter_checkpoint`.
        dtype: fp32, fp16 or bf16, of the weights on disk.
        samples: what the card shows; a number takes that many scenes.
        name: hub id or path that the card's commands name; None for `folder` itself.

    Raises:
        FileNotFoundError: if `run` is no run folder.
        ValueError: if the run is not whole, does not draw, or does not fit `dtype`; then nothing is written.
    """
    if dtype not in checks.DTYPES:
        raise ValueError(f"`dtype` {dtype!r} is unknown: take one of {', '.join(checks.DTYPES)}.")
    run, folder = Path(run), Path(folder)
    config = checks.read_run(run)
    checks.check_run(run, config, ema=ema, merge_lora=merge_lora)
    checks.check_destination(folder)
    card = run_facts(run, config, ema=ema, report=report)
    card["name"] = name or (folder.name if folder.is_absolute() else folder.as_posix())

    from insightedit.model.build import build_editor
    from insightedit.training.checkpoint import load_stage_weights

    editor: Any = build_editor(config, torch.float32 if dtype == "fp32" else None)
    load_stage_weights(editor, run, ema=ema)
    if isinstance(samples, int):
        samples = checks.scene_samples(samples, config.generation.resolution)
    return export_editor(
        editor,
        config,
        folder,
        checks.DTYPES[dtype],
        card=card,
        merge_lora=merge_lora,
        samples=samples,
        taught=checks.taught_words(run),
    )


def run_facts(run: Path, config: Config, *, ema: bool = True, report: Reports = None) -> dict[str, Any]:
    """What `model_card` says about a run and the report of its measurement."""
    newest = CheckpointFolder(run / "checkpoints").latest()
    averaged = ema and newest is not None and (newest / EMA).is_file()
    facts = {
        **base_facts(base_models(config)),
        "data": data_facts(run),
        "steps": training_facts(run),
        "weights": "running average" if averaged else "last training step",
        "limits": known_limits(config),
    }
    reports = [report] if isinstance(report, str | os.PathLike) else report or ()
    for one in reports:
        facts |= measured_facts(Path(one))
    return facts


def export_editor(
    editor: Editor,
    config: Config,
    folder: str | os.PathLike,
    dtype: torch.dtype = torch.float16,
    *,
    card: dict[str, Any] | None = None,
    merge_lora: bool = True,
    samples: Sequence[checks.Sample] = (),
    taught: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trained editor as a pipeline folder: safetensors and model card.

    The editor itself stays as it is; which weights it holds (last or averaged) is the caller's choice. An old folder
    of that name is replaced only once the new one is whole. `card` has further fields for `model_card`, `taught`
    settings of the pipeline (see `taught_words`); the rest is as in `export_run`.
    """
    checks.check_destination(Path(folder))
    stored = {"recipe": config.recipe, "dtype": str(dtype).removeprefix("torch.")}
    replaced: dict[str, Any] = {"bridge": copy_of(_in_use(editor.bridge), dtype)}
    for_training = {}
    reader, reads = editor.comprehension, config.comprehension
    if isinstance(reader, LlavaComprehension) and isinstance(reads, LlavaConfig):
        base = reads.model
        if merge_lora:
            replaced |= {name: copy_of(part, dtype) for name, part in reader.merge().items()}
            stored["language_model"] = "whole, its adapter merged"
        else:
            tokenizer = reader.processor.tokenizer
            replaced["mllm"] = AdaptedMllm(reader.mllm, base=base, dtype=dtype, tokenizer=tokenizer)
            stored["language_model"] = f"peft adapter on {shown(base)}"
        for_training = {"text_encoder": copy_of(editor.text_encoder, dtype), "tokenizer": editor.tokenizer}
    pipeline = pipeline_from_editor(editor, config, dtype, **replaced)
    pipeline.register_to_config(**{k: value for k, value in (taught or {}).items() if k in pipeline._settings})
    for name, part in pipeline.components.items():
        checks.check_finite(name, part if isinstance(part, torch.nn.Module) else None, dtype)
    facts = {**stored, **(card or {})}
    return export_pipeline(pipeline, folder, card=facts, samples=samples, for_training=for_training, config=config)


def _in_use(bridge: Any) -> Any:
    """The bridge without branches that are switched off: loaded again, they would be on, and nobody trained them."""
    off: dict[str, Any] = {}
    if getattr(bridge, "bim", None) is not None and not bridge.use_bim:
        off["bim_config"] = None
    if getattr(bridge, "iaa", None) is not None and not bridge.use_iaa:
        off["iaa_config"] = None
    if not off:
        return bridge
    smaller = type(bridge).from_config({**bridge.config, **off})
    held = bridge.state_dict()
    smaller.load_state_dict({name: held[name] for name in smaller.state_dict()})
    return smaller


def export_pipeline(
    pipeline: InsightEditPipeline | InterleavedEditPipeline,
    folder: str | os.PathLike,
    *,
    card: dict[str, Any] | None = None,
    samples: Sequence[checks.Sample] = (),
    for_training: Mapping[str, Any] | None = None,
    config: Config | None = None,
) -> Path:
    """Save a pipeline with its model card, whole or not at all.

    `card` is also kept as `export.json`. To draw `samples` the folder is loaded again, and so is known to load.
    `for_training` has, by folder name, what a stage that starts from this model (`--init-from`) needs besides; None
    values are left out. `config`, the run's, is written beside as `config.yaml` for such a stage.
    """
    folder = Path(folder)
    checks.check_destination(folder)
    owned = checks.owned_files(folder)
    facts = without_secrets({**DEFAULTS, **(card or {}), **({"samples": checks.SHEET} if samples else {})})
    with staging(folder, owned) as place:
        new = place / "new"
        pipeline.save_pretrained(new)
        for part, held in (for_training or {}).items():
            if held is not None:
                held.save_pretrained(new / part)
        (new / "pipeline.py").write_text(_LOADER.format(name=type(pipeline).__name__), encoding="utf-8")
        if config is not None:
            (new / CONFIG).write_text(carried_config(config), encoding="utf-8")
        (new / "README.md").write_text(model_card(pipeline, facts), encoding="utf-8")
        (new / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        check_model_folder(new)
        if samples:
            checks.draw_sheet(load_pipeline(new), samples, new / checks.SHEET)
        replace_folder(new, folder, owned)
    return folder
