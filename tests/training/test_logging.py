from __future__ import annotations

import json
import logging
import sys

import pytest
import torch
from PIL import Image

from insightedit.training.checkpoint import StageError
from insightedit.training.logging import Meter, RunLog, draw_losses, drop_lines_after, read_log


def run_log(folder, **kwargs) -> RunLog:
    return RunLog(folder, **{"max_steps": 4, "log_every": 2, "samples_per_step": 8, **kwargs})


def write(log: RunLog, steps: range) -> None:
    with log:
        for step in steps:
            log.meter.add({"loss": torch.tensor(float(step)), "loss/lm": float(step), "metric/spread": 0.5})
            log.step(step, learning_rate=0.1)
        log.draw(last=True)


def test_meter_averages_what_it_saw():
    meter = Meter()
    meter.add({"a": 1.0})
    meter.add({"a": torch.tensor(3.0), "b": 5.0})
    assert meter.take() == {"a": 2.0, "b": 5.0}
    assert meter.take() == {}


def test_lines_hold_the_means_of_their_window(tmp_path):
    log = run_log(tmp_path)
    write(log, range(1, 5))
    lines = read_log(tmp_path / "log.jsonl")
    assert [(line["step"], line["loss"], line["lr"], line["metric/spread"]) for line in lines] == [
        (2, 1.5, 0.1, 0.5),
        (4, 3.5, 0.1, 0.5),
    ]
    assert lines[0]["samples_per_second"] > 0 and lines[1]["eta_seconds"] == 0
    assert log.last == {"loss": 3.5, "lm": 3.5}
    assert list((tmp_path / "tensorboard").iterdir())
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.format == "PNG"


def test_only_the_main_process_writes(tmp_path):
    log = run_log(tmp_path, enabled=False)
    write(log, range(1, 5))
    assert not list(tmp_path.iterdir()) and log.last["loss"] == 3.5


def test_without_tensorboard_the_log_stays(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    write(run_log(tmp_path), range(1, 3))
    assert not (tmp_path / "tensorboard").exists() and read_log(tmp_path / "log.jsonl")


def test_a_resumed_log_drops_what_comes_again(tmp_path):
    write(run_log(tmp_path), range(1, 5))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    drop_lines_after(tmp_path / "log.jsonl", 2)
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [2]


def test_quiet_without_a_terminal(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="insightedit"):
        write(run_log(tmp_path, log_every=1, max_steps=30), range(1, 31))
    said = [record.message for record in caplog.records if record.message.startswith("step")]
    assert [line.split()[1] for line in said] == ["10", "20", "30"]
    assert "lm 10" in said[0] and "samples/s" in said[0] and "left" in said[0]


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    write(run_log(tmp_path), range(1, 5))
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["loss/lm", "grad_norm"])
def test_what_is_not_finite_stops(tmp_path, name):
    with run_log(tmp_path, log_every=1) as log:
        log.meter.add({name: float("inf")})
        with pytest.raises(StageError, match=f"diverged before step 1: {name} is not finite.*lower optim.lr"):
            log.step(1, 0.1)


def test_a_metric_may_be_anything(tmp_path):
    with run_log(tmp_path, log_every=1) as log:
        log.meter.add({"loss": 1.0, "metric/spread": float("nan")})
        log.step(1, 0.1)
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 1.0


def test_the_picture_is_not_redrawn_at_every_save(tmp_path):
    with run_log(tmp_path, log_every=1) as log:
        log.meter.add({"loss": 1.0})
        log.step(1, 0.1)
        log.draw()
        assert not (tmp_path / "losses.png").exists()
        log.draw(last=True)
        assert (tmp_path / "losses.png").exists()


def test_an_empty_log_draws_nothing(tmp_path):
    draw_losses(tmp_path / "log.jsonl", tmp_path / "losses.png")
    assert not (tmp_path / "losses.png").exists()


def test_without_matplotlib_the_log_is_all_there_is(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write(run_log(tmp_path), range(1, 5))
    assert read_log(tmp_path / "log.jsonl")
    assert not (tmp_path / "losses.png").exists()
