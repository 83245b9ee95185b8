"""A further benchmark, whole in one file: `words.txt`, an instruction a line, beside `0.png`, `1.png`, ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.core.protocol import MetricRule, Protocol


class Toy:
    CARD = Card("toy", "The toy benchmark", "nobody's", "Write it.", "CC0-1.0", "words.txt 0.png 1.png ...")
    PROTOCOLS = (
        Protocol(
            name="toy_v1",
            title="How near it stays",
            source="nobody's",
            benchmarks=("toy",),
            rules=(MetricRule(name="L1", measure="l1", reference="source", better="lower"),),
        ),
    )

    def samples(self, folder: Path, split: str) -> Iterator[BenchmarkSample]:
        for number, words in enumerate((folder / "words.txt").read_text().splitlines()):
            yield BenchmarkSample(str(number), words, source=folder / f"{number}.png")
