"""How long scoring takes without any model: rendering, candidates, control rows, details.

python benchmarks/scenes_scoring.py --count 60
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs without an installation

from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate

if TYPE_CHECKING:
    from insightedit.scenes import EditSample

SCENES = 600
BAR = 60  # seconds for so many scenes at 128 px on two cores


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Rounded and clipped to uint8."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def blurred(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An autoencoder that loses the finest details: about 32 dB at 128 px."""
    return [to_bytes(ndimage.gaussian_filter(p.astype(np.float32), (0.5, 0.5, 0))) for p in pictures]


def right(samples: Sequence[EditSample]) -> list[np.ndarray]:
    """The targets through the autoencoder."""
    return blurred([sample.target for sample in samples])


def half_way(samples: Sequence[EditSample]) -> list[np.ndarray]:
    """Half-way blends: nothing explains them, so the search for what they show goes on longest."""
    return [to_bytes((sample.source.astype(np.float32) + sample.target) / 2) for sample in samples]


def main(
    count: Annotated[int, typer.Option(min=1, help="Scenes of each measurement.")] = 60,
    size: Annotated[int, typer.Option(min=16, help="Pixels of a side.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements; the fastest counts.")] = 3,
) -> None:
    """Measure in processor time of one core, so that other work on the machine counts less."""
    evaluate(right, SceneSet(2, size), round_trip=blurred)  # the first samples open the pictures
    for name, edit_fn in (("right edits", right), ("half-way edits", half_way)):
        spent = []
        for _ in range(repeats):
            start = time.process_time()
            report = evaluate(edit_fn, SceneSet(count, size), round_trip=blurred)
            spent.append((time.process_time() - start) / count)
        seconds = min(spent)
        typer.echo(
            f"{name}, {size} px, {len(report.rows)} rows: {1000 * seconds:.0f} ms a scene, {SCENES} scenes in "
            f"{SCENES * seconds:.0f} s of one core (bar: {BAR} s on two)"
        )


if __name__ == "__main__":
    typer.run(main)
