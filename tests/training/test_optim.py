from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from insightedit.config.load import ConfigError
from insightedit.config.schema import OptimConfig
from insightedit.training.optim import Ema, build_optimizer, build_schedule, parameter_groups

CPU = torch.device("cpu")


def named() -> list[tuple[str, nn.Parameter]]:
    return list(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)).named_parameters())


def rates(config: OptimConfig, steps: int) -> list[float]:
    optimizer = build_optimizer(named(), config, device=CPU)
    schedule = build_schedule(optimizer, config, steps)
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return seen


def test_biases_and_norms_do_not_decay():
    groups = parameter_groups(named(), 0.1)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


def test_adamw_takes_the_configs_values():
    config = OptimConfig(lr=3e-4, betas=[0.8, 0.95], eps=1e-6, weight_decay=0.2)
    optimizer = build_optimizer(named(), config, device=CPU)
    assert isinstance(optimizer, torch.optim.AdamW)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (3e-4, (0.8, 0.95), 1e-6, 0.2)


def test_cosine_warms_up_and_falls_to_zero():
    seen = rates(OptimConfig(lr=1.0, warmup_ratio=0.1), 100)
    assert seen[0] == 0.0 and seen[10] == 1.0
    assert seen[55] == pytest.approx(0.5) and seen[99] < 0.001


def test_constant_stays():
    seen = rates(OptimConfig(lr=1.0, warmup_ratio=0.1, schedule="constant"), 50)
    assert seen[4] == pytest.approx(0.8) and set(seen[5:]) == {1.0}


def test_no_warm_up_starts_at_full_rate():
    assert rates(OptimConfig(lr=1.0, warmup_ratio=0.001), 4)[0] == 1.0


def test_8bit_needs_a_gpu():
    with pytest.raises(ConfigError, match="needs a GPU, training runs on cpu: set optim.name=adamw"):
        build_optimizer(named(), OptimConfig(name="adamw8bit"), device=CPU)


def test_8bit_cannot_be_offloaded():
    with pytest.raises(ConfigError, match="cannot be offloaded"):
        build_optimizer(named(), OptimConfig(name="adamw8bit"), device=CPU, offloaded=True)


def test_8bit_names_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        build_optimizer(named(), OptimConfig(name="adamw8bit"), device=torch.device("cuda"))


def test_ema_follows_with_a_short_warm_up():
    ema = Ema(0.99, {"w": torch.zeros(1)})
    ema.update({"w": torch.ones(1)})
    assert ema.shadow["w"].item() == pytest.approx(1 - 1 / 10)
    for _ in range(2000):
        ema.update({"w": torch.zeros(1)})
    ema.update({"w": torch.ones(1)})
    assert ema.shadow["w"].item() == pytest.approx(0.01, rel=1e-3)


def test_ema_is_a_float32_copy():
    weight = torch.zeros(2, dtype=torch.bfloat16)
    ema = Ema(0.9, {"w": weight})
    weight.fill_(1.0)
    assert ema.shadow["w"].dtype == torch.float32 and ema.shadow["w"].sum() == 0


@pytest.mark.parametrize("decay", [1.0, -0.1, 99.0])
def test_ema_decay_has_a_range(decay):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\)"):
        Ema(decay, {})
