"""The two-way transformer and its position code against transformers' SAM, weights copied."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import SamMaskDecoderConfig, SamPromptEncoderConfig
from transformers.models.sam.modeling_sam import SamPositionalEmbedding, SamTwoWayAttentionBlock, SamTwoWayTransformer

from insightedit.bridging.two_way import FourierPositions, TwoWayBlock, TwoWayTransformer

WIDTH, HEADS, MLP, GRID, TOKENS = 32, 4, 48, 5, 7

NAMES = {
    "layers.": "blocks.",
    "layer_norm1": "self_attn_norm",
    "layer_norm2": "token_to_image_norm",
    "layer_norm3": "mlp_norm",
    "layer_norm4": "image_to_token_norm",
    "cross_attn_token_to_image": "token_to_image",
    "cross_attn_image_to_token": "image_to_token",
    "final_attn_token_to_image": "final_attn",
    "layer_norm_final_attn": "final_norm",
    "mlp.lin1": "mlp.0",
    "mlp.lin2": "mlp.2",
}


def to_our_name(key: str) -> str:
    for theirs, ours in NAMES.items():
        key = key.replace(theirs, ours)
    return key


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_two_way_equals_sam(depth: int) -> None:
    torch.manual_seed(0)
    config = SamMaskDecoderConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        mlp_dim=MLP,
        num_hidden_layers=depth,
        attention_downsample_rate=2,
        layer_norm_eps=1e-5,
        hidden_act="relu",
    )
    config._attn_implementation = "eager"
    theirs = SamTwoWayTransformer(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = TwoWayTransformer(depth=depth, width=WIDTH, num_heads=HEADS, mlp_dim=MLP, downsample_rate=2).eval()
    ours.load_state_dict({to_our_name(k): v for k, v in theirs.state_dict().items()})

    tokens = torch.randn(2, TOKENS, WIDTH)
    grid, positions = torch.randn(2, WIDTH, GRID, GRID), torch.randn(2, WIDTH, GRID, GRID)
    positions[1] = positions[0]
    with torch.no_grad():
        expected_tokens, expected_image = theirs(
            point_embeddings=tokens[:, None],
            image_embeddings=grid,
            image_positional_embeddings=positions,
            attention_similarity=None,
        )
        actual_tokens, actual_image = ours(tokens, grid.flatten(2).mT, positions[0].flatten(1).mT)
    torch.testing.assert_close(actual_tokens, expected_tokens[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual_image, expected_image[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_first", [True, False])
def test_one_block_equals_sams(is_first: bool) -> None:
    torch.manual_seed(0)
    config = SamMaskDecoderConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, mlp_dim=MLP, layer_norm_eps=1e-5, hidden_act="relu"
    )
    config._attn_implementation = "eager"
    theirs = SamTwoWayAttentionBlock(config, skip_first_layer_pe=is_first).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = TwoWayBlock(width=WIDTH, num_heads=HEADS, mlp_dim=MLP, downsample_rate=2, is_first=is_first).eval()
    ours.load_state_dict({to_our_name(k): v for k, v in theirs.state_dict().items()})
    tokens, token_positions = torch.randn(2, 2, TOKENS, WIDTH)
    image, image_positions = torch.randn(2, GRID * GRID, WIDTH), torch.randn(GRID * GRID, WIDTH)
    with torch.no_grad():
        expected_tokens, expected_image, *_ = theirs(
            tokens[:, None],
            image[:, None],
            token_positions[:, None],
            image_positions[None, None],
            attention_similarity=None,
        )
        actual_tokens, actual_image = ours(tokens, image, token_positions, image_positions)
    torch.testing.assert_close(actual_tokens, expected_tokens[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual_image, expected_image[:, 0], rtol=1e-5, atol=1e-5)


def test_positions_equal_sam() -> None:
    theirs = SamPositionalEmbedding(SamPromptEncoderConfig(hidden_size=WIDTH, num_pos_feats=WIDTH // 2, scale=1))
    ours = FourierPositions(WIDTH)
    ours.frequencies.copy_(theirs.positional_embedding.detach())
    # SAM's own grid: cell centres counted up, divided by the size.
    ones = torch.ones(GRID, GRID)
    centres = torch.stack([ones.cumsum(1) - 0.5, ones.cumsum(0) - 0.5], dim=-1) / GRID
    with torch.no_grad():
        expected = theirs(centres[None])[0].flatten(0, 1)
    torch.testing.assert_close(ours(GRID), expected, rtol=1e-5, atol=1e-5)
