"""How many pairs a second one core renders and writes.

python benchmarks/scenes_throughput.py --seconds 5
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs without an installation

from data_recipes.scenes.writer import FORMATS, SceneDataSettings, write_dataset
from insightedit.scenes import SceneSampler

BARS = {64: 150, 128: 60}  # pairs a second, written


def rendered(size: int, seconds: float) -> float:
    """Pairs a second of processor time: source, target, mask and all texts."""
    sampler = SceneSampler("train", size)
    _ = sampler[0].mask  # the first sample opens the pictures
    start = time.process_time()
    for done in count(1):
        sample = sampler[done]
        _ = sample.mask, sample.expressive_instruction, sample.caption_target, sample.qa()
        if (spent := time.process_time() - start) >= seconds:
            return done / spent
    raise AssertionError("count() does not end")


def written(size: int, pairs: int, file_format: str) -> float:
    """Pairs a second of processor time, rendered, packed and written to disk."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "warm", SceneDataSettings("train", 2, size, format=file_format))
        settings = SceneDataSettings("train", pairs, size, format=file_format)
        start = time.process_time()
        write_dataset(Path(folder) / "out", settings)
        return pairs / (time.process_time() - start)


def main(
    seconds: Annotated[float, typer.Option(help="Processor time of each measurement.")] = 3.0,
    pairs: Annotated[int, typer.Option(help="Pairs to write at each size and format.")] = 500,
) -> None:
    """Measure in processor time, so that other work on the machine counts little."""
    for size, bar in BARS.items():
        typer.echo(f"{size} px: {rendered(size, seconds):.0f} pairs/s rendered")
        for file_format in FORMATS:
            speed = written(size, pairs, file_format)
            typer.echo(f"{size} px: {speed:.0f} pairs/s written as {file_format} (bar: {bar})")


if __name__ == "__main__":
    typer.run(main)
