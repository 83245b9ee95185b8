"""Subjects as data sets on disk, on sheets, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_recipes.scenes.cli import app, contact_sheet
from data_recipes.scenes.writer import COLUMNS, MANIFEST, SceneDataSettings, write_dataset
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from insightedit.images.sheets import GAP, HEADER, MARGIN
from insightedit.scenes import SubjectEditSampler, SubjectSampler

FORMATS = ("webdataset", "parquet")
SAMPLERS = {"subjects": SubjectSampler, "subject_edits": SubjectEditSampler}
RECORD_TASKS = {"subjects": "subject", "subject_edits": "subject_editing"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """`datasets` keeps converted tables in its cache folder: let it be this test's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("task", SAMPLERS)
@pytest.mark.parametrize("format", FORMATS)
def test_training_reads_what_was_written(tmp_path, task, format):
    settings = SceneDataSettings("val", 12, 32, seed=3, format=format, shard_size=7, start_index=10, task=task)
    manifest = write_dataset(tmp_path / "out", settings)
    assert sum(manifest["tasks"].values()) == 12 and manifest["settings"]["task"] == task
    source = build_source(SourceConfig(kind=format, path=str(tmp_path / "out"), split="val"), size=64, seed=0)
    sampler = SAMPLERS[task]("val", 32, 3)
    assert source.num_records == 12
    counts = set()
    for number in range(12):
        record, sample = source[number], sampler[10 + number]
        assert record.instruction == sample.instruction and record.task == RECORD_TASKS[task]
        assert len(record.reference_images) == len(sample.references)
        for shown, reference in zip(record.reference_images, sample.references, strict=True):
            assert np.array_equal(shown, reference)
        assert np.array_equal(record.target_image, sample.target)
        if sample.source is None:
            assert record.source_image is None
        else:
            assert np.array_equal(record.source_image, sample.source)
        counts.add(len(sample.references))
    assert counts == ({1, 2} if task == "subjects" else {1})


@pytest.mark.parametrize("task", SAMPLERS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_is_a_data_set_of_the_hub(tmp_path, task, format):
    from datasets import load_dataset

    write_dataset(tmp_path / "out", SceneDataSettings("test", 4, 32, format=format, shard_size=2, task=task))
    table = load_dataset(str(tmp_path / "out"))["test"]
    facts = table[3]["json"] if format == "webdataset" else table[3]
    sample = SAMPLERS[task]("test", 32)[3]
    for name in ("index", "task", "category", "template_id", "expressive_instruction", "caption_target"):
        assert facts[name] == getattr(sample, name)
    mask = table[3]["mask.png" if format == "webdataset" else "mask"]
    assert np.array_equal(np.asarray(mask) == 255, sample.mask)
    if format == "parquet":
        assert set(table.column_names) == set(COLUMNS[task])
    assert ("source" in COLUMNS[task]) == (task == "subject_edits")
    assert "qa" not in facts


@pytest.mark.parametrize("task", SAMPLERS)
def test_the_card_says_what_is_in_it(tmp_path, task):
    write_dataset(tmp_path, SceneDataSettings("val", 3, 16, task=task))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    wanted = ["`references.png`", "side by side", "subject-driven-generation", f"--task {task}", "(class, tint)"]
    assert all(words in card for words in wanted)
    assert ("`source.png`" in card) == (task == "subject_edits")
    assert "`qa`" not in card and "{" not in card.replace("{size}", "")


def test_a_data_set_begun_before_there_were_tasks_goes_on(tmp_path):
    settings = SceneDataSettings("train", 4, 16, shard_size=2)
    write_dataset(tmp_path, settings)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["settings"]["task"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert write_dataset(tmp_path, settings)["complete"]
    with pytest.raises(ValueError, match=r"was begun with task edits \(now subjects\): give the same settings"):
        write_dataset(tmp_path, SceneDataSettings("train", 4, 16, shard_size=2, task="subjects"))


@pytest.mark.parametrize("task", SAMPLERS)
def test_one_command_writes_a_data_set_and_a_sheet(tmp_path, task):
    out, sheet = tmp_path / "out", tmp_path / "look.png"
    done = run("--task", task, "--out", out, "--sheet", sheet, "--count", 5, "--size", 32, "--split", "test")
    assert done.exit_code == 0, done.output
    assert "Wrote 5 pairs in 1 file" in done.stdout and (out / MANIFEST).is_file()
    picture = np.asarray(Image.open(sheet))
    sample = SAMPLERS[task]("test", 32)[0]
    enlarged = np.kron(sample.references[0], np.ones((4, 4, 1), dtype=np.uint8))
    tile = picture[HEADER : HEADER + 128, MARGIN : MARGIN + 128]
    assert np.array_equal(tile, enlarged), "the first tile is the first reference"


def test_an_unknown_task_is_one_sentence(tmp_path):
    result = run("--task", "movies", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "task is 'movies': choose one of edits, subjects, subject_edits" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_cells_leave_room_for_missing_references():
    sampler = SubjectSampler("val", 16)
    samples = [sampler[i] for i in range(12)]
    one = next(s for s in samples if len(s.references) == 1)
    two = next(s for s in samples if len(s.references) == 2)
    sheet, pitch = np.asarray(contact_sheet([one, two], "")), 128 + GAP
    first, second = (MARGIN + cell * (4 * pitch - GAP + MARGIN) + pitch for cell in (0, 1))
    assert (sheet[HEADER : HEADER + 128, first : first + 128] == 255).all()
    shown = sheet[HEADER : HEADER + 128, second : second + 128]
    assert np.array_equal(shown, np.kron(two.references[1], np.ones((8, 8, 1), dtype=np.uint8)))
    assert contact_sheet([one, two], "new").width > contact_sheet([one, one], "new").width


def test_references_that_are_no_squares_are_told(tmp_path):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"instruction": Value("string"), "target": ImageFeature(), "references": ImageFeature()})
    picture = Image.new("RGB", (16, 16))
    rows = {"instruction": ["draw <imagehere>"], "target": [picture], "references": [Image.new("RGB", (30, 16))]}
    path = Path(tmp_path / "val.parquet")
    Dataset.from_dict(rows, features=features).to_parquet(path)
    source = build_source(SourceConfig(kind="parquet", path=str(path), split="val"), size=16, seed=0)
    with pytest.raises(ValueError, match="references of 30 x 16 pixels are no squares side by side"):
        source[0]
