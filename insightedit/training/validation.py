"""The loss on held-out records, with the same noise and timesteps each time, and without a trace in the run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.checkpoint import undisturbed
from insightedit.training.trainer_state import seed_everything

if TYPE_CHECKING:
    from insightedit.training.engine import Engine

SEED = 5_000_011  # of the noise; the run's own seed plays no part, so runs can be compared


@dataclass
class Validation:
    """Measures what a run has learnt on records that it does not train on.

    Attributes:
        engine: of the run.
        loader: batches of held-out records.
        num_batches: of each process, for one loss.
        generator: of the run; left as it was.
    """

    engine: Engine
    loader: Any
    num_batches: int
    generator: torch.Generator

    def measure(self) -> dict[str, float]:
        """Mean losses by name, `loss` being the weighted total; the same in every process, all of which must ask."""
        processes, module = self.engine.processes, self.engine.module
        sums: dict[str, torch.Tensor] = {}
        self.loader.position = 0
        module.eval()
        with undisturbed(self.generator), torch.no_grad(), fast_cpu_attention(processes.device):
            for number, batch in enumerate(islice(self.loader, self.num_batches)):
                # the same noise each time, and another one for every batch of every process
                noise = seed_everything(SEED + number * processes.world_size + processes.rank)
                total, losses = module(batch.to(processes.device), noise)
                for name, value in {"loss": total, **losses}.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
        module.train()
        return processes.mean({name: value / self.num_batches for name, value in sums.items()})
