from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from insightedit.comprehension.edit_tokens import (
    add_edit_tokens,
    edit_token_names,
    edit_token_parameters,
    find_edit_tokens,
    vocabulary_tables,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from insightedit.comprehension.llava import LlavaComprehension


@pytest.fixture
def stock(llava_folder: str) -> tuple[LlavaForConditionalGeneration, Any]:
    model = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    return model, AutoProcessor.from_pretrained(llava_folder).tokenizer


def test_new_rows_are_the_mean_of_the_old_and_the_old_stay(stock: tuple) -> None:
    model, tokenizer = stock
    before = [table.detach().clone() for table in vocabulary_tables(model)]
    ids = add_edit_tokens(model, tokenizer, "<img_{index}>", 5)
    assert ids == tokenizer.convert_tokens_to_ids([f"<img_{i}>" for i in range(5)])
    assert len(before) == 2
    for old, new in zip(before, vocabulary_tables(model), strict=True):
        assert new.shape[0] == max(ids) + 1
        assert torch.equal(new[: len(old)], old)
        torch.testing.assert_close(new[ids], old.mean(dim=0).expand(5, -1))
    assert model.config.get_text_config().vocab_size == max(ids) + 1


def test_padding_rows_are_used_first_and_do_not_count_in_the_mean(stock: tuple) -> None:
    model, tokenizer = stock
    num_used = len(tokenizer)
    model.resize_token_embeddings(num_used + 8)
    with torch.no_grad():
        for table in vocabulary_tables(model):
            table[num_used:] = 100.0
    ids = add_edit_tokens(model, tokenizer, "<img_{index}>", 5)
    for table in vocabulary_tables(model):
        assert table.shape[0] == num_used + 8
        torch.testing.assert_close(table[ids], table[:num_used].mean(dim=0).expand(5, -1))
        assert (table[num_used + 5 :] == 100.0).all()


def test_tokens_that_are_there_are_found_not_added(stock: tuple) -> None:
    model, tokenizer = stock
    ids = add_edit_tokens(model, tokenizer, "<img_{index}>", 3)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] = 7.0
    assert add_edit_tokens(model, tokenizer, "<img_{index}>", 3) == ids
    assert (model.get_input_embeddings().weight[ids] == 7.0).all()


@pytest.mark.parametrize("wanted", [2, 4])
def test_another_number_of_edit_tokens_is_refused(stock: tuple, wanted: int) -> None:
    model, tokenizer = stock
    add_edit_tokens(model, tokenizer, "<img_{index}>", 3)
    with pytest.raises(ValueError, match=r"made with 3 edit tokens .* set comprehension.num_edit_tokens: 3"):
        find_edit_tokens(tokenizer, "<img_{index}>", wanted)


def test_edit_tokens_are_one_piece_each_and_vanish_from_decoded_text(stock: tuple) -> None:
    model, tokenizer = stock
    ids = add_edit_tokens(model, tokenizer, "<img_{index}>", 3)
    encoded = tokenizer("the dog<img_0><img_1><img_2>").input_ids
    assert encoded[-3:] == ids
    assert tokenizer.decode(encoded, skip_special_tokens=True) == "the dog"


def test_names() -> None:
    assert edit_token_names("[E{index}]", 2) == ["[E0]", "[E1]"]
    with pytest.raises(ValueError, match=r"must hold `\{index\}`"):
        edit_token_names("<img>", 2)
    with pytest.raises(ValueError, match="num_edit_tokens is 0"):
        edit_token_names("<img_{index}>", 0)


@pytest.mark.parametrize("tied", [False, True])
def test_one_step_moves_the_new_rows_and_nothing_else(
    load: Callable[..., LlavaComprehension],
    llava_folder: str,
    tied_folder: str,
    images: list,
    instructions: list[str],
    tied: bool,
) -> None:
    comprehension = load(tied_folder if tied else llava_folder)
    rows = edit_token_parameters(comprehension)
    assert [p.shape for p in rows.values()] == [(4, 48)] * (1 if tied else 2)
    before = comprehension.merge()["mllm"].state_dict()
    optimizer = torch.optim.AdamW(rows.values(), lr=0.1, weight_decay=0.1)
    understood = comprehension(comprehension.tokenize(instructions, images))
    (understood.lm_loss + understood.edit_hidden_states.square().mean()).backward()
    optimizer.step()
    after = comprehension.merge()["mllm"].state_dict()

    assert before.keys() == after.keys()
    tables = ("model.language_model.embed_tokens.weight", "lm_head.weight")
    for name in tables:
        moved = (before[name] != after[name]).any(dim=1).nonzero().flatten().tolist()
        assert moved == comprehension.edit_token_ids
    assert all(torch.equal(before[name], after[name]) for name in before if name not in tables)
