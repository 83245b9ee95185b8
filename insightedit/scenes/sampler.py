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
from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.candidates import candidate_scenes
from insightedit.scenes.draws import MAX_TRIES, draw_background, random_stream, weighted
from insightedit.scenes.references import arrange, refer
from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import (  # fmt: skip
    CATEGORIES,
    COLOURS,
    HEIGHTS,
    PHOTOMETRIC,
    TASKS,
    Edit,
    Scene,
    SceneObject,
    apply_edit,
)
from insightedit.scenes.studio import Studio, Subject

TASK_WEIGHTS = {"remove": 25, "replace": 20, "recolour": 18, "add": 15, "resize": 10, "photometric": 12}
CATEGORY_WEIGHTS = {
    "plain": 34, "left_right": 16, "relative_size": 10, "mirror": 8, "colour": 12, "multiple_objects": 10,
    "reasoning": 10,
}  # fmt: skip
MIN_CHANGED = 0.004  # share of the pixels that an edit changes at least


@dataclass(frozen=True)
class EditSample:
    """One edit of one scene.

    Attributes:
        index: its number in the sampler.
        scene, edit: the descriptions that all else follows from.
        category: how the object is referred to, one of `CATEGORIES`.
        style: `simple` or `advanced` wording.
        template_id: which wording.
        instruction: what a user would say.
        renderer: makes the pictures.
        subject: what the reference picture shows where one stands in place of words for the new object
            (`insightedit.scenes.subjects`), else None.
    """

    index: int
    scene: Scene
    edit: Edit
    category: str
    style: str
    template_id: str
    instruction: str
    renderer: Renderer
    subject: Subject | None = None

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
        return () if self.subject is None else (Studio(self.renderer).reference(self.subject),)

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
        """Segmentation painted as editing: the object's pixels blended half and half with a named colour.

        Raises:
            ValueError: if the edit concerns no object (photometric edits and additions).
        """
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


class SceneSampler:
    """Endless, random-access samples of one split.

    Args:
        split: train, val or test.
        size: side of the square pictures in pixels.
        seed: another seed gives another world of the same kind.
        assets: sprites and photographs; the embedded ones by default.
        style: tell every scene in a `simple` or an `advanced` wording; None for both. The scenes stay the same ones.

    Raises:
        ValueError: for an unknown split or style.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        assets: Assets | None = None,
        style: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
        if style is not None and style not in wordings.STYLES:
            raise ValueError(f"unknown style {style!r}: choose one of {', '.join(wordings.STYLES)}.")
        self.split, self.size, self.seed, self.style = split, size, seed, style
        self.assets = assets or Assets.embedded()
        self.renderer = Renderer(self.assets, size)

    def __getitem__(self, index: int) -> EditSample:
        if index < 0:
            raise IndexError(f"sample {index} does not exist: indices start at 0 and have no end.")
        return self._draw(index, random_stream(self.split, self.seed, index))

    def pair(self, index: int) -> tuple[EditSample, EditSample]:
        """The same picture, two instructions that differ in one word: left/right, bigger/smaller or a colour."""
        rng = random_stream(self.split, self.seed, index, pair=True)
        category = ("left_right", "relative_size", "colour")[int(rng.integers(3))]
        task = ("remove", "replace", "recolour")[int(rng.integers(3))]
        for _ in range(MAX_TRIES):
            pair = self._twin_edits(self._draw(index, rng, category, task))
            if pair[1].mask.mean() >= MIN_CHANGED:  # a purple twin cannot be made purple
                return pair
        raise RuntimeError(f"no minimal pair of {category} {task} edits in {MAX_TRIES} tries: the pack is too small.")

    def _twin_edits(self, first: EditSample) -> tuple[EditSample, EditSample]:
        """The sample and the same edit of the twin of its object."""
        other = next(i for i, o in enumerate(first.scene.objects) if self._is_twin(first, i, o))
        words = [refer(first.scene, (i,), first.category, self.assets) for i in (first.edit.targets[0], other)]
        edit = replace(first.edit, targets=(other,))
        return first, replace(first, edit=edit, instruction=first.instruction.replace(*words))

    @staticmethod
    def _is_twin(sample: EditSample, number: int, thing: SceneObject) -> bool:
        target = sample.edit.targets[0]
        return number != target and thing.name == sample.scene.objects[target].name

    def _draw(
        self, index: int, rng: np.random.Generator, category: str | None = None, task: str | None = None
    ) -> EditSample:
        wanted_task = task or weighted(rng, TASK_WEIGHTS)
        wanted_category = category or self._category(rng, wanted_task)
        for _ in range(MAX_TRIES):
            sample = self._attempt(index, rng, wanted_category, wanted_task)
            if sample is not None and sample.mask.mean() >= MIN_CHANGED:
                return sample
        raise RuntimeError(
            f"no valid {wanted_category} {wanted_task} scene in {MAX_TRIES} tries: the pack at {self.assets.folder} "
            "has too few sprites or facts for it."
        )

    def _category(self, rng: np.random.Generator, task: str) -> str:
        if task in ("photometric", "add"):
            return "plain"
        weights = dict(CATEGORY_WEIGHTS)
        if not any(s.fact and self._may(s.name, task) for s in self.assets.sprites.values()):
            del weights["reasoning"]  # a pack of one's own may tell few facts, or none
        if task in ("replace", "resize"):
            del weights["multiple_objects"]
        if task == "resize":
            del weights["relative_size"]
        return weighted(rng, weights)

    def _attempt(self, index: int, rng: np.random.Generator, category: str, task: str) -> EditSample | None:
        arranged = arrange(rng, category, self.assets)
        if arranged is None:
            return None
        objects, targets = arranged
        scene = Scene(draw_background(rng, self.split, self.assets), objects, mirror=category == "mirror")
        edit = self._edit(rng, task, scene, targets)
        if edit is None or not self._allowed(scene, edit):
            return None
        template = self._template(rng, task)
        reference = refer(scene, targets, category, self.assets) if edit.targets else ""
        text = template.text.format(
            ref=reference, new=edit.name, colour=edit.colour, size="bigger" if edit.bigger else "smaller",
            op=wordings.operation_words(edit.operation or ""), place=wordings.place(edit.slot or 0),
        )  # fmt: skip
        return EditSample(
            index, scene, edit, category, template.style, template.key, wordings.fix_articles(text), self.renderer
        )

    def _edit(self, rng: np.random.Generator, task: str, scene: Scene, targets: tuple[int, ...]) -> Edit | None:
        first = scene.objects[targets[0]]
        present = {o.name for o in scene.objects}
        if task == "remove":
            return Edit(task, targets)
        if task == "photometric":
            return Edit(task, operation=PHOTOMETRIC[int(rng.integers(len(PHOTOMETRIC)))])
        if task == "recolour":
            colours = [c for c in COLOURS if all(scene.objects[i].colour != c for i in targets)]
            return Edit(task, targets, colour=colours[int(rng.integers(len(colours)))])
        if task == "resize":
            bigger = first.height <= HEIGHTS["medium"] and (first.height == HEIGHTS["small"] or bool(rng.integers(2)))
            return Edit(task, targets, bigger=bigger)
        names = [n for n in self.assets.classes if n not in present]
        name = names[int(rng.integers(len(names)))]
        if task == "replace":
            return Edit(task, targets, name=name)
        empty = [s for s in range(9) if s not in {o.slot for o in scene.objects}]
        return Edit(task, name=name, slot=empty[int(rng.integers(len(empty)))])

    def _allowed(self, scene: Scene, edit: Edit) -> bool:
        names = [scene.objects[i].name for i in edit.targets] + ([edit.name] if edit.name else [])
        return all(self._may(name, edit.task) for name in names)

    def _may(self, name: str, task: str) -> bool:
        return self.split == "test" or not is_held_out_combination(name, task, self.assets.classes)

    def _template(self, rng: np.random.Generator, task: str) -> wordings.Template:
        held_out = self.split == "test" and int(rng.integers(3)) == 0
        choices = [t for t in wordings.TEMPLATES[task] if t.held_out == held_out]
        if self.style is not None:
            choices = [t for t in choices if t.style == self.style]
        return choices[int(rng.integers(len(choices)))]


def distinct(pictures: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`pictures` and those of `more` that equal none before them; all (H, W, 3) uint8."""
    kept = dict(pictures)
    for name, picture in more.items():
        if not any(np.array_equal(picture, other) for other in kept.values()):
            kept[name] = picture
    return kept


def is_held_out_combination(name: str, task: str, classes: tuple[str, ...]) -> bool:
    """Whether this class never takes part in this task in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 7 + TASKS.index(task) * 3) % 11 == 0


__all__ = ["CATEGORIES", "EditSample", "SceneSampler", "SegmentationSample", "is_held_out_combination"]
