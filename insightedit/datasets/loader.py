"""The loader: batch number `step` of rank r is a pure function of the seed, so its state is three integers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from torch.utils.data import DataLoader, Dataset

from insightedit.config.load import ConfigError
from insightedit.datasets.collate import Collator
from insightedit.datasets.mixture import Mixture
from insightedit.types import EditBatch


class StepLoader:
    """Endless batches with an exact position.

    Of `world_size` processes that draw from the same stream this is number `rank`; `batch_size` counts samples per
    process and micro-step. `num_workers` processes render and tokenise `prefetch_factor` batches ahead; 0 = none does.
    """

    def __init__(
        self,
        mixture: Mixture,
        collate: Collator,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 4,
    ) -> None:
        self.batches = _StepBatches(mixture, collate, batch_size, rank, world_size)
        self.stride = batch_size * world_size
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        self.position = 0  # batches handed out

    def __iter__(self) -> Iterator[EditBatch]:
        """Batches from the current position on."""
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=count(self.position),
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
            multiprocessing_context="fork" if self.num_workers else None,
        )
        for batch in loader:
            if isinstance(batch, ConfigError):  # raised in a worker, it would carry the worker's traceback
                raise batch
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position of the next batch, and of the first one among the samples; samples of all processes a batch."""
        return {"position": self.position, "offset": self.batches.offset, "stride": self.stride}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the stored position; with another number of processes or batch size, at the next sample."""
        position, offset = int(state["position"]), int(state.get("offset", 0))
        stride = int(state.get("stride", self.stride))
        is_same = stride == self.stride
        self.position = position if is_same else 0
        self.batches.offset = offset if is_same else offset + position * stride


class _StepBatches(Dataset):
    def __init__(self, mixture: Mixture, collate: Collator, batch_size: int, rank: int, world_size: int) -> None:
        self.mixture, self.collate = mixture, collate
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.offset = 0  # samples before batch 0, drawn by another number of processes

    def __getitem__(self, step: int) -> EditBatch | ConfigError:
        start = self.offset + (step * self.world_size + self.rank) * self.batch_size
        indices = list(range(start, start + self.batch_size))
        try:
            records = [self.mixture[i] for i in indices]
        except ConfigError as error:
            return error
        return self.collate(records, indices)
