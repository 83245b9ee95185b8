"""Attention on the CPU in bfloat16: torch's function, computed in another way."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from insightedit.config.schema import TrainConfig
from insightedit.training.attention import UnfusedAttention, training_attention


def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = ((2, 3, 20, 8), (2, 3, 12, 8), (2, 3, 12, 16))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def gradients(given: list[torch.Tensor], **kwargs: object) -> list[torch.Tensor]:
    out = scaled_dot_product_attention(*given, **kwargs)
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), given)]


MASKS = {
    "none": None,
    "numbers": torch.linspace(-2, 2, 20 * 12).view(1, 1, 20, 12),
    "booleans": torch.arange(12).lt(9).expand(2, 1, 20, 12),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_values_and_gradients_are_torchs(mask: str, scale: float | None) -> None:
    given = tensors(torch.float32)
    expected = gradients(given, attn_mask=MASKS[mask], scale=scale)
    with UnfusedAttention():
        found = gradients(given, attn_mask=MASKS[mask], scale=scale)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(found, expected, strict=True)), "the fused kernel ran"


def test_bfloat16_is_as_near_to_the_truth_as_torchs() -> None:
    exact = tensors(torch.float64)
    given = [value.detach().bfloat16().requires_grad_() for value in exact]
    truth = gradients(exact)

    def error(found: list[torch.Tensor]) -> float:
        return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True))

    with UnfusedAttention():
        ours = gradients(given)
    assert all(value.dtype == torch.bfloat16 for value in ours)
    assert error(ours) < max(0.01, 2 * error(gradients(given)))


@pytest.mark.parametrize("kwargs", [{"dropout_p": 0.5}, {"is_causal": True}, {"enable_gqa": True}])
def test_what_it_does_not_know_goes_to_torch(kwargs: dict[str, object]) -> None:
    given = [value[..., :12, :8] for value in tensors(torch.float32)]
    torch.manual_seed(1)
    expected = scaled_dot_product_attention(*given, **kwargs)
    torch.manual_seed(1)
    with UnfusedAttention():
        assert torch.equal(scaled_dot_product_attention(*given, **kwargs), expected)


def test_without_gradients_torchs_kernel_runs() -> None:
    given = tensors(torch.bfloat16)
    with torch.no_grad():
        expected = scaled_dot_product_attention(*given)
        with UnfusedAttention():
            assert torch.equal(scaled_dot_product_attention(*given), expected)


def test_where_it_is_used() -> None:
    def kind(device: str, **settings: object) -> bool:
        settings = {"precision": "bf16", "gradient_checkpointing": False, **settings}
        return isinstance(training_attention(TrainConfig(**settings), device), UnfusedAttention)

    assert kind("cpu")
    assert not kind("cuda")
    assert not kind("cpu", precision="fp32")
    assert not kind("cpu", gradient_checkpointing=True)


def test_why_not_where_activations_are_computed_again() -> None:
    """The context is closed backward: the other kernel would run there, and torch refuses that."""
    given = tensors(torch.bfloat16)
    with UnfusedAttention():
        out = checkpoint(scaled_dot_product_attention, *given, use_reentrant=False)
    with pytest.raises(RuntimeError, match="different number of tensors|different metadata"):
        out.sum().backward()
