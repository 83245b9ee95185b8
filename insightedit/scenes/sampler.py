"""Samples: pictures before and after, with everything that can be said about them, from four numbers.

`SceneSampler(split, size, seed)[index]` is a pure function: the same call gives the same bytes on every machine.

What is held out, by construction:

* backgrounds: every photograph belongs to one split (`metadata.json`); the few of the training split are disguised
  (colour channels shuffled, a second one shining through), or models learn them by heart and fail on others;
* wordings: templates marked `held_out` appear in the test split only, in a third of its samples;
* combinations: the (class, task) pairs of `is_held_out_combination` never appear in training or validation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from insightedit.scenes import wordings
from insightedit.scenes.assets import Assets
from insightedit.scenes.candidates import candidate_scenes
from insightedit.scenes.draws import MAX_TRIES, RandomAccessSampler, arrange, draw_background, pick, refer, weighted
from insightedit.scenes.render import Renderer, Subject
from insightedit.scenes.scene import COLOURS, HEIGHTS, PHOTOMETRIC, Edit, Scene, apply_edit

TASK_WEIGHTS = {"remove": 25, "replace": 20, "recolour": 18, "add": 15, "resize": 10, "photometric": 12}
CATEGORY_WEIGHTS = {
    "plain": 34, "left_right": 16, "relative_size": 10, "mirror": 8, "colour": 12, "multiple_objects": 10,
    "reasoning": 10,
}  # fmt: skip
UNTOLD = {"replace": ("multiple_objects",), "resize": ("multiple_objects", "relative_size")}  # categories of no use
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
        return (self.source != self.target).any(axis=-1)

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
        return (self.renderer.render(without) != self.source).any(axis=-1)

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

    `style` tells every scene in a `simple` or an `advanced` wording; None in both. The scenes stay the same ones.
    """

    templates = wordings.TEMPLATES

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        assets: Assets | None = None,
        style: str | None = None,
    ) -> None:
        super().__init__(split, size, seed, assets)
        if style is not None and style not in wordings.STYLES:
            raise ValueError(f"unknown style {style!r}: choose one of {', '.join(wordings.STYLES)}.")
        self.style = style

    def _pair(self, index: int, rng: np.random.Generator) -> tuple[EditSample, EditSample]:
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
        words = [refer(sample.scene, (i,), sample.category, self.assets) for i in (target, other)]
        edit = replace(sample.edit, targets=(other,))
        return replace(sample, edit=edit, instruction=sample.instruction.replace(*words))

    def _draw(
        self, index: int, rng: np.random.Generator, category: str | None = None, task: str | None = None
    ) -> EditSample:
        task = task or weighted(rng, TASK_WEIGHTS)
        if task in ("photometric", "add"):
            category = "plain"
        elif category is None:
            weights = self._known(CATEGORY_WEIGHTS, task)
            for name in UNTOLD.get(task, ()):
                del weights[name]
            category = weighted(rng, weights)
        return self._first(lambda: self._attempt(index, rng, category, task), f"{category} {task} scene")

    def _attempt(self, index: int, rng: np.random.Generator, category: str, task: str) -> EditSample | None:
        arranged = arrange(rng, category, self.assets)
        if arranged is None:
            return None
        objects, targets = arranged
        scene = Scene(draw_background(rng, self.split, self.assets), objects, mirror=category == "mirror")
        edit, subject = self._edit(rng, task, scene, targets)
        names = [objects[i].name for i in edit.targets] + ([edit.name] if edit.name else [])
        if not all(self._may(name, task) for name in names):
            return None
        template = self._template(rng, self.templates[task], self.style)
        reference = refer(scene, targets, category, self.assets) if edit.targets else ""
        text = template.text.format(
            ref=reference, new=edit.name, colour=edit.colour, size="bigger" if edit.bigger else "smaller",
            op=edit.operation, place=wordings.place(edit.slot or 0),
        )  # fmt: skip
        words = (template.style, template.key, wordings.fix_articles(text))
        sample = EditSample(index, scene, edit, category, *words, self.renderer, subject)
        return sample if self._is_clear(sample) else None

    def _is_clear(self, sample: EditSample) -> bool:
        return bool(sample.mask.mean() >= MIN_CHANGED)

    def _edit(
        self, rng: np.random.Generator, task: str, scene: Scene, targets: tuple[int, ...]
    ) -> tuple[Edit, Subject | None]:
        """An edit, and the subject of its reference picture."""
        first = scene.objects[targets[0]]
        if task == "remove":
            return Edit(task, targets), None
        if task == "photometric":
            return Edit(task, operation=pick(rng, PHOTOMETRIC)), None
        if task == "recolour":
            colours = [c for c in COLOURS if all(scene.objects[i].colour != c for i in targets)]
            return Edit(task, targets, colour=pick(rng, colours)), None
        if task == "resize":
            bigger = first.height <= HEIGHTS["medium"] and (first.height == HEIGHTS["small"] or bool(rng.integers(2)))
            return Edit(task, targets, bigger=bigger), None
        name = pick(rng, scene.absent(self.assets.classes))
        if task == "replace":
            return Edit(task, targets, name=name), None
        return Edit(task, name=name, slot=pick(rng, scene.empty_slots)), None


def distinct(pictures: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`pictures` and those of `more` that equal none before them; all (H, W, 3) uint8."""
    kept = dict(pictures)
    for name, picture in more.items():
        if not any(np.array_equal(picture, other) for other in kept.values()):
            kept[name] = picture
    return kept
