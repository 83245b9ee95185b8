"""Model folders: find the default, load one, describe it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from insightedit.hub.network import FACTS, HUB_ID, fetch_model
from insightedit.images.tones import OPERATIONS
from insightedit.modeling.devices import find_device
from insightedit.modeling.model_files import read_json
from insightedit.pipelines.edit import InsightEditPipeline
from insightedit.pipelines.interleaved import InterleavedEditPipeline
from insightedit.pipelines.model_folder import INDEX, check_model_folder, pipeline_class
from insightedit.pipelines.understanding import Calibration
from insightedit.pipelines.warnings import split_words
from insightedit.scenes.assets import Assets
from insightedit.scenes.scene import TASKS

DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "default"


def default_model() -> Path:
    """The folder of the model that comes with the package; a FileNotFoundError where it comes without."""
    if not (DEFAULT_MODEL / "model_index.json").is_file():
        raise FileNotFoundError(
            f"No default model at {DEFAULT_MODEL}: this installation comes without weights. Name a model "
            "folder or hub id with --model, or train one (stages 1 to 3) and export it there."
        )
    return DEFAULT_MODEL


def find_model(model: str | os.PathLike | None = None) -> str:
    """Turn what the user named into the folder or hub id that `from_pretrained` takes.

    That is a folder, a training run folder with a `model/` in it, a hub id `owner/name`, or None (or `default`, where
    no folder has that name) for the model that comes with the package.
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
    if not folder.exists() and HUB_ID.fullmatch(str(model)):
        return str(model)
    raise FileNotFoundError(
        f"No model folder at {model}: give a folder with a model_index.json, or a hub id owner/name."
    )


def load_pipeline(
    model: str | os.PathLike | None = None, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> InsightEditPipeline | InterleavedEditPipeline:
    """Load a pipeline, ready to edit: of whichever class the model's `model_index.json` names.

    Args:
        model: see `find_model`.
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
        pipeline = pipeline_class(read_json(Path(place) / INDEX), place).from_pretrained(place, dtype=dtype)
    except OSError as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"Cannot load the model {name}: {first_line}") from error
    pipeline.register_to_config(_name_or_path=name)
    return pipeline.to(device)


def describe_model(model: str | os.PathLike | None = None) -> dict[str, str]:
    """What a local model folder, or the default one, says about itself, without loading it."""
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
    facts |= _abilities(index)
    card = folder / "README.md"
    if card.is_file():
        stated = re.search(r"^license: (.+)$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        facts |= {"license": stated[1] if stated else "not stated", "card": str(card)}
    if (folder / FACTS).is_file():
        facts |= _told(read_json(folder / FACTS))
    # for a terminal: a folder from elsewhere may hold control characters
    return {name: "".join(c if c.isprintable() else " " for c in value) for name, value in facts.items()}


def _abilities(index: Mapping[str, Any]) -> dict[str, str]:
    """What settings say that a model can do, and what it does with all else."""
    facts, known = {}, (index["known_words"] or "").split()
    if known:  # of scenes, then

        def taught(names: Iterable[str]) -> str:
            return ", ".join(name for name in names if set(split_words(name)) <= set(known))

        facts |= {
            "tasks": ", ".join(task for task in TASKS if task != "decline"),
            "things": taught(Assets.embedded().classes),
            "operations": taught(OPERATIONS) + " (of the whole picture)",
            "words": f"{len(known)}: `insightedit info --words` lists them",
        }
    if refusals := index.get("refusals"):
        begin = " or ".join(f'"{one} ..."' for one in refusals.split("|"))
        facts["refusals"] = f"what it answers with {begin} is not drawn"
    else:
        facts["refusals"] = "none: it makes something of every request"
    if (found := Calibration.of(index.get("confidence_calibration"))) is None:
        facts["confidence"] = "not calibrated (`insightedit calibrate`): nothing is held back for it"
    else:
        shares = {"decided_right": "of the requests decided right", "held_back": "of the right edits held back"}
        rates = [f"{100 * found.facts[name]:.1f} % {told}" for name, told in shares.items() if name in found.facts]
        told = ", ".join([f"below {found.threshold:.2f} nothing is drawn", *rates])
        facts["confidence"] = f"{told} (calibrated on {found.facts.get('data', 'what nobody noted')})"
    return facts


def _told(export: dict[str, Any]) -> dict[str, str]:
    """What an export noted about the model, one line a fact; other programs' notes under the same names, too."""
    names = {"recipe": "recipe", "dtype": "weights", "language_model": "language", "weights": "taken from"}
    facts = {name: str(export[key]) for key, name in names.items() if export.get(key)}
    bases = export.get("bases")
    if rows := [base for base in bases if isinstance(base, dict)] if isinstance(bases, list) else []:
        facts["bases"] = "; ".join(f"{row.get('model')} ({row.get('license')})" for row in rows)
    for key, name in {
        "steps": "training",
        "data": "data",
        "skill": "skill",
        "photographs": "photographs",
        "limits": "limits",
    }.items():
        if value := export.get(key):
            facts[name] = "; ".join(map(str, value if isinstance(value, list) else [value]))
    return facts
