"""Feature fusion: identity at the start, the paper's formula, its size, and the fixed null text."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from insightedit.bridging.fusion import FeatureFusion, FusionBridge

TOKENS, FEATURES = torch.randn(3, 4, 32), torch.randn(3, 9, 24)


def fusion(**options) -> FeatureFusion:
    return FeatureFusion(**{"width": 32, "visual_width": 24, "num_heads": 4, **options})


def test_a_new_fusion_does_not_see_the_visual_features():
    module = fusion()
    expected = F.layer_norm(TOKENS, (32,))
    torch.testing.assert_close(module(TOKENS, FEATURES), expected)
    torch.testing.assert_close(module(TOKENS, 5 * FEATURES), expected)


def test_every_part_but_the_attention_learns_from_the_second_step_on():
    """The zero layer learns first; then gradients reach what stands before it, with the paper's ReLU too."""
    for activation in ("relu", "none"):
        module = fusion(activation=activation)
        (module(TOKENS, FEATURES) * TOKENS.cos()).sum().backward()
        assert module.out.weight.grad.abs().sum() > 0
        assert module.query[0].weight.grad.abs().sum() == 0
        with torch.no_grad():
            module.out.weight -= 0.1 * module.out.weight.grad
        module.zero_grad()
        (module(TOKENS, FEATURES) * TOKENS.cos()).sum().backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0
            for n, p in module.named_parameters()
            if "k_proj.bias" not in n
        )


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_values_follow_the_formula(activation):
    """f_s + MLP(softmax(Q K^T / sqrt(d)) V) with torch's own multi-head attention."""
    module = fusion(activation=activation)
    torch.nn.init.normal_(module.out.weight)
    ours = module.attention
    theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]))
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    attended, _ = theirs(module.query(TOKENS), module.key(FEATURES), module.value(FEATURES))
    attended = attended.relu() if activation == "relu" else attended
    expected = F.layer_norm(TOKENS + attended @ module.out.weight.T, (32,))
    torch.testing.assert_close(module(TOKENS, FEATURES), expected, rtol=0, atol=1e-5)


def test_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        module = FeatureFusion(width=768, visual_width=1152, num_heads=8)
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(6.5e6, rel=0.005)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention width 32 is not divisible by num_heads 5"):
        fusion(num_heads=5)


class TestBridge:
    def bridge(self, **options) -> FusionBridge:
        sizes = {"token_width": 32, "visual_width": 24, "num_heads": 4, "text_length": 6, "text_width": 400}
        return FusionBridge(**{**sizes, **options})

    def test_the_null_text_is_random_fixed_and_no_parameter(self):
        state = torch.random.get_rng_state()
        first, again = self.bridge().null_states(), self.bridge().null_states()
        torch.random.set_rng_state(state)
        assert torch.equal(first, again), "a checkpoint does not hold it: each build has to draw the same"
        assert first.shape == (6, 400)
        assert float(first.std()) == pytest.approx(1 / 20, rel=0.05)
        assert "null_text_states" not in dict(self.bridge().named_parameters())

    def test_saved_and_loaded_it_is_the_same(self, tmp_path):
        bridge = self.bridge(activation="none")
        torch.nn.init.normal_(bridge.fusion.out.weight)
        bridge.save_pretrained(tmp_path)
        loaded = FusionBridge.from_pretrained(tmp_path)
        assert loaded.config.activation == "none"
        assert torch.equal(loaded.fuse(TOKENS, FEATURES), bridge.fuse(TOKENS, FEATURES))
        assert torch.equal(loaded.null_states(), bridge.null_states())
