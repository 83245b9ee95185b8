"""A miniature under the loop: schedule, budgets, exact resume, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from insightedit.files import lock_folder
from insightedit.training.loop import Budget
from insightedit.training.miniatures.loop import Part, TrainOptions, train_part

OPTIONS = TrainOptions(steps=6, warmup_steps=2, workers=0, ema_decay=0.9)


class Line(Part):
    """Fits y = 2x by one weight; noise and data come from the step number alone."""

    name = "line"
    options = OPTIONS

    def __init__(self) -> None:
        super().__init__(Path(), None, None, 4)

    def load(self) -> None:
        torch.manual_seed(1)
        self.model = nn.Linear(1, 1)
        self.exported: list[dict[str, Tensor]] = []

    def batch(self, step: int) -> dict[str, Tensor]:
        return {"x": torch.full((4, 1), float(step + 1))}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        x = batch["x"] + 0.1 * torch.randn(4, 1, generator=generator)
        return {"loss": (self.model(x) - 2 * x).square().mean()}

    def evaluate(self) -> dict[str, float]:
        return {"weight": float(self.model.weight)}

    def export(self) -> None:
        self.exported.append({k: v.clone() for k, v in self.model.state_dict().items()})


def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = Line()
    whole, metrics = train_part(straight, tmp_path / "straight", OPTIONS)
    first, none = train_part(Line(), tmp_path / "resumed", replace(OPTIONS, stop_after=2))
    second = Line()
    rest, same = train_part(second, tmp_path / "resumed", OPTIONS)
    assert (first.steps, first.finished, none) == (2, False, {})
    assert (whole.steps, rest.steps, rest.finished) == (6, 6, True)
    assert metrics == same
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_a_folder_belongs_to_one_training(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(ValueError, match="is in use by process .* wait until it ends"):
        train_part(Line(), tmp_path, OPTIONS)


def test_the_moving_average_is_exported_and_the_weights_come_back(tmp_path: Path) -> None:
    part = Line()
    _, metrics = train_part(part, tmp_path, OPTIONS)
    assert metrics["weight"] == float(part.exported[-1]["weight"])
    assert not torch.equal(part.exported[-1]["weight"], part.model.weight)


def test_without_average_the_weights_are_exported(tmp_path: Path) -> None:
    part = Line()
    train_part(part, tmp_path, replace(OPTIONS, ema_decay=None))
    assert torch.equal(part.exported[-1]["weight"], part.model.weight)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_workers_give_the_same_batches_in_order(tmp_path: Path) -> None:
    alone, helped = Line(), Line()
    train_part(alone, tmp_path / "alone", OPTIONS)
    train_part(helped, tmp_path / "helped", replace(OPTIONS, workers=2))
    assert torch.equal(alone.model.weight, helped.model.weight)


def test_a_time_budget_ends_the_run(tmp_path: Path) -> None:
    summary, metrics = train_part(Line(), tmp_path, replace(OPTIONS, steps=10_000_000, minutes=0.005))
    assert summary.finished
    assert metrics
    assert 0 < summary.steps < 10_000_000


def test_a_finished_run_is_not_continued(tmp_path: Path) -> None:
    train_part(Line(), tmp_path, OPTIONS)
    again, _ = train_part(Line(), tmp_path, OPTIONS)
    assert (again.steps, again.resumed_from, again.finished) == (6, 6, True)


def test_checkpoints_export_on_the_way(tmp_path: Path) -> None:
    part = Line()
    train_part(part, tmp_path, replace(OPTIONS, save_steps=2))
    assert len(part.exported) == 3, "steps 2, 4 and 6"
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000006"]


def test_log_has_one_json_object_a_line(tmp_path: Path) -> None:
    train_part(Line(), tmp_path, OPTIONS)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 6
    assert {"loss", "lr", "grad_norm", "time"} <= rows[-1].keys()
    assert "weight" in json.loads((tmp_path / "metrics.json").read_text())


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    for budget in (Budget(100, 10), Budget(10**9, 10, max_minutes=100 / 60)):  # steps, seconds
        budget.begin(0, 0.0)
        schedule = budget.cosine(10)(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0))
        (factor,) = schedule.lr_lambdas
        rates = {}
        for step in (0, 50, 100):
            budget.begin(step, step)
            rates[step] = 2.0 * factor(step)
        assert rates == {0: pytest.approx(0.2, abs=1e-3), 50: pytest.approx(1.0, abs=1e-3), 100: pytest.approx(0)}


def test_a_loss_that_is_not_finite_says_what_to_do(tmp_path: Path) -> None:
    class Broken(Line):
        def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
            return {"loss": super().loss(batch, generator)["loss"] * float("nan")}

    with pytest.raises(RuntimeError, match="line: the loss is nan; lower --lr"):
        train_part(Broken(), tmp_path, OPTIONS)
