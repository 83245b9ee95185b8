"""SmartEdit's second photo: what is in it, and one thing of it cut out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, Outcome
from data_recipes.steps.captions import Captions
from data_recipes.steps.cutouts import CutOut, touches_border, trimmed
from data_recipes.steps.masks import Masks

NOTE = "donor"


@dataclass(frozen=True)
class Donor(DataclassStep):
    """Chooses a thing of the second photo, by chance among those that are whole and of a kind that the first has not.

    Attributes:
        attempts: how often a question about the second photo is asked until its answer is usable; ours.
        box_threshold: least score of a detection; published for AdvancedEdit: 0.4.
        min_area: least share of the second photo that the thing covers; small ones get blurred; ours.
        max_area: largest; ours.
        trim: pixels that are taken off all around, since they show the old background, too; ours.
    """

    attempts: int = 3
    box_threshold: float = 0.4
    min_area: float = 0.01
    max_area: float = 0.4
    trim: int = 1

    name = NOTE
    needs = ("chat", "detector", "segmenter")

    def __post_init__(self) -> None:
        if self.trim < 0:
            raise ValueError(f"steps.{self.name}.trim is {self.trim}: it is a number of pixels, 0 or more.")
        self._parts  # noqa: B018 - their settings are checked by themselves

    @property
    def prompts(self) -> Mapping[str, str]:
        """Those of the step `captions`."""
        return self._parts[0].prompts

    @property
    def _parts(self) -> tuple[Captions, Masks]:
        masks = Masks(box_threshold=self.box_threshold, min_area=self.min_area, max_area=self.max_area)
        return Captions(attempts=self.attempts), masks

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with the thing and its mask as `references`; refused: no second photo, nothing in it that will do."""
        outcomes: dict[int, Outcome] = {}
        seen: dict[int, Record] = {}
        for number, record in enumerate(records):
            if len(record.references) == 1:
                truth = record.truth.get("partner", {})
                seen[number] = Record(record.key, image=record.references[0], truth=truth)
            else:
                detail = "source.kind couples gives each photo one"
                outcomes[number] = Rejected(record.key, self.name, "has no second photo", detail)
        for step in self._parts:
            found = step(list(seen.values()), context) if seen else []
            for number, (outcome,) in zip(list(seen), found, strict=True):
                if isinstance(outcome, Rejected):
                    reason = f"second photo: {outcome.reason}"
                    outcomes[number] = Rejected(outcome.key, self.name, reason, outcome.detail)
                    del seen[number]
                else:
                    seen[number] = outcome
        for number, second in seen.items():
            outcomes[number] = self._chosen(records[number], second, context)
        return [[outcomes[number]] for number in range(len(records))]

    def _chosen(self, record: Record, second: Record, context: Context) -> Outcome:
        present = {thing.name.lower() for thing in record.things}
        good: list[ObjectAnnotation] = [
            thing
            for thing in second.things
            if thing.mask is not None and not touches_border(thing.mask) and thing.name.lower() not in present
        ]
        if not good:
            told = ", ".join(thing.name for thing in second.things)
            return Rejected(record.key, self.name, "second photo has no whole thing of another kind", told)
        thing = good[int(context.rng(record).integers(len(good)))]
        assert thing.mask is not None and second.image is not None
        cut = CutOut.of(second.image, trimmed(thing.mask, self.trim))
        told = {"name": thing.name, "caption": thing.caption}
        return record.but(references=cut.pictures, notes={**record.notes, NOTE: told})
