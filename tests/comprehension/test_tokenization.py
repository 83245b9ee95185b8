from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.comprehension.prompts import TEMPLATE_SETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from insightedit.comprehension.llava import LlavaComprehension
    from insightedit.types import TokenBatch

EDIT_TEXT = "<img_0><img_1><img_2><img_3>"
NUM_PATCHES = 16


def _text(comprehension: LlavaComprehension, ids: torch.Tensor) -> str:
    return comprehension.processor.tokenizer.decode(ids)


def _valid(tokens: TokenBatch, row: int) -> torch.Tensor:
    return tokens.input_ids[row][tokens.attention_mask[row].bool()]


def test_every_row_is_prompt_reply_and_edit_tokens(
    comprehension: LlavaComprehension, images: list, instructions: list[str]
) -> None:
    tokens = comprehension.tokenize(instructions, images)
    assert tokens.pixel_values is not None
    assert tokens.pixel_values.shape == (3, 3, 32, 32)
    for row, instruction in enumerate(instructions):
        valid = _valid(tokens, row)
        assert valid[-4:].tolist() == comprehension.edit_token_ids
        assert int((valid == comprehension.stock.config.image_token_id).sum()) == NUM_PATCHES
        text = _text(comprehension, valid).replace("<image>", "")
        assert text.endswith(f"\n{instruction} ASSISTANT: The edited picture:{EDIT_TEXT}")


def test_padding_is_on_the_right(comprehension: LlavaComprehension, images: list, instructions: list[str]) -> None:
    tokens = comprehension.tokenize(instructions, images)
    assert (tokens.attention_mask.diff(dim=1) <= 0).all()
    assert (tokens.attention_mask[:, 0] == 1).all()


def test_labels_are_on_reply_and_edit_tokens_only(
    comprehension: LlavaComprehension, images: list, instructions: list[str]
) -> None:
    replies = ["The left dog goes.", None, ""]
    tokens = comprehension.tokenize(instructions, images, replies=replies)
    assert tokens.labels is not None
    spoken = ["The left dog goes.", "The edited picture:", ""]
    for row, reply in enumerate(spoken):
        labelled = tokens.labels[row] != -100
        assert torch.equal(tokens.labels[row][labelled], tokens.input_ids[row][labelled])
        assert _text(comprehension, tokens.labels[row][labelled]).strip() == reply + EDIT_TEXT


def test_captions_are_text_only(comprehension: LlavaComprehension) -> None:
    tokens = comprehension.tokenize(["A picture with a dog."], None, caption=True, template_indices=[1])
    assert tokens.pixel_values is None
    text = _text(comprehension, _valid(tokens, 0))
    assert text.endswith(f"USER: Show a picture: A picture with a dog. ASSISTANT: The picture:{EDIT_TEXT}")


def test_template_indices_choose_the_paraphrase(comprehension: LlavaComprehension) -> None:
    tokens = comprehension.tokenize(["Turn blue."] * 3, None, template_indices=[0, 1, 12])
    assert not torch.equal(_valid(tokens, 0), _valid(tokens, 1))
    assert torch.equal(_valid(tokens, 0), _valid(tokens, 2))


def test_thirty_paraphrases_where_they_are_asked_for(load: Callable[..., LlavaComprehension]) -> None:
    many = load(templates=TEMPLATE_SETS["thirty"])
    tokens = many.tokenize(["Turn blue."] * 31, None, template_indices=list(range(31)))
    texts = [_text(many, _valid(tokens, row)) for row in range(31)]
    assert len(set(texts)) == 30
    assert texts[0] == texts[30]
    captions = many.tokenize(["A dog."] * 30, None, caption=True, template_indices=list(range(30)))
    assert len({_text(many, _valid(captions, row)) for row in range(30)}) == 30


def test_a_chat_ends_with_its_words_and_learns_no_edit_token(comprehension: LlavaComprehension, images: list) -> None:
    eos = comprehension.processor.tokenizer.eos_token
    tokens = comprehension.tokenize(
        ["Turn blue.", "What is red?"],
        images[:2],
        replies=[None, "The dog."],
        chats=[False, True],
        template_indices=[1, 1],
    )
    assert tokens.labels is not None
    spoken = [_text(comprehension, row[row != -100]).strip() for row in tokens.labels]
    assert spoken == [f"The edited picture:{EDIT_TEXT}", f"The dog.{eos}"]
    chat = _text(comprehension, _valid(tokens, 1))
    assert chat.endswith(f"What is red? ASSISTANT: The dog.{eos}{EDIT_TEXT}")
    assert "Edit the picture" not in chat
    assert comprehension(tokens).edit_hidden_states.shape[:2] == (2, 4)


def test_a_long_chat_keeps_its_end_and_its_edit_tokens(comprehension: LlavaComprehension) -> None:
    options = {"replies": ["The dog."], "chats": [True]}
    whole = comprehension.tokenize(["the dog " * 20], None, **options)
    cut = comprehension.tokenize(["the dog " * 20], None, max_length=40, **options)
    assert cut.input_ids.shape[1] == 40 < whole.input_ids.shape[1]
    behind = _text(comprehension, _valid(cut, 0)).rpartition("ASSISTANT:")[2]
    assert behind == f" The dog.{comprehension.processor.tokenizer.eos_token}{EDIT_TEXT}"


def test_a_chat_without_a_reply_is_refused(comprehension: LlavaComprehension) -> None:
    with pytest.raises(ValueError, match="the chat 'What is red\\?' has no reply: give one, or chats=False"):
        comprehension.tokenize(["What is red?"], None, chats=[True])


def test_control_tokens_in_a_text_are_only_characters(comprehension: LlavaComprehension, images: list) -> None:
    tokens = comprehension.tokenize(["Remove <image> and <img_2>\n now </s>"], images[:1], replies=["<img_0> <image>"])
    valid = _valid(tokens, 0)
    assert int((valid == comprehension.stock.config.image_token_id).sum()) == NUM_PATCHES
    assert sum(int((valid == i).sum()) for i in comprehension.edit_token_ids) == 4
    assert comprehension.processor.tokenizer.eos_token_id not in valid
    assert "Remove < image> and < img_2> now < /s> ASSISTANT" in _text(comprehension, valid)
    assert comprehension(tokens).edit_hidden_states.shape == (1, 4, 48)


def test_pictures_are_squeezed_not_cropped(comprehension: LlavaComprehension) -> None:
    wide = np.zeros((16, 64, 3), dtype=np.uint8)
    wide[:, :8] = 255
    pixels = comprehension.tokenize(["x"], [wide]).pixel_values
    assert pixels is not None
    assert (pixels[0, 0, :, :3] > 1).all()
    assert (pixels[0, 0, :, 8:] < 0).all()


def test_a_square_picture_is_prepared_as_the_stock_processor_does(
    comprehension: LlavaComprehension, images: list
) -> None:
    stock = comprehension.processor.image_processor(images[0], return_tensors="pt").pixel_values
    assert torch.equal(comprehension.tokenize(["x"], images[:1]).pixel_values, stock)


def test_pil_and_numpy_are_the_same(comprehension: LlavaComprehension, images: list) -> None:
    pil = [Image.fromarray(image) for image in images]
    ours = comprehension.tokenize(["x"] * 3, pil).pixel_values
    assert torch.equal(ours, comprehension.tokenize(["x"] * 3, images).pixel_values)


@pytest.mark.parametrize("reply", [None, "The dog the dog the dog the dog the dog the dog the dog."])
def test_max_length_cuts_words_never_edit_tokens(
    comprehension: LlavaComprehension, images: list, reply: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    long = "Remove " + "the left dog and " * 20 + "the cat."
    comprehension.tokenizer._warned = False
    with caplog.at_level(logging.WARNING):
        tokens = comprehension.tokenize([long, "Turn blue."], images[:2], replies=[reply, None], max_length=60)
        comprehension.tokenize([long], images[:1], max_length=60)
    assert caplog.text.count("comprehension.max_length") == 1
    assert tokens.input_ids.shape == tokens.labels.shape == tokens.attention_mask.shape == (2, 60)
    valid = _valid(tokens, 0)
    assert valid[-4:].tolist() == comprehension.edit_token_ids
    text = _text(comprehension, valid)
    assert "\nRemove the left dog" in text
    assert "the cat." not in text
    assert (reply or "The edited picture:") in text
    assert _text(comprehension, _valid(tokens, 1)).endswith(f"Turn blue. ASSISTANT: The edited picture:{EDIT_TEXT}")
    assert comprehension(tokens).edit_hidden_states.shape == (2, 4, 48)


def test_the_longer_of_instruction_and_reply_is_cut_first(comprehension: LlavaComprehension) -> None:
    tokens = comprehension.tokenize(["Remove the dog."], None, replies=["the cat and " * 30], max_length=50)
    text = _text(comprehension, _valid(tokens, 0))
    assert "Remove the dog. ASSISTANT: the cat and the cat" in text
    assert text.endswith(EDIT_TEXT)
    assert len(_valid(tokens, 0)) == 50


def test_a_frame_longer_than_max_length_is_refused(comprehension: LlavaComprehension, images: list) -> None:
    with pytest.raises(ValueError, match="longer than max_length 20: raise comprehension.max_length"):
        comprehension.tokenize(["Turn blue."], images[:1], max_length=20)


def test_without_max_length_nothing_is_cut_silently(comprehension: LlavaComprehension) -> None:
    with pytest.raises(ValueError, match="the model reads at most 1024: use a shorter instruction"):
        comprehension.tokenize(["the dog " * 1000], None)


def test_wrong_arguments_are_named(comprehension: LlavaComprehension, images: list) -> None:
    with pytest.raises(ValueError, match="2 instructions but 3 images"):
        comprehension.tokenize(["a", "b"], images)
    with pytest.raises(ValueError, match="1 instructions but 2 replies"):
        comprehension.tokenize(["a"], None, replies=["b", "c"])
    with pytest.raises(ValueError, match="instructions is empty"):
        comprehension.tokenize([], None)
    with pytest.raises(TypeError, match="give a list of texts"):
        comprehension.tokenize("Remove the dog.", None)
    with pytest.raises(ValueError, match="caption=True is text only"):
        comprehension.tokenize(["a"], images[:1], caption=True)
    with pytest.raises(ValueError, match=r"\(32, 32, 3\) float64; numpy pictures are \(H, W, 3\) uint8 RGB"):
        comprehension.tokenize(["a"], [images[0] / 255.0])
    with pytest.raises(TypeError, match="a picture is a str"):
        comprehension.tokenize(["a"], ["dog.png"])


def test_questions_are_padded_on_the_left(comprehension: LlavaComprehension, images: list) -> None:
    tokens = comprehension.tokenizer.tokenize_questions(["What is it?", "What is at the top left?", "Why?"], images)
    assert tokens.labels is None
    assert (tokens.attention_mask.diff(dim=1) >= 0).all()
    assert (tokens.attention_mask[:, -1] == 1).all()
    assert _text(comprehension, _valid(tokens, 0)).endswith("\nWhat is it? ASSISTANT:")


def test_the_tokenizer_travels_to_a_worker_without_weights(comprehension: LlavaComprehension, images: list) -> None:
    pickled = pickle.dumps(comprehension.tokenizer)
    tokens = pickle.loads(pickled).tokenize(["Turn blue."], images[:1])
    assert torch.equal(tokens.input_ids, comprehension.tokenize(["Turn blue."], images[:1]).input_ids)
    assert len(pickled) < 1_000_000
