"""Grounding DINO and SAM: where in a picture a phrase is, and which pixels belong to it."""

from __future__ import annotations

from dataclasses import dataclass

XYXY = tuple[float, float, float, float]  # left, top, right, bottom in pixels, not rounded


@dataclass(frozen=True)
class Detection:
    """A box that a detector found."""

    phrase: str  # which of the phrases it was found by
    box: XYXY
    score: float  # 0 to 1
