"""SmartEdit's synthetic pairs: a thing of one photo takes the place of a thing of another.

| the paper | here |
| --- | --- |
| x1, x2: two pictures from the internet | `source.kind: couples`: each photo of a folder with a second one of it |
| mask1, mask2 by SAM, of chosen animals | `captions`, `masks`, `donor`: language model, Grounding DINO, SAM |
| y1: mask1 painted over by MAT | `swap`: any inpainting pipeline; MAT is in no library |
| y2, y3: resized, filtered, merged | `swap`: same area, same foot, limits to the scale, edges trimmed and smoothed |
| y4: harmonised by PIH | `swap`: the harmoniser `statistics` (curves, as PIH) or `diffusers`; PIH is in no library |
| (y1, x1, "Add a cat to the right of the cat") | the pair `KEY/add` |
| (x1, y4, "Replace the smaller cat with a rabbit") | the pair `KEY/replace` |
| wordings by people | `relations`: sides, sizes, neighbours by masks; `wording`: a language model, reasoning too |
| 476 pairs, picked by hand | as many as there are photos; the step `quality` where the config names it |

Its reasoning pairs (SAM, Stable Diffusion inpainting by the instruction, failures picked out by hand) are those of the
recipe `advancededit` with `steps.wording.kinds: [reasoning]`: the config `smartedit_reasoning`.

Source: SmartEdit, supplementary material, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes.recipes import Settings, configured
from data_recipes.runner.steps import Step
from data_recipes.smartedit_synthetic.donor import Donor
from data_recipes.smartedit_synthetic.relations import Relations
from data_recipes.smartedit_synthetic.swap import Swap
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import Wording

ABOUT = "Two photos to an addition and a replacement: cut out, inpaint, paste, harmonise (SmartEdit)."


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    made: list[Step] = [configured(step, settings) for step in (Captions, Masks, Donor, Swap, Wording, Relations)]
    if isinstance(settings.get(Quality.name), Mapping):
        made.append(configured(Quality, settings))
    return made
