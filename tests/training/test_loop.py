from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from insightedit.config.load import ConfigError
from insightedit.config.schema import Config
from insightedit.training.checkpoint import StageError, load_tensors
from insightedit.training.loop import RunSummary, budget_of, fit, stop_signals
from insightedit.training.objectives import TrainingStep, total_loss
from insightedit.training.processes import Processes
from insightedit.training.samples import SampleLogger
from insightedit.training.trainer_state import seed_everything
from tests.training.standin import SmallEditor, SmallLoader, objective, small_config


def run(folder, config: Config | None = None, **kwargs) -> tuple[RunSummary, SmallEditor]:
    editor = SmallEditor()
    kwargs.setdefault("loader", SmallLoader())
    loader = kwargs.pop("loader")
    module = TrainingStep(editor, kwargs.pop("objective", objective), config or small_config())
    return fit(module, loader, folder, **kwargs), editor


def sample_logger(folder, edit_fn, samples, every: int = 500) -> SampleLogger:
    return SampleLogger(folder / "samples", every, edit_fn, samples)


class Killed(Exception):
    """Stands for the end of the process."""


def killed_in_micro_step(number: int):
    calls = {"n": 0}

    def dying(*arguments):
        calls["n"] += 1
        if calls["n"] == number:
            raise Killed
        return objective(*arguments)

    return dying


def sample() -> SimpleNamespace:
    picture = np.zeros((32, 32, 3), np.uint8)
    return SimpleNamespace(source=picture, target=picture, instruction="x " * 80, reference_images=())


def files(folder) -> dict[str, bytes]:
    checkpoint = folder / "checkpoints" / "step-000006"
    return {name: (checkpoint / name).read_bytes() for name in ("trainable.safetensors", "ema.safetensors")}


@pytest.mark.parametrize("accumulation", [1, 3])
def test_killed_runs_end_with_the_same_bits(tmp_path, accumulation):
    config = small_config(gradient_accumulation_steps=accumulation)
    straight, editor = run(tmp_path / "straight", config)
    for death in (3 * accumulation, 4 * accumulation):
        torch.manual_seed(death)  # whatever the outer world does
        np.random.seed(death)
        with pytest.raises(Killed):
            run(tmp_path / "killed", config, objective=killed_in_micro_step(death))
    resumed, again = run(tmp_path / "killed", config)
    assert resumed.resumed_from is not None and resumed.finished and resumed.steps == 6
    assert files(tmp_path / "straight") == files(tmp_path / "killed")
    assert resumed.losses == straight.losses
    for ours, theirs in zip(editor.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_log_of_a_killed_run_is_that_of_a_straight_run(tmp_path):
    def lines(folder):
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [
            {k: v for k, v in r.items() if k not in ("time", "samples_per_second", "eta_seconds")} for r in records
        ]

    run(tmp_path / "straight")
    with pytest.raises(Killed):
        run(tmp_path / "killed", objective=killed_in_micro_step(6))
    assert len(lines(tmp_path / "killed")) == 5
    run(tmp_path / "killed")
    assert lines(tmp_path / "straight") == lines(tmp_path / "killed")
    assert {"loss", "loss/noise", "metric/spread", "grad_norm", "lr"} <= set(lines(tmp_path / "killed")[0])


def test_frozen_weights_do_not_move_and_trained_ones_do(tmp_path):
    before = SmallEditor().state_dict()
    _, editor = run(tmp_path)
    for name, value in editor.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("body."), name


def test_frozen_parts_stay_in_eval_mode(tmp_path):
    seen = []

    def looking(editor, *arguments):
        seen.append((editor.body.dropout.training, editor.bridge["bim"].dropout.training))
        return objective(editor, *arguments)

    callback = sample_logger(tmp_path, lambda _: [np.zeros((8, 8, 3), np.uint8)], [sample()], every=1)
    run(tmp_path, small_config(max_steps=2), objective=looking, callback=callback)
    assert set(seen) == {(False, True)}


def test_accumulated_gradient_is_the_mean(tmp_path):
    norms = []
    for accumulation in (1, 2):
        config = small_config(max_steps=1, gradient_accumulation_steps=accumulation, ema_decay=None)

        def same(editor, batch, config, generator):
            return {"noise": editor.eval()(torch.ones_like(batch.x)).pow(2).mean()}

        run(tmp_path / str(accumulation), config, objective=same)
        log = (tmp_path / str(accumulation) / "log.jsonl").read_text().splitlines()
        norms.append(json.loads(log[0])["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_bf16_trains_float32_weights(tmp_path):
    dtypes = []

    def looking(editor, batch, config, generator):
        dtypes.append(editor.body.linear(batch.x).dtype)
        return objective(editor, batch, config, generator)

    _, editor = run(tmp_path, small_config(precision="bf16", max_steps=2), objective=looking)
    assert set(dtypes) == {torch.bfloat16}
    assert {p.dtype for p in editor.parameters()} == {torch.float32}


def test_time_limit_stops_saved_and_the_same_command_goes_on(tmp_path):
    run(tmp_path / "straight")
    config = small_config(max_minutes=0.0)
    stopped, _ = run(tmp_path / "limited", config)
    assert not stopped.finished and stopped.steps == 1
    while not stopped.finished:
        stopped, _ = run(tmp_path / "limited", config)
    assert files(tmp_path / "straight") == files(tmp_path / "limited")
    assert stopped.resumed_from == 5
    assert run(tmp_path / "other", config)[0].exit_code == 75 and stopped.exit_code == 0


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 75)])
def test_what_stops_a_run_is_its_exit_code(name, code):
    before = signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            assert stop.code == 0
            signal.raise_signal(getattr(signal, name))
            assert stop.code == code
    finally:
        signal.signal(getattr(signal, name), before)


def test_the_sample_that_a_kill_after_the_last_checkpoint_cut_off_is_drawn(tmp_path):
    def killed(_):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, callback=sample_logger(tmp_path, killed, [sample()]))
    assert not (tmp_path / "samples").exists()
    drawn = sample_logger(tmp_path, lambda samples: [one.source for one in samples], [sample()])
    summary, _ = run(tmp_path, callback=drawn)
    assert summary.resumed_from == 6
    assert (tmp_path / "samples" / "step-000006.png").is_file()
    assert (tmp_path / "losses.png").is_file()


def test_the_validation_loss_is_logged_and_leaves_no_trace(tmp_path):
    """Other steps between two of them: the same bits in the end, and the same loss wherever a step has one."""
    lines = {}
    for every in (1, 4):
        folder = tmp_path / str(every)
        config = small_config(validate_every=every, num_validation=10)
        run(folder, replace(config, train=replace(config.train, max_minutes=0.0)), held_out=SmallLoader(7))
        run(folder, config, held_out=SmallLoader(7))
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        lines[every] = {line["step"]: line for line in log if "val/loss" in line}
    run(tmp_path / "without")
    assert files(tmp_path / "1") == files(tmp_path / "4") == files(tmp_path / "without")
    assert list(lines[1]) == [1, 2, 3, 4, 5, 6] and list(lines[4]) == [4, 6]
    for step, line in lines[4].items():
        assert {k: v for k, v in line.items() if k != "time"} == {
            k: v for k, v in lines[1][step].items() if k != "time"
        }
    assert set(lines[1][6]) == {"step", "time", "val/loss", "val/noise", "val/spread"}


def test_signal_stops_saved(tmp_path):
    def interrupted(*arguments):
        if arguments[1].x.sum() != 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            arguments[1].x.zero_()
        return objective(*arguments)

    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        summary, _ = run(tmp_path, objective=interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert summary.steps == 1 and not summary.finished
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-000001\n"


def test_second_signal_acts_as_usual():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt), stop_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.code == 130
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_diverged_training_is_refused_and_not_saved(tmp_path):
    def diverging(*arguments):
        losses = objective(*arguments)
        return {"noise": losses["noise"] * float("nan")}

    with pytest.raises(StageError, match="diverged before step 1.*lower optim.lr"):
        run(tmp_path, objective=diverging)
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_a_loader_that_ends_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="ended after 2 batches"):
        run(tmp_path, loader=SmallLoader(end=2))


def test_finished_run_does_nothing(tmp_path):
    run(tmp_path)
    again, _ = run(tmp_path, objective=killed_in_micro_step(1))
    assert again.finished and again.resumed_from == 6


def test_samples_are_drawn_with_the_average_and_disturb_nothing(tmp_path):
    seen = []
    editor = SmallEditor()

    def edit(samples):
        torch.rand(3), np.random.rand(3)
        seen.append({name: value.clone() for name, value in editor.bridge.state_dict().items()})
        assert not editor.bridge["bim"].dropout.training
        return [one.source for one in samples]

    run(tmp_path / "plain")
    callback = sample_logger(tmp_path / "drawn", edit, [sample()], every=2)
    fit(TrainingStep(editor, objective, small_config()), SmallLoader(), tmp_path / "drawn", callback=callback)
    assert files(tmp_path / "plain") == files(tmp_path / "drawn")
    assert sorted(p.name for p in (tmp_path / "drawn" / "samples").iterdir()) == [
        f"step-{step:06d}.png" for step in (2, 4, 6)
    ]
    averaged = load_tensors(tmp_path / "drawn" / "checkpoints" / "step-000006" / "ema.safetensors")
    for name, value in averaged.items():
        assert torch.equal(value, seen[-1][name.removeprefix("bridge.")])


def test_loss_without_a_weight_is_named():
    with pytest.raises(ValueError, match="`colour`.*loss.colour.*metric/colour"):
        total_loss({"colour": torch.tensor(1.0)}, Config().loss)


def test_objective_without_losses_is_named():
    with pytest.raises(ValueError, match="no loss, only"):
        total_loss({"metric/a": torch.tensor(1.0)}, Config().loss)


def test_weights_of_losses_are_the_configs():
    weights = replace(Config().loss, lm=2.0, noise=0.5)
    total = total_loss({"lm": torch.tensor(3.0), "noise": torch.tensor(4.0), "metric/x": torch.tensor(9.0)}, weights)
    assert total.item() == 8.0


def test_training_step_leaves_metrics_out_and_detaches():
    step = TrainingStep(SmallEditor(), objective, small_config())
    total, losses = step(next(iter(SmallLoader())), torch.Generator().manual_seed(0))
    assert set(losses) == {"noise", "metric/spread"}
    assert total.requires_grad and not losses["noise"].requires_grad
    assert isinstance(step.editor, nn.Module)


def test_seeds_differ_by_rank():
    first = seed_everything(0, 0)
    drawn = torch.rand(1)
    second = seed_everything(0, 1)
    assert not torch.equal(drawn, torch.rand(1))
    assert not torch.equal(torch.rand(1, generator=first), torch.rand(1, generator=second))


class TestTotalMinutes:
    def test_a_run_whose_time_is_over_is_done_and_goes_on_when_it_gets_more(self, tmp_path) -> None:
        config = small_config()
        config.train.max_steps = 4
        config.train.total_minutes = 1e-9
        first, _ = run(tmp_path, config)
        assert (first.steps, first.finished, first.exit_code) == (1, True, 0)
        config.train.total_minutes = 60.0
        more, _ = run(tmp_path, config)
        assert (more.steps, more.resumed_from, more.finished) == (4, 1, True)

    def test_a_cosine_follows_the_clock(self, tmp_path) -> None:
        config = small_config()
        config.optim.schedule, config.optim.warmup_steps = "cosine", 0
        config.train.max_steps, config.train.total_minutes = 1_000_000, 60.0
        budget = budget_of(config, Processes())
        budget.begin(7, seconds=1800.0)
        schedule = budget.schedule_of(config.optim)
        assert schedule is not None
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
        rate = schedule(optimizer)
        optimizer.step()
        rate.step()
        assert rate.get_last_lr()[0] == pytest.approx(1.0, rel=1e-2)  # half of the time, half the rate
        config.optim.schedule = "constant"
        assert budget.schedule_of(config.optim) is None

    def test_several_processes_are_told_to_count_steps(self) -> None:
        config = small_config()
        config.train.total_minutes = 5.0
        with pytest.raises(ConfigError, match=r"train.total_minutes=5 is for one process, here are 2, .*max_steps"):
            budget_of(config, Processes(world_size=2))
