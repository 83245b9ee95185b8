"""Comprehension: a stock multimodal language model that reads picture and instruction."""

from __future__ import annotations

from insightedit.comprehension.llava import LlavaComprehension
from insightedit.comprehension.tokenization import EditTokenizer

__all__ = ["EditTokenizer", "LlavaComprehension"]
