"""The runner on small real steps: same bytes whatever the engine, retries, refusals, and the folder's own files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from data_recipes.runner.flow import RunStopped
from data_recipes.runner.folder import OutFolder
from data_recipes.runner.progress import ProgressReporter, Stopper
from data_recipes.runner.run import Keys, run_recipe, usage_of
from data_recipes.runner.worker import Worker, backend_entry, plan_steps
from tests.recipes.toy import contents, toy_config

PAIRS = 59  # of 60 inputs: 4 cannot be read, 14 are too small, of the 84 pairs of the others 25 are of low quality


def failing(out: Path, how: str, count: int = 20, at: str = "", path: str = "", **changes):
    fault = {"how": how, "at": at, "path": path}
    return toy_config(out, count, steps={"fault": fault}, **changes)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    run_recipe(toy_config(out))
    return out


def test_a_run_counts_everything_once(straight):
    manifest = json.loads((straight / "manifest.json").read_text())
    assert manifest["complete"]
    assert (manifest["inputs"], manifest["pairs"]) == (60, PAIRS)
    assert sum(manifest["tasks"].values()) == PAIRS == sum(shard["pairs"] for shard in manifest["shards"])
    assert manifest["rejects"] == {
        "read": {"cannot be read": 4},
        "look": {"mask is too small": 14},
        "quality": {"quality is low": 25},
    }
    assert manifest["passed"] == {"look": [56, 42], "pairs": [42, 84], "quality": [84, 59], "fault": [59, 59]}
    rejected = [json.loads(line) for line in (straight / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == 4 + 14 + 25
    assert [one["key"][:5] for one in rejected] == sorted(one["key"][:5] for one in rejected)
    assert next(one for one in rejected if one["step"] == "read") == {
        "key": "00005", "step": "read", "reason": "cannot be read", "detail": "the file is cut short",
    }  # fmt: skip


def test_the_manifest_says_what_the_bytes_depend_on(straight):
    manifest = json.loads((straight / "manifest.json").read_text())
    assert manifest["settings"]["source"]["kind"] == "tests.recipes.toy:open_toy"
    assert "engine" not in manifest["settings"]
    quality = next(step for step in manifest["steps"] if step["name"] == "quality")
    assert quality["settings"] == {"least": 3.0}
    assert re.fullmatch("[0-9a-f]{64}", quality["prompts"]["quality"])
    assert manifest["backends"]["judge"]["model"] == "toy judge"
    assert manifest["versions"][0]["numpy"]
    assert len(manifest["versions"]) == 1
    for shard in manifest["shards"]:
        assert (straight / shard["name"]).stat().st_size == shard["bytes"]


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "step"},
        {"batch_size": 1},
        {"workers": 2},
        pytest.param({"workers": 2, "schedule": "step", "devices": ["cpu"]}, marks=pytest.mark.slow),
        pytest.param({"batch_size": 64}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_engine_changes_no_byte(tmp_path, straight, changes):
    run_recipe(toy_config(tmp_path / "out", **changes))
    assert contents(tmp_path / "out") == contents(straight)
    assert not (tmp_path / "out" / "work").exists()


def test_the_seed_changes_bytes(tmp_path, straight):
    config = toy_config(tmp_path / "out")
    config.seed = 1
    run_recipe(config)
    assert (tmp_path / "out/train-00000.parquet").read_bytes() != (straight / "train-00000.parquet").read_bytes()


def test_usage_is_added_up_over_sessions(straight):
    used = usage_of(straight)["judge"]
    assert (used["calls"], used["input_tokens"], round(used["cost"], 3)) == (84, 840, 0.084)


def test_a_unit_without_pairs_has_no_file(tmp_path):
    manifest = run_recipe(toy_config(tmp_path / "out", 20, steps={"look": {"smallest": 1.0}}))
    assert (manifest["pairs"], manifest["shards"]) == (0, [])
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert "n<1K" in (tmp_path / "out/README.md").read_text()
    assert "Rejected" in (tmp_path / "out/statistics.html").read_text()


# failures


def test_a_record_that_always_fails_is_rejected_and_takes_no_other_with_it(tmp_path):
    waits: list[float] = []
    config = failing(tmp_path / "out", "raise", 60, at="00007/2-add", backoff=0.5, retries=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_recipes.runner.flow.sleep", waits.append)
        manifest = run_recipe(config)
    assert manifest["pairs"] == PAIRS - 1
    assert manifest["rejects"]["fault"] == {"failed": 1}
    assert waits == [0.5, 1.0]
    lines = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    told = next(json.loads(line) for line in lines if '"fault"' in line)
    assert told == {
        "key": "00007/2-add", "step": "fault", "reason": "failed", "detail": "no luck with 00007/2-add",
    }  # fmt: skip


def test_a_step_that_succeeds_at_last_loses_nothing(tmp_path, straight):
    path = tmp_path / "calls"
    run_recipe(failing(tmp_path / "out", "raise_twice", 60, at="00007/2-add", path=str(path)))
    assert len(path.read_text()) == 3
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["pairs"] == PAIRS
    entries = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [entry["retried"] for entry in entries if entry.get("retried")] == [{"fault": 2}]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("down", "the step fault gets no answer: http://127.0.0.1:9 does not answer; what is finished is kept"),
        ("no_library", "the step fault cannot import what it needs: No module named 'moonshine'; pip install moonsh"),
        ("foreign", "the step fault made elsewhere of .*: keys have to be the record's own or below it"),
        ("twice", "the step fault gave the key .* twice: number its results"),
        ("raise", "the step fault failed for 8 of 8 records, the last time with `no luck with .*`: repair it and"),
        ("nothing", "failed for 8 of 8 .* `the step gave neither a record nor a reason for"),
        ("short", "failed for 8 of 8 .* `the step gave 0 answers for 1 records`"),
    ],
)
def test_what_no_record_is_to_blame_for_stops_the_run(tmp_path, how, told):
    with pytest.raises(RunStopped, match=told):
        run_recipe(failing(tmp_path / "out", how, retries=0))
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_units_before_a_stop_are_kept_and_not_done_again(tmp_path, straight):
    from pyarrow import parquet

    out = tmp_path / "out"
    first = parquet.read_table(straight / "train-00003.parquet", columns=["key"])["key"][0].as_py()
    config = failing(out, "down", 60, at=first)
    with pytest.raises(RunStopped, match="the same command goes on from there"):
        run_recipe(config)
    assert [path.name for path in sorted(out.glob("*.parquet"))] == [f"train-0000{n}.parquet" for n in range(3)]
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    done = (out / "train-00002.parquet").read_bytes()
    assert done == (straight / "train-00002.parquet").read_bytes()


def test_many_failures_are_allowed_where_the_config_says_so(tmp_path):
    manifest = run_recipe(failing(tmp_path / "out", "raise", retries=0, max_failed=1.0))
    assert manifest["pairs"] == 0
    assert list(manifest["rejects"]["fault"]) == ["failed"]


@pytest.mark.parametrize(("how", "reason"), [("no_pair", "is no pair"), ("bad_size", "cannot be trained on")])
def test_what_cannot_be_trained_on_is_rejected_at_the_end(tmp_path, how, reason):
    manifest = run_recipe(failing(tmp_path / "out", how, 60, at="00007/2-add"))
    assert manifest["pairs"] == PAIRS - 1
    assert manifest["rejects"]["output"] == {reason: 1}


@pytest.mark.parametrize("shard_size", [10, 60])
def test_two_inputs_of_one_key_are_refused(tmp_path, shard_size):
    config = toy_config(tmp_path / "out", source={"path": "doubled"}, shard_size=shard_size)
    with pytest.raises(RunStopped, match="two inputs have the key 000.*: nothing tells their pairs apart"):
        run_recipe(config)


def test_keys_are_compared_over_all_units():
    keys = Keys()
    keys.add(f"{number}" for number in range(1000))
    keys.add(f"{number}" for number in range(1000, 3000))
    with pytest.raises(RunStopped, match="two inputs have the key 1234:"):
        keys.add(["5000", "1234"])


def test_what_a_killed_worker_left_half_written_goes_away(tmp_path):
    class Leaving(ProgressReporter):
        def unit_done(self, report):
            (tmp_path / "out/.insightedit-00000000-1-a.parquet").touch()
            (tmp_path / "out/units/.insightedit-00000000-1-a.json").touch()

    run_recipe(toy_config(tmp_path / "out", 10), Leaving())
    assert not list(tmp_path.rglob(".insightedit-*"))


# workers


class Told(ProgressReporter):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_worker_that_dies_takes_nothing_with_it(tmp_path):
    watch = Told()
    config = failing(tmp_path / "out", "die_once", 60, at="00007/2-add", path=str(tmp_path / "died"), workers=2)
    manifest = run_recipe(config, watch)
    assert watch.said == ["a worker was lost (killed by signal 9); unit 0 is given to another one"]
    assert manifest["pairs"] == PAIRS


@pytest.mark.slow
def test_a_unit_that_kills_its_workers_stops_the_run(tmp_path):
    config = failing(tmp_path / "out", "die_always", 20, at="00007/2-add", workers=2)
    told = r"3 workers died over unit 0 \(inputs 0 to 9\), the last one killed by signal 9: perhaps memory"
    with pytest.raises(RunStopped, match=told):
        run_recipe(config)


@pytest.mark.slow
def test_a_stop_in_a_worker_is_told_in_the_same_words(tmp_path):
    with pytest.raises(RunStopped, match="the step fault gets no answer: http://127.0.0.1:9 does not answer"):
        run_recipe(failing(tmp_path / "out", "down", workers=2))


def test_a_second_signal_ends_at_once():
    stopper = Stopper(ProgressReporter())
    stopper.ask()
    assert stopper.asked
    with pytest.raises(KeyboardInterrupt):
        stopper.ask()


# folders


def test_a_folder_keeps_other_runs_and_other_files_out(tmp_path, straight):
    config = toy_config(straight, 50)
    with pytest.raises(ValueError, match=r"was begun with source.count 60 \(now 50\): give the same"):
        run_recipe(config)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds files but no manifest.json of a recipe: name a new or empty"):
        run_recipe(toy_config(tmp_path))
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a manifest of a recipe"):
        run_recipe(toy_config(tmp_path))
    with pytest.raises((ValueError, FileExistsError), match="is a file|File exists"):
        run_recipe(toy_config(tmp_path / "notes.txt"))


def test_two_runs_do_not_share_a_folder(tmp_path):
    config = toy_config(tmp_path / "out")
    with OutFolder(config).lock(), pytest.raises(ValueError, match="out is in use by process"):
        run_recipe(config)


def test_a_run_needs_a_place_and_inputs(tmp_path):
    with pytest.raises(ValueError, match="output.path is not set: name a folder with --out"):
        run_recipe(toy_config(None))
    with pytest.raises(ValueError, match="has 1000000 inputs, and source.start is 1000000: there is nothing to do"):
        run_recipe(toy_config(tmp_path / "out", source={"start": 1_000_000}))


def test_recipes_and_backends_are_looked_at_before_anything_is_done(tmp_path):
    config = toy_config(tmp_path / "out")
    config.backends = {}
    with pytest.raises(ValueError, match="the step quality needs a judge, and the config names none"):
        run_recipe(config)
    config.recipe = "tests.recipes.nowhere"
    with pytest.raises(ValueError, match="the recipe tests.recipes.nowhere cannot be loaded: No module named"):
        run_recipe(config)
    config.recipe = "advancededi"
    with pytest.raises(ValueError, match="recipe is 'advancededi': did you mean advancededit?"):
        run_recipe(config)
    assert not (tmp_path / "out").exists()


# the worker


def test_a_worker_has_its_device_and_only_the_models_of_its_step(tmp_path):
    config = toy_config(tmp_path / "out", schedule="step")
    made = Worker(config, 60, device="cuda:1")
    quality = next(step for step in made.steps if step.name == "quality")
    judge = made.context(quality, [quality]).backend("judge")
    assert judge.device == "cuda:1"
    assert made.context(made.steps[0], [made.steps[0]]).backends == {}
    assert made.backends == {}
    config.backends["judge"]["device"] = "cpu"
    assert backend_entry(config, "judge", "cuda:1")["device"] == "cpu"


def test_two_steps_of_one_name_are_refused(tmp_path, monkeypatch):
    from tests.recipes import toy

    monkeypatch.setattr(toy.Pairs, "name", "look")
    with pytest.raises(ValueError, match=r"has steps named \['look', 'look', .*: each needs a name of its own"):
        plan_steps(toy_config(tmp_path / "out"))


def test_faults_are_planted_before_the_quality_step(tmp_path):
    config = toy_config(tmp_path / "out")
    config.faults = {"empty_mask": 0.5}
    names = [step.name for step in plan_steps(config)]
    assert names == ["look", "pairs", "faults", "quality", "fault"]
