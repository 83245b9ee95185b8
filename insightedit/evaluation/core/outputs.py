"""Where the pictures that are measured come from: a folder of any editor, or a model that makes them as needed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from insightedit.evaluation.benchmarks.base import BenchmarkSample
from insightedit.evaluation.core.measure import SampleView, open_rgb
from insightedit.evaluation.core.run_folder import PICTURES, TURNS
from insightedit.images.provenance import Provenance, save_picture

if TYPE_CHECKING:
    pass

MAX_SEED = 2**32


@dataclass(frozen=True)
class EditCall:
    """One call of an editor."""

    instruction: str  # what to do
    source: np.ndarray | None  # (H, W, 3) uint8; None where something is made from nothing
    references: tuple[np.ndarray, ...]  # (h, w, 3) uint8 each
    seed: int  # of the noise, 0..2**32-1


EditCallFn = Callable[[Sequence[EditCall]], list[np.ndarray]]  # (H, W, 3) uint8 each


class Outputs(Protocol):
    """Pictures to be measured."""

    kind: str  # "model" or "results"
    source: str  # model or folder, for the card
    seeds: tuple[int | None, ...]  # of the pictures; (None,) where nothing is known of them
    batch_size: int  # samples that are prepared together

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """See to it that the pictures of these samples are there."""
        ...

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        ...


@dataclass(frozen=True)
class FolderOutputs:
    """Pictures that another editor made."""

    folder: Path  # where they lie
    paths: Mapping[str, Path]  # sample id -> picture, see `insightedit.evaluation.benchmarks.results`
    kind: str = "results"
    seeds: tuple[int | None, ...] = (None,)
    batch_size: int = 1

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.folder)

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """Nothing is to be done."""

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        return self.paths[sample.sample_id]


@dataclass(frozen=True)
class ModelOutputs:
    """Pictures that a model makes, each saved under the run's folder and never made twice.

    The samples of a batch go through the model together also when a stopped run left some of them: what is made then
    is, bit for bit, what would have been.
    """

    editor: EditCallFn  # makes pictures
    out: Path  # folder of the run
    source: str  # name of the model, for the card
    seeds: tuple[int | None, ...] = (0,)  # runs of the whole benchmark
    batch_size: int = 1  # samples at a time
    software: str = "insightedit"  # for the note in the files
    is_locked: bool = False  # whether the background is the source's
    kind: str = field(default="model", init=False)

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        return self._place(PICTURES, seed) / f"{sample.sample_id}.png"

    def prepare(self, samples: Sequence[BenchmarkSample], seed: int | None) -> None:
        """Make what is missing; edits of a session follow one another on the model's own results."""
        if all(self.path(sample, seed).is_file() for sample in samples):
            return
        turns = max(len(sample.earlier) for sample in samples)
        for number in range(1, turns + 2):
            chosen = [sample for sample in samples if number <= len(sample.earlier) + 1]
            calls = [self._call(sample, number, seed) for sample in chosen]
            for sample, call, picture in zip(chosen, calls, self.editor(calls), strict=True):
                path, is_locked = self._turn(sample, number, seed), self.is_locked and sample.source is not None
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    note = Provenance(self.software, call.instruction, call.seed, is_locked)
                    save_picture(Image.fromarray(picture), path, note)

    def _call(self, sample: BenchmarkSample, number: int, seed: int | None) -> EditCall:
        view, drawn = SampleView(sample), draw_seed(sample.sample_id, number, seed)
        source = view.source if number == 1 else open_rgb(self._turn(sample, number - 1, seed))
        return EditCall((*sample.earlier, sample.instruction)[number - 1], source, view.references, drawn)

    def _turn(self, sample: BenchmarkSample, number: int, seed: int | None) -> Path:
        if number == len(sample.earlier) + 1:
            return self.path(sample, seed)
        return self._place(TURNS, seed) / f"{sample.sample_id}-{number}.png"

    def _place(self, name: str, seed: int | None) -> Path:
        """The first seed's pictures lie in the folder itself."""
        return self.out / name if seed == self.seeds[0] else self.out / name / f"seed-{seed}"


def draw_seed(sample_id: str, number: int, seed: int | None) -> int:
    """Seed of one call, 0..2**32-1, from the sample, its turn and the run's seed; batches do not matter."""
    return zlib.crc32(f"{seed}:{sample_id}:{number}".encode())
