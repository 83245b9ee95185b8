"""MIGE's subject replacement: "replace the dog with <imagehere>", from pairs that replace something already.

| the paper | here |
| --- | --- |
| filtered from existing editing data | `replacements`: by task, or by how the instruction reads |
| the subject segmented by Grounded SAM | `subject_masks`: in the target, where the picture has changed |
| multimodal instructions | `marks`: the words for what came become `<imagehere>`, by rule; beside it a template |
| virtual try-on data by IDM-VTON | pairs with references in their instructions pass untouched |
| about 110k samples | as many as the source has; the step `quality` where the config names it |

The reference is cut out of the target itself, on white, in the middle of a square; the paper does not say how.

Source: MIGE, section 3.3.1 and figure 5b.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes.mige_replacement.replacements import Marks, Replacements, SubjectMasks
from data_recipes.recipes import Settings, configured
from data_recipes.runner.steps import Step
from data_recipes.steps.quality import Quality

ABOUT = "Replacements of an editing data set, with what comes shown by a picture in the instruction (MIGE)."


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    made: list[Step] = [configured(step, settings) for step in (Replacements, SubjectMasks, Marks)]
    if isinstance(settings.get(Quality.name), Mapping):
        made.append(configured(Quality, settings))
    return made
