"""The same few edits, drawn again and again during a run: source | edited | target, with the instruction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from insightedit.files import write_atomically
from insightedit.images.sheets import GridCell, draw_grid

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.datasets.sources import Source
    from insightedit.training.trainer_state import TrainerState
    from insightedit.types import EditRecord

logger = logging.getLogger(__name__)
EditFn = Callable[[Sequence[Any]], list[np.ndarray]]
CELL = 192  # pixels a side of one picture in the grid


@dataclass
class SampleLogger:
    """A callback that draws the fixed samples, with the averaged weights where there are some.

    Attributes:
        folder: gets `step-XXXXXX.png`.
        every: steps between two pictures; the last step has one, too.
        edit_fn: samples -> one (H, W, 3) uint8 picture each.
        samples: objects with `source`, `target` and `instruction`.
    """

    folder: Path
    every: int
    edit_fn: EditFn
    samples: Sequence[Any]
    _told: bool = False

    def after_step(self, state: TrainerState, *, last: bool, saved: bool) -> None:
        """Draw where a picture is due."""
        if last or state.step % self.every == 0:
            self._draw(state)

    def resumed(self, state: TrainerState, *, last: bool) -> None:
        """Draw what a kill after the checkpoint left undrawn."""
        due = (last or state.step % self.every == 0) and state.processes.is_main
        if state.processes.any(due and not self._path(state.step).exists()):
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

    Where instructions carry pictures, all sources take turns, because each is another task.

    Returns:
        Objects with `source` and `target` (H, W, 3) uint8, `instruction` and `reference_images`; empty where no
        source has pictures. `source` is None for what is drawn on a blank canvas.
    """
    from itertools import chain, zip_longest

    from insightedit.datasets.mixture import leaves
    from insightedit.datasets.sources import SCENE_SOURCES, build_source
    from insightedit.model.build import comprehension_class

    draws_from_blank = comprehension_class(config).reads_references
    found: list[list[Any]] = []
    for entry in leaves(config.data.sources):
        held_out = type(entry)(**{**vars(entry), "split": "val"}) if entry.kind in SCENE_SOURCES else entry
        source = build_source(held_out, size=config.generation.resolution, seed=config.train.seed)
        records = _whole_records(source, config.train.num_samples)
        samples = [_sample(r) for r in records if r.target_image is not None]
        found.append([s for s in samples if s.source is not None or draws_from_blank])
        if found[-1] and not draws_from_blank:
            break
    turns = chain.from_iterable(zip_longest(*found))
    return [sample for sample in turns if sample is not None][: config.train.num_samples]


def _sample(record: EditRecord) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(
        source=record.source_image,
        target=record.target_image,
        instruction=record.instruction,
        reference_images=record.reference_images,
    )


def _whole_records(source: Source, count: int) -> Iterator[EditRecord]:
    """The first `count` records without the broken ones; while training, the mixture skips and names those."""
    from insightedit.datasets.mixture import BROKEN
    from insightedit.datasets.sources import num_records

    for index in range(min(count, num_records(source))):
        with suppress(*BROKEN):
            yield source[index]


def draw_samples(samples: Sequence[Any], edited: Sequence[np.ndarray], path: Path) -> None:
    """Write a PNG with a row for each sample: source, edited, target and the instruction.

    Args:
        samples: objects with `source`, `target` (H, W, 3) uint8 and `instruction`; where a target is None, all are
            drawn without; where a source is, the first of `reference_images` is drawn in its place.
        edited: one (H, W, 3) uint8 picture per sample.
        path: file to write; its folder is made.

    Raises:
        ValueError: if there is not one edited picture per sample.
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
