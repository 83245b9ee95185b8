"""MGIE's expressive instructions for an editing data set: pairs in, the same pairs with one more wording out.

| the paper and its notebook | here |
| --- | --- |
| a frozen LLaVA is asked what the picture will look like, greedily | `describe`, by the backend `chat` |
| two sentences are kept, and nothing from "alternative" on | the same |
| a flan-t5 summariser, five beams, 5 to 64 tokens | `summarise`, by the backend `summariser` of the kind `seq2seq` |

Texts and rules are those of `python -m data_recipes.expressive`, which writes JSON lines beside a data set; this recipe
writes shards with the pictures, resumes within them, and takes endpoints or any language model for both questions.

Source: MGIE, section 3.1 and its released data notebook; the wordings are our own.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes.mgie_expressive.expressive import Describe, Summarise
from data_recipes.recipes import Settings, configured
from data_recipes.runner.steps import Step
from data_recipes.steps.quality import Quality

ABOUT = "Pairs with one more wording each: what will be seen after the edit, summarised (MGIE)."


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    made: list[Step] = [configured(Describe, settings), configured(Summarise, settings)]
    if isinstance(settings.get(Quality.name), Mapping):
        made.append(configured(Quality, settings))
    return made
