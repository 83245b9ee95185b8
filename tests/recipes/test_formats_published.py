"""MagicBrush, InstructPix2Pix and tables: read, written, and read again; also by the training sources."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_recipes.formats.writers import write_instructpix2pix, write_jsonl, write_magicbrush
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.runner.records import Record
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from tests.recipes.format_files import (
    SIZE,
    assert_same,
    dump,
    edited,
    edits,
    noise,
    opened,
    records,
    rejected,
    same,
    save,
)

PAIR = "source target instructions caption task"


def with_captions(made: list[Record]) -> list[Record]:
    return [one.but(notes={"caption_target": f"after {one.key}"}) for one in made]


def chain() -> list[Record]:
    """Two turns of one session, each from the picture before it, and a stranger with an equal name."""
    first = edits(1)[0].but(key="7/1")
    target, mask = edited(first.target, 5)
    second = first.but(
        key="7/2", source=first.target, target=target, mask=mask, instructions={"simple": ("and more",)}
    )
    return with_captions([first, second, edits(2)[1].but(key="7/3")])


def test_magicbrush_comes_back_with_masks_captions_and_turns(tmp_path):
    assert write_magicbrush(chain(), tmp_path) == 3
    sessions = json.loads((tmp_path / "edit_sessions.json").read_text())
    assert [len(turns) for turns in sessions.values()] == [2, 1]
    assert sessions["7"][1]["input"] == sessions["7"][0]["output"] == "7-output1.png"
    found = records(opened("magicbrush", tmp_path))
    assert [one.key for one in found] == ["7/1", "7/2", "7-2/1"]
    wanted = chain()
    wanted[1] = wanted[1].but(caption=wanted[0].notes["caption_target"])  # one caption a picture
    assert_same(found, wanted, f"{PAIR} mask notes")
    hole = np.asarray(Image.open(tmp_path / "images/7/7-mask1.png"))
    assert hole.shape == (*SIZE, 4)


def test_the_benchmark_and_the_training_source_read_what_is_written(tmp_path):
    from insightedit.evaluation.benchmarks.registry import load_benchmark

    write_magicbrush(chain(), tmp_path / "out/test")
    source = build_source(SourceConfig(kind="magicbrush", path=str(tmp_path / "out/test")), size=32, seed=0)
    assert same(source[1].source_image, chain()[1].source)
    assert source[1].instruction == "and more"
    assert len(load_benchmark("magicbrush", tmp_path / "out")) == 3


def test_instructpix2pix_comes_back_nearly(tmp_path):
    made = with_captions(edits(20))
    assert write_instructpix2pix(made, tmp_path) == 20
    found = records(opened("instructpix2pix", tmp_path, split="all"))
    assert_same(found, made, "instructions caption notes task")
    smooth = np.dstack([np.mgrid[:20, :24][0] * 8] * 3).astype(np.uint8)  # noise is what JPEG is worst at
    target, _ = edited(smooth)
    write_instructpix2pix([made[0].but(source=smooth, target=target)], tmp_path / "smooth")
    (near,) = records(opened("instructpix2pix", tmp_path / "smooth", split="all"))
    assert same(near.source, smooth, near=6)
    assert [len(opened("instructpix2pix", tmp_path, split=split)) for split in ("train", "val", "test")] == [18, 1, 1]
    source = build_source(SourceConfig(kind="instructpix2pix", path=str(tmp_path)), size=32, seed=0)
    assert source[2].instruction == "change number 2"
    with pytest.raises(ValueError, match="has the splits train, val, test, all, not `dev`: name one of them."):
        opened("instructpix2pix", tmp_path, split="dev")


def test_json_lines_come_back_whole(tmp_path):
    made = [
        one.but(
            instructions={"simple": ("a", "b"), "advanced": ("c",)},
            scores={"sc": 4.5},
            class_origin="ball",
            detailed_target="d",
        )
        for one in edits()
    ]
    drawn = Record(
        "9/new", task="subject", target=noise(9), references=(noise(8, (8, 8)), noise(7, (6, 9))),
        instructions={"simple": ("<imagehere> beside <imagehere>",)},
    )  # fmt: skip
    assert write_jsonl([*made, drawn], tmp_path) == 4
    fields = f"{PAIR} mask scores class_origin class_target detailed_target key references"
    assert_same(records(opened("jsonl", tmp_path)), [*made, drawn], fields)
    source = build_source(SourceConfig(kind="jsonl", path=str(tmp_path)), size=32, seed=0)
    assert same(source[0].target_image, made[0].target)


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("task", ["edits", "subjects", "subject_edits"])
def test_rendered_tables_are_read_by_number(tmp_path, kind, task):
    from data_recipes.scenes.writer import SceneDataSettings, write_dataset

    settings = SceneDataSettings("train", 5, 32, format=kind, shard_size=3, task=task)
    write_dataset(tmp_path, settings)
    from insightedit.scenes.assets import Assets

    sampler = settings.sampler(Assets.embedded())
    found = opened(kind, tmp_path)
    for number in (4, 0, 3):
        record, sample = found[number], sampler[number]
        assert same(record.source, sample.source)
        assert same(record.target, sample.target)
        assert same(record.mask, sample.mask)
        assert [one.tolist() for one in record.references] == [one.tolist() for one in sample.references]
        assert record.instructions[sample.style] == (sample.instruction,)
        assert record.instructions["expressive"] == (sample.expressive_instruction,)
        record.check()
    assert len({one.key for one in records(found)}) == 5


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_runs_own_shards_come_back(tmp_path, kind):
    from data_recipes.runner.rows import PictureEncoder, open_shard, row_of

    told = {"template": ("put <imagehere> and <imagehere>",), "expressive": ("a <imagehere> and a <imagehere>",)}
    facts = {"scores": {"sc": 4.0}, "truth": {"a": [1]}, "notes": {"step": "x"}, "class_target": "cup"}
    references = (noise(1, (5, 7)), noise(2, (9, 9)))
    made = [one.but(task="replace", references=references, instructions=told, **facts) for one in edits()]
    name = tmp_path / f"train-00000-of-00001.{'tar' if kind == 'webdataset' else kind}"
    with name.open("wb") as file:
        writer = open_shard(file, kind)
        for number, record in enumerate(made):
            writer.write(row_of(record, f"{number:06d}", "train", PictureEncoder()))
        writer.close()
    assert_same(records(opened(kind, tmp_path)), made, f"{PAIR} mask scores truth notes class_target key references")


def test_saved_datasets_and_the_hubs_rows_are_read(tmp_path):
    from tests.data.published_files import rows

    table = rows(("source_img", "instruction", "target_img"))
    table.save_to_disk(tmp_path / "arrow")
    table.to_parquet(tmp_path / "hub" / "data" / "train-00000.parquet")
    for kind, path in (("arrow", "arrow"), ("magicbrush", "arrow"), ("magicbrush", "hub"), ("parquet", "hub/data")):
        found = records(opened(kind, tmp_path / path))
        assert [one.wordings for one in found] == [("make it white",), ("whiten it",)]
        assert found[0].target.min() == 255
        assert found[0].source.max() == 0


def tar(path, members: dict[str, bytes | str]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
                continue
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("../a.source.png", b"x", "../a.source.png leads out of the folder"),
        ("/a.source.png", b"x", "/a.source.png has an absolute path"),
        ("a.source.png", "../../etc/passwd", "a.source.png is a link to ../../etc/passwd"),
    ],
)
def test_members_that_lead_out_of_a_tar_are_refused(tmp_path, name, content, told):
    good = {"b.source.png": png(noise(0)), "b.target.png": png(noise(1)), "b.txt": b"a text"}
    tar(tmp_path / "x.tar", {name: content, **good})
    found = opened("webdataset", tmp_path)
    assert rejected(found, 0) == ("path leads out of the folder", told)
    assert found[1].wordings == ("a text",)
    assert same(found[1].target, noise(1))


def test_faulty_rows_are_told(tmp_path):
    save(tmp_path / "a.png", noise(0))
    good = {"source": "a.png", "target": "a.png", "instruction": "do it"}
    lines = [
        json.dumps(good), json.dumps({**good, "instruction": "  ", "key": "its own"}),
        json.dumps({**good, "target": "gone.png"}),
        json.dumps({**good, "source": "../a.png"}), "{broken", "[1]", json.dumps({"instruction": "no pictures"}),
        json.dumps({**good, "instruction": ["one", "two"]}), json.dumps({**good, "references": "a.png"}),
    ]  # fmt: skip
    dump(tmp_path / "train.jsonl", "\n\n".join(lines))
    found = opened("jsonl", tmp_path)
    assert len(found) == 9
    assert found[1].key == "its own"
    reasons = [rejected(found, number)[0] for number in range(1, 7)]
    assert reasons == [
        "instruction is empty", "file is missing", "path leads out of the folder", "file is not valid JSON",
        "record is incomplete", "record is incomplete",
    ]  # fmt: skip
    assert found[7].wordings == ("one", "two")
    assert rejected(found, 8)[1] == "references of 24 x 20 pixels are no squares side by side"


def test_folders_that_are_none_of_these_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no edit_sessions.json, no \*.parquet file and no folder"):
        opened("magicbrush", tmp_path)
    with pytest.raises(ValueError, match=r"holds no seeds.json"):
        opened("instructpix2pix", tmp_path)
    dump(tmp_path / "edit_sessions.json", "{broken")
    with pytest.raises(ValueError, match="edit_sessions.json cannot be read as JSON: .*: Expecting"):
        opened("magicbrush", tmp_path)
    dump(tmp_path / "edit_sessions.json", [1])
    with pytest.raises(ValueError, match="holds a list: it has to be {id: "):
        opened("magicbrush", tmp_path)
    dump(tmp_path / "x.parquet", "no parquet")
    with pytest.raises(ValueError, match="x.parquet is no whole parquet file .*: get it again."):
        opened("parquet", tmp_path)
    dump(tmp_path / "x.tar", "no tar at all, but some text that is long enough to be looked at" * 20)
    with pytest.raises(ValueError, match="x.tar is no whole tar archive .*: get it again."):
        opened("webdataset", tmp_path)


def test_a_session_that_is_broken_is_told_and_others_are_read(tmp_path):
    write_magicbrush(chain(), tmp_path)
    sessions = json.loads((tmp_path / "edit_sessions.json").read_text())
    sessions["7"][0]["instruction"] = ""
    sessions["7"][1]["mask"] = "../../x.png"
    sessions["../7"] = sessions["7-2"]
    dump(tmp_path / "edit_sessions.json", sessions)
    found = opened("magicbrush", tmp_path)
    assert [rejected(found, number)[0] for number in (0, 1, 3)] == [
        "instruction is empty", "mask cannot be read", "path leads out of the folder",
    ]  # fmt: skip
    assert found[2].is_pair


def test_pictures_are_brought_to_a_side_together(tmp_path):
    write_magicbrush(edits(1), tmp_path)
    (found,) = records(opened("magicbrush", tmp_path, max_side=12))
    assert found.source.shape == found.target.shape == (10, 12, 3)
    assert found.mask.shape == (10, 12)


def test_layouts_without_a_place_for_a_record_refuse_it(tmp_path):
    drawn = Record("1", task="subject", target=noise(0), instructions={"simple": ("a",)})
    with pytest.raises(ValueError, match="1 has no source: MagicBrush holds edits of a source by words; write mige"):
        write_magicbrush([drawn], tmp_path)
    with pytest.raises(ValueError, match="1 has no target picture: the recipe lacks"):
        write_jsonl([drawn.but(target=None)], tmp_path)


def test_no_such_kind_is_told_with_the_nearest():
    with pytest.raises(ValueError, match="source.kind is 'magicbrash': did you mean magicbrush?"):
        open_input(InputConfig("magicbrash", "."))


def test_saved_datasets_name_their_splits(tmp_path):
    from datasets import DatasetDict

    from tests.data.published_files import rows

    DatasetDict({"dev": rows(("source", "edit", "target"))}).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match="has the splits dev, not `train`: name one of them."):
        opened("arrow", tmp_path)
    assert len(opened("arrow", tmp_path, split="dev")) == 2


def test_other_members_of_tars_are_told(tmp_path):
    good = {"b.source.png": png(noise(0)), "b.target.png": png(noise(1)), "b.txt": b"a text"}
    path = tar(tmp_path / "x.tar", {"a.json": b"{broken", **good})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("c.pipe")
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)
    found = opened("webdataset", tmp_path)
    assert rejected(found, 0)[0] == "file is not valid JSON"
    assert rejected(found, 2) == ("path leads out of the folder", "c.pipe is neither a file nor a folder")
    path.write_bytes(path.read_bytes()[:1200])  # cut off after it was opened
    assert rejected(found, 1)[0] == "record is incomplete"
    assert "x.tar ends within b." in rejected(found, 1)[1]
