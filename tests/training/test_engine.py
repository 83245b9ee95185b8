from __future__ import annotations

import torch
from torch import nn

from insightedit.training.engine import TorchEngine, shrink_language_model
from insightedit.training.objectives import TrainingStep
from insightedit.training.processes import Processes
from insightedit.training.trainable import select_trainable
from tests.training.standin import SmallEditor, SmallLoader, objective, small_config


def engine(used: object = objective) -> TorchEngine:
    editor = SmallEditor()
    select_trainable(editor, ["bridge.*"])
    return TorchEngine(TrainingStep(editor, used, small_config()), Processes())


def test_a_step_clips_updates_and_clears():
    carried = engine()
    before = {name: value.clone() for name, value in carried.trainable_state().items()}
    for _ in range(2):  # the first step of the warm-up has the rate 0
        carried.backward(next(iter(SmallLoader())), torch.Generator().manual_seed(0))
        assert carried.step() > 0
    assert all(not torch.equal(value, before[name]) for name, value in carried.trainable_state().items())
    assert all(parameter.grad is None for parameter in carried.parameters.values())


def test_only_trainable_weights_reach_the_optimizer():
    carried = engine()
    held = {id(p) for group in carried.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for n, p in carried.module.editor.named_parameters() if n.startswith("bridge.")}
    assert list(carried.parameters) == list(carried.trainable_state())


def test_weights_without_a_gradient_are_named_once(caplog):
    def half(editor, batch, config, generator):
        return {"noise": editor.bridge["qformer"](batch.x).pow(2).mean()}

    carried = engine(half)
    for _ in range(2):
        carried.backward(next(iter(SmallLoader())), torch.Generator())
        carried.step()
    assert caplog.text.count("4 of 8 trainable parameters got no gradient") == 1
    assert "bridge.bim.linear.weight" in caplog.text


def test_a_frozen_language_model_is_held_in_bfloat16():
    editor = nn.ModuleDict({"comprehension": nn.Linear(2, 2), "bridge": nn.Linear(2, 2)})
    select_trainable(editor, ["comprehension.bias", "bridge.*"])
    shrink_language_model(editor)
    assert editor["comprehension"].weight.dtype == torch.bfloat16
    assert {p.dtype for p in (editor["comprehension"].bias, editor["bridge"].weight)} == {torch.float32}
