from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from insightedit.comprehension.base import Comprehension
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.config.schema import LoraConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _grads(comprehension: LlavaComprehension) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in comprehension.named_parameters() if p.grad is not None}


def test_shapes(comprehension: LlavaComprehension, images: list, instructions: list[str]) -> None:
    understood = comprehension(comprehension.tokenize(instructions, images))
    assert understood.edit_hidden_states.shape == (3, comprehension.num_edit_tokens, comprehension.hidden_size)
    assert understood.image_features.shape == (3, 16, comprehension.vision_hidden_size)
    assert understood.lm_loss.shape == ()


def test_forward_is_the_stock_models_forward(
    comprehension: LlavaComprehension, images: list, instructions: list[str]
) -> None:
    mllm, processor = comprehension.merge().values()
    tokens = comprehension.tokenize(instructions, images)
    understood = LlavaComprehension(mllm, processor, num_edit_tokens=4)(tokens)
    theirs = mllm(**vars(tokens), output_hidden_states=True)
    torch.testing.assert_close(understood.lm_loss, theirs.loss)
    is_edit = torch.isin(tokens.input_ids, torch.tensor(comprehension.edit_token_ids))
    last = theirs.hidden_states[-1][is_edit].reshape(3, 4, -1)
    torch.testing.assert_close(understood.edit_hidden_states, last)
    # the last layer is taken after the final norm: it is what lm_head turns into logits
    torch.testing.assert_close(mllm.lm_head(last), theirs.logits[is_edit].reshape(3, 4, -1))
    vision = mllm.model.vision_tower(tokens.pixel_values, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(understood.image_features, vision[:, 1:])


def test_the_vision_tower_runs_once(comprehension: LlavaComprehension, images: list) -> None:
    calls = []
    tower = comprehension.stock.model.vision_tower
    hook = tower.register_forward_hook(lambda *_: calls.append(1))
    comprehension(comprehension.tokenize(["x"] * 3, images))
    hook.remove()
    assert len(calls) == 1


def test_text_only(comprehension: LlavaComprehension) -> None:
    understood = comprehension(comprehension.tokenize(["A picture.", "A dog on the left."], None, caption=True))
    assert understood.image_features is None
    assert understood.edit_hidden_states.shape == (2, 4, 48)
    assert torch.isfinite(understood.lm_loss)


def test_a_batch_is_its_rows(comprehension: LlavaComprehension, images: list, instructions: list[str]) -> None:
    batch = comprehension(comprehension.tokenize(instructions, images))
    for row, (instruction, image) in enumerate(zip(instructions, images, strict=True)):
        single = comprehension(comprehension.tokenize([instruction], [image]))
        torch.testing.assert_close(single.edit_hidden_states[0], batch.edit_hidden_states[row])
        torch.testing.assert_close(single.image_features[0], batch.image_features[row])


def test_picture_and_words_both_reach_the_edit_tokens(comprehension: LlavaComprehension, images: list) -> None:
    states = comprehension(comprehension.tokenize(["the dog", "the cat"], [images[0]] * 2)).edit_hidden_states
    assert (states[0] - states[1]).abs().max() > 1e-4
    states = comprehension(comprehension.tokenize(["the dog"] * 2, images[:2])).edit_hidden_states
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_no_labels_no_loss(comprehension: LlavaComprehension) -> None:
    tokens = replace(comprehension.tokenize(["x"], None), labels=None)
    assert comprehension(tokens).lm_loss is None


def test_bfloat16_autocast_on_the_cpu(load: Callable[..., LlavaComprehension], images: list) -> None:
    comprehension = load()
    tokens = comprehension.tokenize(["the dog"] * 3, images)
    exact = comprehension(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = comprehension(tokens)
    torch.testing.assert_close(rough.edit_hidden_states.float(), exact.edit_hidden_states, atol=0.1, rtol=0.1)
    (rough.lm_loss + rough.edit_hidden_states.float().mean()).backward()
    assert all(torch.isfinite(grad).all() for grad in _grads(comprehension).values())
    assert rough.lm_loss.dtype == torch.float32


def test_gradient_checkpointing_changes_nothing_but_memory(
    load: Callable[..., LlavaComprehension], images: list
) -> None:
    comprehension = load(lora=LoraConfig(dropout=0.0)).train()
    tokens = comprehension.tokenize(["the dog"] * 3, images)

    def gradients() -> dict[str, torch.Tensor]:
        comprehension.zero_grad()
        understood = comprehension(tokens)
        (understood.lm_loss + understood.edit_hidden_states.square().mean()).backward()
        return {name: grad.clone() for name, grad in _grads(comprehension).items()}

    plain = gradients()
    comprehension.enable_gradient_checkpointing()
    layers, calls = comprehension.stock.model.language_model.layers, []
    hook = layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    checkpointed = gradients()
    hook.remove()
    assert len(calls) == 2  # once forward, once again in the backward pass
    assert plain.keys() == checkpointed.keys()
    assert len(plain) == 10
    for name, grad in plain.items():
        torch.testing.assert_close(checkpointed[name], grad)


def test_rows_without_all_edit_tokens_are_refused(comprehension: LlavaComprehension) -> None:
    tokens = comprehension.tokenize(["x", "y"], None)
    ids = tokens.input_ids.clone()
    ids[1, -1] = 5
    with pytest.raises(ValueError, match=r"rows hold \[4, 3\] edit tokens, each needs 4"):
        comprehension(replace(tokens, input_ids=ids))


def test_placeholders_and_patches_must_agree(comprehension: LlavaComprehension, images: list) -> None:
    tokens = comprehension.tokenize(["x"], images[:1])
    with pytest.raises(ValueError, match="16 image placeholders in the batch for 2 pictures of 16 patches"):
        comprehension(replace(tokens, pixel_values=tokens.pixel_values.repeat(2, 1, 1, 1)))


def test_a_stock_model_without_edit_tokens_is_refused(llava_folder: str) -> None:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    mllm = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    with pytest.raises(ValueError, match="no token '<img_0>': load the model with"):
        LlavaComprehension(mllm, AutoProcessor.from_pretrained(llava_folder), num_edit_tokens=4)


def test_vision_feature_layer_is_the_callers(load: Callable[..., LlavaComprehension], images: list) -> None:
    last, earlier = load(), load(vision_feature_layer=-2)
    tokens = last.tokenize(["x"] * 3, images)
    hidden = last.stock.model.vision_tower(tokens.pixel_values, output_hidden_states=True).hidden_states
    torch.testing.assert_close(last(tokens).image_features, hidden[-1][:, 1:])
    torch.testing.assert_close(earlier(tokens).image_features, hidden[-2][:, 1:])
    assert earlier.merge()["mllm"].config.vision_feature_layer == -2


def test_several_vision_layers_are_refused(comprehension: LlavaComprehension) -> None:
    mllm, processor = comprehension.merge().values()
    mllm.config.vision_feature_layer = [-1, -2]
    with pytest.raises(ValueError, match="set comprehension.vision_feature_layer to one number"):
        LlavaComprehension(mllm, processor, num_edit_tokens=4)


def test_full_strategy_keeps_the_class_token_for_the_language_model_only(
    comprehension: LlavaComprehension, images: list
) -> None:
    mllm, processor = comprehension.merge().values()
    mllm.config.vision_feature_select_strategy = processor.vision_feature_select_strategy = "full"
    full = LlavaComprehension(mllm, processor, num_edit_tokens=4)
    tokens = full.tokenize(["x"] * 3, images)
    assert int((tokens.input_ids == mllm.config.image_token_id).sum()) == 3 * 17
    assert full(tokens).image_features.shape == (3, 16, 32)


def test_generated_text_is_greedy_and_never_holds_edit_tokens(
    load: Callable[..., LlavaComprehension], images: list
) -> None:
    comprehension = load().train()
    with torch.no_grad():  # edit tokens would win every step if they were allowed to
        comprehension.stock.lm_head.token_adapter.trainable_tokens_delta["default"].mul_(0).add_(50.0)
    questions = ["What is at the top left?", "What is it?", "Remove the dog."]
    texts = comprehension.generate_text(questions, images, max_new_tokens=6)
    assert texts == comprehension.generate_text(questions, images, max_new_tokens=6)
    assert texts == [
        comprehension.generate_text([q], [i], max_new_tokens=6)[0] for q, i in zip(questions, images, strict=True)
    ]
    assert all(text and "<i" not in text and text == text.strip() for text in texts)
    assert comprehension.training
    assert comprehension.generate_text(["What is it?"], None, max_new_tokens=3)


def test_generated_text_ends_where_drawing_begins(load: Callable[..., LlavaComprehension], images: list) -> None:
    comprehension = load()
    rows = comprehension.stock.lm_head.token_adapter.trainable_tokens_delta["default"]
    endings = []
    for sign in (1, -1):  # one of them makes an edit token the likeliest, whatever the states' signs are
        torch.nn.init.constant_(rows, 500.0 * sign)
        first = comprehension.generate_text(["What is it?"], images[:1], max_new_tokens=1)
        endings.append(comprehension.generate_text(["What is it?"], images[:1], max_new_tokens=8) == first)
    assert any(endings)
    torch.nn.init.zeros_(rows)
    longer = comprehension.generate_text(["What is it?"], images[:1], max_new_tokens=8)
    assert longer != comprehension.generate_text(["What is it?"], images[:1], max_new_tokens=1)


def test_an_answer_tells_how_likely_each_of_its_tokens_was(
    load: Callable[..., LlavaComprehension], images: list
) -> None:
    comprehension = load()
    tokenizer = comprehension.processor.tokenizer
    questions, forbidden = ["What is at the top left?", "What is it?"], [*comprehension.edit_token_ids[1:]]
    forbidden += [comprehension.stock.config.image_token_id]
    together = comprehension.answer(questions, images[:2], max_new_tokens=5)
    for question, image, answer in zip(questions, images, together, strict=False):
        (alone,) = comprehension.answer([question], [image], max_new_tokens=5)
        assert alone.text == answer.text
        assert answer.log_probs == pytest.approx(alone.log_probs, abs=1e-4)
        tokens = comprehension.tokenizer.tokenize_questions([question], [image])
        ids, expected = tokens.input_ids, []
        for position in range(len(alone.log_probs)):  # one forward pass a token, by hand
            logits = comprehension.stock(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=tokens.pixel_values
            ).logits[0, -1]
            logits[forbidden] = -torch.inf
            if position == 0:  # an answer has a token at least
                logits[[tokenizer.eos_token_id, comprehension.edit_token_ids[0]]] = -torch.inf
            log_probs = logits.detach().log_softmax(dim=0)
            expected.append(float(log_probs.max()))
            ids = torch.cat([ids, log_probs.argmax()[None, None]], dim=1)
        assert alone.log_probs == pytest.approx(expected, abs=1e-4)
        assert all(value < 0 for value in expected)


def test_what_writes_nothing_says_so() -> None:
    class Silent(LlavaComprehension):
        answer = Comprehension.answer

    with pytest.raises(NotImplementedError, match="Silent writes no words: take a model whose language model answers"):
        Silent.generate_text(Silent.__new__(Silent), ["What is it?"], None)


def test_unknown_quantization(load: Callable[..., LlavaComprehension]) -> None:
    with pytest.raises(ValueError, match="quantization is '2bit'; it is one of none, 4bit, 8bit"):
        load(quantization="2bit")


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA whose layers are as wide as one block of 4-bit quantisation, 64."""
    from insightedit.miniatures.builders import build
    from insightedit.miniatures.sizes import get_size

    size = get_size("tiny")
    return build(
        replace(size, llava=replace(size.llava, hidden_size=64, ffn_dim=128)), tmp_path_factory.mktemp("wide")
    )


@pytest.mark.filterwarnings("default")  # bitsandbytes announces its casts
def test_any_width_is_quantised_on_the_cpu(load: Callable[..., LlavaComprehension], images: list) -> None:
    """bitsandbytes' fast path, which is for evaluation alone, wants whole blocks: "N must be divisible by block_n"."""
    pytest.importorskip("bitsandbytes")
    comprehension = load(quantization="4bit").eval()
    with torch.no_grad():
        states = comprehension(comprehension.tokenize(["the dog"], images[:1])).edit_hidden_states
    assert states.isfinite().all()


@pytest.mark.parametrize(
    ("quantization", "layer", "tolerance"), [("4bit", "Linear4bit", 1e-5), ("8bit", "Linear8bitLt", 0.1)]
)
@pytest.mark.filterwarnings("default")  # bitsandbytes announces its casts
def test_quantised_on_the_cpu(
    load: Callable[..., LlavaComprehension],
    wide_folder: Path,
    images: list,
    quantization: str,
    layer: str,
    tolerance: float,
) -> None:
    pytest.importorskip("bitsandbytes")
    comprehension = load(wide_folder / "llava", quantization=quantization)
    kinds = {name: type(module).__name__ for name, module in comprehension.stock.named_modules()}
    quantised = [name for name, kind in kinds.items() if kind == layer and not name.endswith("base_layer")]
    assert len(quantised) == 2 * 7
    assert all("language_model.layers" in name for name in quantised)

    tokens = comprehension.tokenize(["the dog"] * 3, images)
    understood = comprehension(tokens)
    (understood.lm_loss + understood.edit_hidden_states.square().mean()).backward()
    assert len(_grads(comprehension)) == 10
    with torch.no_grad():
        for name, parameter in comprehension.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    merged = LlavaComprehension(**comprehension.merge(), num_edit_tokens=4)
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    theirs = comprehension(tokens).edit_hidden_states
    torch.testing.assert_close(merged(tokens).edit_hidden_states, theirs, atol=tolerance, rtol=0)
    assert comprehension.generate_text(["What is it?"], images[:1], max_new_tokens=2) is not None
