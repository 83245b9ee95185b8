"""Scenes of plain squares, small and exact: what evaluation is tested on without a renderer."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

SIZE = 32
GROUND, RED, GREEN, BLUE = (120, 120, 120), (220, 40, 40), (40, 200, 60), (40, 60, 220)
BOXES = ((slice(4, 14), slice(3, 13)), (slice(16, 26), slice(19, 29)))


def paint(colours: dict[int, tuple[int, int, int]], size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8: grey ground, one square per entry."""
    picture = np.full((size, size, 3), GROUND, dtype=np.uint8)
    picture += np.arange(size, dtype=np.uint8)[:, None, None]  # a slope, so that no two rows are equal
    for index, colour in colours.items():
        picture[BOXES[index]] = colour
    return picture


@dataclass(frozen=True)
class ToySample:
    """Recolour one of two red squares."""

    instructed: int = 0
    colour: tuple[int, int, int] = GREEN
    task: str = "recolour"
    category: str = "left_right"
    style: str = "simple"
    template_id: str = "toy"
    references: tuple[np.ndarray, ...] = ()
    instruction: str = "make the left square green"
    source: np.ndarray = field(default_factory=lambda: paint({0: RED, 1: RED}))

    @property
    def target(self) -> np.ndarray:
        return self._painted(self.instructed, self.colour)

    def _painted(self, index: int, colour: tuple[int, int, int]) -> np.ndarray:
        return paint({0: RED, 1: RED} | {index: colour})

    def candidates(self) -> dict[str, np.ndarray]:
        return {
            "source": self.source,
            "target": self.target,
            "wrong_object:0": self._painted(1 - self.instructed, self.colour),
            "wrong_colour:blue": self._painted(self.instructed, BLUE),
        }

    @property
    def scene(self) -> SimpleNamespace:
        return SimpleNamespace(objects=BOXES)

    @property
    def edit(self) -> SimpleNamespace:
        return SimpleNamespace(targets=(self.instructed,))

    def object_mask(self, number: int) -> np.ndarray:
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[BOXES[number]] = True
        return mask


class ToySampler:
    """Left and right in turn."""

    def __getitem__(self, index: int) -> ToySample:
        if index % 2:
            return ToySample(instructed=1, instruction=f"make the right square green, {index}", category="plain")
        return ToySample(instruction=f"make the left square green, {index}")

    def pair(self, index: int) -> tuple[ToySample, ToySample]:
        return self[2 * index], self[2 * index + 1]
