from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from insightedit.training.checkpoint import StageError
from insightedit.training.engine import TorchEngine
from insightedit.training.objectives import TrainingStep
from insightedit.training.optim import empty_state, load_optimizer, save_optimizer
from insightedit.training.processes import Processes
from insightedit.training.trainable import select_trainable
from tests.training.standin import SmallEditor, SmallLoader, small_config


def half(editor, batch, config, generator):
    return {"noise": editor.bridge["qformer"](batch.x).pow(2).mean()}


def stepped(steps: int = 3) -> TorchEngine:
    """An engine whose objective reaches one of two trained parts."""
    editor = SmallEditor()
    select_trainable(editor, ["bridge.*"])
    engine = TorchEngine(TrainingStep(editor, half, small_config()), Processes())
    for _, batch in zip(range(steps), SmallLoader(), strict=False):
        engine.backward(batch, torch.Generator())
        engine.step()
    return engine


def test_the_state_comes_back_by_name_to_the_last_bit(tmp_path):
    engine, fresh = stepped(), stepped(0)
    save_optimizer(tmp_path, engine)
    load_optimizer(tmp_path, fresh)
    for name, weight in engine.parameters.items():
        other = fresh.parameters[name]
        assert (weight in engine.optimizer.state) == (other in fresh.optimizer.state) == ("qformer" in name)
        for key, value in engine.optimizer.state.get(weight, {}).items():
            assert torch.equal(fresh.optimizer.state[other][key], value)
    rates = [(one.optimizer.param_groups[0]["lr"], json.dumps(one.schedule.state_dict())) for one in (engine, fresh)]
    assert rates[0] == rates[1]


def test_who_only_helps_to_gather_writes_nothing(tmp_path):
    engine = stepped()
    engine.processes = Processes(rank=1)
    save_optimizer(tmp_path, engine)
    assert not list(tmp_path.iterdir())


def test_an_empty_state_steps_from_the_given_count():
    flat = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([flat], lr=0.1)
    empty_state(optimizer, [flat], torch.tensor(7.0))
    flat.grad = torch.ones(4)
    optimizer.step()
    assert optimizer.state[flat]["step"] == 8


def test_a_checkpoint_of_an_earlier_version_says_how_to_go_on(tmp_path):
    engine = stepped()
    save_optimizer(tmp_path, engine)
    (tmp_path / "optimizer.safetensors").unlink()
    with pytest.raises(StageError, match="holds no optimizer.safetensors: it was written by an earlier version"):
        load_optimizer(tmp_path, engine)


def test_blocks_are_for_the_same_processes(tmp_path):
    class AdamW8bit(torch.optim.AdamW):
        """Named as bitsandbytes' is, which needs a GPU."""

    engine, fresh = stepped(0), stepped(0)
    for one in (engine, fresh):
        one.optimizer = AdamW8bit(one.optimizer.param_groups)
    engine.backward(next(iter(SmallLoader())), torch.Generator())
    engine.optimizer.step()
    save_optimizer(tmp_path, engine)
    load_optimizer(tmp_path, fresh)
    for name, weight in engine.parameters.items():
        for key, value in engine.optimizer.state[weight].items():
            assert torch.equal(fresh.optimizer.state[fresh.parameters[name]][key], value)
    fresh.processes = Processes(rank=1)
    with pytest.raises(StageError, match="holds no 8-bit optimiser state for process 1 of this run"):
        load_optimizer(tmp_path, fresh)
