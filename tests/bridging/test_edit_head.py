from __future__ import annotations

import pytest
import torch

from insightedit.bridging.edit_head import EditHead

SMALL = {"num_queries": 7, "text_width": 16, "llm_width": 24, "width": 32, "num_layers": 2, "num_heads": 2}


@pytest.fixture
def head() -> EditHead:
    torch.manual_seed(0)
    return EditHead(**SMALL, ffn_dim=48)


def test_full_size_is_the_published_size() -> None:
    with torch.device("meta"):
        head = EditHead(num_queries=77, text_width=768, llm_width=4096)
        states = head(torch.empty(2, 8, 4096), torch.empty(8, 4096))
    assert states.shape == (2, 77, 768)
    count = sum(p.numel() for p in head.parameters())
    assert count == pytest.approx(31.96e6, rel=0.005)
    assert count == 31_958_784


def test_four_and_four_layers_without_dropout_before_whose_parts_stand_norms() -> None:
    with torch.device("meta"):
        head = EditHead(num_queries=77, text_width=768, llm_width=4096)
    layers = [*head.transformer.encoder.layers, *head.transformer.decoder.layers]
    assert len(layers) == 8
    assert all(layer.norm_first and layer.self_attn.num_heads == 4 for layer in layers)
    assert all(layer.linear1.out_features == 2048 for layer in layers)
    dropouts = [m.p for m in head.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts
    assert not any(dropouts)
    assert not any(m.dropout for m in head.modules() if isinstance(m, torch.nn.MultiheadAttention))


def test_embeddings_are_added_in_every_row(head: EditHead) -> None:
    states, embeddings = torch.randn(3, 5, 24), torch.randn(5, 24)
    torch.testing.assert_close(head(states, embeddings), head(states + embeddings, torch.zeros(5, 24)))
    assert not torch.allclose(head(states, embeddings), head(states, torch.zeros(5, 24)), atol=1e-3)


def test_a_row_does_not_depend_on_the_others(head: EditHead) -> None:
    states, embeddings = torch.randn(3, 5, 24), torch.randn(5, 24)
    alone = head(states[1:2], embeddings)
    torch.testing.assert_close(head(states, embeddings)[1:2], alone, atol=1e-6, rtol=1e-5)


def test_the_embeddings_tell_the_tokens_apart(head: EditHead) -> None:
    """Attention has no order: with equal states, tokens in another order say the same, with other embeddings not."""
    states, embeddings = torch.zeros(1, 5, 24), torch.randn(5, 24)
    torch.testing.assert_close(head(states, embeddings), head(states, embeddings.flip(0)), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(head(states, embeddings), head(states, 2 * embeddings), atol=1e-3)


def test_every_weight_is_reached_and_eval_computes_the_same(head: EditHead) -> None:
    states, embeddings = torch.randn(2, 5, 24), torch.randn(5, 24, requires_grad=True)
    out = head(states, embeddings)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    assert embeddings.grad.any()
    with torch.no_grad():
        torch.testing.assert_close(head.eval()(states, embeddings), out, atol=1e-6, rtol=1e-5)


def test_other_floats_are_cast_to_the_weights(head: EditHead) -> None:
    states, embeddings = torch.randn(2, 5, 24).bfloat16(), torch.randn(5, 24).bfloat16()
    assert torch.equal(head(states, embeddings), head(states.float(), embeddings.float()))
    assert head.bfloat16()(states.float(), embeddings).dtype == torch.bfloat16


def test_trains_under_bfloat16_autocast(head: EditHead) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(torch.randn(2, 5, 24), torch.randn(5, 24)).float().square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 3}, "width 32 is not divisible by num_heads 3: choose a number of heads"),
        ({"num_layers": 0}, "num_layers=0.*each has to be at least 1"),
        ({"num_queries": 0}, "num_queries=0.*each has to be at least 1"),
    ],
)
def test_sizes_that_cannot_be(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditHead(**{**SMALL, **wrong})
