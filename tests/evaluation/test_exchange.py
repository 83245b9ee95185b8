"""Sources out, anybody's pictures back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.benchmarks.scenes import dump_samples, find_results
from insightedit.evaluation.core.editing_methods import EditingMethod, FolderOutputs
from insightedit.evaluation.scenes.benchmark import SceneSet
from tests.evaluation.test_scenes_benchmark import run
from tests.evaluation.toy import SIZE, ToySampler

SCENES = SceneSet(4, SIZE, pairs=2, sampler=ToySampler())


def edit_elsewhere(folder: Path, scale: int = 1, suffix: str = ".png") -> Path:
    """What another program would do with a dump: here, the right edits."""
    folder.mkdir()
    sampler = ToySampler()
    samples = [sampler[i] for i in range(4)] + [sample for i in range(2) for sample in sampler.pair(i)]
    for name, sample in zip(SCENES.ids, samples, strict=True):
        picture = Image.fromarray(sample.target).resize((SIZE * scale, SIZE * scale), Image.Resampling.NEAREST)
        picture.save(folder / f"{name}{suffix}")
    return folder


def results(folder: Path) -> EditingMethod:
    return EditingMethod("other", FolderOutputs(folder, find_results(folder, SCENES.ids)))


def test_dump_holds_sources_and_instructions_but_no_answers(tmp_path: Path) -> None:
    steps: list[int] = []
    path = dump_samples(tmp_path / "dump", SCENES, steps.append)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == SCENES.ids and sum(steps) == 8
    assert lines[0]["instruction"] == "make the left square green, 0"
    with Image.open(path.parent / lines[0]["source"]) as source:
        assert np.array_equal(np.asarray(source), ToySampler()[0].source)
    assert len(list(tmp_path.rglob("*"))) == 1 + 1 + 8 + 1


def test_pictures_of_another_editor_score_as_its_own(tmp_path: Path) -> None:
    report = run(results(edit_elsewhere(tmp_path / "same")), count=4, pairs=2)
    assert report.model.success.value == 1.0 and report.pairs.both.value == 1.0
    larger = run(results(edit_elsewhere(tmp_path / "large", 4, ".webp")), count=4, pairs=2)
    assert larger.model.success.value == 1.0
    assert report.protocol.hash == larger.protocol.hash


def test_errors_teach(tmp_path: Path) -> None:
    names = SCENES.ids
    with pytest.raises(FileNotFoundError, match=r"No folder .*: --results names the folder"):
        find_results(tmp_path / "none", names)
    folder = edit_elsewhere(tmp_path / "some")
    (folder / f"{names[2]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks 1 of 8 pictures, e.g. {names[2]}.png: edit the pictures"):
        find_results(folder, names)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        dump_samples(tmp_path / "file", SCENES)
