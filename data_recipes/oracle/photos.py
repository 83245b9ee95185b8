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
class Scenes:
    """Scenes as photographs, with the truth for oracles; or as finished pairs."""

    sampler: SceneSampler
    as_pairs: bool

    def __len__(self) -> int:
        """More than anyone asks for."""
        return ENDLESS

    def __getitem__(self, index: int) -> Record:
        """Photo or pair number `index`."""
        sampler, sample = self.sampler, self.sampler[index]
        key, truth = f"{index:06d}", truth_of(sampler.split, sampler.size, sampler.seed, index)
        if not self.as_pairs:
            return Record(key, image=sample.source, truth=truth)
        origin, target = _details(sample)
        return Record(
            key,
            caption=sample.caption_source,
            task=TASK_OF.get(sample.task, sample.task),
            source=sample.source,
            target=sample.target,
            mask=sample.mask,
            class_origin=" and ".join(simple_caption(sample.scene, number) for number in sample.edit.targets),
            class_target=sample.edit.name or "",
            detailed_origin=origin,
            detailed_target=target,
            instructions={sample.style: (sample.instruction,), "expressive": (sample.expressive_instruction,)},
            truth=truth,
            notes={"category": sample.category, "template_id": sample.template_id},
        )


def open_scenes(config: InputConfig, as_pairs: bool = False) -> Scenes:
    """Photos of the split, size and seed that a config names.

    Raises:
        ValueError: if no count is set, or the split or the size cannot be.
    """
    if config.count is None:
        raise ValueError("source.count is not set: scenes have no end, so say how many, e.g. `count: 200`.")
    return Scenes(SceneSampler(split=config.split, size=config.size, seed=config.seed), as_pairs)


def open_scene_pairs(config: InputConfig) -> Scenes:
    """Pairs of the split, size and seed that a config names; see `open_scenes`."""
    return open_scenes(config, as_pairs=True)


def _details(sample: EditSample) -> tuple[str, str]:
    """Detailed captions of what is edited, and of what comes in its place."""
    scene, edit = sample.target_scene, sample.edit
    before = " and ".join(detailed_caption(sample.scene.objects[number]) for number in edit.targets)
    if edit.task == "add":
        return before, detailed_caption(scene.objects[-1])
    if edit.task in ("replace", "recolour", "resize"):
        return before, " and ".join(detailed_caption(scene.objects[number]) for number in edit.targets)
    return before, article(f"{edit.operation} photo") if edit.operation else ""
