"""States one position before the edit tokens, their embeddings, and vocabulary tables that train whole (MGIE)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from insightedit.comprehension.lora import save_adapter
from insightedit.config.schema import LoraConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from insightedit.comprehension.llava import LlavaComprehension
    from insightedit.types import TokenBatch

MGIE = {"lora": None, "train_embeddings": True, "states_before_tokens": True}


@pytest.fixture(scope="module")
def mgie(load: Callable[..., LlavaComprehension]) -> LlavaComprehension:
    """Reads before the tokens, all rows trainable; tests must not change it."""
    comprehension = load(**MGIE)
    with torch.no_grad():  # new rows start as one mean; give each its own value
        for table in (comprehension.stock.get_input_embeddings().weight, comprehension.stock.lm_head.weight):
            table[comprehension.edit_token_ids] += 0.5 * torch.randn(4, table.shape[1])
    return comprehension


def plain_states(comprehension: LlavaComprehension, tokens: TokenBatch) -> Tensor:
    """(B, T, D) what the stock model computes by itself, after the final norm."""
    return comprehension.stock.model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=tokens.pixel_values
    ).last_hidden_state


def tokens_of(comprehension: LlavaComprehension, instructions: list[str], images: list) -> TokenBatch:
    replies = ["A red ball stands left of the cat, nothing else changes.", "Short.", ""]
    return comprehension.tokenize(instructions, images, replies=replies)


@torch.no_grad()
@pytest.mark.parametrize("before", [True, False])
def test_states_are_those_of_a_plain_forward(
    mgie: LlavaComprehension, images: list, instructions: list[str], before: bool
) -> None:
    comprehension = copy.copy(mgie)
    comprehension.states_before_tokens = before
    tokens = tokens_of(comprehension, instructions, images)
    assert len(set(tokens.attention_mask.sum(dim=1).tolist())) == 3, "rows of different lengths are wanted"
    understood = comprehension(tokens)
    states = plain_states(comprehension, tokens)
    for row in range(3):
        ids = tokens.input_ids[row].tolist()
        first = ids.index(comprehension.edit_token_ids[0])
        assert ids[first : first + 4] == comprehension.edit_token_ids
        start = first - 1 if before else first
        torch.testing.assert_close(
            understood.edit_hidden_states[row], states[row, start : start + 4], atol=1e-6, rtol=1e-5
        )


@torch.no_grad()
def test_the_states_before_predict_the_tokens(mgie: LlavaComprehension, images: list, instructions: list[str]) -> None:
    """Their cross-entropy against the edit tokens is the edit tokens' part of the language loss."""
    tokens = tokens_of(mgie, instructions, images)
    is_edit = torch.isin(tokens.input_ids, torch.tensor(mgie.edit_token_ids))
    understood = mgie(replace(tokens, labels=tokens.input_ids.masked_fill(~is_edit, -100)))
    logits = mgie.stock.lm_head(understood.edit_hidden_states).flatten(0, 1)
    wanted = torch.tensor(mgie.edit_token_ids).repeat(3)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, wanted), understood.lm_loss)


@torch.no_grad()
@pytest.mark.parametrize("options", [MGIE, {}])
def test_embeddings_are_the_tokens_rows(
    load: Callable[..., LlavaComprehension], images: list, instructions: list[str], options: dict
) -> None:
    comprehension = load(**options)
    for parameter in comprehension.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.3)
    understood = comprehension(tokens_of(comprehension, instructions, images))
    assert understood.edit_embeddings.shape == (4, comprehension.hidden_size)
    assert torch.equal(understood.edit_embeddings, comprehension.edit_embeddings)
    merged, _ = comprehension.merge().values()
    rows = merged.get_input_embeddings().weight[comprehension.edit_token_ids]
    torch.testing.assert_close(understood.edit_embeddings, rows, atol=1e-6, rtol=0)
    assert len(rows.unique(dim=0)) == 4


def test_a_row_that_begins_with_an_edit_token(mgie: LlavaComprehension) -> None:
    tokens = mgie.tokenize(["Remove the dog."], None)
    length = int(tokens.attention_mask.sum())
    cut = replace(
        tokens,
        input_ids=tokens.input_ids[:, length - 4 :],
        attention_mask=tokens.attention_mask[:, length - 4 :],
        labels=None,
    )
    with pytest.raises(ValueError, match="a row begins with an edit token, and there is no state before it"):
        mgie(cut)


def test_all_rows_train_and_nothing_else(
    load: Callable[..., LlavaComprehension], images: list, instructions: list[str]
) -> None:
    comprehension = load(**MGIE)
    trained = {name: p for name, p in comprehension.named_parameters() if p.requires_grad}
    assert list(trained) == ["mllm.model.language_model.embed_tokens.weight", "mllm.lm_head.weight"]
    comprehension(tokens_of(comprehension, instructions, images)).lm_loss.backward()
    embedded, head = (p.grad.abs().sum(dim=1) > 0 for p in trained.values())
    assert head.all()  # every word competes with the right one
    assert embedded[comprehension.edit_token_ids[:-1]].all()  # nothing follows the last one
    assert embedded.sum() > 20, "old words in the texts learn too"


def test_tied_tables_train_as_one(load: Callable[..., LlavaComprehension], tied_folder: str) -> None:
    comprehension = load(tied_folder, **MGIE)
    trained = [name for name, p in comprehension.named_parameters() if p.requires_grad]
    assert trained == ["mllm.model.language_model.embed_tokens.weight"]
    assert comprehension.stock.lm_head.weight is comprehension.stock.get_input_embeddings().weight


def test_lora_goes_with_all_rows(
    load: Callable[..., LlavaComprehension], images: list, instructions: list[str], tmp_path: Path
) -> None:
    comprehension = load(**{**MGIE, "lora": LoraConfig(dropout=0.0)})
    trained = {name: p for name, p in comprehension.named_parameters() if p.requires_grad}
    others = {name for name in trained if "lora_" not in name}
    assert {name.rpartition("model.")[2] for name in others} == {"embed_tokens.weight", "lm_head.weight"}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.normal_(0, 0.3)
    mllm, processor = comprehension.merge().values()
    assert type(mllm) is LlavaForConditionalGeneration
    mllm.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = load(tmp_path, **MGIE)
    tokens = tokens_of(comprehension, instructions, images)
    ours, theirs = comprehension(tokens), again(tokens)
    torch.testing.assert_close(ours.edit_hidden_states, theirs.edit_hidden_states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.edit_embeddings, theirs.edit_embeddings)
    torch.testing.assert_close(ours.lm_loss, theirs.lm_loss, atol=1e-5, rtol=1e-5)


def test_merging_a_stock_model_leaves_it_as_it_is(mgie: LlavaComprehension) -> None:
    merged, _ = mgie.merge().values()
    assert merged is not mgie.mllm
    assert torch.equal(merged.lm_head.weight, mgie.stock.lm_head.weight)
    assert not any(p.requires_grad for p in merged.parameters())
    assert mgie.stock.lm_head.weight.requires_grad


def test_an_adapter_does_not_hold_whole_tables(load: Callable[..., LlavaComprehension], tmp_path: Path) -> None:
    comprehension = load(**{**MGIE, "lora": LoraConfig()})
    with pytest.raises(ValueError, match=r"trains embed_tokens and lm_head whole .*save the merged model"):
        save_adapter(comprehension.mllm, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_tables_stay_wide_over_half_precision_layers(
    load: Callable[..., LlavaComprehension], images: list, instructions: list[str]
) -> None:
    comprehension = load(**MGIE, dtype=torch.bfloat16)
    tables = [p for p in comprehension.parameters() if p.requires_grad]
    assert {p.dtype for p in tables} == {torch.float32}
    assert comprehension.stock.model.language_model.norm.weight.dtype == torch.bfloat16
    understood = comprehension(tokens_of(comprehension, instructions, images))
    understood.lm_loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in tables)
    assert len(comprehension.generate_text(instructions, images, 4)) == 3
    full = load(**MGIE)(tokens_of(comprehension, instructions, images))
    torch.testing.assert_close(understood.lm_loss, full.lm_loss, atol=0.05, rtol=0)


def test_four_bit_layers_under_whole_tables_merge_in_floating_point(load: Callable[..., LlavaComprehension]) -> None:
    pytest.importorskip("bitsandbytes")
    comprehension = load(**MGIE, quantization="4bit")
    names = {type(m).__name__ for m in comprehension.stock.model.language_model.modules()}
    assert "Linear4bit" in names
    merged, _ = comprehension.merge().values()
    assert all(p.is_floating_point() for p in merged.parameters())
    assert "Linear4bit" not in {type(m).__name__ for m in merged.modules()}


def test_no_sequence_of_tokens_comes_twice(
    load: Callable[..., LlavaComprehension], images: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    comprehension = load(**MGIE)
    answers, generate = [], comprehension.stock.generate

    def watched(**options: object) -> object:
        made = generate(**options)
        answers.append(made.sequences)
        return made

    monkeypatch.setattr(comprehension.stock, "generate", watched)
    for size in (0, 3):
        comprehension.generate_text(["Turn blue."], images[:1], 40, size)
    free, limited = (answer[0].tolist() for answer in answers)
    asked = next(i for i in range(len(free)) if free[i] != limited[i])  # from here on they differ
    new = free[-40:]
    assert repeats(new, 3), "an untrained model is expected to repeat itself"
    assert not repeats(limited[-40:], 3)
    assert asked >= len(free) - 40


def repeats(items: list, size: int) -> bool:
    """Whether a run of `size` items occurs twice."""
    runs = [tuple(items[start : start + size]) for start in range(len(items) - size + 1)]
    return len(set(runs)) < len(runs)
