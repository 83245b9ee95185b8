"""Edit tokens: name, add, initialise, find. Theirs are the rows of the vocabulary that train, unless all do (MGIE).

The R edit tokens `<img_0> ... <img_{R-1}>` are appended to every reply; the language model's states at them carry
the edit. Ids are always looked up in the tokenizer. The rows are trained by peft's `trainable_token_indices`
(see `lora.attach`), which keeps the old rows out of the optimiser altogether; with `comprehension.train_embeddings`
both tables train whole.

Source: SmartEdit, section 3.1 (r new tokens); new rows start as the mean of the old ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EDIT_TOKEN = "<img_{index}>"


def edit_token_names(edit_token: str, num_edit_tokens: int) -> list[str]:
    """Names of the R edit tokens, in order, by a pattern with `{index}`.

    Raises:
        ValueError: if the pattern has no `{index}` or R is not positive.
    """
    if "{index}" not in edit_token:
        raise ValueError(
            f"edit_token is {edit_token!r}; it must hold `{{index}}` so that every token has its own name: "
            f"set comprehension.edit_token to e.g. {EDIT_TOKEN!r}."
        )
    if num_edit_tokens < 1:
        raise ValueError(
            f"num_edit_tokens is {num_edit_tokens}; the bridge reads at least one state: "
            "set comprehension.num_edit_tokens to 1 or more."
        )
    return [edit_token.format(index=index) for index in range(num_edit_tokens)]


def find_edit_tokens(tokenizer: PreTrainedTokenizerBase, edit_token: str, num_edit_tokens: int) -> list[int] | None:
    """Ids of the edit tokens, or None where the tokenizer has none of them.

    Raises:
        ValueError: if the tokenizer was made for another number of edit tokens.
    """
    vocabulary = tokenizer.get_vocab()
    names = edit_token_names(edit_token, num_edit_tokens)
    known = 0
    while edit_token.format(index=known) in vocabulary:
        known += 1
    if known == 0:
        return None
    if known != num_edit_tokens:
        raise ValueError(
            f"num_edit_tokens is {num_edit_tokens}, but this model was made with {known} edit tokens "
            f"({names[0]} ...): set comprehension.num_edit_tokens: {known}, or start from a model without them."
        )
    return [vocabulary[name] for name in names]


def add_edit_words(tokenizer: PreTrainedTokenizerBase, edit_token: str, num_edit_tokens: int) -> list[int]:
    """Make sure a tokenizer, changed in place, knows the edit tokens; gives their ids. As `find_edit_tokens`."""
    found = find_edit_tokens(tokenizer, edit_token, num_edit_tokens)
    if found is not None:
        return found
    names = edit_token_names(edit_token, num_edit_tokens)
    new_tokens: list[str | AddedToken] = [AddedToken(name, special=True, normalized=False) for name in names]
    tokenizer.add_tokens(new_tokens, special_tokens=True)
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[name] for name in names]


def add_edit_tokens(
    mllm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, edit_token: str, num_edit_tokens: int
) -> list[int]:
    """Make sure tokenizer and model know the edit tokens.

    Tokens that are already there keep their rows. New ones are added as special tokens, and their rows in
    `embed_tokens` and `lm_head` become the mean of the rows in use before. Tables that are padded beyond the
    tokenizer (LLaVA-1.5: 32,064 rows for 32,002 tokens) are used as they are, shorter ones grow.

    Both are changed in place; gives the R ids, in order.

    Raises:
        ValueError: if the tokenizer was made for another number of edit tokens.
    """
    found = find_edit_tokens(tokenizer, edit_token, num_edit_tokens)
    if found is not None:
        return found
    used_rows = sorted(set(tokenizer.get_vocab().values()))
    ids = add_edit_words(tokenizer, edit_token, num_edit_tokens)
    num_rows = vocabulary_tables(mllm)[0].shape[0]
    used_rows = [row for row in used_rows if row < num_rows]
    if max(ids) >= num_rows:
        mllm.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for table in vocabulary_tables(mllm):
        _fill_with_mean(table, ids, used_rows)
    return ids


def vocabulary_tables(mllm: PreTrainedModel) -> list[Tensor]:
    """`embed_tokens.weight` and `lm_head.weight`, each (V, D); one entry where they are tied."""
    embeddings: Any = mllm.get_input_embeddings()
    head: Any = mllm.get_output_embeddings()
    return [embeddings.weight] if head.weight is embeddings.weight else [embeddings.weight, head.weight]


def edit_token_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained rows by name, each (R, D): one for `embed_tokens`, one for `lm_head` (none where tied).

    Stage files select them with the pattern `*trainable_tokens_delta*`.
    """
    return {name: p for name, p in model.named_parameters() if "trainable_tokens_delta" in name}


@torch.no_grad()
def _fill_with_mean(table: Tensor, rows: list[int], used_rows: list[int]) -> None:
    # in float32: a mean over 32,000 half-precision rows would lose most of its digits
    mean = table[used_rows].float().mean(dim=0)
    table[rows] = mean.to(table.dtype)
