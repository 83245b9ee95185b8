"""MGIE's summariser: an encoder-decoder model of the flan-t5 kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from data_recipes.backends.base import Question
from data_recipes.backends.loading import DTYPES, CountedBackend, check_above, check_choice, model_name, place

if TYPE_CHECKING:
    from data_recipes.expressive.models import Summariser


class Seq2SeqSummariser(CountedBackend):
    """Shortens the paragraph that a question is about, with the published beams and lengths.

    Args:
        model: hub id or folder of a T5-shaped model that follows instructions; the published one needs about 22 GB,
            google/flan-t5-large 2 GB.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is bfloat16 on a GPU and float32 elsewhere.
        batch_size: paragraphs at a time.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        model: str = "jordiclive/flan-t5-11b-summarizer-filtered",
        *,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 8,
    ) -> None:
        check_choice("dtype", dtype, DTYPES)
        check_above("batch_size", batch_size)
        super().__init__(model_name(model, None), {"dtype": dtype})
        self._model_id, self._device, self._batch_size = model, device, batch_size

    @cached_property
    def _summariser(self) -> Summariser:
        from data_recipes.expressive.models import Summariser

        device, dtype = place(self._device, self.settings["dtype"])
        return Summariser(self._model_id, device=str(device), dtype=dtype)

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
        texts = [str(question.about["text"]) for question in questions]
        found: list[str] = []
        with self.timed(len(texts)):
            for start in range(0, len(texts), self._batch_size):
                part = texts[start : start + self._batch_size]
                found += self._summariser(part)
                self.count(asked=len(part))
        return found
