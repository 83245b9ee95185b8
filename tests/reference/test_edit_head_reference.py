"""The edit head against `torch.nn.Transformer` as it is constructed by default, and against the maths written out."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from insightedit.bridging.edit_head import EditHead

HEADS, WIDTH = 4, 32


@pytest.fixture
def head() -> EditHead:
    torch.manual_seed(0)
    head = EditHead(num_queries=7, text_width=16, llm_width=24, width=WIDTH, num_layers=4, num_heads=HEADS, ffn_dim=48)
    with torch.no_grad():  # norms and biases start at 1 and 0; give each its own value
        for parameter in head.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.5, 0.3)
    return head.double()


@pytest.fixture
def read() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 8, 24, dtype=torch.double), torch.randn(8, 24, dtype=torch.double)


@pytest.mark.parametrize("training", [True, False])
def test_equals_torchs_transformer(head: EditHead, read: tuple[Tensor, Tensor], training: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that pre-norm cannot use nested tensors
        theirs = nn.Transformer(
            WIDTH, HEADS, 4, 4, 48, dropout=0.0, batch_first=True, norm_first=True, dtype=torch.double
        )
    theirs.load_state_dict(head.transformer.state_dict())
    theirs.train(training), head.train(training)
    with torch.set_grad_enabled(training):
        states, embeddings = read
        wanted = theirs(head.proj_in(states + embeddings), head.queries.repeat(3, 1, 1))
        torch.testing.assert_close(head(states, embeddings), head.proj_out(wanted), atol=1e-10, rtol=0)


def test_equals_the_maths(head: EditHead, read: tuple[Tensor, Tensor]) -> None:
    states, embeddings = read
    weights = dict(head.named_parameters())
    read_states = linear(states + embeddings, weights, "proj_in.")
    for number in range(4):
        layer = f"transformer.encoder.layers.{number}."
        normed = norm(read_states, weights, f"{layer}norm1.")
        read_states = read_states + attend(normed, normed, weights, f"{layer}self_attn.")
        read_states = read_states + feed(norm(read_states, weights, f"{layer}norm2."), weights, layer)
    read_states = norm(read_states, weights, "transformer.encoder.norm.")

    queries = weights["queries"].expand(3, -1, -1)
    for number in range(4):
        layer = f"transformer.decoder.layers.{number}."
        normed = norm(queries, weights, f"{layer}norm1.")
        queries = queries + attend(normed, normed, weights, f"{layer}self_attn.")
        normed = norm(queries, weights, f"{layer}norm2.")
        queries = queries + attend(normed, read_states, weights, f"{layer}multihead_attn.")
        queries = queries + feed(norm(queries, weights, f"{layer}norm3."), weights, layer)
    queries = norm(queries, weights, "transformer.decoder.norm.")
    wanted = linear(queries, weights, "proj_out.")
    torch.testing.assert_close(head(states, embeddings), wanted, atol=1e-10, rtol=0)


def linear(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return values @ weights[f"{name}weight"].T + weights[f"{name}bias"]


def norm(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}weight"] + weights[f"{name}bias"]


def feed(values: Tensor, weights: dict[str, Tensor], layer: str) -> Tensor:
    return linear(linear(values, weights, f"{layer}linear1.").clamp(min=0), weights, f"{layer}linear2.")


def attend(query: Tensor, key: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    matrices, biases = weights[f"{name}in_proj_weight"].chunk(3), weights[f"{name}in_proj_bias"].chunk(3)
    q, k, v = (
        (values @ matrix.T + bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for values, matrix, bias in zip((query, key, key), matrices, biases, strict=True)
    )
    shares = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    return linear((shares @ v).transpose(1, 2).flatten(2), weights, f"{name}out_proj.")
