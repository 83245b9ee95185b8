"""Both tokenizers read everything and survive the stock loading path."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer, CLIPTokenizer

from insightedit.miniatures.tokenizer import (
    interleaved_corpus,
    small_corpus,
    train_clip_tokenizer,
    train_llava_tokenizer,
    train_t5_tokenizer,
)

SENTENCES = ["Replace the left dog with a Zebra 42 ü.", "It's blue; add the café 狐!", *small_corpus()[::50]]


def test_llava_tokenizer_agrees_with_its_sentencepiece_model(tiny_root: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_root / "llava")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tiny_root / "llava" / "tokenizer.model"))
    for sentence in SENTENCES:
        assert tokenizer(sentence, add_special_tokens=False).input_ids == reference.encode(sentence)


def test_llava_tokenizer_reads_back_what_it_wrote(tiny_root: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_root / "llava")
    for sentence in SENTENCES:
        ids = tokenizer(sentence).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == sentence


def test_llava_special_tokens_have_ids_of_their_own(tiny_root: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_root / "llava")
    ids = tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<pad>", "<image>"])
    assert ids == [0, 1, 2, len(tokenizer) - 2, len(tokenizer) - 1]
    assert tokenizer("a<image>b", add_special_tokens=False).input_ids.count(ids[-1]) == 1


def test_clip_tokenizer_marks_begin_and_end_and_pads_with_the_end(tiny_root: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tiny_root / "clip")
    ids = tokenizer(["a dog", " ".join(["dog"] * 50)], padding="max_length", truncation=True).input_ids
    assert [len(row) for row in ids] == [16, 16]
    assert all(row[0] == tokenizer.bos_token_id and row[-1] == tokenizer.eos_token_id for row in ids)
    assert ids[0].count(tokenizer.eos_token_id) == 13


def test_clip_tokenizer_covers_every_character(tiny_root: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tiny_root / "clip", model_max_length=200)
    for sentence in SENTENCES:
        ids = tokenizer(sentence).input_ids
        assert tokenizer.eos_token_id not in ids[1:-1], "an unknown character became the end token"
        read = tokenizer.decode(ids, skip_special_tokens=True)
        assert read.replace(" ", "") == sentence.lower().replace(" ", "")


def test_vocabularies_that_cannot_hold_all_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size must be at least 320 .* got 300"):
        train_llava_tokenizer(small_corpus(), tmp_path, 300)
    with pytest.raises(ValueError, match="vocab_size must be at least 514 .* got 500"):
        train_clip_tokenizer(small_corpus(), tmp_path, 500, 16)


def test_words_of_the_tasks_with_pictures_become_pieces_of_their_own(tmp_path: Path) -> None:
    sentences = interleaved_corpus(60)
    assert sentences == interleaved_corpus(60) != interleaved_corpus(60, seed=1)
    assert not any("<imagehere>" in sentence for sentence in sentences), "a text encoder never gets the marks"
    assert sentences.count("Draw a new picture:") == 6
    tokenizer = train_t5_tokenizer(sentences, tmp_path, 512)
    for word in ("background", "picture", "left", "bottom"):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
