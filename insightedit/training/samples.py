"""The same few edits, drawn again and again during a run: source | edited | target, with the instruction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from insightedit.datasets.mixture import BROKEN, leaves
from insightedit.datasets.sources import SCENE_SOURCES, build_source, num_records
from insightedit.files import write_atomically
from insightedit.images.sheets import GridCell, draw_grid
from insightedit.model.build import comprehension_class

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.training.trainer_state import TrainerState

logger = logging.getLogger(__name__)
CELL = 192  # pixels a side of one picture in the grid


@dataclass
class SampleLogger:
    """A callback that draws the fixed samples, with the averaged weights where there are some."""

    folder: Path  # gets `step-XXXXXX.png`
    every: int  # steps between two images; the last step has one, too
    edit_fn: Callable[[Sequence[Any]], list[np.ndarray]]  # samples -> one (H, W, 3) uint8 image each
    samples: Sequence[Any]  # objects with `source`, `target` and `instruction`
    _told: bool = False

    def after_step(self, state: TrainerState, *, last: bool, saved: bool) -> None:
        """Draw where a picture is due."""
        if last or state.step % self.every == 0:
            self._draw(state)

    def resumed(self, state: TrainerState, *, last: bool) -> None:
        """Draw what a kill after the checkpoint left undrawn."""
        due = (last or state.step % self.every == 0) and state.processes.is_main
        # the main one alone sees the folder, and all have to draw, or none
        if state.processes.largest(int(due and not self._path(state.step).exists())):
            self._draw(state)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.png"

    def _draw(self, state: TrainerState) -> None:
        if state.engine.partitioned:
            if state.processes.is_main and not self._told:
                logger.warning("no samples are drawn: ZeRO-3 keeps no process with all the weights")
            self._told = True
            return
        if state.processes.is_main:
            with state.eval_mode():
                edited = self.edit_fn(self.samples)
            draw_samples(self.samples, edited, self._path(state.step))
        state.processes.barrier()


def fixed_samples(config: Config) -> list[Any]:
    """The first `train.num_samples` records that a stage's own sources hold, rendered ones from the split `val`.

    Where instructions carry pictures, all sources take turns, because each is another task. Objects with `source` and
    `target` (H, W, 3) uint8, `instruction` and `reference_images`; `source` is None on a blank canvas.
    """
    draws_from_blank = comprehension_class(config).reads_references
    found: list[list[Any]] = []
    for entry in leaves(config.data.sources):
        held_out = replace(entry, split="val") if entry.kind in SCENE_SOURCES else entry
        source = build_source(held_out, size=config.generation.resolution, seed=config.train.seed)
        found.append([])
        for index in range(min(config.train.num_samples, num_records(source))):
            with suppress(*BROKEN):  # while training, the mixture skips and names those
                record = source[index]
                if record.target_image is not None and (record.source_image is not None or draws_from_blank):
                    found[-1].append(
                        SimpleNamespace(
                            source=record.source_image,
                            target=record.target_image,
                            instruction=record.instruction,
                            reference_images=record.reference_images,
                        )
                    )
        if found[-1] and not draws_from_blank:
            break
    turns = chain.from_iterable(zip_longest(*found))
    return [sample for sample in turns if sample is not None][: config.train.num_samples]


def draw_samples(samples: Sequence[Any], edited: Sequence[np.ndarray], path: Path) -> None:
    """Write a PNG with a row for each of the `fixed_samples`: source (or reference), edited, target, instruction.

    `edited` has one (H, W, 3) uint8 image per sample. Where a target is None, all are drawn without.
    """
    if len(edited) != len(samples):
        raise ValueError(f"{len(samples)} samples came back as {len(edited)} edited pictures: there must be one each.")
    columns = 3 if all(sample.target is not None for sample in samples) else 2
    cells = []
    for sample, image in zip(samples, edited, strict=True):
        given = sample.reference_images[0] if sample.source is None else sample.source
        shown = (given, image, sample.target)[:columns]
        tiles = tuple(Image.fromarray(one).resize((CELL, CELL), Image.Resampling.BICUBIC) for one in shown)
        cells.append(GridCell(tiles, sample.instruction))
    grid = draw_grid(" | ".join(("source", "edited", "target")[:columns]), cells, tiles_in_row=columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as aside:
        grid.save(aside, format="PNG")
