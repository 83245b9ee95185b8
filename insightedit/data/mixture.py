"""Which record stands at which place: a pure function of (seed, index), so that resume needs one integer."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
from PIL import Image

from insightedit.data.cascade import num_records
from insightedit.data.records import EditRecord
from insightedit.data.sources import Source

logger = logging.getLogger(__name__)
MAX_BROKEN_IN_A_ROW = 100
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, Image.DecompressionBombError)
"""What a record that cannot be used raises: damaged or missing files, missing fields, values of a wrong kind."""


class Mixture:
    """Endless stream of records, drawn from sources by weight.

    Args:
        sources: name -> source.
        weights: name -> relative weight, > 0; normalised here.
        seed: everything about the order follows from it.

    Raises:
        ValueError: if there is no source or a weight is not positive.
    """

    def __init__(self, sources: dict[str, Source], weights: dict[str, float], seed: int) -> None:
        if not sources:
            raise ValueError("data.sources is empty: name at least one source, e.g. [{kind: scenes}].")
        for name in sources:
            if weights[name] <= 0:
                raise ValueError(f"data.sources: weight of `{name}` is {weights[name]}, must be > 0.")
        self.names = list(sources)
        self.sources = sources
        self.probabilities = np.array([weights[n] for n in self.names]) / sum(weights[n] for n in self.names)
        self.seed = seed
        self.broken: Counter[str] = Counter()

    def __getitem__(self, index: int) -> EditRecord:
        """Record `index`; a broken one is skipped, counted and named, and the next draw takes its place."""
        return self.draw(index)[1]

    def draw(self, index: int) -> tuple[str, EditRecord]:
        """(source name, record) of stream position `index`, as `[index]` gives it."""
        for attempt in range(MAX_BROKEN_IN_A_ROW):
            name, position = self.place(index, attempt)
            try:
                return name, self.sources[name][position]
            except BROKEN as error:
                self.broken[name] += 1
                number = position % num_records(self.sources[name])
                logger.warning(
                    "skipped broken record %s of %s (%d so far): %s", number, name, self.broken[name], error
                )
        raise ValueError(
            f"{MAX_BROKEN_IN_A_ROW} broken records in a row (by source: {dict(self.broken)}): "
            "check the paths in data.sources."
        )

    def place(self, index: int, attempt: int = 0) -> tuple[str, int]:
        """(source name, position in it) of stream position `index`."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, (index << 8) + attempt]))
        name = self.names[int(rng.choice(len(self.names), p=self.probabilities))]
        return name, int(rng.integers(len(self.sources[name])))
