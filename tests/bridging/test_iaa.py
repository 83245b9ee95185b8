from __future__ import annotations

import pytest
import torch

from insightedit.bridging.iaa import IAA

SMALL = {"llm_width": 24, "hidden_dim": 16, "image_embed_dim": 12}


@pytest.mark.parametrize("num_layers", [2, 3])
def test_shape_depth_and_dtype(num_layers: int) -> None:
    iaa = IAA(**SMALL, num_layers=num_layers)
    assert iaa(torch.randn(2, 5, 24, dtype=torch.bfloat16)).shape == (2, 12)
    linears = [m for m in iaa.mlp if isinstance(m, torch.nn.Linear)] + [iaa.out]
    assert len(linears) == num_layers


def test_starts_as_a_plain_mean_over_the_rows() -> None:
    iaa = IAA(**SMALL, num_layers=2)
    states = torch.randn(2, 5, 24)
    torch.testing.assert_close(iaa(states), iaa.out(iaa.mlp(states).mean(dim=1)))


def test_learns_to_choose_a_row() -> None:
    """The target is in one row, told by a mark; a plain mean could not reach it."""
    torch.manual_seed(0)
    iaa = IAA(llm_width=8, hidden_dim=32, num_layers=2, image_embed_dim=4)
    optimizer = torch.optim.Adam(iaa.parameters(), lr=1e-2)
    states = torch.randn(64, 6, 8)
    marked = torch.randint(0, 6, (64,))
    states[..., 0] = 0.0
    states[torch.arange(64), marked, 0] = 4.0
    target = states[torch.arange(64), marked, 1:5]
    for _ in range(300):
        loss = (iaa(states) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * target.var()


def test_rejects_a_single_layer() -> None:
    with pytest.raises(ValueError, match=r"num_layers >= 2 .* got 1"):
        IAA(**SMALL, num_layers=1)
