"""The model card: the README.md of a model folder."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from torch import nn

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
