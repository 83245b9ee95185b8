"""Sixteen scenes, exactly: all that is said about them and every pixel of them; whole numbers, equal on any machine.

`python -m tests.golden.test_scenes` writes them anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insightedit.scenes import TASKS, SceneSampler, SubjectEditSampler, SubjectSampler
from insightedit.scenes.scene import Edit

SCENES = Path(__file__).parents[1] / "data" / "golden" / "scenes.json"
SIZE = 64


def digest(pixels: np.ndarray) -> str:
    """sha256 over shape, type and values."""
    pixels = np.ascontiguousarray(pixels)
    return hashlib.sha256(f"{pixels.shape} {pixels.dtype} ".encode() + pixels.tobytes()).hexdigest()


def record(sample: Any) -> dict[str, Any]:
    """Everything about one edit."""
    found = {
        "scene": asdict(sample.scene),
        "edit": asdict(sample.edit),
        "task": sample.task,
        "category": sample.category,
        "style": sample.style,
        "template_id": sample.template_id,
        "instruction": sample.instruction,
        "expressive_instruction": sample.expressive_instruction,
        "caption_source": sample.caption_source,
        "caption_target": sample.caption_target,
        "qa": sample.qa(),
        "source": digest(sample.source),
        "target": digest(sample.target),
        "mask": digest(sample.mask),
        "references": [digest(picture) for picture in sample.references],
        "candidates": {name: digest(picture) for name, picture in sample.candidates().items()},
    }
    if sample.edit.targets:
        marked = sample.segmentation_sample("green")
        found["segmentation"] = [marked.instruction, digest(marked.target), digest(marked.mask)]
    return json.loads(json.dumps(found))


def fits(edit: Edit, task: str, split: str) -> bool:
    """Whether an edit is of a task; what is declined is a thing that is not there in training, and else anything."""
    return edit.task == task and (task != "decline" or bool(edit.name) == (split == "train"))


def draw() -> dict[str, dict[str, Any]]:
    """Two scenes of each task, one of the training split and one of another; pairs; and edits told by pictures."""
    out = {}
    for number, task in enumerate(TASKS):
        for split in ("train", ("val", "test")[number % 2]):
            sampler = SceneSampler(split, SIZE, seed=number, declines=float(task == "decline"))
            index = next(i for i in range(200) if fits(sampler[i].edit, task, split))
            out[f"{split} {task} {number}/{index}"] = record(sampler[index])
    for number, one in enumerate(SceneSampler("test", SIZE).pair(3)):
        out[f"pair {number}"] = record(one)
    for split in ("train", "test"):
        out[f"subject edit {split}"] = record(SubjectEditSampler(split, SIZE)[1])
    drawn = SubjectSampler("train", SIZE)[2]
    out["subject"] = {
        "instruction": drawn.instruction,
        "target": digest(drawn.target),
        "references": [digest(picture) for picture in drawn.references],
    }
    return out


@pytest.fixture(scope="module")
def drawn():
    return draw()


def test_the_scenes_are_those_of_before(drawn):
    kept = json.loads(SCENES.read_text(encoding="utf-8"))
    assert list(kept) == list(drawn)
    for name, scene in drawn.items():
        assert scene == kept[name], name


def test_every_task_is_there(drawn):
    assert {scene.get("task") for scene in drawn.values()} >= set(TASKS)
    assert len(drawn) == 2 * len(TASKS) + 5


if __name__ == "__main__":
    SCENES.write_text(json.dumps(draw(), indent=1) + "\n", encoding="utf-8")
