"""SmartEdit's complex understanding: instructions that mean a thing by its side, its size or what it stands beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, EachRecord, Outcome
from data_recipes.steps.asking import bare
from data_recipes.steps.places import article, beside, place_words, told_apart

KIND = "advanced"
FORMS = {  # the paper's examples: its figures 1, 2 and 6
    "replace": ("Replace {ref} with {new}", "Change {ref} to {new}"),
    "add": ("Add {new} {where}",),
}


@dataclass(frozen=True)
class Relations(EachRecord):
    """Adds what the masks tell: "Replace the smaller cat with a rabbit", "Add a cat to the right of the dog".

    Attributes:
        only: leave all other wordings out, as SmartEdit's complex understanding has no others.
    """

    only: bool = False

    name = "relations"

    def one(self, record: Record, context: Context) -> Outcome:
        """The record with one more wording; refused: no pair of this recipe."""
        number = record.notes.get("object")
        if record.task not in FORMS or number is None or not 0 <= int(number) < len(record.things):
            return self.reject(record, "is no pair of a photo's thing", record.task)
        choices = self._wordings(record, int(number))
        text = choices[int(context.rng(record).integers(len(choices)))]
        kept = {} if self.only else dict(record.instructions)
        before: Sequence[str] = kept.get(KIND, ())
        return record.but(instructions={**kept, KIND: tuple(dict.fromkeys((*before, text)))})

    def _wordings(self, record: Record, number: int) -> list[str]:
        """All that are true."""
        thing = record.things[number]
        forms = FORMS[record.task]
        if record.task == "replace":
            new = article(record.class_target)
            is_whole = not record.notes.get("objects_left_out")  # one of its kind may be among those
            refs = (told_apart(record.things, number) if is_whole else ()) or (
                f"the {bare(thing.caption or thing.name)}",
            )
            return [form.format(ref=ref, new=new) for form in forms for ref in refs]
        assert thing.mask is not None, "pairs are made of things with masks"
        others = [other for i, other in enumerate(record.things) if i != number]
        where = beside(thing.mask, others) or place_words(thing.mask)
        return [form.format(new=article(thing.name), where=where) for form in forms]
