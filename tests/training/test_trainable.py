from __future__ import annotations

import pytest
import torch
from torch import nn

from insightedit.config.load import ConfigError
from insightedit.training.trainable import select_trainable, set_train_mode
from tests.training.standin import SmallEditor


def test_exactly_the_named_parameters_train():
    editor = SmallEditor()
    report = select_trainable(editor, ["bridge.*.linear.*", "!*.bias"])
    assert report.names == ("bridge.qformer.linear.weight", "bridge.bim.linear.weight")
    assert [n for n, p in editor.named_parameters() if p.requires_grad] == list(report.names)


def test_counts_add_up():
    editor = SmallEditor()
    report = select_trainable(editor, ["bridge.qformer.*"])
    assert report.trained == {"bridge.qformer": 88}
    assert sum(report.total.values()) == sum(p.numel() for p in editor.parameters())
    table = report.table().splitlines()
    assert table[0].split() == ["part", "trained", "weights"]
    assert table[-1].split() == ["all", "88", "264"]


def test_a_pattern_without_a_match_names_near_ones():
    with pytest.raises(
        ConfigError, match=r"`bridge.qfromer.\*` matches none of the 12 parameters \(nearest: .*bridge.qformer"
    ):
        select_trainable(SmallEditor(), ["bridge.qfromer.*"])


def test_a_pattern_far_from_everything_names_the_parts():
    with pytest.raises(ConfigError, match="parts: body, bridge"):
        select_trainable(SmallEditor(), ["zzz"])


def test_no_pattern_at_all():
    with pytest.raises(ConfigError, match="stage.trainable is empty"):
        select_trainable(SmallEditor(), [])


def test_everything_taken_out_again():
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        select_trainable(SmallEditor(), ["bridge.*", "!bridge.*"])


def test_quantised_weights_are_refused():
    editor = SmallEditor()
    editor.body.packed = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
    select_trainable(editor, ["bridge.*"])
    with pytest.raises(ConfigError, match="body.packed, which is stored as torch.uint8"):
        select_trainable(editor, ["body.*"])


def test_tied_weights_answer_to_both_names():
    editor = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    editor["head"].weight = editor["embed"].weight
    assert select_trainable(editor, ["head.*"]).names == ("embed.weight",)


def test_modules_follow_what_they_train():
    editor = SmallEditor()
    select_trainable(editor, ["bridge.qformer.linear.*"])
    editor.train()
    set_train_mode(editor)
    assert not editor.body.training and not editor.body.dropout.training
    assert not editor.bridge["bim"].dropout.training
    qformer = editor.bridge["qformer"]
    assert qformer.training and qformer.dropout.training and not qformer.norm.training
