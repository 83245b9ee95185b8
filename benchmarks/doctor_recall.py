"""What the pair doctor finds of planted faults, and what it says of good pairs.

python benchmarks/doctor_recall.py --count 600
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs without an installation

from data_recipes.doctor.examine import Doctor
from data_recipes.doctor.findings import Diagnosis
from data_recipes.runner.records import Record
from insightedit.images.reading import read_rgb
from insightedit.scenes import SceneSampler

QUALITIES = (None, 90, 75)  # of JPEG; None = lossless
WORSE = 8  # a copy of the source is compressed so much more
MARGIN = 32  # pixels


def compressed(picture: np.ndarray, quality: int | None) -> np.ndarray:
    """A picture as it comes back from a JPEG file."""
    if quality is None:
        return picture
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return read_rgb(file)


def moved(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture shifted by up to a twelfth of its side, its border mirrored."""
    side = len(picture)
    across, down = 0, 0
    while (across, down) == (0, 0):
        across, down = (int(step) for step in rng.integers(-side // 12, side // 12 + 1, 2))
    wide = np.pad(picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
    return wide[MARGIN - down : MARGIN - down + side, MARGIN - across : MARGIN - across + side]


def main(
    count: Annotated[int, typer.Option(min=1, help="Pairs of each measurement.")] = 600,
    size: Annotated[int, typer.Option(min=16, help="Pixels of a side.")] = 128,
) -> None:
    """Pairs of the split val: as they are, exchanged, with a moved target, and with a copy for a target."""
    sampler = SceneSampler("val", size, seed=11, plain=True)
    for quality in QUALITIES:
        doctors = {name: Doctor(Diagnosis(name, "scenes")) for name in ("good", "swapped", "moved", "copies")}
        rng, tasks, swapped = np.random.default_rng(0), Counter[str](), Counter[str]()
        start = time.process_time()
        for index in range(count):
            sample = sampler[index]
            source, target = compressed(sample.source, quality), compressed(sample.target, quality)
            good = Record(
                str(index),
                task="edit",
                source=source,
                target=target,
                mask=sample.mask,
                instructions={"simple": (sample.instruction,)},
                notes={"task": sample.task},
            )
            copy = compressed(sample.source, None if quality is None else quality - WORSE)
            doctors["good"].take(good, "", "val")
            doctors["moved"].take(
                good.but(target=compressed(moved(sample.target, rng), quality), mask=None), "", "val"
            )
            doctors["copies"].take(good.but(target=copy, mask=None), "", "val")
            before = len(doctors["swapped"].diagnosis.findings)
            doctors["swapped"].take(good.but(source=target, target=source), "", "val")
            new = doctors["swapped"].diagnosis.findings[before:]
            tasks[sample.task] += 1
            swapped[sample.task] += any(finding.fault == "swapped" for finding in new)
        spent = 1000 * (time.process_time() - start) / count / len(doctors)
        found = {name: dict(doctor.diagnosis.counts) for name, doctor in doctors.items()}
        typer.echo(
            f"{'lossless' if quality is None else f'JPEG {quality}'}, {size} px: {spent:.1f} ms a pair, rendering "
            f"included; good pairs with a finding: {sum(found['good'].values())} of {count}"
        )
        typer.echo(f"  swapped: {', '.join(f'{task} {swapped[task]} of {tasks[task]}' for task in tasks)}")
        typer.echo(f"  moved: {found['moved']}; copies: {found['copies']}, of {count} each")


if __name__ == "__main__":
    typer.run(main)
