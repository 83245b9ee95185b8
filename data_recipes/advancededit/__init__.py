"""InsightEdit's data pipeline: photos become removals, additions and replacements in many wordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_recipes.recipes import Settings, configured
from data_recipes.runner.steps import Step
from data_recipes.steps.captions import Captions
from data_recipes.steps.editable import Editable
from data_recipes.steps.masks import Masks
from data_recipes.steps.pairs import Pairs
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import Wording

ABOUT = "Photos to removals, additions and replacements: caption, mask, inpaint, reword, judge (AdvancedEdit)."


def steps(settings: Settings) -> list[Step]:
    """The five steps; the optional filter stands after the first where the config names it, as in `editable: {}`."""
    first: list[Step] = [configured(Captions, settings)]
    if isinstance(settings.get(Editable.name), Mapping):
        first.append(configured(Editable, settings))
    return [*first, *(configured(step, settings) for step in REST)]


REST: tuple[type[Any], ...] = (Masks, Pairs, Wording, Quality)
