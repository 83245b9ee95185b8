"""Rendered scenes as the photos, or the pairs, that a recipe starts from."""

from __future__ import annotations

from dataclasses import dataclass

from data_recipes.oracle.words import detailed_caption, simple_caption
from data_recipes.oracle.world import truth_of
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record
from insightedit.scenes.sampler import EditSample, SceneSampler
from insightedit.scenes.wordings import article

ENDLESS = 1 << 31  # scenes have no end; a length has to be a number
TASK_OF = {"resize": "edit", "photometric": "edit"}  # else the scene's own name


@dataclass(frozen=True)
class ScenePhotos:
    """Scenes as photographs: the picture, and the truth for oracles."""

    sampler: SceneSampler

    def __len__(self) -> int:
        """More than anyone asks for."""
        return ENDLESS

    def __getitem__(self, index: int) -> Record:
        """Photo number `index`."""
        return Record(_key(index), image=self.sampler[index].source, truth=_truth(self.sampler, index))


@dataclass(frozen=True)
class ScenePairs:
    """Scenes as finished pairs."""

    sampler: SceneSampler

    def __len__(self) -> int:
        """More than anyone asks for."""
        return ENDLESS

    def __getitem__(self, index: int) -> Record:
        """Pair number `index`."""
        sample = self.sampler[index]
        before, after = _classes(sample)
        origin, target = _details(sample)
        return Record(
            _key(index),
            caption=sample.caption_source,
            task=TASK_OF.get(sample.task, sample.task),
            source=sample.source,
            target=sample.target,
            mask=sample.mask,
            class_origin=before,
            class_target=after,
            detailed_origin=origin,
            detailed_target=target,
            instructions={sample.style: (sample.instruction,), "expressive": (sample.expressive_instruction,)},
            truth=_truth(self.sampler, index),
            notes={"category": sample.category, "template_id": sample.template_id},
        )


def open_scenes(config: InputConfig) -> ScenePhotos:
    """Photos of the split, size and seed that a config names.

    Raises:
        ValueError: if no count is set, or the split or the size cannot be.
    """
    return ScenePhotos(_sampler(config))


def open_scene_pairs(config: InputConfig) -> ScenePairs:
    """Pairs of the split, size and seed that a config names.

    Raises:
        ValueError: if no count is set, or the split or the size cannot be.
    """
    return ScenePairs(_sampler(config))


def _sampler(config: InputConfig) -> SceneSampler:
    if config.count is None:
        raise ValueError("source.count is not set: scenes have no end, so say how many, e.g. `count: 200`.")
    return SceneSampler(split=config.split, size=config.size, seed=config.seed)


def _key(index: int) -> str:
    return f"{index:06d}"


def _truth(sampler: SceneSampler, index: int) -> dict[str, object]:
    return truth_of(sampler.split, sampler.size, sampler.seed, index)


def _classes(sample: EditSample) -> tuple[str, str]:
    """What is edited, and what comes in its place."""
    before = " and ".join(simple_caption(sample.scene, number) for number in sample.edit.targets)
    return before, sample.edit.name or ""


def _details(sample: EditSample) -> tuple[str, str]:
    before = " and ".join(detailed_caption(sample.scene.objects[number]) for number in sample.edit.targets)
    scene, edit = sample.target_scene, sample.edit
    if edit.task == "add":
        return before, detailed_caption(scene.objects[-1])
    if edit.task in ("replace", "recolour", "resize"):
        return before, " and ".join(detailed_caption(scene.objects[number]) for number in edit.targets)
    return before, article(f"{edit.operation} photo") if edit.operation else ""
