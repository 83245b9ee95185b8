"""The tokenizers, trained from text in seconds and saved in the formats of LLaVA-1.5, of CLIP and of T5.

LLaVA: a sentencepiece BPE model with byte fallback, read by the stock `LlamaTokenizer`, plus `<image>` and `<pad>`.
CLIP: lower-cased byte-level BPE with `</w>` word ends, read by the stock `CLIPTokenizer`.
T5: a sentencepiece unigram model, read by the stock `T5Tokenizer`, plus its sentinels.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer, LlamaTokenizer, T5Tokenizer

from insightedit.modeling.pretrained import load_pretrained

IMAGE_TOKEN = "<image>"
PAD_TOKEN = "<pad>"
WORD_END = "</w>"
T5_SENTINELS = 4  # stock T5 has 100; nothing here uses them
CLIP_BOS = "<|startoftext|>"
CLIP_EOS = "<|endoftext|>"
# The pre-tokenizer of OpenAI's CLIP without its special tokens (transformers.CLIPTokenizer).
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def scenes_corpus(count: int = 4_000, seed: int = 0) -> list[str]:
    """Sentences of every kind the miniature models read or write: about ten of each of `count` scenes.

    Then each conversation template of the package, repeated so that its words count.
    """
    from insightedit.comprehension.prompts import all_template_texts
    from insightedit.scenes import text_corpus

    templates = [text.replace(IMAGE_TOKEN, " ") for text in all_template_texts()]
    return [*text_corpus(count, seed), *templates * max(1, count // 10 // max(1, len(templates)))]


def interleaved_corpus(count: int = 1_000, seed: int = 0) -> list[str]:
    """Sentences of the tasks whose instructions carry pictures, as the text encoder gets them: without the marks.

    Three of each of `count` samples of both tasks, then the sentence that names each task, as often as it has to count.
    """
    from insightedit.comprehension.prompts import TASK_PREFIXES
    from insightedit.scenes import subject_corpus
    from insightedit.types import REFERENCE_PLACEHOLDER

    sentences = [text.replace(REFERENCE_PLACEHOLDER, " ") for text in subject_corpus(count, seed)]
    return [*sentences, *list(TASK_PREFIXES.values()) * max(1, count // 10)]


def small_corpus() -> list[str]:
    """A few hundred fixed sentences for the `tiny` size, so that tests do not depend on any recipe."""
    actions = ("Remove", "Add", "Make bigger", "Replace", "Make smaller", "Turn blue", "Move")
    sides = ("left", "right", "top left", "bottom right", "middle", "top", "bottom")
    things = ("dog", "cat", "fox", "apple", "car", "tree", "bird", "chair", "red ball", "green cup", "fish")
    sentences = [f"{a} the {s} {t}." for a, s, t in itertools.product(actions, sides, things)]
    sentences += [
        f"A picture with a {a} on the left and a {b} on the right." for a, b in itertools.product(things, things)
    ]
    sentences += [f"USER: What is at the {s}? ASSISTANT: The {t}." for s, t in itertools.product(sides, things)]
    return sentences


def train_llava_tokenizer(sentences: Sequence[str], folder: str | Path, vocab_size: int) -> LlamaTokenizer:
    """Train LLaVA's tokenizer and save it as a stock Llama tokenizer folder.

    Unknown 0, begin 1, end 2, then pieces, then `<image>` and `<pad>`, at most `vocab_size` in all. Characters that the
    sentences lack are covered by byte fallback.
    """
    if vocab_size < 320:
        raise ValueError(f"vocab_size must be at least 320 (256 bytes, special tokens, letters), got {vocab_size}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    _train_sentencepiece(sentences, folder / "tokenizer.model", "bpe", vocab_size - 2, settings)
    reading = {"model_max_length": 1024, "padding_side": "left", "add_bos_token": True, "add_eos_token": False}
    tokenizer = load_pretrained(LlamaTokenizer, folder, legacy=False, **reading)
    tokenizer.add_special_tokens({"pad_token": PAD_TOKEN, "additional_special_tokens": [IMAGE_TOKEN]})
    tokenizer.save_pretrained(folder)
    return tokenizer


def train_clip_tokenizer(
    sentences: Iterable[str], folder: str | Path, vocab_size: int, model_max_length: int
) -> CLIPTokenizer:
    """Train CLIP's tokenizer and save it as `vocab.json`, `merges.txt` and `tokenizer.json`.

    256 bytes, 256 bytes at a word's end, merges, begin, end, at most `vocab_size` in all; the end token also pads, as
    in CLIP. `model_max_length` counts begin and end, too.
    """
    if vocab_size < 514:
        raise ValueError(f"vocab_size must be at least 514 (256 bytes twice, begin, end), got {vocab_size}")
    merges = _clip_merges(sentences, vocab_size - 514)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {token: index for index, token in enumerate([*dict.fromkeys(tokens), CLIP_BOS, CLIP_EOS])}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=WORD_END).save(str(folder))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)
    tokenizer.save_pretrained(folder)
    return tokenizer


def train_t5_tokenizer(sentences: Sequence[str], folder: str | Path, vocab_size: int) -> T5Tokenizer:
    """Train T5's tokenizer and save it as a stock T5 tokenizer folder.

    Padding 0, end 1, unknown 2, then pieces, then the sentinels, at most `vocab_size` in all. Characters that the
    sentences lack become the unknown token, as in T5.
    """
    if vocab_size < 128:
        raise ValueError(f"vocab_size must be at least 128 (letters and special tokens), got {vocab_size}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "spiece.model"
    settings = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    _train_sentencepiece(sentences, model, "unigram", vocab_size - T5_SENTINELS, settings)
    tokenizer = load_pretrained(T5Tokenizer, folder, extra_ids=T5_SENTINELS)
    tokenizer.save_pretrained(folder)
    model.unlink()  # tokenizer.json says it all, and how many sentinels there are
    return tokenizer


def _train_sentencepiece(sentences: Sequence[str], path: Path, kind: str, vocab_size: int, settings: Any) -> None:
    """One thread, so that the same text gives the same bytes."""
    with path.open("wb") as model_writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model_writer,
            model_type=kind,
            vocab_size=vocab_size,
            split_digits=True,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
            **settings,
        )


def _clip_merges(sentences: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The `count` most useful merges of CLIP's byte-level BPE."""
    if count == 0:
        return []
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=count + 512,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(sentences, trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in learned[:count]]
