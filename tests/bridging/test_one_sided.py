"""What stands in BIM's place in an ablation: the same shapes, and no exchange."""

from __future__ import annotations

import pytest
import torch

from insightedit.bridging.bim import BIM
from insightedit.bridging.bridge import EditBridge
from insightedit.bridging.two_way import OneSidedTransformer
from tests.bridging.test_bim import SMALL, open_outputs

KINDS = ["self_attention", "mlp"]


def build(kind: str) -> BIM:
    torch.manual_seed(0)
    return BIM(**SMALL, kind=kind).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_an_identity_too(kind: str) -> None:
    text, image = torch.randn(2, 5, 16), torch.randn(2, 9, 24)
    states, residual = build(kind)(text, image, (8, 6))
    assert torch.equal(states, text)
    assert residual.shape == (2, 6, 8, 6)
    assert not residual.any()


@pytest.mark.parametrize("kind", KINDS)
def test_no_side_sees_the_other(kind: str) -> None:
    bim = open_outputs(build(kind))
    text, image = torch.randn(1, 5, 16), torch.randn(1, 9, 24)
    states, residual = bim(text, image, (3, 3))
    other_states, _ = bim(text, torch.randn(1, 9, 24), (3, 3))
    _, other_residual = bim(torch.randn(1, 5, 16), image, (3, 3))
    assert torch.equal(states, other_states) and not torch.equal(states, text)
    assert torch.equal(residual, other_residual) and residual.any()


def test_bim_itself_lets_both_sides_see() -> None:
    bim = open_outputs(build("two_way"))
    text, image = torch.randn(1, 5, 16), torch.randn(1, 9, 24)
    states, residual = bim(text, image, (3, 3))
    assert not torch.equal(states, bim(text, torch.randn(1, 9, 24), (3, 3))[0])
    assert not torch.equal(residual, bim(torch.randn(1, 5, 16), image, (3, 3))[1])


def test_only_attention_lets_rows_see_each_other() -> None:
    rows, positions = torch.randn(1, 4, 8), torch.randn(4, 8)
    changed = rows.clone()
    changed[:, 0] += 1.0
    for attends in (True, False):
        layers = OneSidedTransformer(depth=2, width=8, num_heads=2, mlp_dim=16, attends=attends).eval()
        before, after = (layers(r, r, positions) for r in (rows, changed))
        for side, other in zip(before, after, strict=True):
            assert torch.equal(side[:, 1:], other[:, 1:]) is not attends
            assert not torch.equal(side[:, 0], other[:, 0])


def test_the_usual_kind_keeps_its_names_and_numbers() -> None:
    torch.manual_seed(0)
    plain = BIM(**SMALL)
    named = build("two_way").state_dict()
    assert set(plain.state_dict()) == set(named)
    assert all(torch.equal(value, named[name]) for name, value in plain.state_dict().items())


def test_a_bridge_remembers_its_kind(tmp_path) -> None:
    qformer = {"num_layers": 1, "num_heads": 2, "ffn_dim": 16}
    bim = {"vision_width": 24, "width": 32, "num_heads": 2, "mlp_dim": 32, "residual_channels": 6, "kind": "mlp"}
    bridge = EditBridge(num_queries=4, text_width=16, llm_width=16, qformer_config=qformer, bim_config=bim)
    bridge.save_pretrained(tmp_path)
    again = EditBridge.from_pretrained(tmp_path)
    assert again.bim.two_way is None and again.bim.one_sided is not None
    assert set(again.state_dict()) == set(bridge.state_dict())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="BIM's kind is 'cnn'; it is one of two_way, self_attention, mlp"):
        BIM(**SMALL, kind="cnn")
