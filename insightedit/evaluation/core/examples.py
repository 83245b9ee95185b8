"""Which samples go on the contact sheet: chosen by rule, and kept while the rest streams past."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Example:
    """One sample with its pictures.

    Attributes:
        record: the sample's line of the records.
        source: (H, W, 3) uint8; of a new picture, the empty backdrop.
        output: (H, W, 3) uint8.
        target: (H, W, 3) uint8.
        references: pictures (h, w, 3) uint8 that stand in the instruction.
        is_new: whether the picture is drawn from blank.
    """

    record: dict[str, Any]
    source: np.ndarray
    output: np.ndarray
    target: np.ndarray
    references: tuple[np.ndarray, ...] = ()
    is_new: bool = False


@dataclass
class ExampleKeeper:
    """Keeps the worst samples (lowest relative progress) and random ones (lowest seeded hash of the id).

    Attributes:
        num_worst: samples kept as worst.
        num_random: samples kept as random.
        seed: of the hash.
    """

    num_worst: int = 8
    num_random: int = 16
    seed: int = 0
    _worst: list[tuple[float, str, Example]] = field(default_factory=list)
    _random: list[tuple[float, str, Example]] = field(default_factory=list)

    def offer(self, example: Example) -> None:
        """Keep the sample if it belongs on the sheet."""
        name = example.record["sample_id"]
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        self._push(self._worst, self.num_worst, (-float(example.record["progress"]), name, example))
        self._push(self._random, self.num_random, (-int.from_bytes(digest[:6], "big"), name, example))

    @staticmethod
    def _push(heap: list[tuple[float, str, Example]], size: int, entry: tuple[float, str, Example]) -> None:
        if len(heap) < size:
            heapq.heappush(heap, entry)
        elif heap and entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)

    @property
    def worst(self) -> tuple[Example, ...]:
        """Worst first."""
        return tuple(entry[2] for entry in sorted(self._worst, key=lambda entry: entry[:2], reverse=True))

    @property
    def random(self) -> tuple[Example, ...]:
        """In the order of the hash."""
        return tuple(entry[2] for entry in sorted(self._random, key=lambda entry: entry[:2], reverse=True))
