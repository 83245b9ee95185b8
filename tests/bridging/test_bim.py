from __future__ import annotations

import pytest
import torch

from insightedit.bridging.bim import BIM
from insightedit.bridging.two_way import FourierPositions

SMALL = {"text_width": 16, "vision_width": 24, "width": 32, "num_heads": 2, "mlp_dim": 48, "residual_channels": 6}


@pytest.fixture
def bim() -> BIM:
    torch.manual_seed(0)
    return BIM(**SMALL).eval()


def open_outputs(bim: BIM) -> BIM:
    for layer in (bim.text_out, bim.image_out):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return bim


def test_full_size_parameter_count() -> None:
    with torch.device("meta"):
        bim = BIM(text_width=768, vision_width=1024)
        text, residual = bim(torch.empty(2, 77, 768), torch.empty(2, 256, 1024), (48, 48))
    assert text.shape == (2, 77, 768)
    assert residual.shape == (2, 320, 48, 48)
    assert sum(p.numel() for p in bim.parameters()) == pytest.approx(29.2e6, rel=0.005)
    assert sum(p.numel() for p in bim.two_way.parameters()) == pytest.approx(27.3e6, rel=0.005)


def test_identity_at_the_first_step(bim: BIM) -> None:
    text, image = torch.randn(2, 5, 16), torch.randn(2, 9, 24)
    text_out, residual = bim(text, image, (8, 6))
    assert torch.equal(text_out, text)
    assert residual.shape == (2, 6, 8, 6)
    assert not residual.any()


def test_the_place_head_reads_v(bim: BIM) -> None:
    residual = torch.randn(2, 6, 8, 6)
    assert bim.place(residual) is None
    torch.manual_seed(0)
    with_head = BIM(**SMALL, place_head=True).eval()
    assert with_head.place(residual).shape == (2, 1, 8, 6)
    assert set(with_head.state_dict()) - set(bim.state_dict()) == {"place_out.weight", "place_out.bias"}
    for name, value in bim.state_dict().items():
        assert torch.equal(value, with_head.state_dict()[name])  # built last: nothing else moves


def test_gradients_reach_the_zero_layers(bim: BIM) -> None:
    text_out, residual = bim(torch.randn(2, 5, 16), torch.randn(2, 9, 24), (8, 8))
    (text_out.square().sum() + (residual - 1).square().sum()).backward()
    assert bim.text_out.weight.grad.abs().max() > 0
    assert bim.image_out.weight.grad.abs().max() > 0


def test_both_sides_read_each_other(bim: BIM) -> None:
    open_outputs(bim)
    text, image = torch.randn(1, 5, 16), torch.randn(1, 9, 24)
    text_out, residual = bim(text, image, (3, 3))
    other_text, _ = bim(text, image + 1, (3, 3))
    _, other_residual = bim(text + 1, image, (3, 3))
    assert (text_out - other_text).abs().max() > 1e-3
    assert (residual - other_residual).abs().max() > 1e-3


def test_text_scale(bim: BIM) -> None:
    open_outputs(bim)
    text, image = torch.randn(1, 5, 16), torch.randn(1, 9, 24)
    half = bim(text, image, (3, 3))[0] - text
    bim.text_scale = 1.0
    torch.testing.assert_close(bim(text, image, (3, 3))[0] - text, 2 * half)


def test_patches_keep_their_place(bim: BIM) -> None:
    """Row-major order: a changed patch in the top right corner moves v' there the most."""
    open_outputs(bim)
    text, image = torch.randn(1, 5, 16), torch.randn(1, 9, 24)
    changed = image.clone()
    changed[:, 2] += 5
    difference = (bim(text, changed, (3, 3))[1] - bim(text, image, (3, 3))[1]).abs().sum(1)[0]
    assert difference.argmax().item() == 2


def test_same_width_needs_no_projection() -> None:
    assert not list(BIM(**{**SMALL, "vision_width": 32}).image_in.parameters())


def test_position_code_is_saved(bim: BIM) -> None:
    assert "positions.frequencies" in bim.state_dict()
    other = BIM(**SMALL)
    other.load_state_dict(bim.state_dict())
    assert torch.equal(other.positions(3), bim.positions(3))


def test_positions_are_distinct() -> None:
    code = FourierPositions(32)(4)
    assert code.shape == (16, 32)
    assert torch.pdist(code).min() > 0.1


def test_rejects_a_patch_count_that_is_no_square(bim: BIM) -> None:
    with pytest.raises(ValueError, match=r"square patch grid, got 10 patches .*drop the class token"):
        bim(torch.randn(1, 5, 16), torch.randn(1, 10, 24), (4, 4))


def test_rejects_no_residual_channels() -> None:
    with pytest.raises(ValueError, match=r"residual_channels > 0, got 0: .*block_out_channels"):
        BIM(**{**SMALL, "residual_channels": 0})


def test_rejects_an_odd_position_width() -> None:
    with pytest.raises(ValueError, match=r"even width .* got 7"):
        FourierPositions(7)
