from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from insightedit.config.load import ConfigError
from insightedit.config.schema import Config, SourceConfig, StageConfig
from insightedit.files import lock_folder
from insightedit.training import run
from insightedit.training.checkpoint import CheckpointFolder, StageError
from insightedit.training.loop import RunSummary
from insightedit.training.processes import Processes
from insightedit.training.run import parse_arguments, run_from_command_line
from insightedit.training.run_folder import check_data, claim_run_folder, differences, previous_run, set_aside
from tests.training.standin import small_config


def changed(config: Config, **train: object) -> Config:
    return replace(config, train=replace(config.train, **train))


def test_words_of_the_command_line_may_come_in_any_order():
    arguments = parse_arguments(
        1, ["a.b=1", "--overlay", "tiny", "c=2", "--local_rank=3", "--overlay", "mine", "--restart"]
    )
    assert arguments.overrides == ["a.b=1", "c=2"]
    assert arguments.overlay == ["tiny", "mine"]
    assert arguments.recipe == "insightedit"
    assert arguments.restart


def test_help_shows_the_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        run.run_stage(3, ["--help"], description="    python -m insightedit.stage3 --overlay tiny")
    shown = capsys.readouterr().out
    assert "    python -m insightedit.stage3 --overlay tiny" in shown
    assert "--init-from DIR" in shown
    assert "local" not in shown


def begun(run_dir: Path, config: Config) -> None:
    """A run folder with a checkpoint in it."""
    claim_run_folder(run_dir, config)
    with CheckpointFolder(run_dir / "checkpoints").writing(2, Processes()) as path:
        (path / "trainer.json").write_text("{}")


def test_before_the_first_checkpoint_settings_may_change(tmp_path):
    claim_run_folder(tmp_path, small_config())
    claim_run_folder(tmp_path, small_config(batch_size=9))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["batch_size"] == 9


def test_the_same_settings_go_on_and_others_are_named(tmp_path):
    config = small_config()
    begun(tmp_path / "run", config)
    before = (tmp_path / "run" / "config.yaml").read_text()
    claim_run_folder(tmp_path / "run", config)
    assert (tmp_path / "run" / "config.yaml").read_text() == before
    other = changed(replace(config, optim=replace(config.optim, lr=0.5)), batch_size=9)
    with pytest.raises(StageError, match=r"optim.lr was 0.01, is 0.5; train.batch_size was 4, is 9. .*--restart"):
        claim_run_folder(tmp_path / "run", other)


def test_what_does_not_touch_the_numbers_may_change(tmp_path):
    config = small_config()
    begun(tmp_path, config)
    claim_run_folder(tmp_path, changed(config, max_minutes=3.0, log_every=7, save_every=9, keep_checkpoints=5))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["max_minutes"] == 3.0


def test_the_batch_may_be_made_up_another_way_by_another_number_of_processes(tmp_path, caplog):
    config = small_config()
    claim_run_folder(tmp_path, config)
    with CheckpointFolder(tmp_path / "checkpoints").writing(2, Processes()) as path:
        (path / "trainer.json").write_text('{"world_size": 2}')
    with pytest.raises(StageError, match="train.batch_size was 4, is 8"):
        claim_run_folder(tmp_path, changed(config, batch_size=8), 2)
    claim_run_folder(tmp_path, config, 1)
    assert "with 1 processes instead of 2, and 4 samples a step instead of 8 (train.gradient" in caplog.text
    caplog.clear()
    claim_run_folder(tmp_path, changed(config, gradient_accumulation_steps=2), 1)
    assert "and 8 samples a step instead of 8; noise is drawn anew" in caplog.text


def test_a_changed_data_set_is_told_and_can_be_accepted(tmp_path, caplog):
    old = {"0-jsonl": {"records": 3, "columns": ["a", "b"], "files": {"all.jsonl": 10}}}
    new = {"0-jsonl": {"records": 2, "columns": ["a", "b"], "files": {"all.jsonl": 7}}}
    check_data(tmp_path, old, fresh=True, accepts=False)
    check_data(tmp_path, old, fresh=False, accepts=False)
    with pytest.raises(StageError, match=r"changed since .*records were 3 and are 2; 1 files differ.*--accept-c"):
        check_data(tmp_path, new, fresh=False, accepts=False)
    check_data(tmp_path, new, fresh=False, accepts=True)
    assert "goes on with changed data: 0-jsonl: records were 3" in caplog.text
    check_data(tmp_path, new, fresh=False, accepts=False)


def test_a_run_folder_belongs_to_one_training(tmp_path):
    words = ["--overlay", "tiny", f"output_dir={tmp_path}/run"]
    (tmp_path / "run").mkdir()
    with lock_folder(tmp_path / "run"):
        for restart in ([], ["--restart"]):
            with pytest.raises(ValueError, match="run is in use by process .* wait until it ends, or name another"):
                run.run_stage(1, [*words, *restart])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("code", [75, 130, 143])
def test_a_stopped_stage_does_not_end_as_a_finished_one(code, tmp_path):
    with pytest.raises(SystemExit, match=str(code)):
        run_from_command_line(lambda: RunSummary(tmp_path, 1, finished=False, exit_code=code))
    run_from_command_line(lambda: RunSummary(tmp_path, 1))
    logging.getLogger("insightedit").setLevel(logging.NOTSET)


def test_more_steps_are_welcome_under_a_constant_rate_only():
    config = small_config()
    constant = replace(config, optim=replace(config.optim, schedule="constant"))
    assert differences(asdict(config), asdict(changed(config, max_steps=99))) == {"train.max_steps": (6, 99)}
    assert differences(asdict(constant), asdict(changed(constant, max_steps=99))) == {}


def test_a_part_switched_off_is_a_difference():
    config = small_config()
    off = replace(config, bridge=replace(config.bridge, bim=None))
    assert ("bridge.bim.width", (1024, None)) in differences(asdict(config), asdict(off)).items()


def test_a_part_switched_on_is_a_difference():
    config = small_config()
    off = replace(config, bridge=replace(config.bridge, bim=None))
    assert ("bridge.bim.width", (None, 1024)) in differences(asdict(off), asdict(config)).items()


def test_settings_that_came_or_went_with_an_update_do_not_count():
    old, new = asdict(small_config()), asdict(small_config())
    del old["loss"]["min_snr_gamma"]
    old["loss"]["abandoned"] = 3
    assert differences(old, new) == {}
    new["loss"]["min_snr_gamma"] = 5.0
    assert differences(old, new) == {"loss.min_snr_gamma": (None, 5.0)}


def test_a_miniatures_id_of_version_0_1_is_the_same_model():
    old, new = asdict(Config()), asdict(Config())
    old["comprehension"]["model"], new["comprehension"]["model"] = "foundation:mini/llava", "miniature:mini/llava"
    assert differences(old, new) == {}


def test_sources_outlive_an_update_too():
    old, new = asdict(small_config()), asdict(small_config())
    for setting in ("images", "sources"):
        del old["data"]["sources"][0][setting]
    old["data"]["sources"][0]["abandoned"] = 3
    assert differences(old, new) == {}
    new["data"]["sources"].append(asdict(SourceConfig()))
    assert list(differences(old, new)) == ["data.sources"]
    new["data"]["sources"][1:] = []
    new["data"]["sources"][0]["images"] = "elsewhere"
    assert list(differences(old, new)) == ["data.sources"]


def test_restart_keeps_the_old_folder(tmp_path):
    run_dir = tmp_path / "stage1"
    assert set_aside(run_dir) is None
    for number in (1, 2):
        run_dir.mkdir()
        (run_dir / "log.jsonl").write_text(str(number))
        assert set_aside(run_dir) == tmp_path / f"stage1.old-{number}"
    assert (tmp_path / "stage1.old-1" / "log.jsonl").read_text() == "1"


@pytest.mark.parametrize(
    ("number", "stages", "output_dir", "init_from", "wanted"),
    [
        (1, [1, 2, 3], "runs/insightedit/stage1", None, None),
        (2, [1, 2, 3], "runs/insightedit/stage2", None, "runs/insightedit/stage1"),
        (3, [1, 3], "elsewhere/stage3", None, "elsewhere/stage1"),
        (3, [1, 2, 3], "elsewhere/best", None, "runs/insightedit/stage2"),
        (3, [1, 2, 3], "runs/insightedit/stage3", "mine", "mine"),
    ],
)
def test_where_the_stage_before_is(number, stages, output_dir, init_from, wanted):
    config = Config(stage=StageConfig(number=number), stages=stages, output_dir=output_dir, init_from=init_from)
    found = previous_run(config)
    assert (found and found.as_posix()) == wanted


@pytest.mark.parametrize(
    "error", [ConfigError("a is wrong"), StageError("a is wrong"), FileNotFoundError("a is wrong")]
)
def test_mistakes_end_as_one_sentence(capsys, error):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        run_from_command_line(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "insightedit: a is wrong\n"
    logging.getLogger("insightedit").setLevel(logging.NOTSET)


def test_defects_are_told_as_ours(capsys):
    with pytest.raises(SystemExit, match="2"):
        run_from_command_line(lambda: 1 / 0)
    assert "ZeroDivisionError: division by zero): this is a fault of insightedit" in capsys.readouterr().err
    logging.getLogger("insightedit").setLevel(logging.NOTSET)


def test_config_survives_yaml():
    config = small_config()
    again = yaml.safe_load(yaml.safe_dump(asdict(config)))
    assert again == asdict(config) == json.loads(json.dumps(asdict(config)))
