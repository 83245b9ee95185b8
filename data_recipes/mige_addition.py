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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data_recipes.backends.base import Question
from data_recipes.backends.windows import MARGIN, cut_out, touches_border
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step, attempts, share
from data_recipes.steps.asking import Asking, AskingStep, Form, Round, UnusableError, bare, read_form
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.pairs import removal_request
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import SubjectWording

ABOUT = "Photos to additions of their main subject, shown by a picture in the instruction (MIGE)."

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
class MainSubject(AskingStep):
    """Notes the number of the thing that a photo is about, as a language model sees it; the others are of no use here.

    Refused: no masks, no usable answer, no subject, or one that is cut off.
    """

    attempts: int = attempts()  # how often it is asked until the answer is usable; ours
    whole: bool = True  # refuse subjects that reach the picture's edge, where they are mostly cut off; ours

    name = "main_subject"
    prompts: ClassVar[Mapping[str, str]] = {"main_subject": PROMPT}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        has_masks = record.image is not None and any(thing.mask is not None for thing in record.things)
        return record if has_masks else self.reject(record, "has no masks")

    def _rounds(self) -> Sequence[Round]:
        def asking(record: Record) -> Asking[int]:
            words = [thing.words for thing in record.things]
            prompt = PROMPT.format(listed="\n".join(f"- {one}" for one in words))

            def read(text: str) -> int:
                """Number of the thing that is named; -1 for none."""
                named = read_form(text, Chosen).subject
                plain = [bare(one).lower() for one in words]
                if named is not None and bare(named).lower() not in plain:
                    raise UnusableError(f"{named!r} is not in the list")
                return -1 if named is None else plain.index(bare(named).lower())

            return Question(prompt, (record.photo,), "main_subject", {"objects": words}, record.truth), read

        def use(record: Record, number: int) -> Outcome:
            if number < 0:
                return self.reject(record, "has no main subject")
            thing = record.things[number]
            if thing.mask is None:
                return self.reject(record, "main subject has no mask", thing.caption)
            if self.whole and touches_border(thing.mask):
                return self.reject(record, "main subject is cut off", thing.caption)
            return record.but(notes={**record.notes, NOTE: number})

        return [(asking, use, "no usable answer")]


@dataclass(frozen=True)
class Addition(Step):
    """The source is the photo with its subject painted away, the target the photo, the reference the subject alone."""

    grow: float = share(0.02, most=0.5)  # how far is painted beyond the mask, as a share of the longer side; ours
    margin: float = share(MARGIN, most=0.5)  # of white around the reference, as a share of its longer side; ours

    name = "addition"
    needs = ("inpainter",)

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """One pair of each; refused: no subject."""

        def refusal(record: Record) -> Rejected | None:
            has_subject = record.image is not None and NOTE in record.notes
            return None if has_subject else self.reject(record, "has no subject")

        return self.batched(records, refusal, lambda good: self._pairs(good, context))

    def _pairs(self, records: Sequence[Record], context: Context) -> Iterator[Record]:
        subjects = [record.things[record.notes[NOTE]] for record in records]
        requests = [
            removal_request(record, subject, self.grow, int(context.rng(record).integers(1 << 31)))
            for record, subject in zip(records, subjects, strict=True)
        ]
        painted = context.backend("inpainter").paint(requests)
        for record, subject, request, empty in zip(records, subjects, requests, painted, strict=True):
            yield record.but(
                task="add",
                source=empty,
                target=record.image,
                mask=request.mask,
                class_target=subject.words,
                detailed_target=subject.detailed_caption,
                references=(cut_out(record.photo, subject.pixels, self.margin),),
            )


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(
        settings, Captions, Masks, MainSubject, Addition, SubjectWording, Quality, optional=[Quality]
    )


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("mige_addition")
