"""MIGE's subject addition: "add <imagehere> to the picture", where the picture shows what is added.

| the paper | here |
| --- | --- |
| SA-1B, annotated entities segmented by SAM | any folder of photos: `captions`, `masks` (Grounding DINO + SAM) |
| the main subject is kept by an MLLM | `main_subject` |
| "inpaint the remaining parts to create the background" | `addition`: the subject's mask is painted over |
| instruction from the subject's name and the target by GPT-4o | `subject_wording`, with a template of ours beside it |
| about 200k samples | as many as there are photos; the step `quality` where the config names it |

The reference is the subject on white, in the middle of a square; the paper does not say how it is shown.

Source: MIGE, section 3.3.1 and figure 5a.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes.mige_addition.subject import Addition, MainSubject
from data_recipes.recipes import Settings, configured
from data_recipes.runner.steps import Step
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.quality import Quality
from data_recipes.steps.subjects import SubjectWording

ABOUT = "Photos to additions of their main subject, shown by a picture in the instruction (MIGE)."


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    made: list[Step] = [
        configured(step, settings) for step in (Captions, Masks, MainSubject, Addition, SubjectWording)
    ]
    if isinstance(settings.get(Quality.name), Mapping):
        made.append(configured(Quality, settings))
    return made
