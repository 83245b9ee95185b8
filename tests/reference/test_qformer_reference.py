"""QFormer against transformers' Blip2QFormerModel, weights copied."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from insightedit.bridging.qformer import QFormer

WIDTH, HEADS, FFN, ENCODER, QUERIES, LAYERS = 32, 4, 64, 48, 7, 5


def copy_linear(ours: nn.Module, theirs: nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())


def copy_attention(ours: nn.Module, norm: nn.Module, theirs: nn.Module) -> None:
    copy_linear(ours.q_proj, theirs.attention.query)
    copy_linear(ours.k_proj, theirs.attention.key)
    copy_linear(ours.v_proj, theirs.attention.value)
    copy_linear(ours.out_proj, theirs.output.dense)
    copy_linear(norm, theirs.output.LayerNorm)


def copy_weights(ours: QFormer, theirs: Blip2QFormerModel) -> None:
    copy_linear(ours.norm, theirs.layernorm)
    for our_layer, their_layer in zip(ours.layers, theirs.encoder.layer, strict=True):
        copy_attention(our_layer.self_attn, our_layer.self_attn_norm, their_layer.attention)
        if their_layer.has_cross_attention:
            copy_attention(our_layer.cross_attn, our_layer.cross_attn_norm, their_layer.crossattention)
        copy_linear(our_layer.ffn[0], their_layer.intermediate_query.dense)
        copy_linear(our_layer.ffn[2], their_layer.output_query.dense)
        copy_linear(our_layer.ffn_norm, their_layer.output_query.LayerNorm)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_qformer_equals_blip2(every: int) -> None:
    torch.manual_seed(0)
    config = Blip2QFormerConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FFN,
        encoder_hidden_size=ENCODER,
        cross_attention_frequency=every,
        initializer_range=0.2,
    )
    theirs = Blip2QFormerModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = QFormer(
        num_queries=QUERIES,
        width=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        ffn_dim=FFN,
        llm_width=ENCODER,
        cross_attention_every=every,
    ).eval()
    copy_weights(ours, theirs)
    states = torch.randn(3, 5, ENCODER)
    with torch.no_grad():
        expected = theirs(query_embeds=ours.queries.expand(3, -1, -1), encoder_hidden_states=states).last_hidden_state
        actual = ours(states)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in ours.parameters()) == ours.queries.numel() + sum(
        p.numel() for p in theirs.parameters()
    )
