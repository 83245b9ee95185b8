"""The two models: LLaVA, which describes, and a summariser of the flan-t5 kind, which shortens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from data_recipes.expressive.texts import SUMMARY_PROMPT, question
from insightedit.modeling.pretrained import load_pretrained

BEAMS = 5
SUMMARY_TOKENS = (5, 64)
NO_REPEAT = 3


class Describer:
    """A frozen LLaVA that says, greedily, what a picture will look like after an edit.

    Args:
        model: folder, hub id or miniature:SIZE/llava, in the stock format.
        device: where it runs.
        dtype: of its weights.
        max_new_tokens: longest answer, in tokens.
    """

    def __init__(self, model: str, *, device: str, dtype: torch.dtype, max_new_tokens: int) -> None:
        from insightedit.comprehension.llava import LlavaComprehension
        from insightedit.modeling.model_ids import resolve_model_id

        # whole tables instead of wrapped rows: nothing trains here, and this is the stock model, unwrapped
        comprehension = LlavaComprehension.from_pretrained(
            resolve_model_id(model), num_edit_tokens=1, train_embeddings=True, dtype=dtype
        )
        self.comprehension = comprehension.requires_grad_(False).to(device)
        self.max_new_tokens = max_new_tokens

    def __call__(self, instructions: Sequence[str], pictures: Sequence[np.ndarray]) -> list[str]:
        """B instructions and B pictures (H, W, 3) uint8 -> B answers."""
        questions = [question(instruction) for instruction in instructions]
        return self.comprehension.generate_text(questions, list(pictures), self.max_new_tokens)


class Summariser:
    """An encoder-decoder language model that shortens a paragraph.

    Five beams, 5 to 64 tokens, no three tokens in a row twice.

    Args:
        model: folder or hub id of a T5-shaped model that follows instructions.
        device: where it runs.
        dtype: of its weights.
    """

    def __init__(self, model: str, *, device: str, dtype: torch.dtype) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.tokenizer: Any = load_pretrained(AutoTokenizer, model)
        loaded: Any = load_pretrained(AutoModelForSeq2SeqLM, model, dtype=dtype)
        self.model = loaded.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[str]:
        """B paragraphs -> B summaries, each in one line."""
        prompts = [SUMMARY_PROMPT.format(text=text) for text in texts]
        read = self.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        shortest, longest = SUMMARY_TOKENS
        written = self.model.generate(
            input_ids=read.input_ids.to(self.model.device),
            attention_mask=read.attention_mask.to(self.model.device),
            num_beams=BEAMS,
            do_sample=False,
            min_length=shortest,
            max_length=longest,
            no_repeat_ngram_size=NO_REPEAT,
        )
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]
