"""MGIE's summariser: an encoder-decoder model of the flan-t5 kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

from data_recipes.backends.base import Question
from data_recipes.backends.loading import LocalModel
from insightedit.modeling.pretrained import load_pretrained


@dataclass(eq=False)
class Seq2SeqSummariser(LocalModel):
    """Shortens the paragraph that a question is about: five beams, 5 to 64 tokens, no three in a row twice."""

    # T5-shaped, follows instructions; the published one needs about 22 GB, google/flan-t5-large 2 GB
    model: str = "jordiclive/flan-t5-11b-summarizer-filtered"
    _: KW_ONLY
    batch_size: int = 8  # paragraphs at a time

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer, loaded when they are first asked for."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        device, dtype = self.place()
        tokenizer = load_pretrained(AutoTokenizer, self.model, revision=self.revision)
        model = load_pretrained(AutoModelForSeq2SeqLM, self.model, revision=self.revision, dtype=dtype)
        return model.requires_grad_(False).eval().to(device), tokenizer

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions about `text` -> B summaries, each in one line.

        Raises:
            ValueError: if a question is about no text.
        """
        for question in questions:
            if "text" not in question.about:
                raise ValueError(
                    f"a summariser was asked for {question.task or 'something'!r}: it only shortens texts, take it "
                    "for backends.summariser."
                )
        found: list[str] = []
        with self.timed(len(questions)):
            for start in range(0, len(questions), self.batch_size):
                part = questions[start : start + self.batch_size]
                model, tokenizer = self.loaded
                read = tokenizer([one.prompt for one in part], padding=True, truncation=True, return_tensors="pt")
                written = model.generate(
                    input_ids=read.input_ids.to(model.device),
                    attention_mask=read.attention_mask.to(model.device),
                    num_beams=5,
                    do_sample=False,
                    min_length=5,
                    max_length=64,
                    no_repeat_ngram_size=3,
                )
                texts = tokenizer.batch_decode(written, skip_special_tokens=True)
                found += [" ".join(text.split()) for text in texts]
                self.count(asked=len(part))
        return found
