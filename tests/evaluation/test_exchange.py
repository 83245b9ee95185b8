"""Sources out, anybody's pictures back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.evaluation.core.external_results import dump_samples, read_results, sample_ids
from tests.evaluation.test_scenes_benchmark import run
from tests.evaluation.toy import SIZE, ToySampler

SCENES = {"count": 4, "size": SIZE, "split": "test", "seed": 0, "pairs": 2}


def edit_elsewhere(folder: Path, scale: int = 1, suffix: str = ".png") -> Path:
    """What another program would do with a dump: here, the right edits."""
    folder.mkdir()
    sampler = ToySampler()
    samples = [sampler[i] for i in range(4)] + [sample for i in range(2) for sample in sampler.pair(i)]
    for name, sample in zip(sample_ids(**SCENES), samples, strict=True):
        picture = Image.fromarray(sample.target).resize((SIZE * scale, SIZE * scale), Image.Resampling.NEAREST)
        picture.save(folder / f"{name}{suffix}")
    return folder


def test_dump_holds_sources_and_instructions_but_no_answers(tmp_path: Path) -> None:
    steps: list[int] = []
    path = dump_samples(tmp_path / "dump", ToySampler(), **SCENES, progress=steps.append)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == sample_ids(**SCENES) and sum(steps) == 8
    assert lines[0]["instruction"] == "make the left square green, 0"
    with Image.open(path.parent / lines[0]["source"]) as source:
        assert np.array_equal(np.asarray(source), ToySampler()[0].source)
    assert len(list(tmp_path.rglob("*"))) == 1 + 1 + 8 + 1


def test_pictures_of_another_editor_score_as_its_own(tmp_path: Path) -> None:
    names = sample_ids(**SCENES)
    report = run(read_results(edit_elsewhere(tmp_path / "same"), names), count=4, pairs=2, batch_size=3)
    assert report.model.success.value == 1.0 and report.pairs.both.value == 1.0
    larger = run(read_results(edit_elsewhere(tmp_path / "large", 4, ".webp"), names), count=4, pairs=2)
    assert larger.model.success.value == 1.0
    assert report.protocol.hash == larger.protocol.hash


def test_errors_teach(tmp_path: Path) -> None:
    names = sample_ids(**SCENES)
    with pytest.raises(FileNotFoundError, match=r"No folder .*: --results names the folder"):
        read_results(tmp_path / "none", names)
    folder = edit_elsewhere(tmp_path / "some")
    (folder / f"{names[2]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks 1 of 8 pictures, e.g. {names[2]}.png: edit the pictures"):
        read_results(folder, names)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        dump_samples(tmp_path / "file", ToySampler(), **SCENES)
