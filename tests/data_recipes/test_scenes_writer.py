from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data_recipes.runner.card import size_category
from data_recipes.scenes import writer as writing
from data_recipes.scenes.writer import MANIFEST, SceneDataSettings, write_dataset
from insightedit import files
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from insightedit.scenes import Assets, SceneSampler

FORMATS = ("webdataset", "parquet")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """`datasets` keeps converted tables in its cache folder: let it be this test's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("format", FORMATS)
def test_training_reads_what_was_written(tmp_path, cache, format):
    settings = SceneDataSettings("val", 7, 32, seed=3, format=format, shard_size=3, start_index=10)
    write_dataset(tmp_path / "out", settings)
    source = build_source(SourceConfig(kind=format, path=str(tmp_path / "out"), split="val"), size=64, seed=0)
    sampler = SceneSampler("val", 32, 3)
    assert source.num_records == 7
    for number in range(7):
        record, sample = source[number], sampler[10 + number]
        assert record.instruction == sample.instruction
        assert np.array_equal(record.source_image, sample.source)
        assert np.array_equal(record.target_image, sample.target)
        assert record.caption is None


@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_is_a_data_set_of_the_hub(tmp_path, cache, format):
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    write_dataset(tmp_path / "out", SceneDataSettings("test", 3, 32, format=format, shard_size=2))
    data = load_dataset(str(tmp_path / "out"))
    assert list(data) == ["test"], "the card's header names files and split"
    table = data["test"]
    sample = SceneSampler("test", 32)[2]
    row = table[2]
    mask = row["mask.png" if format == "webdataset" else "mask"]
    facts = row["json"] if format == "webdataset" else row
    assert isinstance(table.features["source.png" if format == "webdataset" else "source"], ImageFeature)
    assert np.array_equal(np.asarray(mask) == 255, sample.mask)
    for name in (
        "index", "task", "category", "style", "template_id", "instruction", "expressive_instruction",
        "caption_source", "caption_target",
    ):  # fmt: skip
        assert facts[name] == getattr(sample, name)
    assert (facts["split"], facts["seed"], facts["size"]) == ("test", 0, 32)
    assert [(pair["question"], pair["answer"]) for pair in facts["qa"]] == sample.qa()


def test_members_of_a_tar(tmp_path):
    write_dataset(tmp_path, SceneDataSettings("train", 2, 16, start_index=41))
    with tarfile.open(tmp_path / "train-00000-of-00001.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        pixels = Image.open(io.BytesIO(tar.extractfile("000000041.source.png").read()))
        assert np.array_equal(np.asarray(pixels), SceneSampler("train", 16)[41].source)
    parts = ("json", "mask.png", "source.png", "target.png")
    assert names == [f"{key:09d}.{part}" for key in (41, 42) for part in parts]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_manifest_and_card_tell_what_is_there(tmp_path):
    manifest = write_dataset(tmp_path, SceneDataSettings("test", 5, 16, shard_size=2))
    assert json.loads((tmp_path / MANIFEST).read_text()) == manifest
    assert [entry["count"] for entry in manifest["shards"]] == [2, 2, 1]
    assert manifest["complete"] is True
    assert sum(manifest["tasks"].values()) == sum(manifest["categories"].values()) == 5
    assert set(contents(tmp_path)) == {"README.md", MANIFEST, *(entry["name"] for entry in manifest["shards"])}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    for text in ("- image-to-image", "- n<1K", "held out", "Microsoft", "Aitzol Berasategi", "`test`"):
        assert text in card
    assert "Jakub Mede" not in card, "a photographer of the training split"
    for task, count in manifest["tasks"].items():
        assert f"| {task} | {count} |" in card


@pytest.mark.parametrize(
    ("count", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**5, "100K<n<1M"), (10**6, "1M<n<10M")]
)
def test_size_categories(count, name):
    assert size_category(count) == name


class Killed(BaseException):
    """What no handler of the writer catches."""


@pytest.mark.parametrize("format", FORMATS)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, format):
    settings = SceneDataSettings("train", 7, 16, format=format, shard_size=3)
    write_dataset(tmp_path / "whole", settings)

    def die(pairs: int) -> None:
        left.append(pairs)
        if len(left) == 5:
            raise Killed

    left: list[int] = []
    with pytest.raises(Killed):
        write_dataset(tmp_path / "killed", settings, progress=die)
    assert json.loads((tmp_path / "killed" / MANIFEST).read_text())["complete"] is False
    first = tmp_path / "killed" / settings.shard_name(settings.units()[0])
    monkeypatch.setattr(files, "_swept", set())  # as in another process
    (tmp_path / "killed" / f"{files._mine()}{2**22 + 1}-left").write_bytes(b"what a kill leaves")
    before = first.stat().st_mtime_ns
    seen: list[int] = []
    write_dataset(tmp_path / "killed", settings, progress=seen.append)
    assert seen == [3, 1, 1, 1, 1], "the whole shard is kept, the rest is written"
    assert first.stat().st_mtime_ns == before
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("harm", ["remove", "shorten", "change"])
def test_a_damaged_shard_is_written_again(tmp_path, harm):
    settings = SceneDataSettings("train", 4, 16, shard_size=2)
    write_dataset(tmp_path, settings)
    good = contents(tmp_path)
    path = tmp_path / settings.shard_name(settings.units()[1])
    content = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "shorten" else content[:-1] + b"x")
    write_dataset(tmp_path, settings)
    assert contents(tmp_path) == good


def test_other_settings_are_refused(tmp_path, pack):
    out = tmp_path / "out"
    write_dataset(out, SceneDataSettings("train", 2, 16))
    with pytest.raises(ValueError, match=r"was begun with count 2 \(now 3\), size 16 \(now 32\): give the same"):
        write_dataset(out, SceneDataSettings("train", 3, 32))
    with pytest.raises(ValueError, match="was begun with assets .*: give the same settings"):
        write_dataset(out, SceneDataSettings("train", 2, 16), assets=Assets.from_folder(pack))


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files but no manifest.json of scenes: name a new or empty folder"):
        write_dataset(tmp_path, SceneDataSettings("train", 2, 16))
    with pytest.raises(ValueError, match=r"notes.txt is a file: name a folder"):
        write_dataset(tmp_path / "notes.txt", SceneDataSettings("train", 2, 16))
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(ValueError, match="is not a manifest of scenes"):
        write_dataset(tmp_path, SceneDataSettings("train", 2, 16))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_no_half_written_file_stays_behind(tmp_path, monkeypatch):
    def full(pixels: np.ndarray) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "png", full)
    with pytest.raises(OSError, match="No space left"):
        write_dataset(tmp_path, SceneDataSettings("train", 2, 16))
    assert set(contents(tmp_path)) == {MANIFEST}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split is 'dev': choose one of train, val, test"),
        ({"count": 0}, "count is 0: choose 1 to 1000000000"),
        ({"size": 8}, "size is 8: choose 16 to 1024"),
        ({"size": 4096}, "size is 4096: choose 16 to 1024"),
        ({"seed": -1}, "seed is -1: choose 0 to 16777215"),
        ({"format": "zip"}, "format is 'zip': choose one of webdataset, parquet"),
        ({"shard_size": 0}, "shard size is 0: choose 1 to "),
        ({"start_index": -1}, "start index is -1: choose 0 to "),
        ({"count": 0, "size": 8}, "count is 0: choose 1 to 1000000000; size is 8"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SceneDataSettings(**{"split": "train", "count": 2, **change})


def test_shards_share_the_samples_out():
    settings = SceneDataSettings("val", 25, start_index=100, shard_size=10, format="parquet")
    units = settings.units()
    assert [(unit.start, unit.count) for unit in units] == [(100, 10), (110, 10), (120, 5)]
    assert settings.shard_name(units[2]) == "val-00002-of-00003.parquet"
