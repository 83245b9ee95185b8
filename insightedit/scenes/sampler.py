"""Samples: pictures before and after, with everything that can be said about them, from four numbers.

`SceneSampler(split, size, seed)[index]` is a pure function: the same call gives the same bytes on every machine.

What is held out, by construction:

* backgrounds: every photograph belongs to one split (`metadata.json`); the few of the training split are disguised
  (colour channels shuffled, a second one shining through), or models learn them by heart and fail on others;
* wordings: families of sentences marked `held_out` are told in the test split, and only there; `val` has others, in
  which half of its requests are told;
* combinations: the (class, task) pairs of `is_held_out_combination` never appear in training or validation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from insightedit.images.tones import OPERATIONS, TONES
from insightedit.scenes import wordings
from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.candidates import candidate_scenes
from insightedit.scenes.draws import (
    MAX_TRIES,
    RandomAccessSampler,
    Rng,
    arrange,
    draw_background,
    near_words,
    pick,
    refer,
    told_apart_by,
    weighted,
)
from insightedit.scenes.render import Renderer, Subject, changed_pixels
from insightedit.scenes.scene import COLOURS, HEIGHTS, Edit, Scene, apply_edit

TASK_WEIGHTS = {"remove": 25, "replace": 20, "recolour": 18, "add": 15, "resize": 10, "photometric": 12}
CATEGORY_WEIGHTS = {
    "plain": 28, "left_right": 14, "relative_size": 9, "mirror": 6, "colour": 11, "multiple_objects": 9,
    "reasoning": 9, "position": 8, "relation": 6,
}  # fmt: skip
UNTOLD = {"replace": ("multiple_objects",), "resize": ("multiple_objects", "relative_size")}  # categories of no use
BARE = {"photometric": 50, "add": 20, "decline": 50}  # of a hundred samples: photographs without anything on them
BY_NEIGHBOURS = 35  # of a hundred additions: their place is told by what stands around it
ABSENT = 55  # of a hundred requests that are declined: for things that are not there
REFERENCES, REQUESTS, DECLINES = 1, 2, 3  # purposes of numbers for words
MIN_CHANGED = 0.004  # share of the pixels that an edit changes at least


@dataclass(frozen=True)
class EditSample:
    """One edit of one scene; all follows from `scene` and `edit`."""

    index: int  # its number in the sampler
    scene: Scene
    edit: Edit
    category: str  # how the object is referred to, one of `CATEGORIES`
    style: str  # `simple` or `advanced` wording
    template_id: str
    instruction: str  # what a user would say
    renderer: Renderer  # makes the pictures
    subject: Subject | None = None  # what a reference picture shows in place of words for the new object
    frame: str = ""  # the instruction with `wordings.REFERENCE` for the words that tell which object is meant

    @cached_property
    def source(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB before the edit."""
        return self.renderer.render(self.scene)

    @cached_property
    def target(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB after the edit."""
        return self.renderer.render(self.target_scene)

    @property
    def target_scene(self) -> Scene:
        """Description of the picture after the edit."""
        return apply_edit(self.scene, self.edit)

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) bool: pixels that differ between source and target."""
        return changed_pixels(self.source, self.target)

    @cached_property
    def references(self) -> tuple[np.ndarray, ...]:
        """Pictures (H, W, 3) uint8 RGB for the instruction's `<imagehere>`, in order; none where words tell all."""
        return () if self.subject is None else (self.renderer.reference(self.subject),)

    @property
    def task(self) -> str:
        """One of `TASKS`."""
        return self.edit.task

    @property
    def expressive_instruction(self) -> str:
        """The instruction with every reference resolved (MGIE's L_ins)."""
        return wordings.expressive(self.scene, self.edit)

    @property
    def caption_source(self) -> str:
        """What the source shows."""
        return wordings.caption(self.scene)

    @property
    def caption_target(self) -> str:
        """What the target shows."""
        return wordings.caption(self.target_scene)

    def qa(self) -> list[tuple[str, str]]:
        """Questions about the source and about what the instruction means, with answers."""
        return wordings.questions(self.scene, self.instruction, self.edit)

    def candidates(self) -> dict[str, np.ndarray]:
        """Every picture an editor might have meant: `source`, `target` and wrong edits, none equal to the target."""
        by_picture, classes = self.subject is not None, self.renderer.assets.classes
        scenes = candidate_scenes(self.scene, self.edit, classes, by_picture)
        wrong = {name: self.renderer.render(scene) for name, scene in scenes.items()}
        if by_picture:
            wrong["copy_reference"] = self.references[0]
        return distinct({"source": self.source, "target": self.target}, wrong)

    def object_mask(self, number: int) -> np.ndarray:
        """(H, W) bool: pixels that object `number` of the source scene covers visibly."""
        without = replace(self.scene, objects=tuple(o for i, o in enumerate(self.scene.objects) if i != number))
        return changed_pixels(self.renderer.render(without), self.source)

    def segmentation_sample(self, colour: str = "red") -> SegmentationSample:
        """Segmentation painted as editing: the edited objects' pixels (ValueError if none) half in a named colour."""
        if not self.edit.targets:
            raise ValueError(
                f"a {self.task} edit points at no object: segmentation needs one of remove, replace, recolour, resize."
            )
        mask = np.logical_or.reduce([self.object_mask(i) for i in self.edit.targets])
        target = self.source.copy()
        target[mask] = (target[mask].astype(np.uint16) + np.array(COLOURS[colour], dtype=np.uint16)) // 2
        things = " and ".join(f"the {wordings.describe(self.scene.objects[i])}" for i in self.edit.targets)
        return SegmentationSample(self.source, target, mask, f"mark {things} in {colour}")


@dataclass(frozen=True)
class SegmentationSample:
    """Segmentation as an edit: (H, W, 3) uint8 source and target, (H, W) bool mask, instruction."""

    source: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    instruction: str


class SceneSampler(RandomAccessSampler):
    """Endless, random-access edits of scenes of one split; other arguments as `RandomAccessSampler`.

    `style` tells every scene in a `simple` or an `advanced` wording; None in both. `declines` is the share of samples,
    0..1, that ask for what is not there or what nobody can do (task `decline`): nothing changes in them. `plain` tells
    all in the few wordings that strict readers know.
    """

    templates = wordings.TEMPLATES

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        assets: Assets | None = None,
        style: str | None = None,
        declines: float = 0.0,
        plain: bool = False,
    ) -> None:
        super().__init__(split, size, seed, assets)
        if style is not None and style not in wordings.STYLES:
            raise ValueError(f"unknown style {style!r}: choose one of {', '.join(wordings.STYLES)}.")
        if not 0 <= declines <= 1:
            raise ValueError(f"declines is {declines}: it is a share of the samples, from 0 to 1.")
        self.style, self.declines, self.plain = style, declines, plain
        if plain:
            self.templates = wordings.PLAIN_TEMPLATES

    def _pair(self, index: int, rng: Rng) -> tuple[EditSample, EditSample]:
        """The same picture, two instructions that differ in one word: left/right, bigger/smaller or a colour."""
        category = pick(rng, ("left_right", "relative_size", "colour"))
        task = pick(rng, ("remove", "replace", "recolour"))
        for _ in range(MAX_TRIES):
            first = self._draw(index, rng, category, task)
            second = self._of_twin(first)
            if second.mask.mean() >= MIN_CHANGED:  # a purple twin cannot be made purple
                return first, second
        raise RuntimeError(f"no minimal pair of {category} {task} edits in {MAX_TRIES} tries: the pack is too small.")

    def _of_twin(self, sample: EditSample) -> EditSample:
        """The same edit of the other object of the same class."""
        objects, target = sample.scene.objects, sample.edit.targets[0]
        other = next(i for i, o in enumerate(objects) if i != target and o.name == objects[target].name)
        words = self._reference(self._words(sample.index, REFERENCES), sample.scene, (other,), sample.category)
        edit = replace(sample.edit, targets=(other,))
        return replace(sample, edit=edit, instruction=wordings.with_reference(sample.frame, words))

    def _draw(self, index: int, rng: Rng, category: str | None = None, task: str | None = None) -> EditSample:
        is_free = task is None
        task = task or weighted(rng, TASK_WEIGHTS)
        if task in ("photometric", "add"):
            category = "plain"
        elif category is None:
            weights = self._known(CATEGORY_WEIGHTS, task)
            for name in (*UNTOLD.get(task, ()), *(("relation",) if self.plain else ())):  # no strict reader knows it
                del weights[name]
            category = weighted(rng, weights)
        sample = self._first(lambda: self._attempt(index, rng, category, task), f"{category} {task} scene")
        words = self._words(index, DECLINES)
        return self._declined(words, sample) if is_free and words.random() < self.declines else sample

    def _attempt(self, index: int, rng: Rng, category: str, task: str) -> EditSample | None:
        arranged = arrange(rng, category, self.assets)
        if arranged is None:
            return None
        objects, targets = arranged
        objects = () if int(rng.integers(100)) < BARE.get(task, 0) else objects
        scene = Scene(draw_background(rng, self.split, self.assets), objects, mirror=category == "mirror")
        edit, subject = self._edit(rng, task, scene, targets)
        if not self._may_all(scene, edit):
            return None
        told = self._told(self._words(index), scene, edit)
        reference = self._reference(self._words(index, REFERENCES), scene, edit.targets, category)
        words = (*told[:2], wordings.with_reference(told[2], reference))
        sample = EditSample(index, scene, edit, category, *words, self.renderer, subject, told[2])
        return sample if self._is_clear(sample) else None

    def _words(self, index: int, *purpose: int) -> Rng:
        """Numbers for what is said alone: the same scenes may be told in other words."""
        return np.random.default_rng([index, self.seed & 0xFFFFFF, SPLITS.index(self.split), *purpose])

    def _may_all(self, scene: Scene, edit: Edit) -> bool:
        names = [scene.objects[i].name for i in edit.targets] + ([edit.name] if edit.name else [])
        return all(self._may(name, edit.task) for name in names)

    def _told(self, rng: Rng, scene: Scene, edit: Edit) -> tuple[str, str, str]:
        """Style, key and text of a wording; `wordings.REFERENCE` stands for the words for what is meant."""
        involved = {scene.objects[i].name for i in edit.targets}
        others = [o.name for o in scene.objects if o.name not in involved]
        template = self._template(rng, self.templates[edit.task], self.style)
        while "{other}" in template.text and not others:
            template = self._template(rng, self.templates[edit.task], self.style)
        size = "bigger" if edit.bigger else "smaller"
        slots = {
            "ref": wordings.REFERENCE, "new": edit.name or "", "colour": edit.colour or "", "size": size,
            "op": edit.operation or "", "place": wordings.place(edit.slot or 0),
            "other": f"the {pick(rng, others)}" if others else "",
        }  # fmt: skip
        if self.plain:
            text = wordings.fix_articles(template.text.format(**slots))
        elif edit.task == "photometric":
            text = wordings.tone_request(rng, edit.operation or "", template=template)
        else:
            slots |= {"size": pick(rng, wordings.BOOK["sizes"][size]), "new": wordings.called(rng, slots["new"])}
            if edit.task == "add":
                by_things = int(rng.integers(100)) < BY_NEIGHBOURS
                near = near_words(rng, scene, edit.slot or 0, template.held_out) if by_things else None
                slots["place"] = near or wordings.place_words(rng, edit.slot or 0, template.held_out)
            text = wordings.say(rng, template, slots, size)
        return template.style, template.key, text

    def _reference(self, rng: Rng, scene: Scene, targets: tuple[int, ...], category: str) -> str:
        """Words for what is meant; of numbers in the same state the same ones, but for what tells two things apart."""
        if not targets:
            return ""
        told = (None, False) if self.plain else (rng, self.split == "test")
        return refer(scene, targets, category, self.assets, *told)

    def requests(self, sample: EditSample, count: int, whole: int = 0) -> list[tuple[str, str]]:
        """`count` further instructions for a sample's scene, with their expressive instructions; nothing is rendered.

        What reads gains from many requests for one picture, of which it has to look at each thing. `whole` more
        need no look at it: two in three ask for a tone of the whole picture, the others for what nobody can do.
        """
        scene, rng = sample.scene, self._words(sample.index, REQUESTS)
        found: list[tuple[str, str]] = []
        while len(found) < count:
            if rng.random() < self.declines:
                edit, text = self._asked_in_vain(rng, scene)
                found.append((text, wordings.expressive(scene, edit)))
                continue
            task, targets, category = weighted(rng, TASK_WEIGHTS), (), "plain"
            if task not in ("photometric", "add"):
                if not scene.objects:
                    continue
                targets = (int(rng.integers(len(scene.objects))),)
                category = pick(rng, told_apart_by(scene, targets[0], self.assets))
            elif task == "add" and not scene.empty_slots:
                continue
            edit, _ = self._edit(rng, task, scene, targets)
            if self._may_all(scene, edit):
                text = self._told(rng, scene, edit)[2]
                reference = self._reference(rng, scene, targets, category)
                found.append((wordings.with_reference(text, reference), wordings.expressive(scene, edit)))
        for _ in range(whole):
            if rng.integers(3):
                operation = pick(rng, tuple(OPERATIONS))  # half of them without a degree, as people ask
                if rng.integers(2):
                    operation = f"{pick(rng, OPERATIONS[operation])} {operation}".strip()
                edit = Edit("photometric", operation=operation)
                text = self._told(rng, scene, edit)[2]
            else:
                edit = Edit("decline")
                text = wordings.outside_request(rng, self.split, self.assets.classes)
            found.append((text, wordings.expressive(scene, edit)))
        return found

    def _declined(self, rng: Rng, sample: EditSample) -> EditSample:
        """The sample's picture, half of the time without anything on it, with a request that nobody can carry out."""
        bare = int(rng.integers(100)) < BARE["decline"]
        scene = replace(sample.scene, objects=(), mirror=False) if bare else sample.scene
        edit, text = self._asked_in_vain(rng, scene)
        words = (sample.style, f"decline-{'absent' if edit.name else 'outside'}", text)
        return EditSample(sample.index, scene, edit, "plain", *words, self.renderer)

    def _asked_in_vain(self, rng: Rng, scene: Scene) -> tuple[Edit, str]:
        """A request for a thing that is not there, or for what is outside of this world."""
        if int(rng.integers(100)) >= ABSENT:
            return Edit("decline"), wordings.outside_request(rng, self.split, self.assets.classes)
        name, colour = pick(rng, scene.absent(self.assets.seen_classes)), pick(rng, list(COLOURS))
        named = name
        if rng.integers(4) == 0:  # with a colour: of a thing that is not there, or is there in another
            tinted = [o.name for o in scene.objects if o.colour is not None]
            there = pick(rng, tinted) if tinted else name
            named = f"{colour} {name if any(o.colour == colour for o in scene.objects if o.name == there) else there}"
        wanted = Edit(pick(rng, wordings.BOOK["absent"]), name=pick(rng, self.assets.classes), colour=colour)
        text = self._told(rng, scene, wanted)[2]
        article = pick(rng, ("the", "the", "the", "that", "this"))
        said = f"{article} {wordings.called(rng, name) if named == name else named}"
        return Edit("decline", name=named), wordings.with_reference(text, said)

    def _is_clear(self, sample: EditSample) -> bool:
        return bool(sample.mask.mean() >= MIN_CHANGED)

    def _edit(self, rng: Rng, task: str, scene: Scene, targets: tuple[int, ...]) -> tuple[Edit, Subject | None]:
        """An edit, and the subject of its reference picture."""
        if task == "photometric":
            return Edit(task, operation=pick(rng, TONES)), None
        if task == "add":
            return Edit(
                task, name=pick(rng, scene.absent(self.assets.classes)), slot=pick(rng, scene.empty_slots)
            ), None
        if task == "remove":
            return Edit(task, targets), None
        if task == "recolour":
            colours = [c for c in COLOURS if all(scene.objects[i].colour != c for i in targets)]
            return Edit(task, targets, colour=pick(rng, colours)), None
        if task == "resize":
            first = scene.objects[targets[0]]
            bigger = first.height <= HEIGHTS["medium"] and (first.height == HEIGHTS["small"] or bool(rng.integers(2)))
            return Edit(task, targets, bigger=bigger), None
        return Edit(task, targets, name=pick(rng, scene.absent(self.assets.classes))), None


def distinct(pictures: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`pictures` and those of `more` that equal none before them; all (H, W, 3) uint8."""
    kept = dict(pictures)
    for name, picture in more.items():
        if not any(np.array_equal(picture, other) for other in kept.values()):
            kept[name] = picture
    return kept
