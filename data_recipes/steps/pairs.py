"""AdvancedEdit's third step: pairs of pictures by inpainting. An addition is a removal the other way round.

| task | source | target | made by |
| --- | --- | --- | --- |
| remove | photo | painted | the mask is filled with what would be behind the thing |
| add | painted | photo | the same, swapped |
| replace | photo | painted | a proposed thing is painted into the box of the thing |
| replace back | painted | photo | the same, swapped |

Keys tell pairs apart: `00017/2-remove`, `00017/2-add`, `00017/2-replace`, `00017/2-replace-back`, where 2 is the number
of the thing. Notes keep the thing's own mask as `segmentation`, in the published form, while the
pair's mask is the area that was painted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from pydantic import Field
from scipy import ndimage

from data_recipes.backends.base import InpaintRequest, Question
from data_recipes.formats.run_lengths import encode_mask
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, Outcome
from data_recipes.steps.asking import Answer, Form, UnusableError, ask_all, bare, check_attempts, read_form
from data_recipes.steps.editable import may
from data_recipes.steps.settings import check_at_least, check_chosen, check_share

TASKS = ("remove", "add", "replace")
PROMPT = """A picture shows: {caption}

In it is {detail}. An image editor will paint something else into exactly its place. Propose what: one concrete thing \
that could well stand there, of about the same size and shape, but of another kind, and that is not in the picture \
yet. Be inventive, but keep the picture believable.

Answer with one JSON object and nothing else:
{{"object": "a few words for the new thing, with its colour or material", "detailed_caption": "a phrase of at most 25 \
words that begins with a or an and tells what the new thing looks like and where in the picture it is"}}"""


class Proposal(Form):
    """`{"object": "brass lantern", "detailed_caption": "a small brass lantern on the windowsill"}`."""

    object: str = Field(min_length=1, max_length=100)
    detailed_caption: str = Field(min_length=1, max_length=1000)


@dataclass(frozen=True)
class Pairs:
    """Pairs of a photo's things.

    Attributes:
        tasks: which of "remove", "add" and "replace" are made.
        swap: whether every replacement is given the other way round, too, as published.
        grow: how far the painted area reaches beyond the mask (removal) or the box (replacement), as a share of the
            picture's longer side, at least 2 pixels: cut-outs are never exact; ours.
        max_things: things that are edited at most, spread over them by chance; ours.
        attempts: how often a proposal is asked for until it is usable; ours.
        negative_prompt: for the inpainter; ours.
    """

    tasks: Sequence[str] = field(default=TASKS)
    swap: bool = True
    grow: float = 0.02
    max_things: int = 4
    attempts: int = 3
    negative_prompt: str = ""

    name = "pairs"
    needs = ("inpainter", "chat")

    def __post_init__(self) -> None:
        check_attempts(self.name, self.attempts)
        if not self.tasks:
            raise ValueError(f"steps.{self.name}.tasks is empty: choose of {', '.join(TASKS)}.")
        check_chosen(self.name, "tasks", self.tasks, TASKS)
        check_share(self.name, "grow", self.grow, most=0.5, of="a side")
        check_at_least(self.name, "max_things", self.max_things)

    @property
    def settings(self) -> Mapping[str, object]:
        """All fields."""
        return {**vars(self), "tasks": list(self.tasks)}

    @property
    def prompts(self) -> Mapping[str, str]:
        """By task."""
        return {"propose": PROMPT} if "replace" in self.tasks else {}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Pairs; refused: no photo, no masks, nothing may be edited, and for a thing: no usable proposal."""
        jobs: list[_Job] = []
        outcomes: list[list[Outcome]] = []
        for record in records:
            refused = self._refusal(record)
            outcomes.append([refused] if refused else [])
            jobs += [] if refused else self._jobs(len(outcomes) - 1, record, context)
        jobs = self._with_proposals(jobs, outcomes, context)
        paintings = [job.painting(self.negative_prompt, context) for job in jobs]
        painted = context.backend("inpainter").paint(paintings) if jobs else []
        for job, painting, picture in zip(jobs, paintings, painted, strict=True):
            outcomes[job.place] += job.pairs(painting.mask, picture, self.tasks, self.swap)
        for record, found in zip(records, outcomes, strict=True):
            if not found:
                found.append(Rejected(record.key, self.name, "nothing may be edited"))
        return outcomes

    def _refusal(self, record: Record) -> Rejected | None:
        if record.image is None:
            return Rejected(record.key, self.name, "has no photo")
        if not any(thing.mask is not None for thing in record.things):
            return Rejected(record.key, self.name, "has no masks")
        return None

    def _jobs(self, place: int, record: Record, context: Context) -> list[_Job]:
        """What is to be painted for a photo: each thing removed, and each replaced."""
        order = context.rng(record).permutation(len(record.things))
        chosen = sorted(int(n) for n in order if record.things[int(n)].mask is not None)
        if len(chosen) > self.max_things:
            masked = [int(n) for n in order if record.things[int(n)].mask is not None]
            chosen = sorted(masked[: self.max_things])
        kinds = [("remove", {"remove", "add"}), ("replace", {"replace"})]
        return [
            _Job(place, record, number, kind, self.grow)
            for number in chosen
            for kind, tasks in kinds
            if tasks & set(self.tasks) and may(record, kind)[number]
        ]

    def _with_proposals(self, jobs: Sequence[_Job], outcomes: list[list[Outcome]], context: Context) -> list[_Job]:
        """The jobs that can be done, replacements with what comes; the others are refused."""
        asking = [job for job in jobs if job.kind == "replace"]
        if not asking:
            return list(jobs)
        readers = [partial(_read_proposal, known=job.record.things) for job in asking]
        questions = [job.question() for job in asking]
        answers: list[Answer[Proposal]] = ask_all(context.backend("chat"), questions, readers, self.attempts)
        found = dict(zip((job.key for job in asking), answers, strict=True))
        ready = []
        for job in jobs:
            answer = found.get(job.key)
            if answer is None:
                ready.append(job)
            elif answer.value is None:
                outcomes[job.place].append(Rejected(job.key, self.name, "no usable proposal", answer.fault))
            else:
                ready.append(replace(job, proposal=answer.value))
        return ready


@dataclass(frozen=True)
class _Job:
    """One painting and the pairs that come of it."""

    place: int
    record: Record
    number: int
    kind: str
    grow: float
    proposal: Proposal | None = None

    @property
    def key(self) -> str:
        return f"{self.record.key}/{self.number}-{self.kind}"

    @property
    def thing(self) -> ObjectAnnotation:
        return self.record.things[self.number]

    @property
    def words(self) -> str:
        return self.thing.caption or self.thing.name

    def question(self) -> Question:
        detail = self.thing.detailed_caption or self.words
        prompt = PROMPT.format(caption=self.record.caption, detail=detail.rstrip("."))
        about = {"object": self.words, "detailed_caption": self.thing.detailed_caption}
        assert self.record.image is not None
        return Question(prompt, (self.record.image,), "propose", about, self.record.truth)

    def painting(self, negative_prompt: str, context: Context) -> InpaintRequest:
        assert self.record.image is not None and self.thing.mask is not None
        new = self.proposal.object if self.proposal else ""
        drawn = context.rng(self.record.but(key=self.key))
        area = box_mask(self.thing.mask) if self.proposal else self.thing.mask
        return InpaintRequest(
            self.record.image,
            grown(area, self.grow),
            new,
            negative_prompt,
            int(drawn.integers(1 << 31)),
            self.record.truth,
            {"class_origin": self.words, "class_target": new},
        )

    def pairs(self, mask: np.ndarray, painted: np.ndarray, tasks: Sequence[str], swap: bool) -> list[Outcome]:
        """The pair, and the swapped one."""
        forward = self.record.but(
            key=self.key,
            task=self.kind,
            source=self.record.image,
            target=painted,
            mask=mask,
            class_origin=self.words,
            class_target=self.proposal.object if self.proposal else "",
            detailed_origin=self.thing.detailed_caption,
            detailed_target=self.proposal.detailed_caption if self.proposal else "",
            notes={
                **self.record.notes,
                "object": self.number,
                "segmentation": encode_mask(self.thing.mask),
                "swapped": False,
            },
        )
        back = "replace-back" if self.proposal else "add"
        given = [forward] if self.kind in tasks else []
        is_wanted = swap if self.proposal else "add" in tasks
        return [*given, swapped(forward, f"{self.record.key}/{self.number}-{back}")] if is_wanted else [*given]


def swapped(record: Record, key: str) -> Record:
    """The pair the other way round: what came is what is edited."""
    task = {"remove": "add", "add": "remove"}.get(record.task, record.task)
    return record.but(
        key=key,
        task=task,
        source=record.target,
        target=record.source,
        class_origin=record.class_target,
        class_target=record.class_origin,
        detailed_origin=record.detailed_target,
        detailed_target=record.detailed_origin,
        notes={**record.notes, "swapped": True},
    )


def grown(mask: np.ndarray, share: float) -> np.ndarray:
    """A (H, W) bool mask that reaches further on all sides, by a share of the longer side; 0 leaves it."""
    if share == 0 or not mask.any():  # the transform below wants something to measure from
        return mask.copy()
    reach = max(2, round(share * max(mask.shape)))
    return np.asarray(ndimage.distance_transform_edt(~mask)) <= reach


def box_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the box around a mask, filled; empty for an empty one."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    filled = np.zeros_like(mask)
    if rows.size:
        filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return filled


def _read_proposal(text: str, known: Sequence[ObjectAnnotation]) -> Proposal:
    proposal = read_form(text, Proposal)
    names = {bare(words).lower() for thing in known for words in (thing.caption, thing.name) if words}
    if bare(proposal.object).lower() in names:
        raise UnusableError(f"{proposal.object!r} is in the picture already")
    return proposal


__all__ = ["Pairs", "box_mask", "grown", "swapped"]
