"""Faults planted into pairs on purpose, to measure what the quality step catches.

The config's section `faults` names kinds and shares of the pairs, e.g. `residue: 0.02`; `all: 0.2` spreads a share
over all kinds. Which pairs are spoilt follows from the run's seed and their keys. The mark `planted` is hidden from the
step that is measured, and comes back with its answer: as a note of a pair that passed, or at the end of a refusal's
detail, `[planted: residue]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from data_recipes.backends.base import InpaintRequest
from data_recipes.backends.windows import box_of
from data_recipes.oracle.vision import OracleInpainter
from data_recipes.oracle.words import Phrase, read_phrase, simple_caption
from data_recipes.oracle.world import World, world_of
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, EachRecord, Outcome, Step
from data_recipes.steps.pairs import box_mask, grown
from data_recipes.steps.wording import SIMPLE_TEMPLATES
from insightedit.console import did_you_mean
from insightedit.scenes.draws import pick
from insightedit.scenes.scene import COLOURS, SLOTS
from insightedit.scenes.wordings import place

MARK = "planted"
MEASURED = "quality"
_MARKED = re.compile(rf"\[{MARK}: (\w+)\]$")
Spoil = Callable[[Record, World, np.random.Generator], Record | None]


def plant_faults(steps: Sequence[Step], faults: Mapping[str, float]) -> list[Step]:
    """The steps with one before `quality` that spoils pairs; `faults` are shares of kinds, "all" is spread over all.

    ValueError for an unknown kind, a share out of range, or steps without one named quality.
    """
    shares = shares_of(faults)
    names = [step.name for step in steps]
    if MEASURED not in names:
        raise ValueError(
            f"faults are planted before the step {MEASURED}, and this recipe has {', '.join(names) or 'no steps'}: "
            "take the section faults out of the config."
        )
    at = names.index(MEASURED)
    return [*steps[:at], Faults(tuple(sorted(shares.items()))), Blindfolded(steps[at]), *steps[at + 1 :]]


def shares_of(faults: Mapping[str, float]) -> dict[str, float]:
    """Kind -> share of the pairs; ValueError for an unknown kind or a share out of range."""
    shares: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for kind, share in faults.items():
        if kind != "all" and kind not in KINDS:
            told = did_you_mean(kind, KINDS, f"choose of all, {', '.join(KINDS)}.")
            raise ValueError(f"faults.{kind}: no such fault can be planted; {told}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"faults.{kind} is {share!r}: it is a share of the pairs, from 0 to 1.")
        for one in KINDS if kind == "all" else (kind,):
            shares[one] += share / len(KINDS) if kind == "all" else share
    if sum(shares.values()) > 1:
        raise ValueError(f"the shares of faults add up to {sum(shares.values()):g}: no more than 1 can be spoilt.")
    return {kind: share for kind, share in shares.items() if share}


@dataclass(frozen=True)
class Faults(EachRecord):
    """Spoils some pairs and marks them; a pair that cannot have the fault that falls to it gets another one."""

    shares: tuple[tuple[str, float], ...]  # kind and share of the pairs

    name = "faults"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The shares."""
        return dict(self.shares)

    def one(self, record: Record, context: Context) -> Record:
        """The record, spoilt or not."""
        rng = context.rng(record)
        total = sum(share for _, share in self.shares)
        if record.target is None or rng.random() >= total:
            return record
        weights = np.array([share for _, share in self.shares]) / total
        for number in rng.choice(len(weights), len(weights), replace=False, p=weights):
            kind = self.shares[int(number)][0]
            spoilt = KINDS[kind](record, world_of(record.truth), rng)
            if spoilt is not None:
                mark = {"kind": kind, **spoilt.notes.get(MARK, {})}
                return spoilt.but(notes={**spoilt.notes, MARK: mark})
        return record


class Blindfolded(Step):
    """A step, which is measured, that is not shown the marks."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.name, self.needs = step.name, step.needs

    settings = property(lambda self: self.step.settings)
    prompts = property(lambda self: self.step.prompts)  # type: ignore[assignment]

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """The step's answers, with the marks."""
        bare = [record.but(notes={k: v for k, v in record.notes.items() if k != MARK}) for record in records]
        answers = [list(found) for found in self.step(bare, context)]
        for record, found in zip(records, answers, strict=True):
            if (mark := record.notes.get(MARK)) is not None:
                found[:] = [
                    one.but(notes={**one.notes, MARK: mark})
                    if isinstance(one, Record)
                    else replace(one, detail=f"{one.detail} [{MARK}: {mark['kind']}]".strip())
                    for one in found
                ]
        return answers


def planted(outcome: Outcome) -> str:
    """The kind of fault that was planted into a pair; "" for none."""
    if isinstance(outcome, Rejected):
        found = _MARKED.search(outcome.detail)
        return found[1] if found else ""
    return str(outcome.notes.get(MARK, {}).get("kind", ""))


def is_caught(outcome: Outcome) -> bool:
    """Whether what was planted is gone: the pair was refused, or the wrong wording was taken out."""
    if isinstance(outcome, Rejected):
        return True
    text = outcome.notes[MARK].get("text")
    return text is not None and text not in outcome.wordings


# wordings -----------------------------------------------------------------------------------------


def _wrong_object(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A wording names another thing of the photo, or one that is not there."""
    involved = {record.class_origin, record.class_target}
    others = [simple_caption(world.scene, number) for number in range(len(world.scene.objects))]
    absent = _absent(record, world)
    pool = [words for words in others if words not in involved] or absent
    if record.task == "add" or rng.integers(3) == 0:
        pool = absent
    return _renamed(record, rng, lambda old: pick(rng, pool))


def _wrong_colour(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A wording names a colour that the thing has not."""

    def other(old: Phrase) -> str | None:
        if old.name is None:
            return None
        colours = [colour for colour in COLOURS if colour != old.colour]
        return f"{pick(rng, colours)} {old.name}"

    return _renamed(record, rng, other)


def _wrong_side(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A wording names a place where the thing is not."""
    known = read_phrase(record.detailed_origin or record.detailed_target)
    if known is None or known.slot is None:
        return None
    slots = [slot for slot in range(len(SLOTS)) if slot != known.slot]

    def other(old: Phrase) -> str | None:
        return old.name and f"{old.name} {place(pick(rng, slots))}"

    return _renamed(record, rng, other)


def _wrong_action(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A wording asks for the edit of another task, or for a replacement the other way round."""
    words = {"origin": record.class_origin, "target": record.class_target}
    task = {"remove": "add", "add": "remove", "replace": "replace"}.get(record.task)
    if task is None:
        return None
    if task == "replace" and rng.integers(2):
        task = "remove"
    else:
        words = {"origin": record.class_target, "target": record.class_origin}
    return _told(record, rng, task, words)


def _absent(record: Record, world: World) -> list[str]:
    """Classes that neither the photo nor the pair has."""
    named = {phrase.name for words in (record.class_origin, record.class_target) if (phrase := read_phrase(words))}
    return [name for name in world.scene.absent(world.sample.renderer.assets.classes) if name not in named]


def _renamed(record: Record, rng: np.random.Generator, other: Callable[[Phrase], str | None]) -> Record | None:
    """One thing of a wording named otherwise."""
    words = {"origin": record.class_origin, "target": record.class_target}
    given = [role for role, name in words.items() if name]
    role = pick(rng, given) if given else ""
    new = other(read_phrase(words[role]) or Phrase()) if role else None
    return None if new is None else _told(record, rng, record.task, {**words, role: new})


def _told(record: Record, rng: np.random.Generator, task: str, words: Mapping[str, str]) -> Record | None:
    """The record with one of its wordings replaced."""
    if task not in SIMPLE_TEMPLATES or not record.wordings:
        return None
    templates = SIMPLE_TEMPLATES[task]
    text = pick(rng, templates).format(**words)
    old = pick(rng, record.wordings)
    if text in record.wordings:
        return None
    told = {kind: tuple(text if one == old else one for one in texts) for kind, texts in record.instructions.items()}
    return record.but(instructions=told, notes={**record.notes, MARK: {"text": text}})


# pictures -----------------------------------------------------------------------------------------


def _painted(record: Record) -> str:
    """Which of the pictures was painted."""
    return "source" if record.notes.get("swapped") else "target"


def _pictures(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The painted picture, to be changed, and the photo."""
    both = (record.source, record.target) if _painted(record) == "source" else (record.target, record.source)
    assert both[0] is not None and both[1] is not None
    return both[0].copy(), both[1]


def _residue(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A tenth to two thirds of the changed pixels, from one side, are as they were in the photo."""
    if record.source is None:
        return None
    painted, photo = _pictures(record)
    rows, columns = np.nonzero((painted != photo).any(axis=-1))
    if not rows.size:
        return None
    along = (rows, -rows, columns, -columns)[int(rng.integers(4))]
    left = along >= np.quantile(along, 1 - rng.uniform(0.1, 0.65))
    painted[rows[left], columns[left]] = photo[rows[left], columns[left]]
    return record.but(**{_painted(record): painted})


def _artefact(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """Noise in a part of the painted place, within the mask."""
    if record.source is None or record.mask is None:
        return None
    painted, photo = _pictures(record)
    changed = (painted != photo).any(axis=-1)
    if not changed.any():
        return None
    spans = []
    for whole in box_of(changed).slices:
        length = max(4, round((whole.stop - whole.start) * rng.uniform(0.25, 0.8)))
        start = int(rng.integers(whole.start, max(whole.start + 1, whole.stop - length + 1)))
        spans.append(slice(start, start + length))
    rows, columns = spans
    patch, inside = painted[rows, columns], record.mask[rows, columns]
    strength = int(rng.integers(30, 91))
    noise = rng.integers(-strength, strength + 1, patch.shape)
    patch[inside] = np.clip(patch + noise, 0, 255).astype(np.uint8)[inside]
    return record.but(**{_painted(record): painted})


def _bleed(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """A blot beside the mask, in the painted picture."""
    if record.source is None or record.mask is None:
        return None
    painted, _ = _pictures(record)
    near = np.argwhere(grown(record.mask, 0.08) & ~record.mask)
    if not near.size:
        return None
    middle = pick(rng, near)
    rows, columns = np.indices(record.mask.shape)
    radius = rng.uniform(0.03, 0.15) * max(record.mask.shape)
    blot = np.hypot(rows - middle[0], columns - middle[1]) <= radius
    shift = rng.integers(25, 90, 3) * rng.choice([-1, 1])
    painted[blot] = np.clip(painted[blot] + shift, 0, 255).astype(np.uint8)
    return record.but(**{_painted(record): painted})


def _wrong_removal(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """Another thing of the photo is gone instead, and the mask is that one's."""
    if record.task not in ("remove", "add") or record.source is None:
        return None
    words = record.class_origin or record.class_target
    others = [n for n, mask in enumerate(world.masks) if mask.any() and n not in world.find(words)]
    if not others:
        return None
    number = pick(rng, others)
    mask = grown(world.masks[number], 0.02)
    return record.but(mask=mask, **{_painted(record): world.draw(world.without(number))})


def _wrong_replacement(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """Another thing than the one that is named stands in the painted picture."""
    if record.task != "replace" or record.mask is None or record.source is None:
        return None
    classes = _absent(record, world)
    old = record.class_target if record.notes.get("swapped") else record.class_origin
    about = {"class_origin": old, "class_target": pick(rng, classes)}
    painting = InpaintRequest(world.photo, record.mask, truth=record.truth, about=about)
    return record.but(**{_painted(record): OracleInpainter().paint([painting])[0]})


def _loose_mask(record: Record, world: World, rng: np.random.Generator) -> Record | None:
    """The whole picture, or a box so far around the thing that it is seven times as large."""
    if record.mask is None:
        return None
    if rng.integers(2):
        return record.but(mask=np.ones_like(record.mask))
    mask = box_mask(record.mask)
    wanted = min(7 * np.count_nonzero(record.mask), mask.size)
    while np.count_nonzero(mask) < wanted:
        mask = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool), iterations=4)
    return record.but(mask=mask)


KINDS: dict[str, Spoil] = {
    "wrong_object": _wrong_object,
    "wrong_colour": _wrong_colour,
    "wrong_side": _wrong_side,
    "wrong_action": _wrong_action,
    "residue": _residue,
    "artefact": _artefact,
    "bleed": _bleed,
    "wrong_removal": _wrong_removal,
    "wrong_replacement": _wrong_replacement,
    "swapped": lambda record, world, rng: (
        None if record.source is None else record.but(source=record.target, target=record.source)
    ),
    "empty_mask": lambda record, world, rng: (
        None if record.mask is None else record.but(mask=np.zeros_like(record.mask))
    ),
    "loose_mask": _loose_mask,
}
