"""The recipe as a whole: its steps, its configs, a small run on scenes to the files, and the report on them."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from data_recipes.backends.base import KINDS, load_backend
from data_recipes.formats.reading import open_pairs
from data_recipes.oracle.report import main, measure_run
from data_recipes.recipes import build_steps
from data_recipes.runner.config import load_config
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.run import plan_run, run_recipe
from tests.recipes.stand_ins import drive, oracles, photo

ROOT = Path(__file__).parents[2]
FIVE = ["captions", "masks", "pairs", "wording", "quality"]
SMALL = ["source.size=48", "source.count=3", "output.shard_size=2"]


def names(settings):
    return [step.name for step in build_steps("advancededit", settings)]


def test_five_steps_and_the_filter_where_it_is_named():
    assert names({}) == FIVE
    assert names({"editable": {}}) == ["captions", "editable", *FIVE[1:]]
    assert build_steps("advancededit", {"masks": {"min_area": 0.01}})[1].settings["min_area"] == 0.01


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mask": {}}, "steps.mask: the recipe advancededit has no such step; did you mean masks?"),
        (
            {"masks": {"min_aera": 1}},
            "steps.masks.min_aera: the step masks has no such setting; did you mean min_area?",
        ),
        ({"quality": {"min_sc": 9}}, "steps.quality.min_sc is 9: it has to be from 0 to 5."),
    ],
)
def test_wrong_settings_are_told(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_steps("advancededit", settings)


@pytest.mark.parametrize("name", ["advancededit", "scenes_oracle"])
def test_configs_fit_the_steps_and_the_backends(name):
    config = load_config(name)
    steps = build_steps(config.recipe, config.steps)
    needed = {need for step in steps for need in step.needs}
    assert needed == set(config.backends)
    for backend, entry in config.backends.items():
        module, _, attribute = KINDS[backend][entry["kind"]].partition(":")
        known = inspect.signature(getattr(import_module(module), attribute)).parameters
        assert set(entry) - {"kind"} <= set(known)
        assert load_backend(backend, entry).name  # nothing is loaded or fetched before the first call


def test_values_of_the_config_that_are_published():
    config = load_config("advancededit")
    assert config.source.max_side == 640
    assert (config.backends["detector"]["box_threshold"], config.backends["detector"]["text_threshold"]) == (0.4, 0.3)
    written = {step.name: step.settings for step in build_steps("advancededit", config.steps)}
    default = {step.name: step.settings for step in build_steps("advancededit", {"editable": {}})}
    assert written == default  # the file shows the defaults, it does not change them


def test_the_bar_s_config():
    config = load_config("scenes_oracle")
    assert (config.source.count, config.source.size, config.output.format) == (200, 128, "parquet")
    assert {entry["kind"] for entry in config.backends.values()} == {"oracle"}
    steps = plan_run(config).steps
    assert [step.name for step in steps] == [*FIVE[:1], "editable", *FIVE[1:4], "faults", "quality"]
    assert sum(steps[5].settings.values()) == pytest.approx(0.24)


def test_every_pair_of_a_few_photos_is_good():
    pairs, refused = drive(build_steps("advancededit", {}), [photo(index, 64) for index in range(4)], oracles())
    assert refused == []
    assert {pair.task for pair in pairs} == {"remove", "add", "replace"}
    for pair in pairs:
        pair.check()
        assert set(pair.instructions) == {"template", "simple", "advanced", "reasoning"}
        assert pair.scores["O"] == 5
        changed = (pair.source != pair.target).any(axis=-1)
        assert changed.any()
        assert not (changed & ~pair.mask).any()


def test_answers_that_are_broken_at_first_change_nothing():
    steps = build_steps("advancededit", {})
    photos = [photo(index, 48) for index in range(2)]
    pairs, _ = drive(steps, photos, oracles())
    again, _ = drive(steps, photos, oracles(chat={"broken": 0.5}))
    assert [pair.key for pair in pairs] == [pair.key for pair in again]
    assert not any("wordings_missing" in pair.notes for pair in again)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run with many faults, written to files."""
    out = tmp_path_factory.mktemp("run") / "pairs"
    config = load_config("scenes_oracle", [*SMALL, f"output.path={out}", "faults.all=0.5"])
    return out, run_recipe(config)


def test_a_run_gives_pairs_that_can_be_read_again(finished):
    out, manifest = finished
    source = open_pairs(InputConfig(kind="parquet", path=str(out), split="train", max_side=None))
    assert len(source) == manifest["pairs"] > 10
    record = source[0]
    record.check()
    assert record.truth["kind"] == "scenes"
    assert record.scores["SC"] >= 4
    assert record.source.shape == (48, 48, 3)
    assert record.mask.dtype == bool
    assert "segmentation" in record.notes


def test_the_report_of_a_run(finished, capsys):
    out, _ = finished
    report = measure_run(out)
    assert report.all_caught.of >= 10
    assert report.all_caught.share >= 0.95
    assert report.good.of >= 10
    assert report.good.share <= 0.02
    assert report.exact.share == 1
    assert (report.precision.share, report.recall.share) == (1, 1)
    assert main([str(out)]) == 0
    assert "planted faults caught" in capsys.readouterr().out
    assert json.loads((out / "oracle.json").read_text())["faults_caught"] == report.all_caught.share


def test_what_was_refused_is_listed_with_its_mark(finished):
    out, manifest = finished
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    bare = [row for row in rows if row["step"] == "captions"]
    assert {row["reason"] for row in bare} <= {"no objects named"}  # of photos of nothing
    rows = [row for row in rows if row not in bare]
    assert rows
    assert all(row["step"] == "quality" for row in rows)
    assert all("[planted: " in row["detail"] for row in rows)
    assert manifest["pairs"] + len(rows) > 20


def test_scenes_pass_through_their_recipe(tmp_path):
    words = ["source.kind=scene_pairs", "source.count=6", "source.size=32", f"output.path={tmp_path / 'out'}"]
    config = load_config(None, ["recipe=scenes", *words])
    assert run_recipe(config)["pairs"] == 6
    source = open_pairs(InputConfig(kind="parquet", path=str(tmp_path / "out"), split="train"))
    from insightedit.scenes import SceneSampler

    for index in range(6):
        np.testing.assert_array_equal(source[index].target, SceneSampler("train", 32, plain=True)[index].target)


def test_the_readme_names_files_that_are_there():
    text = (ROOT / "data_recipes/advancededit/README.md").read_text()
    for name in ("captions", "masks", "pairs", "wording", "quality"):
        assert f"steps/{name}.py" in text
        assert (ROOT / f"data_recipes/steps/{name}.py").is_file()
    assert "NUMBERS" not in text


def test_the_command_ends_with_the_report(tmp_path, capfd, monkeypatch):
    from data_recipes.runner.cli import main as command

    words = [*SMALL, "source.count=1", "faults.all=0.5", "backends.chat.broken=0.2"]
    monkeypatch.setattr("sys.argv", ["x", "--config", "scenes_oracle", "--out", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as ended:
        command("advancededit")
    assert ended.value.code == 0
    assert "planted faults caught" in capfd.readouterr().out
    assert json.loads((tmp_path / "out/oracle.json").read_text())["good_pairs_lost"] == 0


def test_a_run_in_which_nothing_is_left_has_a_report(tmp_path):
    words = [*SMALL, "source.count=1", f"output.path={tmp_path / 'out'}", "faults={all: 0, empty_mask: 1}"]
    assert run_recipe(load_config("scenes_oracle", words))["pairs"] == 0
    report = measure_run(tmp_path / "out")
    assert (report.caught["empty_mask"].share, report.good.of) == (1, 0)
