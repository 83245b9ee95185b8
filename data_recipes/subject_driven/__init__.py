"""Subject-driven generation: "<imagehere> on a beach", from photos and their captions.

| the paper | here |
| --- | --- |
| captions | of the photo by a language model, where the source gives none |
| entities from captions by an LLM (as KOSMOS-G and UNIMO-G) | `entities`: in exactly the caption's words |
| segmented by Grounded SAM | `masks` |
| the caption with pictures in the entities' places | `compose`; there is no source, the photo is the target |
| Subjects200K is used beside it | pairs with references in their instructions pass untouched |

References are the entities on white, each in the middle of a square; the papers cut out alike.

Source: MIGE, section 3.3.1; KOSMOS-G, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.recipes import Settings, configured
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, Outcome, Step
from data_recipes.steps.masks import Masks
from data_recipes.steps.quality import Quality
from data_recipes.subject_driven.entities import Compose, Entities, is_finished

ABOUT = "Captioned photos to new pictures of the subjects that references show (KOSMOS-G, MIGE)."


@dataclass(frozen=True)
class EntityMasks(Masks):
    """The step `masks`, which finished records pass."""

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """See `Masks`."""
        open_ones = [record for record in records if not is_finished(record)]
        found = iter(super().__call__(open_ones, context) if open_ones else [])
        return [[record] if is_finished(record) else next(found) for record in records]


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    made: list[Step] = [configured(step, settings) for step in (Entities, EntityMasks, Compose)]
    if isinstance(settings.get(Quality.name), Mapping):
        made.append(configured(Quality, settings))
    return made
