"""A stage trains directly from the published layouts, and from what is written in them."""

from __future__ import annotations

import pytest

from data_recipes.formats.cli import WRITERS
from data_recipes.runner.records import Record
from insightedit import stage1, stage2, stage3
from insightedit.scenes import SceneSampler, SubjectEditSampler
from tests.data.published_files import instructpix2pix, magicbrush, reasonedit, rows
from tests.recipes.format_files import noise

TINY = ["--overlay", "tiny", "train.max_steps=2", "train.save_every=2", "train.num_samples=0"]


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> str:
    """Run folder of stage 2, which stage 3 starts from."""
    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (stage1, stage2):
            stage.main(TINY)
    return str(folder / "runs/insightedit/stage2")


def pairs(count: int = 4) -> list[Record]:
    sampler = SceneSampler("train", 32)
    return [
        Record(
            f"{number}", task="edit", source=one.source, target=one.target, mask=one.mask,
            instructions={"simple": (one.instruction,)}, caption=one.caption_source,
        )
        for number in range(count)
        for one in [sampler[number]]
    ]  # fmt: skip


def train(folder, before: str, kind: str, path: object) -> float:
    """Two steps of stage 3; the loss."""
    source = f"data.sources=[{{kind: {kind}, path: {path}}}]"
    summary = stage3.main([*TINY, "--init-from", before, source, f"output_dir={folder / 'run'}"])
    assert (summary.finished, summary.steps) == (True, 2)
    return summary.losses["loss"] if "loss" in summary.losses else sum(summary.losses.values())


@pytest.mark.parametrize(
    "layout", ["magicbrush", *(pytest.param(one, marks=pytest.mark.slow) for one in ("instructpix2pix", "jsonl"))]
)
def test_a_stage_trains_from_what_is_written(tmp_path, before, layout):
    made = pairs(20 if layout == "instructpix2pix" else 4)
    WRITERS[layout](made, tmp_path / "set")
    assert 0 < train(tmp_path, before, layout, tmp_path / "set") < 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_stage_trains_from_a_runs_own_shards(tmp_path, before, kind):
    from data_recipes.runner.rows import PictureEncoder, open_shard, row_of

    path = tmp_path / f"train-00000-of-00001.{'tar' if kind == 'webdataset' else kind}"
    with path.open("wb") as file:
        shard = open_shard(file, kind)
        for number, record in enumerate(pairs()):
            shard.write(row_of(record, f"{number:06d}", "train", PictureEncoder()))
        shard.close()
    assert 0 < train(tmp_path, before, kind, tmp_path) < 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("magicbrush", lambda root: magicbrush(root)),
        ("instructpix2pix", lambda root: instructpix2pix(root)),
        ("reasonedit", lambda root: reasonedit(root)),
        (
            "parquet",
            lambda root: rows(("source", "instruction", "target")).to_parquet(root / "train.parquet") and root,
        ),
        (
            "arrow",
            lambda root: rows(("source", "instruction", "target")).save_to_disk(root / "saved") or root / "saved",
        ),
    ],
)
def test_a_stage_trains_from_the_published_layouts(tmp_path, before, kind, make):
    (tmp_path / "set").mkdir()
    assert 0 < train(tmp_path, before, kind, make(tmp_path / "set")) < 100


@pytest.mark.slow
def test_a_stage_trains_from_advancededits_pairs(tmp_path, before):
    """The JSON of one photo's replacements is what the kind `reasonedit` reads, pictures by their paths."""
    import json

    made = [one.but(key=f"{number}/a", task="replace") for number, one in enumerate(pairs(2))]
    WRITERS["advancededit"](made, tmp_path / "set")
    folder = tmp_path / "set/3_editing_pair_construction/replace"
    pictures = {path.name: path for path in (tmp_path / "set").rglob("*.png")}
    table = {}
    for file in sorted((folder / "json_file").iterdir()):
        entry = json.loads(file.read_text())["0"]
        for end in ("origin_img_path", "target_img_path"):
            entry[end] = str(pictures[entry[end]].relative_to(tmp_path / "set"))
        table[file.stem] = entry
    (tmp_path / "set/train.json").write_text(json.dumps(table))
    assert 0 < train(tmp_path, before, "reasonedit", tmp_path / "set") < 100


@pytest.mark.slow
def test_the_recipe_mige_trains_from_its_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sampler = SubjectEditSampler("train", 32)
    made = [
        Record(
            f"{number}", task="edit", source=one.source, target=one.target, references=one.references,
            instructions={"simple": (one.instruction,)},
        )
        for number in range(3)
        for one in [sampler[number]]
    ]  # fmt: skip
    drawn = Record(
        "new", task="subject", target=noise(0), references=(noise(1),), instructions={"simple": ("a <imagehere>",)}
    )
    WRITERS["mige"]([*made, drawn], tmp_path / "set")
    source = f"data.sources=[{{kind: mige, path: {tmp_path / 'set/mige.json'}}}]"
    summary = stage3.main(["--recipe", "mige", *TINY, source])
    assert (summary.finished, summary.steps) == (True, 2)
