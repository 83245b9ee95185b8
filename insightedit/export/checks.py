"""What has to hold before a run becomes a model folder, and the pictures that go into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from insightedit.files import check_folder, sweep
from insightedit.hub.network import CONFIG, FACTS, MODEL_INDEX
from insightedit.modeling.model_files import is_finite
from insightedit.training.checkpoint import TRAINER, CheckpointFolder, StageError, stage_weights
from insightedit.training.run_folder import CONTRACT, base_models, read_contract, read_run, stages_behind, started_from

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.pipelines.edit import InsightEditPipeline

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHEET = "samples.png"
CLASSES = ("InsightEditPipeline", "InterleavedEditPipeline")
TOP_FILES = {MODEL_INDEX, FACTS, SHEET, CONFIG, "README.md", "pipeline.py", "import_report.json"}
FOR_TRAINING = {"text_encoder", "tokenizer"}
PART_FILES = (
    "*config.json",
    "model*.safetensors*",
    "diffusion_pytorch_model*.safetensors*",
    "adapter_model.safetensors",
    "base.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.*",
)
"""What `save_pretrained` writes; other files of a folder are somebody's own."""


@dataclass(frozen=True)
class Sample:
    """An edit for the model card."""

    source: np.ndarray  # (H, W, 3) uint8
    instruction: str
    target: np.ndarray | None = None  # the right answer, likewise


def check_destination(folder: Path) -> None:
    """Refuse to write a model over other files."""
    check_folder(folder)
    sweep(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MODEL_INDEX).is_file():
        raise ValueError(f"{folder} holds other files and no {MODEL_INDEX}: name a new folder to export into.")
    if _index(folder).get("_class_name") not in CLASSES and not (folder / FACTS).is_file():
        raise ValueError(f"{folder} holds a model that `insightedit export` did not write: name a new folder.")


def _index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a folder, empty if it cannot be read."""
    try:
        index = json.loads((folder / MODEL_INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return index if isinstance(index, dict) else {}


def owned_files(folder: Path) -> Callable[[Path], bool]:
    """Which files of a model folder an export wrote, by their path in it: others' stay where they are."""
    parts = {name for name, kind in _index(folder).items() if isinstance(kind, list)} | FOR_TRAINING

    def owned(path: Path) -> bool:
        if len(path.parts) == 1:
            return path.name in TOP_FILES
        return path.parts[0] in parts and any(fnmatchcase(path.name, pattern) for pattern in PART_FILES)

    return owned


def check_run(run: Path, config: Config, *, ema: bool = True, merge_lora: bool = True) -> None:
    """Refuse a run that is not whole, before anything heavy is loaded."""
    if config.stage.objective == "align":
        raise StageError(
            f"{run} is a run of stage {config.stage.number} (align), which does not draw: train stage 2 or 3 on it "
            "and export that run."
        )
    contract = read_contract(run)
    said = {**contract, **contract["base_models"]}
    holds = {
        "recipe": config.recipe,
        "stage": config.stage.number,
        "edit_token": getattr(config.comprehension, "edit_token", contract.get("edit_token")),
        **base_models(config),
    }
    for key, value in holds.items():
        if key in said and said[key] != value:
            raise StageError(
                f"{run} is mixed up: its {CONTRACT} says {key} is {said[key]}, its config.yaml says {value}. "
                "Export the run folder that training wrote, unchanged."
            )
    newest = CheckpointFolder(run / "checkpoints").latest()
    weights = stage_weights(run, ema=ema)
    step = json.loads((newest / TRAINER).read_text(encoding="utf-8"))["step"] if newest else -1
    if step < contract["steps"]:
        raise StageError(
            f"{run} finished at step {contract['steps']}, but its newest whole checkpoint is from step {step}: the "
            "last one is damaged or gone. Run that stage again, it goes on from there."
        )
    promised, held = contract["keys"], {name: list(value.shape) for name, value in weights.items()}
    if missing := sorted(set(promised) - set(held)):
        raise StageError(
            f"{run} lacks {len(missing)} weights that its {CONTRACT} lists (e.g. {missing[0]}): what earlier stages "
            "made lies in inherited.safetensors of that folder. Bring it back, or train that stage anew."
        )
    if other := sorted(name for name, shape in held.items() if promised.get(name) != shape):
        raise StageError(
            f"{run} holds {len(other)} weights that its {CONTRACT} does not list so (e.g. {other[0]}): the "
            "checkpoint is another run's. Train that stage anew."
        )
    bad = sorted(name for name, value in weights.items() if not is_finite(value))
    if bad:
        raise StageError(
            f"{run} holds weights that are not finite ({len(bad)} tensors, e.g. {bad[0]}): its training diverged. "
            "Train that stage anew with a lower optim.lr."
        )
    full = [n for n in weights if n.startswith("comprehension.") and "lora_" not in n and "_tokens_" not in n]
    if full and not merge_lora:
        raise StageError(
            f"{run} trained {len(full)} weights of the language model itself (e.g. {full[0]}), which no adapter "
            "holds: export with --merge-lora."
        )


def taught_words(run: Path) -> dict[str, Any]:
    """Which words a run's model knows and how it refuses, where that can be said, as settings of its pipeline.

    It can where a language model of this package has read nothing but this package's scenes, which are told in lower
    case, and a fifth of whose descriptions say that a request cannot be carried out. Anything else (a published
    language model, somebody's own texts) leaves the settings as they are.
    """
    from insightedit.datasets.mixture import leaves
    from insightedit.datasets.sources import DECLINING
    from insightedit.modeling.pretrained import PREFIX
    from insightedit.scenes import known_words
    from insightedit.scenes.wordings import REFUSALS

    configs = [read_run(folder) for folder in stages_behind(run)]
    sources = [source for config in configs for source in leaves(config.data.sources)]
    start = Path(started_from(run) or "", "model_index.json")
    if any(source.path for source in sources) or not configs:
        return {}
    speaks = getattr(configs[0].comprehension, "expressive", False)
    refuses = {"refusals": REFUSALS} if speaks and any(source.kind in DECLINING for source in sources) else {}
    if start.is_file():
        told = json.loads(start.read_text(encoding="utf-8"))
        kept = ("known_words", "lowercase_instructions", "refusals")
        return {name: told[name] for name in kept if name in told} | refuses
    reads = configs[0].comprehension
    if not all(getattr(reads, name).startswith(PREFIX) for name in reads.base_models):
        return {}
    words = known_words()
    return {"known_words": " ".join(words), "lowercase_instructions": True} | refuses


def check_finite(part: str, module: nn.Module | None, dtype: torch.dtype) -> None:
    """Refuse weights that a float type cannot hold."""
    for name, value in [] if module is None else module.named_parameters():
        if not is_finite(value.detach()):
            short = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{part}.{name} does not fit into {short}: some values become infinite. Export with --dtype bf16 or "
                "fp32."
            )


def scene_samples(count: int, size: int) -> list[Sample]:
    """The first scenes of the split `val`, which no training sees, with their right answers."""
    from insightedit.config.schema import SourceConfig
    from insightedit.datasets.sources import build_source

    if count <= 0:
        return []
    source = build_source(SourceConfig(kind="scenes", split="val"), size=size, seed=0)
    records = (source[index] for index in range(count))
    return [Sample(np.asarray(r.source_image), r.instruction, np.asarray(r.target_image)) for r in records]


def own_samples(words: Sequence[str]) -> list[Sample]:
    """Pictures of the user's, each given as `PICTURE=INSTRUCTION`."""
    from insightedit.images.reading import read_picture, to_rgb

    samples = []
    for word in words:
        path, _, instruction = word.partition("=")
        if not path or not instruction.strip():
            raise ValueError(f"--sample {word!r}: write PICTURE=INSTRUCTION, e.g. photo.png='remove the dog'.")
        samples.append(Sample(to_rgb(read_picture(Path(path))), instruction.strip()))
    return samples


def draw_sheet(pipeline: InsightEditPipeline, samples: Sequence[Sample], path: Path) -> None:
    """Edit the samples with the model's defaults and write a PNG: source | edited | right answer."""
    from insightedit.images.reading import read_rgb, squash
    from insightedit.training.samples import draw_samples

    pipeline.set_progress_bar_config(disable=True)
    results: list[Any] = [
        pipeline(image=s.source, instruction=s.instruction, seed=0, background_lock=False).images for s in samples
    ]
    side = pipeline.config.resolution
    edited = [squash(read_rgb(images[0]), side) for images in results]
    square = [
        Sample(squash(s.source, side), s.instruction, None if s.target is None else squash(s.target, side))
        for s in samples
    ]
    draw_samples(square, edited, path)
