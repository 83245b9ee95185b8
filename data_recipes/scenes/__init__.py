"""The exact scenes of `insightedit.scenes`, written as an editing data set: `python -m data_recipes.scenes`.

They are a recipe, too (`source.kind: scene_pairs`), with the outputs of every other recipe.
"""

from __future__ import annotations

from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.steps import Step
from data_recipes.steps.finished import Finished

ABOUT = "Rendered scenes with exact edits, masks and wordings, as they come."


def steps(settings: Settings) -> list[Step]:
    """One step, which lets pairs pass."""
    return configured_steps(settings, Finished)
