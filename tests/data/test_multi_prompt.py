"""Sources of instructions with pictures: rendered subjects, and the JSON lists that MIGE publishes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.mixture import Mixture
from insightedit.datasets.sources import Source, build_source
from insightedit.scenes import SubjectEditSampler, SubjectSampler
from insightedit.types import EditRecord, task_of

COLOURS = {"scene": (10, 20, 30), "dog": (200, 0, 0), "hat": (0, 200, 0), "wanted": (5, 5, 250)}
ADD = {
    "image": "wanted.png",
    "multi_prompt": "add <imagehere> to <imagehere> at the left",
    "entity_path": ["dog.png", "scene.png"],
    "source_path": ["scene.png"],
    "width": 8,
    "height": 6,
}


def published(folder: Path, *entries: Any) -> Source:
    """A source of entries whose pictures are plain colours of 8 x 6 pixels."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 6), colour).save(folder / f"{name}.png")
    path = folder / "train.json"
    path.write_text(json.dumps(entries))
    return build_source(SourceConfig(kind="mige", path=str(path)), size=32, seed=0)


def shown(record: EditRecord) -> list[str]:
    """Names of the references, by their colour."""
    return [next(n for n, c in COLOURS.items() if (p == c).all()) for p in record.reference_images]


def test_rendered_sources_agree_with_the_scenes() -> None:
    for kind, sampler, task in (
        ("subjects", SubjectSampler("val", 32, 4), "subject"),
        ("subject_edits", SubjectEditSampler("val", 32, 4), "subject_editing"),
    ):
        source = build_source(SourceConfig(kind=kind, split="val"), size=32, seed=4)
        record, sample = source[7], sampler[7]
        assert (record.key, record.task, record.instruction) == (f"{kind}/7", task, sample.instruction)
        assert record.is_edit and len(source) > 1e9
        np.testing.assert_array_equal(record.target_image, sample.target)
        assert all(map(np.array_equal, record.reference_images, sample.references))
        assert (record.source_image is None) == (kind == "subjects")
        if kind == "subject_edits":
            np.testing.assert_array_equal(record.source_image, sample.source)


def test_the_task_follows_from_what_is_there() -> None:
    assert task_of(False, True) == task_of(False, False) == "subject"
    assert task_of(True, True) == "subject_editing"
    assert task_of(True, False) == "editing"


def test_adding_and_replacing_a_subject(tmp_path: Path) -> None:
    replace = {
        **ADD,
        "multi_prompt": "In <imagehere>, swap the cat for <imagehere>.",
        "entity_path": ["scene.png", "dog.png"],
    }
    source = published(tmp_path, ADD, replace)
    assert source.num_records == 2
    for record in (source[0], source[1]):
        assert record.task == "subject_editing" and shown(record) == ["dog"]
        assert (record.source_image == COLOURS["scene"]).all()
        assert (record.target_image == COLOURS["wanted"]).all() and record.target_image.shape == (6, 8, 3)
    assert source[0].instruction == "add <imagehere> to the picture at the left"
    assert source[1].instruction == "In the picture, swap the cat for <imagehere>."
    assert source[0].key == "mige/000000" and source[3].key == "mige/000001"


def test_drawing_from_blank_and_editing_by_words(tmp_path: Path) -> None:
    new = {
        "image": "wanted.png",
        "multi_prompt": "<imagehere> wears <imagehere>",
        "entity_path": ["dog.png", "hat.png"],
        "source_path": [],
    }
    edit = {
        "image": "wanted.png",
        "multi_prompt": "make <imagehere> darker",
        "entity_path": ["scene.png"],
        "source_path": "scene.png",
    }
    plain = {"image": "wanted.png", "multi_prompt": "make it darker", "source_path": ["scene.png"]}
    source = published(tmp_path, new, edit, plain)
    assert (source[0].task, source[0].source_image, shown(source[0])) == ("subject", None, ["dog", "hat"])
    assert source[0].instruction == "<imagehere> wears <imagehere>"
    assert (source[1].task, source[1].instruction, shown(source[1])) == ("editing", "make the picture darker", [])
    assert (source[2].task, source[2].instruction) == ("editing", "make it darker")


def test_file_names_do_not_tell_the_task(tmp_path: Path) -> None:
    """Paths that spell another task change nothing."""
    entry = {**ADD, "image": "subject_edit.png"}
    folder = tmp_path / "edit" / "replace"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(folder / "subject_edit.png")
    assert published(folder, entry)[0].task == "subject_editing"
    del entry["source_path"]
    assert published(folder, entry)[0].task == "subject"


def test_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    published(tmp_path / "pictures", ADD)
    path = tmp_path / "list.json"
    path.write_text(json.dumps([ADD]))
    config = SourceConfig(kind="mige", path=str(path), images=str(tmp_path / "pictures"))
    assert shown(build_source(config, size=32, seed=0)[0]) == ["dog"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multi_prompt": ""}, "instruction is empty: `multi_prompt` is ''"),
        ({"image": None}, "None in place of a picture's name: write the file name there"),
        ({"source_path": ["scene.png", "hat.png"]}, "2 pictures in `source_path`: an edit has one, or none"),
        ({"multi_prompt": "add <imagehere>"}, "1 <imagehere> for 2 pictures in `entity_path`"),
    ],
)
def test_broken_records_are_told(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published(tmp_path, {**ADD, **change})[0]


def test_broken_records_are_skipped_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source = published(tmp_path, ADD, {**ADD, "image": "lost.png"}, "nonsense")
    mixture = Mixture({"mige": source}, {"mige": 1.0}, seed=0)
    assert {mixture[i].key for i in range(30)} == {"mige/000000"}
    assert mixture.broken["mige"] > 5
    assert "lost.png" in caplog.text and "the entry is 'nonsense'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "train.json cannot be read as JSON"),
        ("{}", "holds an empty dict: it has to be a list of {image, multi_prompt"),
        ("[]", "holds an empty list: it has to be a list"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        build_source(SourceConfig(kind="mige", path=str(tmp_path / "train.json")), size=32, seed=0)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"data.sources: none.json holds no \*.json: kind `mige` needs one"):
        build_source(SourceConfig(kind="mige", path="none.json"), size=32, seed=0)
    with pytest.raises(ConfigError, match="kind `mige` reads files: give its `path`"):
        build_source(SourceConfig(kind="mige"), size=32, seed=0)
