from __future__ import annotations

import pytest
import torch

from insightedit.generation.guidance import BRANCHES, branch_weights, drop_conditions, guide, null_branches
from insightedit.types import EditCondition

RATES = {"drop_text": 0.05, "drop_image": 0.03, "drop_both": 0.07}


def dropped(batch: int, rates: dict[str, float], seed: int = 0) -> tuple[EditCondition, torch.Tensor]:
    condition = EditCondition(torch.ones(batch, 2, 3), torch.ones(batch, 4, 2, 2), torch.ones(batch, 5))
    return drop_conditions(
        condition,
        torch.ones(batch, 4, 2, 2),
        torch.full((2, 3), 7.0),
        generator=torch.Generator().manual_seed(seed),
        **rates,
    )


def kinds(condition: EditCondition, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return condition.encoder_hidden_states[:, 0, 0] == 7, source[:, 0, 0, 0] == 0


def test_drop_rates_and_order() -> None:
    batch = 40_000
    condition, source = dropped(batch, RATES)
    no_text, no_image = kinds(condition, source)
    draw = torch.rand(batch, generator=torch.Generator().manual_seed(0))
    assert torch.equal(no_text, draw < 0.05 + 0.07)
    assert torch.equal(no_image, (draw >= 0.05) & (draw < 0.05 + 0.07 + 0.03))
    hidden = {"drop_text": no_text & ~no_image, "drop_both": no_text & no_image, "drop_image": ~no_text & no_image}
    for name, samples in hidden.items():
        sigma = (RATES[name] * (1 - RATES[name]) / batch) ** 0.5
        assert abs(samples.float().mean() - RATES[name]) < 5 * sigma


def test_hidden_text_hides_the_image_prompt_and_never_the_residual() -> None:
    condition, source = dropped(1000, {"drop_text": 0.3, "drop_image": 0.3, "drop_both": 0.3})
    no_text, no_image = kinds(condition, source)
    assert torch.equal(
        condition.encoder_hidden_states, torch.where(no_text[:, None, None], 7.0, torch.ones(1000, 2, 3))
    )
    assert torch.equal(condition.image_embeds, (~no_text).float()[:, None].expand(-1, 5))
    assert torch.equal(source, (~no_image).float()[:, None, None, None].expand(-1, 4, 2, 2))
    assert condition.spatial_residual.eq(1).all()


def test_drop_nothing_and_everything() -> None:
    condition, source = dropped(50, {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0})
    assert condition.encoder_hidden_states.eq(1).all()
    assert source.eq(1).all()
    condition, source = dropped(50, {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 1.0})
    assert condition.encoder_hidden_states.eq(7).all()
    assert not source.any()


def test_drop_keeps_the_gradient_of_what_stays() -> None:
    states = torch.ones(100, 2, 3, requires_grad=True)
    condition, _ = drop_conditions(
        EditCondition(states),
        torch.ones(100, 4, 2, 2),
        torch.zeros(2, 3),
        generator=torch.Generator().manual_seed(0),
        drop_text=0.5,
        drop_image=0.0,
        drop_both=0.0,
    )
    condition.encoder_hidden_states.sum().backward()
    assert set(states.grad[:, 0, 0].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rates", [{**RATES, "drop_text": -0.1}, {**RATES, "drop_both": 0.95}])
def test_rejects_impossible_shares(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shares of the samples: each at least 0, at most 1 in all"):
        dropped(2, rates)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((7.5, 1.5), ("text_image", "image", "null")),
        ((1.0, 1.0), ("text_image",)),
        ((7.5, 1.0), ("text_image", "image")),
        ((3.0, 3.0), ("text_image", "null")),
        ((0.0, 1.0), ("image",)),
        ((0.0, 0.0), ("null",)),
        ((0.0, 2.0), ("image", "null")),
    ],
)
def test_only_needed_branches_and_the_same_result(scales, expected) -> None:
    weights = branch_weights(*scales)
    assert tuple(weights) == expected
    assert sum(weights.values()) == pytest.approx(1.0)
    predictions = {b: torch.randn(2, 4, 3, 3, dtype=torch.float64) for b in BRANCHES}
    full = guide(*predictions.values(), *scales)
    reduced = guide(*(predictions[b] if b in weights else None for b in BRANCHES), *scales)
    torch.testing.assert_close(reduced, full)
    torch.testing.assert_close(full, sum(w * predictions[b] for b, w in weights.items()))


def test_one_branch_passes_unchanged() -> None:
    prediction = torch.randn(2, 4, 3, 3)
    assert torch.equal(guide(prediction, None, None, 1.0, 1.0), prediction)


def test_rejects_a_missing_branch() -> None:
    with pytest.raises(ValueError, match=r"need the branches .*\['image'\] is None.*branch_weights"):
        guide(torch.zeros(1), None, torch.zeros(1), 7.5, 1.5)


def test_null_branches(condition, null_text_states) -> None:
    source = torch.randn(3, 4, 8, 8)
    batched, batched_source = null_branches(condition, source, null_text_states)
    text = batched.encoder_hidden_states.chunk(3)
    assert torch.equal(text[0], condition.encoder_hidden_states)
    for branch in (1, 2):
        assert torch.equal(text[branch], null_text_states.expand(3, -1, -1))
        assert not batched.image_embeds.chunk(3)[branch].any()
    assert torch.equal(batched.image_embeds[:3], condition.image_embeds)
    assert torch.equal(batched.spatial_residual, torch.cat([condition.spatial_residual] * 3))
    assert torch.equal(batched_source, torch.cat([source, source, torch.zeros_like(source)]))


def test_null_branches_without_residual_and_image(null_text_states, condition) -> None:
    batched, source = null_branches(
        EditCondition(condition.encoder_hidden_states),
        torch.randn(3, 4, 8, 8),
        null_text_states,
        ("text_image", "null"),
    )
    assert batched.spatial_residual is None
    assert batched.image_embeds is None
    assert len(source) == 6
