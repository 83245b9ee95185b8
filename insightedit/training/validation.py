"""The loss on held-out records, with the same noise and timesteps each time, and without a trace in the run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from insightedit.training.checkpoint import undisturbed
from insightedit.training.snapshot import seed_everything

if TYPE_CHECKING:
    from insightedit.training.engine import Engine
    from insightedit.training.processes import Processes

SEED = 5_000_011  # of the noise; the run's own seed plays no part, so runs can be compared


@dataclass
class Validation:
    """Measures what a run has learnt on records that it does not train on.

    Attributes:
        engine: of the run.
        loader: batches of held-out records.
        num_batches: of each process, for one loss.
        generator: of the run; left as it was.
        processes: that train together; all must measure.
    """

    engine: Engine
    loader: Any
    num_batches: int
    generator: torch.Generator
    processes: Processes

    def measure(self) -> dict[str, float]:
        """Mean losses by name, `loss` being the weighted total; the same in every process."""
        sums: dict[str, torch.Tensor] = {}
        self.loader.position = 0
        self.engine.eval_mode()
        with undisturbed(self.generator), torch.no_grad():
            for number, batch in enumerate(islice(self.loader, self.num_batches)):
                noise = seed_everything(SEED + number * self.processes.world_size + self.processes.rank)
                total, losses = self.engine.evaluate(batch.to(self.processes.device), noise)
                for name, value in {"loss": total, **losses}.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self.engine.train_mode()
        means = {name: value / self.num_batches for name, value in sums.items()}
        return self.processes.mean(means)
