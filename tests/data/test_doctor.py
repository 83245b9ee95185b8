"""The pair doctor: planted faults are found and named, good pairs are not suspected."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_recipes.doctor.cli import app
from data_recipes.doctor.examine import examine
from data_recipes.doctor.findings import FAULTS, Diagnosis
from data_recipes.formats.advancededit import write_advancededit
from data_recipes.formats.cli import WRITERS
from data_recipes.runner.records import Record
from data_recipes.scenes.writer import SceneDataSettings, write_dataset
from insightedit.scenes import EditSample, SceneSampler

SIZE = 96
FOREIGN = SceneSampler("test", SIZE, seed=9)


def record(sample: EditSample, key: str = "") -> Record:
    known = sample.task if sample.task in ("remove", "add", "replace", "recolour") else "edit"
    return Record(
        key or f"{sample.index:03d}", task=known, source=sample.source, target=sample.target, mask=sample.mask,
        instructions={"simple": (sample.instruction,)},
    )  # fmt: skip


def scenes(count: int, split: str = "train", start: int = 0, plain: bool = False) -> list[Record]:
    sampler = SceneSampler(split, SIZE, plain=plain)
    return [record(sampler[start + number]) for number in range(count)]


def found(diagnosis: Diagnosis) -> set[tuple[str, str]]:
    return {(one.fault, one.where) for one in diagnosis.findings}


def jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return np.asarray(Image.open(buffer))


def a(task: str, source: list[Record]) -> Record:
    return next(one for one in source if one.task == task and one.mask.mean() > 0.02)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, Path, set[tuple[str, str]]]:
    """A set of JSON lines in which each fault stands once, and a test set."""
    root = tmp_path_factory.mktemp("planted")
    good, more = scenes(40), scenes(24, start=100)
    edits = [one for one in more if one.mask.mean() < 0.3]
    removal, addition = a("remove", more), a("add", more)
    base = next(one for one in edits if one.task == "replace")
    wide = np.roll(base.target, (5, -7), axis=(0, 1))
    elsewhere = np.zeros_like(base.mask)
    far = np.argwhere(~base.mask)[0]
    elsewhere[far[0] : far[0] + 6, far[1] : far[1] + 6] = True
    assert not (elsewhere & base.mask).any()
    others = iter(one for one in edits if one not in (removal, addition, base))
    bad = [
        removal.but(key="swapped", source=removal.target, target=removal.source),
        base.but(key="misaligned", target=wide, mask=None),
        next(others).but(key="resized", mask=None),
        (one := next(others)).but(key="empty_mask", mask=np.zeros_like(one.mask)),
        (one := next(others)).but(key="full_mask", mask=np.ones_like(one.mask)),
        base.but(key="mask_elsewhere", mask=elsewhere, instructions={"simple": ("an edit of its own",)}),
        addition.but(key="wrong_task", instructions={"simple": ("remove the dog on the left",)}),
        good[3].but(key="duplicate", source=jpeg(good[3].source), target=jpeg(good[3].target)),
        (one := next(others)).but(key="identical", target=jpeg(one.source), mask=None),
        *(
            next(others).but(key=key)
            for key in ("test_leak", "unreadable", "no_instruction", "missing", "unsafe_path")
        ),
    ]
    WRITERS["jsonl"]([*good, *bad], root)
    assert {one.key for one in bad} == {path.stem for path in (root / "target").iterdir() if not path.stem.isdecimal()}
    rows = {row["key"]: row for row in map(json.loads, (root / "train.jsonl").read_text().splitlines())}
    (root / "source/unreadable.png").write_bytes((root / "source/unreadable.png").read_bytes()[:2000])
    (root / "target/missing.png").unlink()
    Image.open(root / "target/resized.png").resize((80, 96)).save(root / "target/resized.png")
    rows["no_instruction"] |= {"instruction": [" "], "instructions": {}}
    rows["unsafe_path"]["target"] = "../../target.png"
    rows["incomplete"] = {"key": "incomplete", "instruction": "no pictures at all"}
    lines = [*map(json.dumps, rows.values()), "{this is no JSON"]
    (root / "train.jsonl").write_text("\n".join(lines))
    leaked = {**rows["005"], "key": "leaked", "instruction": "another wording"}
    (root / "test.jsonl").write_text(json.dumps({**leaked, "instructions": None}))
    tests = tmp_path_factory.mktemp("testset")
    for number in range(5):
        Image.fromarray(FOREIGN[number].source).save(tests / f"{number}.jpg")
    half = Image.fromarray(next(one for one in bad if one.key == "test_leak").source).resize((48, 48))
    (tests / "deep").mkdir()
    half.save(tests / "deep/leak.jpg", quality=90)
    Image.new("L", (64, 64)).save(tests / "mask.png")
    keys = {one.key for one in bad} | {"incomplete"}
    wanted = {(key, key) for key in keys} | {("split_leak", "leaked"), ("not_json", f"train-{len(lines) - 1:06d}")}
    return root, tests, wanted


def test_every_planted_fault_is_found_and_named_and_nothing_else(planted):
    root, tests, wanted = planted
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    diagnosis = examine(root, against=[f"held-out={tests}"])
    assert found(diagnosis) == wanted
    assert len(diagnosis.findings) == len(wanted)
    assert set(FAULTS) == {fault for fault, _ in wanted} | {"not_utf8", "unreadable_mask"}
    assert diagnosis.compared == {"held-out": 6}
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    details = {one.fault: one.detail for one in diagnosis.findings}
    assert details["misaligned"].startswith("by 7 px left and 5 px down: then ")
    assert details["resized"] == "source 96 x 96, target 80 x 96, of other proportions"
    assert details["duplicate"] == "of 003"
    assert details["split_leak"] == "test and train: 005 (source)"
    assert details["test_leak"] == "held-out: deep/leak.jpg"
    assert details["wrong_task"] == "'remove the dog on the left': remove, not add"
    assert details["unsafe_path"] == "../../target.png"


def invoke(*words: object):
    return CliRunner().invoke(app, ["data", *(str(word) for word in words)])


def test_the_command_says_what_to_do_and_fails(planted, tmp_path):
    root, tests, wanted = planted
    done = invoke(root, "--against", tests, "--sheet", tmp_path / "sheet.html")
    assert done.exit_code == 1
    assert "jsonl, train 56, test 1" in done.output
    for fault in {fault for fault, _ in wanted}:
        assert f"\n{FAULTS[fault][0]}, 1:\n" in done.output
        assert FAULTS[fault][1][:30] in done.output
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/png;base64,") > 20
    assert "by 7 px left" in page
    told = json.loads(invoke(root, "--split", "train", "--json").stdout)
    assert told["counts"]["swapped"] == 1
    assert "split_leak" not in told["counts"]
    swapped = next(one for one in told["findings"] if one["fault"] == "swapped")
    assert (swapped["where"], swapped["split"], swapped["remedy"]) == ("swapped", "train", FAULTS["swapped"][1])


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_good_pairs_are_not_suspected(tmp_path, kind):
    write_dataset(tmp_path / "set/train", SceneDataSettings("train", 80, 64, format=kind, shard_size=50))
    write_dataset(tmp_path / "set/test", SceneDataSettings("test", 20, 64, format=kind))
    done = invoke(tmp_path / "set")
    assert done.exit_code == 0, done.output
    assert "Nothing was found." in done.output
    assert f"{kind}, train 80, test 20" in done.output
    assert "cannot be told from the pictures of" in done.output


@pytest.mark.slow
def test_a_thousand_good_pairs_of_each_size_raise_no_alarm(tmp_path):
    """But for tones that are told slightly: "a little more muted" hardly shows where there is hardly any colour."""
    write_dataset(tmp_path / "set/train", SceneDataSettings("train", 1000, 128, seed=77))
    write_dataset(tmp_path / "set/test", SceneDataSettings("test", 1000, 64, seed=78))
    diagnosis = examine(tmp_path / "set")
    assert diagnosis.records == 2000 and len(diagnosis.findings) <= 2
    for one in diagnosis.findings:
        split, size, seed = ("train", 128, 77) if one.split == "train" else ("test", 64, 78)
        sample = SceneSampler(split, size, seed)[int(one.where.rpartition("-")[2])]
        assert one.fault == "identical" and sample.edit.operation == "slightly less colourful"


@pytest.mark.parametrize("layout", list(WRITERS))
def test_good_pairs_of_every_layout_are_not_suspected(tmp_path, layout):
    pairs = [one for one in scenes(30) if one.task in ("remove", "add", "replace")]
    WRITERS[layout](pairs, tmp_path / "set")
    diagnosis = examine(tmp_path / "set")
    assert diagnosis.findings == []
    assert (diagnosis.kind, diagnosis.records) == (layout, len(pairs))


@pytest.mark.parametrize(
    ("name", "link", "detail"),
    [
        ("../../evil.json", None, "../../evil.json leads out of the folder"),
        ("/tmp/evil.json", None, "/tmp/evil.json has an absolute path"),
        ("evil.json", "/etc/passwd", "evil.json is a link to /etc/passwd"),
        ("0.source.png", "0.target.png", "0.source.png is a link to 0.target.png"),
    ],
)
def test_unsafe_members_of_tars_are_named_beside_good_samples(tmp_path, name, link, detail):
    write_dataset(tmp_path, SceneDataSettings("train", 3, 32))
    shard = tmp_path / "train-00000-of-00001.tar"
    with tarfile.open(shard, "a") as archive:
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE if "etc" in link else tarfile.LNKTYPE, link
        archive.addfile(info, None if link else io.BytesIO(b""))
    (one,) = examine(tmp_path).findings
    assert (one.fault, one.detail, Path(one.file).name) == ("unsafe_path", detail, shard.name)


def test_a_damaged_shard_does_not_hide_the_others(tmp_path):
    write_dataset(tmp_path, SceneDataSettings("train", 6, 32, format="parquet", shard_size=3))
    shard = tmp_path / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    diagnosis = examine(tmp_path)
    assert diagnosis.splits == {"train": 3}
    (one,) = diagnosis.findings
    assert (one.fault, one.where) == ("unreadable", shard.name)
    assert "is no whole parquet file" in one.detail


def test_a_set_that_goes_the_wrong_way_is_told_as_a_whole(tmp_path):
    pairs = [one for one in scenes(90, plain=True) if one.task in ("remove", "add")]
    WRITERS["jsonl"]([one.but(source=one.target, target=one.source) for one in pairs], tmp_path)
    diagnosis = examine(tmp_path)
    whole = next(one for one in diagnosis.findings if one.where == "the whole set")
    assert whole.fault == "swapped"
    told = re.fullmatch(r"(\d+) of \1 pairs that have a direction go the other way", whole.detail)
    assert told and int(told[1]) > 0.9 * len(pairs)  # a thing on restless ground may not show which way it goes
    assert len(diagnosis.findings) > 0.75 * len(pairs)


def test_advancededits_names_tell_swapped_pairs_and_broken_json_is_named(tmp_path):
    pairs = [one for one in scenes(30) if one.task == "remove"][:2]
    write_advancededit([one.but(instructions={"template": ("edit it",)}) for one in pairs], tmp_path)
    file = next((tmp_path / "3_editing_pair_construction/remove_add/json_file").iterdir())
    table = json.loads(file.read_text())
    entry = table["0"]
    entry["origin_img_path"], entry["target_img_path"] = entry["target_img_path"], entry["origin_img_path"]
    file.write_text(json.dumps(table))
    broken = tmp_path / "1_caption_object_extraction/1_1_recaption/1543.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"caption": "A "quoted" word"}')
    diagnosis = examine(tmp_path)
    swapped = [one for one in diagnosis.findings if one.fault == "swapped"]
    assert swapped[0].where.endswith(f"{file.name}, entry 0")
    assert swapped[0].detail.startswith("remove starts from the made picture: ")
    told = [one for one in diagnosis.findings if one.fault == "not_json"]
    assert [one.where for one in told] == ["1_caption_object_extraction/1_1_recaption/1543.json"]


def test_test_sets_are_looked_through_in_any_layout(tmp_path):
    leaked = scenes(1)[0]
    WRITERS["jsonl"]([leaked], tmp_path / "set")
    sampler = SceneSampler("train", SIZE)
    for kind, start in (("parquet", 0), ("webdataset", 0), ("parquet", 50)):
        folder = tmp_path / f"{kind}{start}"
        write_dataset(folder, SceneDataSettings("train", 3, SIZE, format=kind, start_index=start))
        found = examine(tmp_path / "set", against=[str(folder)]).findings
        assert [one.fault for one in found] == (["test_leak"] if start == 0 else [])
    assert np.array_equal(leaked.source, sampler[0].source)


def test_only_the_first_records_are_looked_at(planted):
    root, _, _ = planted
    assert examine(root, count=10).splits == {"train": 10, "test": 1}


def test_a_sheet_can_be_a_picture(planted, tmp_path):
    root, _, _ = planted
    assert invoke(root, "--sheet", tmp_path / "sheet.png").exit_code == 1
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 1200
        assert image.height > 1500


def test_wrong_words_are_refused_in_one_sentence(tmp_path):
    def said(*words: object) -> str:
        done = invoke(*words)
        assert done.exit_code == 2
        return " ".join(done.output.split())

    (tmp_path / "empty").mkdir()
    assert "there is no" in said(tmp_path / "none")
    assert "is of no layout that is known by its files: name it with --kind" in said(tmp_path / "empty")
    assert "holds no *.parquet file" in said(tmp_path / "empty", "--kind", "parquet")
    WRITERS["jsonl"](scenes(1), tmp_path / "set")
    assert "--against nowhere: there is no nowhere; name a folder" in said(tmp_path / "set", "--against", "nowhere")
    told = said(tmp_path / "set", "--against", tmp_path / "empty")
    assert "empty holds no pictures to compare with: name the folder of a test set." in told
    assert "has to be a file that ends in .html or .png." in said(tmp_path / "set", "--sheet", "x.jpg")
    assert "no folder gone for the sheet" in said(tmp_path / "set", "--sheet", "gone/x.png")
    (tmp_path / "set/train.jsonl").write_text("")
    assert "holds no records of kind jsonl" in said(tmp_path / "set")
