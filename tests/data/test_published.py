"""The published data sets' own shapes, read from small copies."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from insightedit import stage1, stage2
from insightedit.config.load import ConfigError, load_config
from insightedit.config.schema import SourceConfig
from insightedit.datasets.mixture import Mixture
from insightedit.datasets.pairs import VISITS, choose
from insightedit.datasets.sources import Source, build_source
from insightedit.types import EditRecord
from tests.data import published_files as files


def build(kind: str, path: Path, split: str = "train", images: Path | None = None) -> Source:
    entry = SourceConfig(kind=kind, path=str(path), split=split, images=images and str(images))
    return build_source(entry, size=32, seed=0)


def visits(source: Source, number: int, count: int = 40) -> list[EditRecord]:
    return [source[visit * source.num_records + number] for visit in range(count)]


def skipped(source: Source, caplog: pytest.LogCaptureFixture) -> int:
    """How many of 30 draws were broken, all named."""
    mixture = Mixture({"it": source}, {"it": 1.0}, seed=0)
    assert all(isinstance(mixture[index], EditRecord) for index in range(30))
    assert mixture.broken["it"] == caplog.text.count("skipped broken record")
    numbers = [int(n) for n in re.findall(r"skipped broken record (\d+) of it", caplog.text)]
    assert max(numbers) < source.num_records
    return mixture.broken["it"]


def test_instructpix2pix_folders(tmp_path) -> None:
    root = files.instructpix2pix(tmp_path)
    source = build("instructpix2pix", root)
    assert source.num_records == 18
    assert len(source) == 18 * VISITS
    records = visits(source, 3)
    assert {r.instruction for r in records} == {"make it 3"}
    assert {int(r.target_image[0, 0, 0]) // 50 for r in records} == {2, 4}  # both seeds come up
    assert all(abs(int(r.source_image[0, 0, 0]) - 10) < 3 for r in records)
    assert [build("instructpix2pix", root, split).num_records for split in ("val", "test")] == [1, 1]
    assert build("instructpix2pix", root, "val")[0].instruction == "make it 18"


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("instructpix2pix", ("original_image", "edit_prompt", "edited_image")),
        ("magicbrush", ("source_img", "instruction", "target_img")),
    ],
)
def test_rows_of_the_hub(tmp_path, kind, columns) -> None:
    from datasets import DatasetDict

    table = files.rows(columns)
    table.to_parquet(str(tmp_path / "parquet/train-0.parquet"))
    table.save_to_disk(str(tmp_path / "arrow"))
    DatasetDict(train=table).save_to_disk(str(tmp_path / "splits"))
    for name in ("parquet", "arrow", "splits"):
        source = build(kind, tmp_path / name)
        assert source.num_records == 2
        assert source[1].instruction == "whiten it"
        assert (source[1].source_image.max(), source[1].target_image.min()) == (0, 255)
    with pytest.raises(ConfigError, match="has the splits train, not `val`"):
        build(kind, tmp_path / "splits", "val")


def test_rows_without_a_target_are_refused(tmp_path) -> None:
    files.rows(("source_img", "instruction", "something")).save_to_disk(str(tmp_path / "arrow"))
    with pytest.raises(
        ConfigError,
        match="has the columns source_img, instruction, something; none of them is known as picture after it",
    ):
        build("magicbrush", tmp_path / "arrow")


def test_kind_arrow_needs_such_a_folder(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no folder that `Dataset.save_to_disk` wrote"):
        build("arrow", tmp_path)


def test_magicbrush_sessions(tmp_path) -> None:
    source = build("magicbrush", files.magicbrush(tmp_path))
    assert source.num_records == 2
    assert [source[i].instruction for i in range(2)] == ["a fox", "snow"]
    np.testing.assert_array_equal(source[0].target_image, source[1].source_image)


def test_reasonedit_draws_one_of_its_instructions(tmp_path, caplog) -> None:
    source = build("reasonedit", files.reasonedit(tmp_path))
    drawn = [r.instruction for r in visits(source, 0)]
    assert set(drawn) == {"one", "two", "three"}
    assert drawn == [r.instruction for r in visits(source, 0)]
    assert 5 < skipped(source, caplog) < 60  # the second record's target is missing


def test_reasonedit_names_the_keys_it_misses(tmp_path) -> None:
    files.as_json(tmp_path / "x.json", {"0000": {"instruction": "one"}})
    with pytest.raises(ValueError, match="no origin_img_path or origin_path among instruction"):
        build("reasonedit", tmp_path)[0]


def test_an_empty_instruction_is_broken(tmp_path) -> None:
    root = files.reasonedit(tmp_path)
    files.as_json(
        root / "train.json", {"0": {"origin_img_path": "a.png", "target_img_path": "b.png", "instruction": " "}}
    )
    with pytest.raises(ValueError, match="instruction is empty: `instruction` is ' '"):
        build("reasonedit", root)[0]
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose([], np.random.default_rng(0))


def test_llava_rounds_with_what_was_said_before(tmp_path, caplog) -> None:
    root = files.llava(tmp_path)
    source = build("llava_instruct", root, images=root / "train2017")
    records = visits(source, 0)
    assert {(r.instruction, r.reply) for r in records} == {
        ("What is it?", "A dog."),
        ("What is it? ASSISTANT: A dog. USER: Which colour?", "Brown."),
    }
    assert not any(r.is_edit for r in records)
    assert skipped(source, caplog) > 5


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "no conversation of human and gpt in turn"),
        ([{"from": "human", "value": "a"}, {"from": "gpt", "value": "<image>"}], "empty question or answer"),
    ],
)
def test_talk_that_is_none(tmp_path, turns, message) -> None:
    root = files.llava(tmp_path)
    files.as_json(root / "llava_instruct_150k.json", [{"image": "1.jpg", "conversations": turns}])
    with pytest.raises(ValueError, match=message):
        build("llava_instruct", root)[0]


def test_cc12m_captions(tmp_path, caplog) -> None:
    source = build("cc12m", files.cc12m(tmp_path))
    assert source.num_records == 4
    assert [source[i].caption for i in range(2)] == ["a dog on a sofa", "a cat"]
    assert source[0].source_image is None
    for number in (2, 3):
        with pytest.raises(ValueError, match="not a URL and a caption with a tab between them"):
            source[number]
    assert skipped(source, caplog) > 5


def test_coco_stuff_paints_what_is_there_and_asks_for_what_is_not(tmp_path) -> None:
    root = files.coco_stuff(tmp_path)
    source = build("coco_stuff", root / "maps", images=root / "images")
    asked = Counter()
    for record in visits(source, 0, 300):
        changed = (record.source_image != record.target_image).any(axis=-1)
        rows, columns = np.nonzero(changed)
        if "the person" in record.instruction:
            assert set(rows) == set(range(4))
        elif "the brick wall" in record.instruction:
            assert (set(rows), set(columns)) == (set(range(4, 8)), set(range(5)))
        else:
            assert "the sky" in record.instruction
            assert not changed.any()
            asked["absent"] += 1
    assert asked["absent"] / 300 == pytest.approx(0.2, abs=0.07)


def test_refcoco_masks_and_splits(tmp_path) -> None:
    root = files.refcoco(tmp_path)
    source = build("refcoco", root, images=root / "train2014")
    assert source.num_records == 2
    changed = [(source[i].source_image != source[i].target_image).any(axis=-1) for i in range(2)]
    assert changed[0][1:5, 1:5].all()
    assert changed[0].sum() == 16
    assert changed[1].sum() == 3
    assert changed[1][:3, 2].all()
    assert '"left dog"' in source[0].instruction
    assert build("refcoco", root / "refs(unc).p", "val", root / "train2014").num_records == 1
    with pytest.raises(ConfigError, match="belongs to the split `testA`"):
        build("refcoco", root, "testA", root / "train2014")


def test_grefcoco_means_none_one_or_several(tmp_path, caplog) -> None:
    root = files.grefcoco(tmp_path)
    source = build("grefcoco", root, images=root / "train2014")
    both, nothing = (source[i] for i in range(2))
    assert (both.source_image != both.target_image).any(axis=-1).sum() == 16 + 9
    np.testing.assert_array_equal(nothing.source_image, nothing.target_image)
    assert skipped(source, caplog) > 3  # the third names an object that does not exist


def test_reasonseg_leaves_out_what_is_ignored(tmp_path, caplog) -> None:
    source = build("reasonseg", files.reasonseg(tmp_path))
    record = source[0]
    changed = (record.source_image != record.target_image).any(axis=-1)
    assert changed[1, 1]
    assert not changed[3, 3]
    assert "what barks?" in record.instruction
    with pytest.raises(ValueError, match="b.json outlines no target"):
        source[1]
    assert skipped(source, caplog) > 5


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [Malicious(), [Malicious()]])
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path, monkeypatch, content) -> None:
    root = files.refcoco(tmp_path)
    monkeypatch.chdir(tmp_path)
    (root / "refs(unc).p").write_bytes(pickle.dumps(content))
    with pytest.raises(ConfigError, match=r"no plain list of references \(it wants .*mkdir"):
        build("refcoco", root, images=root / "train2014")
    assert not Path("executed").exists()


def test_a_damaged_or_strange_pickle_is_refused(tmp_path) -> None:
    root = files.refcoco(tmp_path)
    whole = (root / "refs(unc).p").read_bytes()
    (root / "refs(unc).p").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="no plain list of references"):
        build("refcoco", root, images=root / "train2014")
    (root / "refs(unc).p").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ConfigError, match="holds a dict: kind `refcoco` reads a list"):
        build("refcoco", root, images=root / "train2014")


WRONG = {
    "instructpix2pix": "holds no seeds.json, no [*].parquet file and no folder of `save_to_disk`",
    "magicbrush": "holds no edit_sessions.json, no [*].parquet",
    "reasonedit": "holds no [*].json: kind `reasonedit` needs one",
    "llava_instruct": r"holds no llava_instruct\*.json or \*.json",
    "cc12m": "holds no [*].tsv",
    "coco_stuff": "labels.txt is missing",
    "refcoco": r"holds no refs\*.p or refs\*.json or grefs\*.json",
    "reasonseg": "train is no folder: kind `reasonseg` looks there for NAME.jpg and NAME.json",
}


@pytest.mark.parametrize(("kind", "message"), WRONG.items())
def test_a_wrong_folder_is_explained(tmp_path, kind, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build(kind, tmp_path)


def test_missing_parts_of_a_folder_are_named(tmp_path) -> None:
    root = files.coco_stuff(tmp_path / "coco")
    with pytest.raises(ConfigError, match=r"needs the pictures train2017/\*.jpg \(`images`\): give its folder"):
        build("coco_stuff", root / "maps")
    with pytest.raises(ConfigError, match=r"val2017 holds no \*.png"):
        build("coco_stuff", root / "maps", "val", root)
    (root / "maps/labels.txt").write_text("person")
    with pytest.raises(ConfigError, match="holds no line `1: person`"):
        build("coco_stuff", root / "maps", images=root)
    root = files.reasonseg(tmp_path / "reason")
    for file in (root / "train").glob("*.json"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"holds no \*.json: kind `reasonseg` reads annotations"):
        build("reasonseg", root)
    root = files.instructpix2pix(tmp_path / "ip2p", 2)
    with pytest.raises(ConfigError, match="has the splits train, val, test, all, not `dev`"):
        build("instructpix2pix", root, "dev")
    with pytest.raises(ConfigError, match="too short for a split `val`"):
        build("instructpix2pix", root, "val")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(ConfigError, match="empty.tsv is empty"):
        build("cc12m", tmp_path / "empty.tsv")


def test_wrong_json_is_explained(tmp_path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{")
    with pytest.raises(ConfigError, match="x.json cannot be read as JSON"):
        build("reasonedit", file)
    for values, what in (([1], "a list"), ({}, "an empty dict")):
        file.write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=f"x.json holds {what}: it has to be"):
            build("reasonedit", file)
    shutil.copy(file, tmp_path / "y.json")
    with pytest.raises(ConfigError, match="holds x.json, y.json: let `path` name the one"):
        build("reasonedit", tmp_path)


def test_the_cascade_of_the_overlay_has_smartedits_shares(tmp_path, monkeypatch) -> None:
    """15 % synthetic, 10 % of the rest ReasonSeg, then chat by size, then editing or segmentation by size."""
    from insightedit.datasets.mixture import flatten

    monkeypatch.chdir(tmp_path)
    config = load_config("smartedit", 3, ["smartedit_data"])
    sizes = {"llava_instruct": 157, "instructpix2pix": 313, "magicbrush": 9}
    sizes |= {"coco_stuff": 118, "refcoco": 42, "grefcoco": 30}
    total = sum(sizes.values())

    class Sized:
        def __init__(self, count: int) -> None:
            self.num_records = count

        def __len__(self) -> int:
            return self.num_records * VISITS

    found = flatten(config.data.sources, lambda entry: Sized(sizes.get(entry.kind, 5)))
    whole = sum(leaf.weight for leaf in found)
    shares = {leaf.name.partition("-")[2]: leaf.weight / whole for leaf in found}
    rest = 0.85 * 0.90
    edits, segments = 313 + 9, 118 + 42 + 30
    chat = rest * 157 / total
    drawn = rest - chat
    assert shares == pytest.approx(
        {
            "reasonedit": 0.15,
            "reasonseg": 0.85 * 0.10,
            "llava_instruct": chat,
            "instructpix2pix": drawn * edits / (edits + segments) / 2,
            "magicbrush": drawn * edits / (edits + segments) / 2,
            "coco_stuff": drawn * segments / (edits + segments) * 118 / segments,
            "refcoco": drawn * segments / (edits + segments) * 72 / segments * 42 / 72,
            "grefcoco": drawn * segments / (edits + segments) * 72 / segments * 30 / 72,
        }
    )
    stages = [load_config("smartedit", stage, ["smartedit_data"]).data.sources for stage in (1, 2, 3)]
    assert [entry.kind for entry in stages[0]] == ["cc12m"]
    assert stages[1] == stages[2]


def whole_mixture(root: Path, monkeypatch: pytest.MonkeyPatch) -> Mixture:
    """The overlay's mixture over small copies at the overlay's own paths."""
    from insightedit.training.data import build_mixture

    monkeypatch.chdir(root)
    data = root / "data"
    files.reasonedit(data / "reasonedit")
    files.reasonseg(data / "reasonseg")
    files.llava(data / "llava_instruct")
    files.instructpix2pix(data / "instructpix2pix")
    files.magicbrush(data / "magicbrush")
    coco = files.coco_stuff(root / "stuff")
    shutil.copytree(coco / "maps", data / "coco_stuff")
    shutil.copytree(coco / "images/train2017", data / "coco/train2017")
    files.picture(data / "coco/train2017/1.jpg")
    files.refcoco(data / "refcoco")
    files.grefcoco(data / "grefcoco")
    shutil.copytree(data / "refcoco/train2014", data / "coco/train2014")
    return build_mixture(load_config("smartedit", 3, ["tiny", "smartedit_data"]))


def test_the_whole_mixture_feeds_the_real_collator(tmp_path, monkeypatch) -> None:
    from insightedit.model.build import build_editor
    from insightedit.training.data import build_collator

    mixture = whole_mixture(tmp_path, monkeypatch)
    records = [mixture[index] for index in range(60)]
    kinds = {record.key.split("/")[0] for record in records}
    assert {"reasonedit", "reasonseg", "llava_instruct", "instructpix2pix"} <= kinds
    config = load_config("smartedit", 3, ["tiny"])
    editor = build_editor(config)
    chat = next(record for record in records if not record.is_edit)
    edit = next(record for record in records if record.is_edit)
    batch = build_collator(config, editor)([edit, chat], [0, 1])
    assert batch.is_edit.tolist() == [1.0, 0.0]
    first_token = editor.comprehension.edit_token_ids[0]
    assert (batch.tokens.input_ids == first_token).sum(dim=1).tolist() == [1, 1]
    assert (batch.tokens.labels == first_token).sum(dim=1).tolist() == [1, 0]


def test_smartedit_trains_on_its_own_data(tmp_path, monkeypatch) -> None:
    """Stage 1 on captions, stage 2 on editing, painted segmentations and conversations together."""
    whole_mixture(tmp_path, monkeypatch)
    files.cc12m(tmp_path / "data/cc12m")
    words = ["--recipe", "smartedit", "--overlay", "tiny", "--overlay", "smartedit_data", "train.max_steps=3"]
    words += ["train.batch_size=4", "train.num_samples=2", "train.log_every=1"]
    assert stage1.main(words).finished
    summary = stage2.main(words)
    assert summary.finished
    assert summary.losses.keys() >= {"lm", "noise"}
    assert all(np.isfinite(value) for value in summary.losses.values())
    assert list(summary.run_dir.glob("samples/*.png"))


def test_every_colour_and_wording_comes_up(tmp_path) -> None:
    from insightedit.datasets.segmentation import COLOURS, TEMPLATES

    assert (len(COLOURS), len(set(TEMPLATES))) == (8, 11)
    source = build("reasonseg", files.reasonseg(tmp_path))
    said = {record.instruction for record in visits(source, 0, 1500)}
    thing = 'what answers "what barks?"'
    assert said == {t.format(thing=thing, colour=c) for t, c in product(TEMPLATES, COLOURS)}
