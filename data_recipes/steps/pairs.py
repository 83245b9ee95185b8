"""AdvancedEdit's third step: pairs of pictures by inpainting. An addition is a removal the other way round.

Before it stands the published optional filter, `editable`: which objects may be removed, and which may be replaced.

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
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import ndimage

from data_recipes.backends.base import InpaintRequest, Question
from data_recipes.backends.windows import box_of
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step, at_least, attempts, share, some_of
from data_recipes.steps.asking import Asking, AskingStep, Form, Round, UnusableError, ask_all, bare, read_form
from insightedit.datasets.segmentation import encode_mask

TASKS = ("remove", "add", "replace")
PROMPT = """A picture shows: {caption}

In it is {detail}. An image editor will paint something else into exactly its place. Propose what: one concrete thing \
that could well stand there, of about the same size and shape, but of another kind, and that is not in the picture \
yet. Be inventive, but keep the picture believable.

Answer with one JSON object and nothing else:
{{"object": "a few words for the new thing, with its colour or material", "detailed_caption": "a phrase of at most 25 \
words that begins with a or an and tells what the new thing looks like and where in the picture it is"}}"""
MAY = "may_"  # notes: may_remove, may_replace: captions of the things
EDITABLE_PROMPT = """A picture shows: {caption}

These things in it are to be {done} by an image editor, one at a time:
{listed}

For each, in this order, answer 1 if that makes sense and 0 if not. It makes sense for concrete things with an outline \
of their own. It makes none for landscapes and backgrounds, parts of a body, clothes that someone wears, abstract \
words and words about the view ("wide-angle view").

Answer with one JSON object and nothing else: {{"flags": [1, 0, ...]}} with {count} numbers."""
DONE = {"remove": "removed", "replace": "replaced by something else"}


class Flags(Form):
    """`{"flags": [1, 0]}`."""

    flags: list[Literal[0, 1]]


@dataclass(frozen=True)
class Editable(AskingStep):
    """Notes `may_remove` and `may_replace`; `pairs` then leaves the rest alone. Refused: no usable flags, no thing."""

    tasks: Sequence[str] = some_of(tuple(DONE))  # which of "remove" and "replace" are asked about
    attempts: int = attempts()  # how often a question is asked until its answer is usable; ours

    name = "editable"

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {f"editable_{task}": self._fill(task, "{caption}", ["{things}"]) for task in self.tasks}

    def _rounds(self) -> Sequence[Round]:
        def use(record: Record, flags: list[int], task: str) -> Outcome:
            kept = [thing.words for thing, flag in zip(record.things, flags, strict=True) if flag]
            record = record.but(notes={**record.notes, MAY + task: kept})
            if task == self.tasks[-1] and not any(record.notes[MAY + one] for one in self.tasks):
                return self.reject(record, "nothing may be edited", f"{len(record.things)} objects")
            return record

        return [(partial(self._asking, task=task), partial(use, task=task), "no usable flags") for task in self.tasks]

    def _asking(self, record: Record, task: str) -> Asking[list[int]]:
        words = [thing.words for thing in record.things]

        def read(text: str) -> list[int]:
            flags = read_form(text, Flags).flags
            if len(flags) != len(words):
                raise UnusableError(f"there are {len(flags)} flags for {len(words)} objects")
            return list(flags)

        prompt = self._fill(task, record.caption, words)
        return Question(prompt, (), "editable", {"objects": words, "task": task}, record.truth), read

    def _fill(self, task: str, caption: str, words: Sequence[str]) -> str:
        listed = "\n".join(f"{number}. {one}" for number, one in enumerate(words, 1))
        return EDITABLE_PROMPT.format(caption=caption, done=DONE[task], listed=listed, count=len(words))


def may(record: Record, task: str) -> tuple[bool, ...]:
    """For each thing of a record whether a task may be done to it: what `Editable` noted, else yes."""
    noted = record.notes.get(f"{MAY}{task}")
    return tuple(noted is None or thing.words in noted for thing in record.things)


class Proposal(Form):
    """`{"object": "brass lantern", "detailed_caption": "a small brass lantern on the windowsill"}`."""

    object: str = Field(min_length=1, max_length=100)
    detailed_caption: str = Field(min_length=1, max_length=1000)


@dataclass(frozen=True)
class Pairs(Step):
    """Pairs of a photo's things."""

    tasks: Sequence[str] = some_of(TASKS)  # which of "remove", "add" and "replace" are made
    swap: bool = True  # whether every replacement is given the other way round, too, as published
    # how far the painted area reaches beyond the mask (removal) or the box (replacement), as a share of the picture's
    # longer side, at least 2 pixels: cut-outs are never exact; ours
    grow: float = share(0.02, most=0.5, of="a side")
    max_things: int = at_least(4)  # things that are edited at most, spread over them by chance; ours
    attempts: int = attempts()  # how often a proposal is asked for until it is usable; ours
    negative_prompt: str = ""  # for the inpainter; ours

    name = "pairs"
    needs = ("inpainter", "chat")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ValueError(f"steps.{self.name}.tasks is empty: choose of {', '.join(TASKS)}.")

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {"propose": PROMPT} if "replace" in self.tasks else {}

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Pairs; refused: no photo, no masks, nothing may be edited, and for a thing: no usable proposal."""
        outcomes: list[list[Outcome]] = []
        jobs: list[_Paint] = []
        for place, record in enumerate(records):
            has_masks = any(thing.mask is not None for thing in record.things)
            refusal = "has no photo" if record.image is None else "" if has_masks else "has no masks"
            outcomes.append([self.reject(record, refusal)] if refusal else [])
            if not refusal:  # each thing removed, and each replaced
                order = context.rng(record).permutation(len(record.things)).tolist()
                masked = [number for number in order if record.things[number].mask is not None]
                jobs += [
                    _Paint(place, record, number, kind)
                    for number in sorted(masked[: self.max_things])
                    for kind, tasks in (("remove", {"remove", "add"}), ("replace", {"replace"}))
                    if tasks & set(self.tasks) and may(record, kind)[number]
                ]
        asked = [job.asking() for job in jobs if job.kind == "replace"]
        answers = iter(ask_all(context.backend("chat"), asked, self.attempts) if asked else ())
        ready = []  # the jobs that can be done, replacements with what comes
        for job in jobs:
            answer = next(answers) if job.kind == "replace" else None
            if isinstance(answer, UnusableError):
                outcomes[job.place].append(Rejected(job.key, self.name, "no usable proposal", str(answer)))
            else:
                ready.append(replace(job, proposal=answer))
        requests = [job.request(self, context) for job in ready]
        painted = context.backend("inpainter").paint(requests) if ready else []
        for job, request, picture in zip(ready, requests, painted, strict=True):
            outcomes[job.place] += job.pairs(request.mask, picture, self)
        return [
            found or [self.reject(record, "nothing may be edited")]
            for record, found in zip(records, outcomes, strict=True)
        ]


@dataclass(frozen=True)
class _Paint:
    """One painting and the pairs that come of it."""

    place: int
    record: Record
    number: int
    kind: str
    proposal: Proposal | None = None

    @property
    def key(self) -> str:
        return f"{self.record.key}/{self.number}-{self.kind}"

    @property
    def thing(self) -> ObjectAnnotation:
        return self.record.things[self.number]

    def asking(self) -> Asking[Proposal]:
        thing, record = self.thing, self.record
        prompt = PROMPT.format(caption=record.caption, detail=(thing.detailed_caption or thing.words).rstrip("."))
        about = {"object": thing.words, "detailed_caption": thing.detailed_caption}
        known = {bare(words).lower() for one in record.things for words in (one.caption, one.name) if words}

        def read(text: str) -> Proposal:
            proposal = read_form(text, Proposal)
            if bare(proposal.object).lower() in known:
                raise UnusableError(f"{proposal.object!r} is in the picture already")
            return proposal

        return Question(prompt, (record.photo,), "propose", about, record.truth), read

    def request(self, step: Pairs, context: Context) -> InpaintRequest:
        seed = int(context.rng(self.record.but(key=self.key)).integers(1 << 31))
        removal = removal_request(self.record, self.thing, step.grow, seed)
        if self.proposal is None:
            return replace(removal, negative_prompt=step.negative_prompt)
        new, area = self.proposal.object, grown(box_mask(self.thing.pixels), step.grow)
        about = {**removal.about, "class_target": new}
        return replace(removal, mask=area, prompt=new, negative_prompt=step.negative_prompt, about=about)

    def pairs(self, mask: np.ndarray, painted: np.ndarray, step: Pairs) -> list[Outcome]:
        """The pair, and the swapped one."""
        record, proposal = self.record, self.proposal
        told = {"object": self.number, "segmentation": encode_mask(self.thing.pixels), "swapped": False}
        forward = record.but(
            key=self.key,
            task=self.kind,
            source=record.image,
            target=painted,
            mask=mask,
            class_origin=self.thing.words,
            class_target=proposal.object if proposal else "",
            detailed_origin=self.thing.detailed_caption,
            detailed_target=proposal.detailed_caption if proposal else "",
            notes={**record.notes, **told},
        )
        back = swapped(forward, f"{record.key}/{self.number}-{'replace-back' if proposal else 'add'}")
        is_wanted = step.swap if proposal else "add" in step.tasks
        return [*([forward] if self.kind in step.tasks else ()), *([back] if is_wanted else ())]


def swapped(record: Record, key: str) -> Record:
    """The pair the other way round: what came is what is edited."""
    return record.but(
        key=key,
        task={"remove": "add", "add": "remove"}.get(record.task, record.task),
        source=record.target,
        target=record.source,
        class_origin=record.class_target,
        class_target=record.class_origin,
        detailed_origin=record.detailed_target,
        detailed_target=record.detailed_origin,
        notes={**record.notes, "swapped": True},
    )


def removal_request(record: Record, thing: ObjectAnnotation, grow: float, seed: int) -> InpaintRequest:
    """A thing of a photo painted over, and its mask's surroundings as far as `grown` says."""
    about = {"class_origin": thing.words, "class_target": ""}
    return InpaintRequest(record.photo, grown(thing.pixels, grow), seed=seed, truth=record.truth, about=about)


def grown(mask: np.ndarray, share: float) -> np.ndarray:
    """A (H, W) bool mask that reaches further on all sides, by a share of the longer side; 0 leaves it."""
    if share == 0 or not mask.any():  # the transform below wants something to measure from
        return mask.copy()
    reach = max(2, round(share * max(mask.shape)))
    return np.asarray(ndimage.distance_transform_edt(~mask)) <= reach


def box_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the box around a mask, filled; empty for an empty one."""
    filled = np.zeros_like(mask)
    if mask.any():
        filled[box_of(mask).slices] = True
    return filled
