"""What detectors find."""

from __future__ import annotations

from dataclasses import dataclass

XYXY = tuple[float, float, float, float]  # left, top, right, bottom in pixels, not rounded


@dataclass(frozen=True)
class Detection:
    """A box that a detector found.

    Attributes:
        phrase: which of the phrases it was found by.
        box: left, top, right, bottom in pixels, not rounded.
        score: 0 to 1.
    """

    phrase: str
    box: XYXY
    score: float
