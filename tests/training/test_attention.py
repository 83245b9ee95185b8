"""Attention on the CPU in training: torch's function by plain matrix products, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from insightedit.modeling.devices import fast_cpu_attention

CPU = torch.device("cpu")


def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = ((2, 3, 20, 8), (2, 3, 12, 8), (2, 3, 12, 8))
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
def test_values_and_gradients_are_the_fused_kernels(mask: str) -> None:
    given = tensors(torch.float32)
    expected = gradients(given, attn_mask=MASKS[mask])
    with fast_cpu_attention(CPU):
        found = gradients(given, attn_mask=MASKS[mask])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(found, expected, strict=True)), "the fused kernel ran"


def test_bfloat16_is_as_near_to_the_truth_as_the_fused_kernel() -> None:
    exact = tensors(torch.float64)
    given = [value.detach().bfloat16().requires_grad_() for value in exact]
    truth = gradients(exact)

    def error(found: list[torch.Tensor]) -> float:
        return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True))

    with fast_cpu_attention(CPU):
        ours = gradients(given)
    assert all(value.dtype == torch.bfloat16 for value in ours)
    assert error(ours) < max(0.01, 2 * error(gradients(given)))


def test_what_is_computed_again_backward_comes_from_the_same_kernel() -> None:
    given = tensors(torch.bfloat16)
    with fast_cpu_attention(CPU):
        expected = gradients(given)
        out = checkpoint(scaled_dot_product_attention, *given, use_reentrant=False)
        found = [out.detach(), *torch.autograd.grad(out.float().square().sum(), given)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_other_devices_and_what_comes_after_stay_as_they_are() -> None:
    given = tensors(torch.float32)
    expected = gradients(given)
    with fast_cpu_attention(torch.device("meta")):
        assert all(torch.equal(a, b) for a, b in zip(gradients(given), expected, strict=True))
    with fast_cpu_attention(CPU):
        pass
    assert all(torch.equal(a, b) for a, b in zip(gradients(given), expected, strict=True))
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
