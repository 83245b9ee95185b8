"""Records on disk: between steps exactly as they were, at the end as rows that training reads."""

from __future__ import annotations

import io
import json
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from data_recipes.runner.flow import Chunk, RunStopped
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.rows import (
    COLUMNS,
    PictureEncoder,
    instruction_of,
    open_shard,
    parquet_schema,
    read_chunks,
    row_of,
    write_chunks,
)
from data_recipes.runner.run import run_recipe
from insightedit import stage1, stage2
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from tests.recipes.toy import toy_config


def picture(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def full_record() -> Record:
    image, mask = picture(0), picture(1)[..., 0] > 99
    thing = ObjectAnnotation("dog", "a dog", "a dog at the left", (0.5, 1.0, 3.25, 4.0), mask, 0.123456789)
    return Record(
        key="a/1", image=image, caption="two dogs", things=(thing, ObjectAnnotation("cat")),
        task="replace", source=image,
        target=picture(2), mask=mask, class_origin="dog", class_target="cat", detailed_origin="o",
        detailed_target="t", instructions={"simple": ("put <imagehere>", "é"), "expressive": ("long",)},
        references=(picture(3, 4, 9), picture(4, 7, 2)), scores={"sc": 0.1, "pq": float(np.float32(0.1))},
        truth={"deep": [1, {"x": None}]}, notes={"n": True},
    )  # fmt: skip


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Record | ObjectAnnotation):
        return all(same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return type(one) is type(other) and one == other


def round_trip(*chunks: Chunk) -> list[Chunk]:
    buffer = io.BytesIO()
    write_chunks(buffer, chunks)
    return list(read_chunks(io.BytesIO(buffer.getvalue())))


def test_chunks_come_back_as_they_were():
    record = full_record()
    bare = Record("b")
    refused = [Rejected("c", "masks", "mask is too small", "0 %")]
    chunk = Chunk(["a", "b", "c"], [record, bare], refused, {"a/1": record}, {"masks": (3, 2)})
    back, empty = round_trip(chunk, Chunk())
    assert (back.keys, back.rejected, back.passed) == (chunk.keys, refused, {"masks": (3, 2)})
    assert same(back.records[0], record)
    assert same(back.records[1], bare)
    assert same(back.last_seen["a/1"], record)
    assert (empty.keys, empty.records) == ([], [])
    back.records[0].image[0, 0] = 7  # type: ignore[index]  # steps may write into their pictures


def test_shared_pictures_are_kept_once_and_stay_shared():
    image = picture(0, 200, 200)
    buffer = io.BytesIO()
    records = [Record(f"a/{n}", image=image, source=image) for n in range(20)]
    write_chunks(buffer, [Chunk(records=records)])
    assert len(buffer.getvalue()) < 1.2 * image.nbytes + 20_000
    back = next(iter(read_chunks(io.BytesIO(buffer.getvalue()))))
    assert back.records[0].image is back.records[19].source


def test_what_is_not_ready_for_json_is_refused():
    with pytest.raises(TypeError, match="object is not ready for JSON"):
        round_trip(Chunk(records=[Record("a", notes={"x": object()})]))
    (back,) = round_trip(Chunk(records=[Record("a", notes={"x": np.float32(0.5), "y": np.arange(2)})]))
    assert back.records[0].notes == {"x": 0.5, "y": [0, 1]}


def test_the_schema_is_the_one_of_the_datasets_library():
    from datasets import Features, Image, List, Value

    types = dict.fromkeys(COLUMNS, Value("string"))
    types |= dict.fromkeys(("source", "target", "mask"), Image())
    types |= {"references": List(Image()), "instructions": List({"kind": Value("string"), "text": Value("string")})}
    ours, theirs = parquet_schema(), Features(types).arrow_schema
    assert ours.equals(theirs)
    assert json.loads(ours.metadata[b"huggingface"]) == json.loads(theirs.metadata[b"huggingface"])


def written(tmp_path, format: str, *records: Record):
    ending = {"parquet": "parquet", "webdataset": "tar"}[format]
    path = tmp_path / f"train-00000.{ending}"
    encoder = PictureEncoder()
    with path.open("wb") as file:
        shard = open_shard(file, format)
        for number, record in enumerate(records):
            shard.write(row_of(record, f"00000-{number:06d}", "train", encoder))
        shard.close()
    return path


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_training_reads_a_row_as_it_was(tmp_path, format):
    record = full_record().but(
        instructions={"expressive": ("long",), "simple": ("plain", "put <imagehere> on <imagehere>")}
    )
    written(tmp_path, format, record, record.but(key="a/2"))
    source = build_source(SourceConfig(kind=format, path=str(tmp_path)), size=8, seed=0, expressive=True)
    assert source.num_records == 2
    row = source[0]
    assert (row.instruction, row.reply, row.task) == ("put <imagehere> on <imagehere>", "long", "subject_editing")
    assert np.array_equal(row.source_image, record.source)
    assert np.array_equal(row.target_image, record.target)
    first, second = row.reference_images
    assert np.array_equal(first, record.references[0])  # without the white that makes squares of them in tars
    assert np.array_equal(second, record.references[1])


def test_a_row_keeps_everything(tmp_path):
    from datasets import load_dataset

    record = full_record()
    path = written(tmp_path, "parquet", record, Record("b", target=picture(5), instructions={"simple": ("x",)}))
    table = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.column_names == list(COLUMNS)
    row = table[0]
    assert np.array_equal(np.asarray(row["mask"]) > 0, record.mask)
    assert row["instructions"][1] == {"kind": "simple", "text": "é"}
    assert json.loads(row["scores"]) == dict(record.scores)
    assert json.loads(row["truth"]) == dict(record.truth)
    assert (row["key"], row["split"], row["class_origin"], row["caption"]) == ("a/1", "train", "dog", "two dogs")
    assert (table[1]["source"], table[1]["mask"], table[1]["references"]) == (None, None, [])


def test_references_that_no_wording_names_are_left_out(tmp_path):
    record = full_record().but(instructions={"simple": ("plain",)})
    assert instruction_of(record) == "plain"
    assert row_of(record, "n", "train", PictureEncoder())["references"] == []


def test_tars_ask_for_the_same_members(tmp_path):
    record = full_record()
    with pytest.raises(
        RunStopped,
        match="a/1 has mask.png, references.png, source.png, target.png and pairs before it have mask.png, s",
    ):
        written(tmp_path, "webdataset", record.but(references=(), instructions={"s": ("x",)}), record)


TINY = ["--overlay", "tiny", "train.max_steps=2", "train.num_samples=0"]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """A tiny run of stage 1."""
    folder = tmp_path_factory.mktemp("aligned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder / stage1.main(TINY).run_dir


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_a_stage_trains_on_what_a_recipe_wrote(tmp_path, monkeypatch, aligned, format):
    monkeypatch.chdir(tmp_path)
    run_recipe(toy_config(tmp_path / "pairs", 20, format=format, source={"size": 32}))
    source = f"data.sources=[{{kind: {format}, path: {tmp_path / 'pairs'}}}]"
    summary = stage2.main([*TINY, "--init-from", str(aligned), source])
    assert summary.finished
    assert all(np.isfinite(loss) for loss in summary.losses.values())


def test_pictures_are_packed_once_while_their_photo_passes():
    encoder, image = PictureEncoder(), picture(0)
    encoder.begin("a/1")
    first = encoder.png(image)
    encoder.begin("a/2")
    assert encoder.png(image) is first
    encoder.begin("b")
    assert encoder.png(image) is not first
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first))), image)
