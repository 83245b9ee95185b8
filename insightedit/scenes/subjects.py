"""MIGE's tasks in the world of scenes: instructions in which a picture stands in place of words.

* `SubjectSampler`: subject-driven generation. One or two subjects, each shown by a reference picture, are put on a
  backdrop that words or another reference picture tell. There is no source.
* `SubjectEditSampler`: a subject shown by a reference picture is added to a scene, or replaces an object of it; both in
  equal shares, as in MIGE's training.

Like scenes, samples are pure functions of (split, size, seed, index), and the right answer follows from what is given.
A subject looks in the answer as its reference shows it: class, tint and direction; half of them are tinted, so that the
class alone does not tell how to draw them. What is held out, besides photographs, wordings and the (class, task)
combinations of scenes: the (class, tint) pairs of `is_held_out_subject`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from insightedit.scenes import wordings
from insightedit.scenes.assets import Assets
from insightedit.scenes.candidates import candidate_drawings
from insightedit.scenes.draws import RandomAccessSampler, Rng, draw_background, pick, weighted
from insightedit.scenes.render import (
    BACKDROP_COLOURS,
    PAPERS,
    TINTS,
    Backdrop,
    Renderer,
    Subject,
    changed_pixels,
    is_held_out_subject,
)
from insightedit.scenes.sampler import MIN_CHANGED, EditSample, SceneSampler, distinct
from insightedit.scenes.scene import Edit, Scene, SceneObject

BACKDROP_WEIGHTS = {"plain": 40, "gradient": 20, "swatch": 20, "photo": 20}
CATEGORY_WEIGHTS = {"plain": 50, "left_right": 15, "relative_size": 10, "colour": 15, "reasoning": 10}
TWO_SUBJECTS = 40  # of a hundred new pictures whose backdrop is told in words
CLEAR = 20  # grey levels of 255 by which a pixel of a subject has to stand out
MIN_CLEAR = 0.012  # share of the pixels that stand out at least, for each subject
BLANK = 128  # grey level of the blank canvas: zero, where pixels are told in [-1, 1]


@dataclass(frozen=True)
class SubjectSample:
    """One new picture of subjects that reference pictures show."""

    index: int  # its number in the sampler
    backdrop: Backdrop  # what the subjects stand on
    subjects: tuple[Subject, ...]  # what their references show
    slots: tuple[int, ...]  # where each subject stands, indices into `SLOTS`
    style: str  # `simple` or `advanced` wording
    template_id: str
    instruction: str  # what a user would say, with one `<imagehere>` per reference
    renderer: Renderer  # makes the pictures
    backdrop_first: bool = False  # whether the instruction tells the backdrop before the subjects
    source = None  # the picture is drawn on a blank canvas

    @cached_property
    def blank(self) -> np.ndarray:
        """(H, W, 3) uint8, the blank canvas: plain grey."""
        return np.full_like(self.target, BLANK)

    @cached_property
    def empty(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the backdrop before the subjects stand on it."""
        return self.renderer.backdrop(self.backdrop)

    @cached_property
    def target(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the wanted picture."""
        return self._drawn(self.backdrop, self.things)

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) bool: pixels of the subjects."""
        return changed_pixels(self.empty, self.target)

    @cached_property
    def references(self) -> tuple[np.ndarray, ...]:
        """Pictures (H, W, 3) uint8 RGB for the instruction's `<imagehere>`, in order."""
        shown = tuple(self.renderer.reference(subject) for subject in self.subjects)
        if not self.backdrop.is_pictured:
            return shown
        return (self.empty, *shown) if self.backdrop_first else (*shown, self.empty)

    @property
    def things(self) -> tuple[SceneObject, ...]:
        """The subjects in their places."""
        return tuple(s.standing_at(slot) for s, slot in zip(self.subjects, self.slots, strict=True))

    @property
    def task(self) -> str:
        """`one_subject` or `two_subjects`."""
        return "one_subject" if len(self.subjects) == 1 else "two_subjects"

    @property
    def category(self) -> str:
        """Kind of backdrop: `plain`, `gradient`, `swatch` or `photo`."""
        return self.backdrop.kind

    @property
    def expressive_instruction(self) -> str:
        """The instruction with words for what the pictures show."""
        return f"draw {self._told_things()} on {self.backdrop.meaning}"

    @property
    def caption_target(self) -> str:
        """What the picture shows."""
        return f"{self.backdrop.meaning} with {self._told_things()}"

    def _told_things(self) -> str:
        return " and ".join(f"{wordings.article(wordings.describe(o))} {wordings.place(o.slot)}" for o in self.things)

    def candidates(self) -> dict[str, np.ndarray]:
        """Every picture that might have been drawn, none equal to the target.

        `source` is the empty backdrop, `blank_canvas` and `copy_reference` are what an idle model might give; the
        others are wrong subjects, tints, places and backdrops.
        """
        drawings = candidate_drawings(self.backdrop, self.things, self.renderer.assets.classes)
        wrong = {"blank_canvas": self.blank, "copy_reference": self.renderer.reference(self.subjects[0])}
        wrong |= {name: self._drawn(*drawing) for name, drawing in drawings.items()}
        return distinct({"source": self.empty, "target": self.target}, wrong)

    def is_clear(self) -> bool:
        """Whether every subject stands out from the backdrop."""
        alone = (self._drawn(self.backdrop, (thing,)) for thing in self.things)
        return all(stands_out(self.empty, drawn) >= MIN_CLEAR for drawn in alone)

    def _drawn(self, backdrop: Backdrop, things: tuple[SceneObject, ...]) -> np.ndarray:
        return self.renderer.draw(self.renderer.backdrop(backdrop), things)


class SubjectSampler(RandomAccessSampler):
    """New pictures of subjects; arguments as `RandomAccessSampler`, and references have that size too."""

    stream = "subjects"

    def _draw(self, index: int, rng: Rng) -> SubjectSample:
        return self._first(lambda: self._attempt(index, rng), "new picture of subjects")

    def _pair(self, index: int, rng: Rng) -> tuple[SubjectSample, SubjectSample]:
        """The same instruction twice; one reference shows its subject in another tint."""

        def attempt() -> tuple[SubjectSample, SubjectSample] | None:
            one = self._attempt(index, rng)
            if one is None:
                return None
            subject = _other_tint(rng, one.subjects[0], self.split, self.assets, one.backdrop.names)
            other = replace(one, subjects=(subject, *one.subjects[1:]))
            told_apart = stands_out(one.target, other.target) >= MIN_CLEAR
            return (one, other) if told_apart and other.is_clear() else None

        return self._first(attempt, "minimal pair of new pictures")

    def _attempt(self, index: int, rng: Rng) -> SubjectSample | None:
        backdrop = self._backdrop(rng)
        subjects = self._subjects(rng, backdrop)
        template = self._template(rng, wordings.PICTURE_TEMPLATES["create"])
        slots = tuple(int(s) for s in rng.permutation(9)[: len(subjects)])
        told = " and ".join(f"{wordings.PLACEHOLDER} {wordings.place(slot)}" for slot in slots)
        words = (template.style, template.key, template.text.format(things=told, backdrop=backdrop.words))
        backdrop_first = template.text.index("{backdrop}") < template.text.index("{things}")
        sample = SubjectSample(index, backdrop, subjects, slots, *words, self.renderer, backdrop_first)
        return sample if sample.is_clear() else None

    def _backdrop(self, rng: Rng) -> Backdrop:
        kind = weighted(rng, BACKDROP_WEIGHTS)
        if kind == "photo":
            return Backdrop(kind, photo=draw_background(rng, self.split, self.assets))
        across = bool(rng.integers(2))
        if kind == "swatch":
            colours = rng.integers(0, 256, (int(rng.integers(1, 3)), 3)).tolist()
            return Backdrop(kind, tuple((red, green, blue) for red, green, blue in colours), across=across)
        known = list(BACKDROP_COLOURS)
        names = tuple(known[int(i)] for i in rng.permutation(len(known))[: 1 if kind == "plain" else 2])
        return Backdrop(kind, tuple(BACKDROP_COLOURS[n] for n in names), names, across and kind == "gradient")

    def _subjects(self, rng: Rng, backdrop: Backdrop) -> tuple[Subject, ...]:
        """One subject, or two: of different classes, or every third time of one class in two tints.

        There are never more than two references, so a backdrop that is pictured has one subject.
        """
        first = draw_subject(rng, self.split, self.assets, avoid=backdrop.names)
        if backdrop.is_pictured or int(rng.integers(100)) >= TWO_SUBJECTS:
            return (first,)
        if rng.integers(3) == 0:
            return first, _other_tint(rng, first, self.split, self.assets, backdrop.names)
        others = tuple(name for name in self.assets.classes if name != first.name)
        return first, draw_subject(rng, self.split, self.assets, others, backdrop.names)


class SubjectEditSampler(SceneSampler):
    """Edits that add a subject, or replace an object by it; arguments as `SceneSampler`."""

    stream = "subject_edits"
    templates = wordings.PICTURE_TEMPLATES

    def _pair(self, index: int, rng: Rng) -> tuple[EditSample, EditSample]:
        """The same source and instruction twice; the reference shows its subject in another tint."""

        def attempt() -> tuple[EditSample, EditSample] | None:
            one = self._draw(index, rng)
            assert one.subject is not None
            subject = _other_tint(rng, one.subject, self.split, self.assets)
            other = replace(one, subject=subject, edit=replace(one.edit, colour=subject.colour))
            told_apart = stands_out(one.target, other.target) >= MIN_CHANGED
            return (one, other) if told_apart and other.mask.mean() >= MIN_CHANGED else None

        return self._first(attempt, "minimal pair of subject edits")

    def _draw(self, index: int, rng: Rng, category: str | None = None, task: str | None = None) -> EditSample:
        task = pick(rng, ("add", "replace"))
        category = weighted(rng, self._known(CATEGORY_WEIGHTS, task)) if task == "replace" else "plain"
        return self._first(lambda: self._attempt(index, rng, category, task), f"{category} {task} edit of a subject")

    def _is_clear(self, sample: EditSample) -> bool:
        return stands_out(sample.source, sample.target) >= MIN_CLEAR

    def _edit(self, rng: Rng, task: str, scene: Scene, targets: tuple[int, ...]) -> tuple[Edit, Subject]:
        subject = draw_subject(rng, self.split, self.assets, scene.absent(self.assets.classes))
        edit = Edit(task, name=subject.name, colour=subject.colour, flip=subject.flip)
        if task == "replace":
            return replace(edit, targets=targets), subject
        return replace(edit, slot=pick(rng, scene.empty_slots)), subject


def subject_corpus(count: int, seed: int = 0) -> Iterator[str]:
    """Sentences of these tasks from `count` samples of each, for training tokenizers; `<imagehere>` stays as it is."""
    for sampler in (SubjectSampler("train", 32, seed), SubjectEditSampler("train", 32, seed)):
        for index in range(count):
            sample = sampler[index]
            yield from (sample.instruction, sample.expressive_instruction, sample.caption_target)


def draw_subject(
    rng: Rng, split: str, assets: Assets, names: tuple[str, ...] = (), avoid: tuple[str, ...] = ()
) -> Subject:
    """A subject that the split may show, in its own colours or tinted, half and half.

    `names` are classes to choose from, all by default; `avoid` are tints that would not be seen. Outside `test`, pairs
    of class and tint that are held out do not come.
    """
    names = names or assets.classes
    while True:
        name, flip = pick(rng, names), bool(rng.integers(2))
        colour = TINTS[int(rng.integers(1, len(TINTS)))] if rng.integers(2) else None
        paper = int(rng.integers(len(PAPERS)))
        if colour in _tints(name, split, assets, avoid):
            return Subject(name, colour, flip, paper)


def stands_out(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels in which two (H, W, 3) uint8 pictures differ by more than `CLEAR` grey levels."""
    gap = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=-1)
    return float((gap > CLEAR).mean())


def _tints(name: str, split: str, assets: Assets, avoid: tuple[str, ...]) -> list[str | None]:
    """The tints that the split may show this class in; never empty, since one in eleven is held out."""
    return [
        colour
        for colour in TINTS
        if colour not in avoid and (split == "test" or not is_held_out_subject(name, colour, assets.classes))
    ]


def _other_tint(rng: Rng, subject: Subject, split: str, assets: Assets, avoid: tuple[str, ...] = ()) -> Subject:
    """The subject in another tint."""
    tints = [c for c in _tints(subject.name, split, assets, avoid) if c != subject.colour]
    return replace(subject, colour=pick(rng, tints))
