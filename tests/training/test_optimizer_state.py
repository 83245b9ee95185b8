from __future__ import annotations

import pytest
import torch
from torch import nn

from insightedit.training.errors import StageError
from insightedit.training.optim import build_schedule
from insightedit.training.optimizer_state import (
    empty_state,
    gather_state,
    load_blocks,
    load_schedule,
    load_state,
    read_state,
    save_blocks,
    save_schedule,
    save_state,
    split_by_process,
)
from tests.training.standin import small_config


def stepped(steps: int = 3) -> tuple[dict[str, nn.Parameter], torch.optim.AdamW]:
    """Three weights, of which the objective reaches two."""
    torch.manual_seed(0)
    weights = {name: nn.Parameter(torch.randn(3, 2)) for name in ("a", "b", "idle")}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        (weights["a"] * weights["b"]).sum().backward()
        optimizer.step()
    return weights, optimizer


def test_the_state_comes_back_by_name_to_the_last_bit(tmp_path):
    weights, optimizer = stepped()
    gathered = gather_state(weights, lambda w, key: optimizer.state.get(w, {}).get(key), keep=True)
    assert set(gathered) == {f"{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in "ab"}
    save_state(tmp_path, gathered)
    others, fresh = stepped(1)
    fresh.state.clear()
    load_state(fresh, others, read_state(tmp_path))
    assert others["idle"] not in fresh.state
    for name in "ab":
        for key, value in optimizer.state[weights[name]].items():
            assert torch.equal(fresh.state[others[name]][key], value)


def test_who_only_helps_to_gather_keeps_nothing():
    weights, optimizer = stepped()
    assert gather_state(weights, lambda w, key: optimizer.state.get(w, {}).get(key), keep=False) == {}


def test_an_empty_state_steps_from_the_given_count():
    flat = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([flat], lr=0.1)
    empty_state(optimizer, [flat], torch.tensor(7.0))
    flat.grad = torch.ones(4)
    optimizer.step()
    assert optimizer.state[flat]["step"] == 8


def test_the_learning_rate_comes_back(tmp_path):
    config = small_config()
    rates = []
    for _ in range(2):
        _, optimizer = stepped()
        schedule = build_schedule(optimizer, config.optim, 10)
        if rates:
            load_schedule(tmp_path, schedule, optimizer)
        else:
            for _ in range(4):
                optimizer.step()
                schedule.step()
            save_schedule(tmp_path, schedule)
        rates.append((optimizer.param_groups[0]["lr"], schedule.state_dict()))
    assert rates[0] == rates[1]


def test_a_checkpoint_of_an_earlier_version_says_how_to_go_on(tmp_path):
    with pytest.raises(StageError, match="holds no optimizer.safetensors: it was written by an earlier version"):
        read_state(tmp_path)


def test_blocks_are_for_the_same_processes(tmp_path):
    weights, optimizer = stepped()
    tensors = [weights["a"], weights["b"]]
    save_blocks(tmp_path, 0, [optimizer.state[tensor] for tensor in tensors])
    _, fresh = stepped(1)
    load_blocks(tmp_path, 0, fresh, tensors)
    assert torch.equal(fresh.state[tensors[0]]["exp_avg"], optimizer.state[tensors[0]]["exp_avg"])
    with pytest.raises(StageError, match="holds no 8-bit optimiser state for process 1 of this run"):
        load_blocks(tmp_path, 1, fresh, tensors)
    assert not split_by_process(fresh)
