"""What the runner of data recipes costs beside the steps: milliseconds a record, and memory over many records.

    python benchmarks/recipes_runner.py                # 20,000 records of 128 px
    python benchmarks/recipes_runner.py 2000 64

The step makes a pair of a photo by swapping two halves, which takes next to nothing; everything else is the runner's:
reading, batches, checks, PNG, parquet, digests, counts, contact sheets, card and statistics. Bars: 5 ms a record, and
as much memory at the end as after the first tenth.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.runner.config import OutputConfig, RecipeConfig
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.progress import ProgressReporter
from data_recipes.runner.records import Record
from data_recipes.runner.run import run_recipe
from data_recipes.runner.steps import Context, EachRecord

ABOUT = "Halves of pictures change places."
BAR_MS = 5.0
BAR_GROWTH = 1.1


class Photos:
    """Smooth pictures with a little noise: they pack like photographs, not like noise or flat colour."""

    def __init__(self, config: InputConfig) -> None:
        rng = np.random.default_rng(0)
        ramps = np.linspace(0, 200, config.size)
        smooth = (ramps[:, None, None] * rng.random(3) + ramps[None, :, None] * rng.random(3)) / 2
        self.pictures = [(smooth + rng.integers(0, 8, smooth.shape) + offset).astype(np.uint8) for offset in range(40)]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> Record:
        return Record(f"{index:07d}", image=np.roll(self.pictures[index % 40], index, axis=1))


@dataclass
class Swap(EachRecord):
    """Left and right change places."""

    name = "swap"

    def one(self, record: Record, context: Context) -> Record:
        """A pair."""
        assert record.image is not None
        half = record.image.shape[1] // 2
        mask = np.zeros(record.image.shape[:2], bool)
        mask[:, half:] = True
        words = {"template": ("let left and right change places",)}
        return record.but(
            task="edit", source=record.image, target=np.roll(record.image, half, axis=1), mask=mask, instructions=words
        )


def steps(settings: Any) -> list[Swap]:
    """The recipe."""
    return [Swap()]


class Memory(ProgressReporter):
    """Notes the peak of memory after every tenth of the units."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: list[float] = []

    def begin(self, inputs: int, units: int, steps: Sequence[str]) -> None:
        """See `ProgressReporter`."""
        self.units = units

    def unit_done(self, report: Any) -> None:
        """See `ProgressReporter`."""
        self.done += 1
        if self.done % max(1, self.units // 10) == 0:
            self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(count: int = 20_000, size: int = 128) -> None:
    """Measure and tell."""
    source = InputConfig(kind="benchmarks.recipes_runner:Photos", size=size, count=count)
    with tempfile.TemporaryDirectory() as place:
        output = OutputConfig(path=str(Path(place) / "out"), shard_size=200)
        config = RecipeConfig(recipe="benchmarks.recipes_runner", source=source, output=output)
        watch = Memory()
        began = time.perf_counter()
        processor = time.process_time()
        manifest = run_recipe(config, watch)
        wall = (time.perf_counter() - began) / count * 1000
        spent = (time.process_time() - processor) / count * 1000
        written = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    assert manifest["pairs"] == count
    own = _steps_alone(size)
    growth = watch.peaks[-1] / watch.peaks[0]
    told = [
        f"{count:,} records of {size} px, {written:,.0f} MB",
        f"{wall:.2f} ms a record by the clock, {spent:.2f} ms of the processor, of which input and step {own:.2f} ms",
        f"overhead {spent - own:.2f} ms a record (bar: {BAR_MS} ms)",
        "peak memory in MB after each tenth: " + " ".join(f"{peak:.0f}" for peak in watch.peaks),
        f"last / first: {growth:.3f} (bar: {BAR_GROWTH})",
    ]
    sys.stdout.write("\n".join(told) + "\n")
    sys.exit(0 if spent - own <= BAR_MS and growth <= BAR_GROWTH else 1)


def _steps_alone(size: int, count: int = 500) -> float:
    """Milliseconds a record without the runner."""
    photos, step = Photos(InputConfig(size=size)), Swap()
    began = time.process_time()
    for index in range(count):
        step.one(photos[index], Context(0, "swap", {}))
    return (time.process_time() - began) / count * 1000


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(*map(int, sys.argv[1:]))
