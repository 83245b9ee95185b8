"""MIGE's additions: the main subject of a photo, and the photo without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from data_recipes.backends.base import InpaintRequest, Question
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, DataclassStep, Outcome
from data_recipes.steps.asking import Answer, Form, UnusableError, bare, check_attempts, read_form
from data_recipes.steps.cutouts import MARGIN, cut_out, touches_border
from data_recipes.steps.each import Asking, ask_each
from data_recipes.steps.pairs import grown
from data_recipes.steps.settings import check_share

NOTE = "subject"
PROMPT = """These things were found in the picture that you see:

{listed}

Which of them is the main subject: the one that the picture is about, that is wholly seen, not hidden behind others, \
and that could be taken out of the picture and put into another one? Landscapes, buildings, parts of a body, and \
clothes that someone wears are no subjects.

Answer with one JSON object and nothing else: {{"subject": "..."}} with the words of the list, or {{"subject": null}} \
if none of them is."""


class Chosen(Form):
    """`{"subject": "the red dog"}`, or null."""

    subject: str | None


@dataclass(frozen=True)
class MainSubject(DataclassStep):
    """A language model looks at the photo and says which thing it is about; the others are of no use here.

    Attributes:
        attempts: how often it is asked until the answer is usable; ours.
        whole: refuse subjects that reach the picture's edge, where they are mostly cut off; ours.
    """

    attempts: int = 3
    whole: bool = True

    name = "main_subject"
    needs = ("chat",)

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"main_subject": PROMPT}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with the note `subject`, the thing's number; refused: none, no usable answer, cut off, no masks."""
        outcomes: list[Outcome] = [
            record
            if record.image is not None and any(thing.mask is not None for thing in record.things)
            else Rejected(record.key, self.name, "has no masks")
            for record in records
        ]
        chat = context.backend("chat")
        return [[one] for one in ask_each(chat, outcomes, self._asking, self._chosen, self.attempts)]

    def _asking(self, record: Record) -> Asking[int]:
        words = [thing.caption or thing.name for thing in record.things]
        prompt = PROMPT.format(listed="\n".join(f"- {one}" for one in words))
        assert record.image is not None, "refused before"
        question = Question(prompt, (record.image,), "main_subject", {"objects": words}, record.truth)
        return question, partial(_read_subject, known=words)

    def _chosen(self, record: Record, answer: Answer[int]) -> Outcome:
        number = answer.value
        if number is None:
            return Rejected(record.key, self.name, "no usable answer", answer.fault)
        if number < 0:
            return Rejected(record.key, self.name, "has no main subject")
        thing = record.things[number]
        if thing.mask is None:
            return Rejected(record.key, self.name, "main subject has no mask", thing.caption)
        if self.whole and touches_border(thing.mask):
            return Rejected(record.key, self.name, "main subject is cut off", thing.caption)
        return record.but(notes={**record.notes, NOTE: number})


@dataclass(frozen=True)
class Addition(DataclassStep):
    """The photo with its subject painted away is the source, the photo the target, the cut-out subject the reference.

    Attributes:
        grow: how far the painted area reaches beyond the mask, as a share of the picture's longer side; ours.
        margin: of white around the reference, as a share of its longer side; ours.
    """

    grow: float = 0.02
    margin: float = MARGIN

    name = "addition"
    needs = ("inpainter",)

    def __post_init__(self) -> None:
        for setting in ("grow", "margin"):
            check_share(self.name, setting, getattr(self, setting), most=0.5)

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """One pair of each; refused: no subject."""
        good = [record for record in records if record.image is not None and NOTE in record.notes]
        paintings = [self._painting(record, context) for record in good]
        painted = context.backend("inpainter").paint(paintings) if good else []
        made = iter(
            self._pair(record, painting, empty)
            for record, painting, empty in zip(good, paintings, painted, strict=True)
        )
        return [
            [
                next(made)
                if record.image is not None and NOTE in record.notes
                else Rejected(record.key, self.name, "has no subject")
            ]
            for record in records
        ]

    def _painting(self, record: Record, context: Context) -> InpaintRequest:
        thing = record.things[record.notes[NOTE]]
        assert record.image is not None and thing.mask is not None
        seed = int(context.rng(record).integers(1 << 31))
        about = {"class_origin": thing.caption or thing.name, "class_target": ""}
        mask = grown(thing.mask, self.grow)
        return InpaintRequest(record.image, mask, seed=seed, truth=record.truth, about=about)

    def _pair(self, record: Record, painting: InpaintRequest, empty: object) -> Record:
        thing = record.things[record.notes[NOTE]]
        assert record.image is not None and thing.mask is not None
        return record.but(
            task="add",
            source=empty,
            target=record.image,
            mask=painting.mask,
            class_target=thing.caption or thing.name,
            detailed_target=thing.detailed_caption,
            references=(cut_out(record.image, thing.mask, self.margin),),
        )


def _read_subject(text: str, known: Sequence[str]) -> int:
    """Number of the thing that is named; -1 for none."""
    named = read_form(text, Chosen).subject
    if named is None:
        return -1
    plain = [bare(words).lower() for words in known]
    if bare(named).lower() not in plain:
        raise UnusableError(f"{named!r} is not in the list")
    return plain.index(bare(named).lower())


__all__ = ["Addition", "MainSubject"]
