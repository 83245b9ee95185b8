from __future__ import annotations

import copy
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from insightedit.comprehension.edit_tokens import edit_token_parameters
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.comprehension.lora import attach, load_adapter, merge, save_adapter
from insightedit.config.schema import LoraConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _scatter(comprehension: LlavaComprehension) -> LlavaComprehension:
    """Random adapters, as training would leave them."""
    with torch.no_grad():
        for parameter in comprehension.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3)
    return comprehension


def test_llava_1_5_7b_has_the_papers_number_of_lora_parameters() -> None:
    with torch.device("meta"):
        mllm = LlavaForConditionalGeneration(LlavaConfig())
        model = attach(mllm, list(range(32002, 32034)), LoraConfig())
    assert sum(p.numel() for name, p in model.named_parameters() if "lora_" in name) == 4_194_304
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 4_194_304 + 2 * 32 * mllm.config.text_config.hidden_size


def test_what_trains_and_under_which_names(comprehension: LlavaComprehension) -> None:
    trained = [name for name, p in comprehension.named_parameters() if p.requires_grad]
    assert all(fnmatch(name, "*lora_*") or fnmatch(name, "*trainable_tokens_delta*") for name in trained)
    assert (
        sum("lora_" in name for name, _ in comprehension.named_parameters()) == 2 * 2 * 2
    )  # layers, q and v, A and B
    assert len(edit_token_parameters(comprehension)) == 2
    assert len(trained) == 8 + 2
    assert not any("vision_tower" in name for name in trained)


def test_without_lora_the_rows_train_alone(load: Callable[..., LlavaComprehension]) -> None:
    comprehension = load(lora=None)
    trained = [name for name, p in comprehension.named_parameters() if p.requires_grad]
    assert trained == list(edit_token_parameters(comprehension))
    assert len(trained) == 2


def test_unknown_target_names_the_layers_there_are(llava_folder: str) -> None:
    mllm = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    with pytest.raises(ValueError, match=r"target_modules is \['query'\].*q_proj"):
        attach(mllm, [3], LoraConfig(target_modules=["query"]))


def test_a_name_is_matched_whole(llava_folder: str) -> None:
    mllm = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    with pytest.raises(ValueError, match="none of which"):
        attach(mllm, [3], LoraConfig(target_modules=["proj"]))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lora", [LoraConfig(), None])
def test_merged_computes_the_same_and_is_stock(
    load: Callable[..., LlavaComprehension],
    llava_folder: str,
    tied_folder: str,
    tmp_path: Path,
    images: list,
    instructions: list[str],
    lora: LoraConfig | None,
    tied: bool,
) -> None:
    trained = _scatter(load(tied_folder if tied else llava_folder, lora=lora))
    assert len(edit_token_parameters(trained)) == (1 if tied else 2)
    tokens = trained.tokenize(instructions, images)
    mllm, processor = trained.merge().values()
    assert type(mllm) is LlavaForConditionalGeneration
    mllm.save_pretrained(tmp_path / "export")
    processor.save_pretrained(tmp_path / "export")
    loaded = load(tmp_path / "export", lora=None)

    assert loaded.edit_token_ids == trained.edit_token_ids
    again = loaded.tokenize(instructions, images)
    assert torch.equal(again.input_ids, tokens.input_ids)
    theirs, ours = trained(tokens), loaded(again)
    torch.testing.assert_close(ours.edit_hidden_states, theirs.edit_hidden_states, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.lm_loss, theirs.lm_loss, atol=1e-5, rtol=0)
    stock = LlavaComprehension(mllm, processor, num_edit_tokens=4)
    torch.testing.assert_close(stock(tokens).edit_hidden_states, ours.edit_hidden_states)


def test_merging_leaves_the_trained_model_as_it_is(load: Callable[..., LlavaComprehension]) -> None:
    comprehension = _scatter(load())
    before = copy.deepcopy(comprehension.state_dict())
    comprehension.merge()
    after = comprehension.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_merging_a_stock_model_copies_it(llava_folder: str) -> None:
    mllm = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    merged = merge(mllm)
    assert merged is not mllm
    assert torch.equal(merged.lm_head.weight, mllm.lm_head.weight)


def test_adapter_round_trip(load: Callable[..., LlavaComprehension], tmp_path: Path) -> None:
    trained, fresh = _scatter(load()), load()
    save_adapter(trained.mllm, tmp_path)
    load_adapter(fresh.mllm, tmp_path)
    wanted = {n: p for n, p in trained.named_parameters() if p.requires_grad}
    loaded = {n: p for n, p in fresh.named_parameters() if p.requires_grad}
    assert wanted.keys() == loaded.keys()
    assert all(torch.equal(wanted[name], loaded[name]) for name in wanted)


def test_an_adapter_that_does_not_fit_is_refused(load: Callable[..., LlavaComprehension], tmp_path: Path) -> None:
    save_adapter(load(lora=LoraConfig(rank=4)).mllm, tmp_path)
    with pytest.raises(ValueError, match="does not fit this model"):
        load_adapter(load().mllm, tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no adapter_model.safetensors"):
        load_adapter(load().mllm, tmp_path / "nowhere")


def test_rows_of_a_half_precision_model_train_in_full_precision(load: Callable[..., LlavaComprehension]) -> None:
    comprehension = load(dtype=torch.bfloat16)
    assert {p.dtype for p in comprehension.parameters() if p.requires_grad} == {torch.float32}
    before = {name: p.detach().clone() for name, p in edit_token_parameters(comprehension).items()}
    optimizer = torch.optim.SGD([p for p in comprehension.parameters() if p.requires_grad], lr=1e-6)
    comprehension(comprehension.tokenize(["Remove the dog."], None)).lm_loss.backward()
    optimizer.step()
    for name, parameter in edit_token_parameters(comprehension).items():
        assert not torch.equal(before[name], parameter)
