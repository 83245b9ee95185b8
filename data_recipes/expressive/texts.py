"""What the language model is asked, and which part of its answer is kept."""

from __future__ import annotations

import re

QUESTION = "What will the picture look like after this edit: {instruction} (in a short paragraph)"
SUMMARY_PROMPT = "Summarise the following paragraph in 32 words:\n\n{text}"
SENTENCES = 2
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SECOND_THOUGHT = re.compile(r"alternative", re.IGNORECASE)


def question(instruction: str) -> str:
    """What LLaVA is asked about a picture."""
    return QUESTION.format(instruction=" ".join(instruction.split()))


def cut_answer(answer: str) -> str:
    """The first two sentences, and nothing from the word "alternative" on, where another edit would begin.

    Args:
        answer: what the language model wrote.

    Returns:
        One line that ends like a sentence; empty where nothing is left.
    """
    before = _SECOND_THOUGHT.split(" ".join(answer.split()), maxsplit=1)[0]
    kept = " ".join(_SENTENCE_END.split(before.strip())[:SENTENCES]).rstrip(" ,;:-")
    if not re.search(r"\w", kept):
        return ""
    return kept if kept[-1] in ".!?" else f"{kept}."
