"""The same few edits, drawn again and again during a run: source | edited | target, with the instruction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from insightedit.files import write_atomically
from insightedit.training.checkpoint import undisturbed

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.datasets.sources import Source
    from insightedit.training.engine import Engine
    from insightedit.training.optim import Ema
    from insightedit.training.processes import Processes
    from insightedit.types import EditRecord

logger = logging.getLogger(__name__)
EditFn = Callable[[Sequence[Any]], list[np.ndarray]]
CELL = 192  # pixels a side of one picture in the grid
CAPTION = 34  # pixels of the line below a row
GAP = 4


@dataclass
class Painter:
    """Draws the fixed samples with the averaged weights where there are some, without disturbing the run."""

    folder: Path
    engine: Engine
    ema: Ema | None
    generator: torch.Generator
    processes: Processes
    edit_fn: EditFn | None
    samples: Sequence[Any]

    def paint_missing(self, step: int) -> None:
        """Draw what a kill after the checkpoint of this step left undrawn."""
        wanted = self.edit_fn is not None and bool(self.samples) and self.processes.is_main
        if self.processes.any(wanted and not self._path(step).exists()):
            self.paint(step)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.png"

    def paint(self, step: int) -> None:
        """Write `step-XXXXXX.png`; nothing for a stage that does not draw."""
        if self.edit_fn is None or not self.samples:
            return
        if self.engine.partitioned:
            if self.processes.is_main:
                logger.warning("no samples are drawn: ZeRO-3 keeps no process with all the weights")
            self.edit_fn = None
            return
        if self.processes.is_main:
            averaged = self.ema.shadow if self.ema is not None else {}
            self.engine.eval_mode()
            with undisturbed(self.generator), torch.no_grad(), swapped(self.engine.trainable_state(), averaged):
                edited = self.edit_fn(self.samples)
            draw_samples(self.samples, edited, self._path(step))
            self.engine.train_mode()
        self.processes.barrier()


@contextmanager
def swapped(weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, `weights` hold the values of `averaged`, in place."""
    before = {name: weights[name].clone() for name in averaged}
    try:
        for name, value in averaged.items():
            weights[name].copy_(value)
        yield
    finally:
        for name, value in before.items():
            weights[name].copy_(value)


def fixed_samples(config: Config) -> list[Any]:
    """The first `train.num_samples` records that a stage's own sources hold, rendered ones from the split `val`.

    Where instructions carry pictures, all sources take turns, because each is another task.

    Returns:
        Objects with `source` and `target` (H, W, 3) uint8, `instruction` and `reference_images`; empty where no
        source has pictures. `source` is None for what is drawn on a blank canvas.
    """
    from itertools import chain, zip_longest

    from insightedit.datasets.nested_mixture import leaves
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
    """Write the grid as PNG.

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
    height = CELL + CAPTION
    columns = 3 if all(sample.target is not None for sample in samples) else 2
    grid = Image.new("RGB", (columns * (CELL + GAP) - GAP, len(samples) * height), "white")
    pen, font = ImageDraw.Draw(grid), ImageFont.load_default(13)
    for row, (sample, picture) in enumerate(zip(samples, edited, strict=True)):
        given = sample.reference_images[0] if sample.source is None else sample.source
        for column, image in enumerate((given, picture, sample.target)[:columns]):
            cell = Image.fromarray(image).resize((CELL, CELL), Image.Resampling.BICUBIC)
            grid.paste(cell, (column * (CELL + GAP), row * height))
        text = sample.instruction if len(sample.instruction) <= 90 else sample.instruction[:87] + "..."
        pen.text((4, row * height + CELL + 4), text, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as aside:
        grid.save(aside, format="PNG")
