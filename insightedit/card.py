"""The model card: the README.md of a model folder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from omegaconf import OmegaConf
from torch import nn

from insightedit.training.checkpoint import TRAINER, CheckpointFolder

if TYPE_CHECKING:
    from insightedit.pipeline import InsightEditPipeline


def model_card(pipeline: InsightEditPipeline, card: dict[str, Any] | None = None) -> str:
    """The README.md of a model folder, with the header that the hub reads.

    Args:
        pipeline: gives sizes and defaults.
        card: fields that only training knows: `title`, `recipe`, `license`, `base_models`, `datasets`,
            `steps`, `skill`, `limits`, each text or a list of texts.
    """
    template = files("insightedit").joinpath("templates/model_card.md").read_text(encoding="utf-8")
    parameters = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in pipeline.components.items()
        if isinstance(module, nn.Module)
    }
    known = {"title": "InsightEdit model", "recipe": "insightedit", "license": "apache-2.0"}
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["lines"] = lambda value: [value] if isinstance(value, str) else list(value or [])
    return environment.from_string(template).render(
        card={**known, **(card or {})}, config=pipeline.config, parameters=parameters
    )


def training_facts(run: Path) -> list[str]:
    """One line per stage that led to a run: steps, batch, what it was trained to do; read from the run folders.

    Args:
        run: run folder of the last stage.
    """
    facts: list[str] = []
    current: Path | None = Path(run)
    while current is not None and (current / "config.yaml").is_file():
        config: Any = OmegaConf.load(current / "config.yaml")
        lines = (current / "log.jsonl").read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1]) if lines else {"step": 0}
        batch = config.train.batch_size * config.train.gradient_accumulation_steps * _world_size(current)
        sources = ", ".join(f"{s.kind} ({s.split})" for s in config.data.sources)
        facts.insert(
            0,
            f"stage {config.stage.number} ({config.stage.objective}): {last['step']} steps of {batch} samples from "
            f"{sources}; {config.optim.name}, learning rate {config.optim.lr:g}",
        )
        before = current.parent / f"stage{config.stage.number - 1}"
        current = Path(config.init_from) if config.init_from else before
    return facts


def known_limits(config: Any) -> list[str]:
    """What the settings of a run keep its model from doing.

    Args:
        config: the run's `Config`.
    """
    limits = []
    if first := config.loss.min_timestep:
        steps = config.guidance.num_inference_steps
        limits.append(
            f"Trained on the timesteps from {first} on only: made for {steps} denoising step{'s' * (steps > 1)}, "
            "many more make its pictures worse."
        )
    if not config.guidance.drop_image + config.guidance.drop_both:
        limits.append(
            "Never trained without the source picture: an image guidance scale other than 1 is a guess."
        )
    return limits


def _world_size(run: Path) -> int:
    """How many processes trained a run together, as its newest checkpoint says."""
    newest = CheckpointFolder(run / "checkpoints").latest()
    return json.loads((newest / TRAINER).read_text(encoding="utf-8"))["world_size"] if newest else 1


def measured_skill(report: Path) -> list[str]:
    """Lines on edit success from the `report.json` that `insightedit eval scenes` writes.

    Args:
        report: the file.

    Raises:
        ValueError: if the file is no such report.
    """
    try:
        found = json.loads(Path(report).read_text(encoding="utf-8"))
        model, hash_ = found["rows"][0], found["protocol"]["hash"]
        success, tasks = model["success"], model["groups"]["task"]
    except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{report} is no report of `insightedit eval scenes`: give the report.json of its --out folder."
        ) from error
    lines = [f"edit success on {success['n']} held-out scenes: {_rate(success)} (protocol {hash_})"]
    return lines + [f"{task}: {_rate(rate)}" for task, rate in sorted(tasks.items())]


def _rate(rate: dict[str, Any]) -> str:
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}], n = {rate['n']}"
