"""InsightEdit's data pipeline: photos become removals, additions and replacements in many wordings."""

from __future__ import annotations

from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.steps import Step
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.pairs import Editable, Pairs
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import Wording

ABOUT = "Photos to removals, additions and replacements: caption, mask, inpaint, reword, judge (AdvancedEdit)."


def steps(settings: Settings) -> list[Step]:
    """The five steps; the optional filter stands after the first where the config names it, as in `editable: {}`."""
    return configured_steps(settings, Captions, Editable, Masks, Pairs, Wording, Quality, optional=[Editable])
