from __future__ import annotations

import pytest
import torch

from insightedit.bridging.attention import Attention
from insightedit.bridging.qformer import QFormer, spread

SMALL = {"num_queries": 7, "width": 16, "num_layers": 3, "num_heads": 2, "ffn_dim": 32, "llm_width": 24}
FULL = {"num_queries": 77, "width": 768, "num_layers": 6, "num_heads": 12, "ffn_dim": 3072}


@pytest.mark.parametrize(("llm_width", "millions"), [(4096, 65.0), (5120, 69.7)])
def test_full_size_parameter_count(llm_width: int, millions: float) -> None:
    with torch.device("meta"):
        qformer = QFormer(**FULL, llm_width=llm_width)
        assert qformer(torch.empty(2, 32, llm_width)).shape == (2, 77, 768)
    count = sum(p.numel() for p in qformer.parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.005)


def test_cross_attention_layers() -> None:
    with torch.device("meta"):
        layers = QFormer(**FULL, llm_width=8).layers
    assert [layer.cross_attn is not None for layer in layers] == [True, False, True, False, True, False]


def test_reads_the_edit_states_and_keeps_samples_apart() -> None:
    qformer = QFormer(**SMALL).eval()
    for parameter in qformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    states = torch.randn(2, 5, 24)
    both = qformer(states)
    changed = qformer(states + torch.tensor([0.0, 1.0])[:, None, None])
    torch.testing.assert_close(both[0], changed[0])
    assert (both[1] - changed[1]).abs().max() > 1e-2
    torch.testing.assert_close(qformer(states[:1]), both[:1])


def test_half_precision_states_are_cast() -> None:
    assert QFormer(**SMALL).eval()(torch.randn(1, 5, 24, dtype=torch.bfloat16)).dtype == torch.float32


def test_fresh_queries_are_spread() -> None:
    assert spread(QFormer(**SMALL).eval()(torch.randn(2, 5, 24))) > 0.5


def test_every_parameter_gets_a_gradient() -> None:
    qformer = QFormer(**SMALL)
    qformer(torch.randn(2, 5, 24)).square().sum().backward()
    assert all(p.grad is not None for p in qformer.parameters())


def test_spread_values() -> None:
    same = torch.randn(2, 1, 16).expand(2, 7, 16)
    assert spread(same) == pytest.approx(0.0, abs=1e-3)
    assert spread(torch.zeros(2, 7, 16)) == 0.0
    random = torch.randn(2, 7, 16)
    assert spread(random) > 0.7
    assert spread(100 * random) == pytest.approx(spread(random).item(), rel=1e-5)
    # Two rows (1, 0) and (0, 1): the mean row holds half of the energy.
    assert spread(torch.eye(2)[None]) == pytest.approx(0.5**0.5)


def test_attention_rejects_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"width 16 is not divisible by num_heads 3"):
        Attention(16, num_heads=3)


@pytest.mark.parametrize("name", ["num_queries", "num_layers", "cross_attention_every"])
def test_rejects_empty_sizes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0.*at least 1"):
        QFormer(**{**SMALL, name: 0})
