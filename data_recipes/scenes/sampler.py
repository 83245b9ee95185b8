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
from itertools import permutations

import numpy as np

from data_recipes.scenes import wordings
from data_recipes.scenes.assets import SPLITS, Assets
from data_recipes.scenes.candidates import candidate_scenes
from data_recipes.scenes.references import arrange, refer
from data_recipes.scenes.render import Renderer
from data_recipes.scenes.scene import (
    CATEGORIES,
    COLOURS,
    HEIGHTS,
    PHOTOMETRIC,
    TASKS,
    Background,
    Edit,
    Scene,
    SceneObject,
    apply_edit,
)  # fmt: skip

TASK_WEIGHTS = {"remove": 25, "replace": 20, "recolour": 18, "add": 15, "resize": 10, "photometric": 12}
CATEGORY_WEIGHTS = {
    "plain": 34, "left_right": 16, "relative_size": 10, "mirror": 8, "colour": 12, "multiple_objects": 10,
    "reasoning": 10,
}  # fmt: skip
MIN_CHANGED = 0.004  # share of the pixels that an edit changes at least
MAX_TRIES = 200
CHANNEL_ORDERS = tuple(permutations(range(3)))


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
    """

    index: int
    scene: Scene
    edit: Edit
    category: str
    style: str
    template_id: str
    instruction: str
    renderer: Renderer

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
        pictures = {"source": self.source, "target": self.target}
        for name, scene in candidate_scenes(self.scene, self.edit, self.renderer.assets.classes).items():
            picture = self.renderer.render(scene)
            if not any(np.array_equal(picture, other) for other in pictures.values()):
                pictures[name] = picture
        return pictures

    def object_mask(self, number: int) -> np.ndarray:
        """(H, W) bool: pixels that object `number` of the source scene covers visibly."""
        without = replace(
            self.scene, objects=tuple(o for i, o in enumerate(self.scene.objects) if i != number)
        )
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

    Raises:
        ValueError: for an unknown split.
    """

    def __init__(
        self, split: str = "train", size: int = 64, seed: int = 0, assets: Assets | None = None
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
        self.split, self.size, self.seed = split, size, seed
        self.assets = assets or Assets.embedded()
        self.renderer = Renderer(self.assets, size)

    def __getitem__(self, index: int) -> EditSample:
        if index < 0:
            raise IndexError(f"sample {index} does not exist: indices start at 0 and have no end.")
        return self._draw(index, self._random(index, 0))

    def pair(self, index: int) -> tuple[EditSample, EditSample]:
        """The same picture, two instructions that differ in one word: left/right, bigger/smaller or a colour."""
        rng = self._random(index, 1)
        category = ("left_right", "relative_size", "colour")[int(rng.integers(3))]
        task = ("remove", "replace", "recolour")[int(rng.integers(3))]
        for _ in range(MAX_TRIES):
            pair = self._twin_edits(self._draw(index, rng, category, task))
            if pair[1].mask.mean() >= MIN_CHANGED:  # a purple twin cannot be made purple
                return pair
        raise RuntimeError(
            f"no minimal pair of {category} {task} edits in {MAX_TRIES} tries: the pack is too small."
        )

    def _twin_edits(self, first: EditSample) -> tuple[EditSample, EditSample]:
        """The sample and the same edit of the twin of its object."""
        other = next(i for i, o in enumerate(first.scene.objects) if self._is_twin(first, i, o))
        words = [
            refer(first.scene, (i,), first.category, self.assets) for i in (first.edit.targets[0], other)
        ]
        edit = replace(first.edit, targets=(other,))
        return first, replace(first, edit=edit, instruction=first.instruction.replace(*words))

    @staticmethod
    def _is_twin(sample: EditSample, number: int, thing: SceneObject) -> bool:
        target = sample.edit.targets[0]
        return number != target and thing.name == sample.scene.objects[target].name

    def _random(self, index: int, stream: int) -> np.random.Generator:
        key = (SPLITS.index(self.split) * 2 + stream) << 56 | (self.seed & 0xFFFFFF) << 32
        return np.random.Generator(np.random.Philox(key=np.array([key, index], dtype=np.uint64)))

    def _draw(
        self, index: int, rng: np.random.Generator, category: str | None = None, task: str | None = None
    ) -> EditSample:
        wanted_task = task or _weighted(rng, TASK_WEIGHTS)
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
        return _weighted(rng, weights)

    def _attempt(self, index: int, rng: np.random.Generator, category: str, task: str) -> EditSample | None:
        arranged = arrange(rng, category, self.assets)
        if arranged is None:
            return None
        objects, targets = arranged
        scene = Scene(self._background(rng), objects, mirror=category == "mirror")
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
            index,
            scene,
            edit,
            category,
            template.style,
            template.key,
            wordings.fix_articles(text),
            self.renderer,
        )

    def _background(self, rng: np.random.Generator) -> Background:
        photos = self.assets.photos_of(self.split)
        photo = photos[int(rng.integers(len(photos)))]
        numbers = [int(v) for v in rng.integers(0, 1001, 3)]
        background = Background(
            photo.name, numbers[0], numbers[1], 550 + numbers[2] * 450 // 1000, bool(rng.integers(2))
        )
        return self._disguised(background, rng) if self.split == "train" else background

    def _disguised(self, background: Background, rng: np.random.Generator) -> Background:
        """Channels shuffled in half of them, a second photograph shining through in half of them."""
        photos = self.assets.photos_of(self.split)
        if rng.integers(2):
            background = replace(background, channels=CHANNEL_ORDERS[int(rng.integers(len(CHANNEL_ORDERS)))])
        if rng.integers(2):
            veil, share = photos[int(rng.integers(len(photos)))].name, int(rng.integers(200, 501))
            background = replace(background, veil=veil, veil_share=share)
        return background

    def _edit(
        self, rng: np.random.Generator, task: str, scene: Scene, targets: tuple[int, ...]
    ) -> Edit | None:
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
            bigger = first.height <= HEIGHTS["medium"] and (
                first.height == HEIGHTS["small"] or bool(rng.integers(2))
            )
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
        return choices[int(rng.integers(len(choices)))]


def is_held_out_combination(name: str, task: str, classes: tuple[str, ...]) -> bool:
    """Whether this class never takes part in this task in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 7 + TASKS.index(task) * 3) % 11 == 0


def _weighted(rng: np.random.Generator, weights: dict[str, int]) -> str:
    draw = int(rng.integers(sum(weights.values())))
    for name, weight in weights.items():
        draw -= weight
        if draw < 0:
            return name
    raise AssertionError("weights do not sum up")


__all__ = ["CATEGORIES", "EditSample", "SceneSampler", "SegmentationSample", "is_held_out_combination"]
