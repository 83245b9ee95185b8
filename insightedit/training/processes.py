"""Which process this is, among those that train together, and on which device."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from insightedit.config.load import ConfigError
from insightedit.modeling.devices import avoid_cudnn_attention

if TYPE_CHECKING:
    from insightedit.config.schema import TrainConfig


@dataclass(frozen=True)
class Processes:
    """One process among those that train together."""

    rank: int = 0  # to world_size - 1; the main process is 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # where this one computes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all the others."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers, below 2^24; all must ask."""
        if self.world_size == 1:
            return number
        numbers = torch.tensor([float(number)], device=self.device)
        torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
        return int(numbers.item())

    def mean(self, values: dict[str, torch.Tensor]) -> dict[str, float]:
        """Mean over all processes of scalars, which have the same names in each; all must ask."""
        names = sorted(values)  # in one order everywhere: what is summed goes by its place
        numbers = torch.stack([values[name].float().to(self.device) for name in names])
        if self.world_size > 1:
            torch.distributed.all_reduce(numbers)
        return dict(zip(names, (numbers / self.world_size).tolist(), strict=True))


def start_processes(config: TrainConfig) -> Processes:
    """Join the processes that a launcher started, or be the only one."""
    device = _device()
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if engine_kind(config) == "torch":
        if world_size > 1:
            raise ConfigError(
                f"train.engine=torch runs in one process, the launcher started {world_size}: "
                "set train.engine=deepspeed, or start it with python -m."
            )
        return Processes(device=device)
    import deepspeed

    backend = "nccl" if device.type == "cuda" else "gloo"
    if not launched():
        os.environ.setdefault("LOCAL_RANK", "0")  # deepspeed.initialize insists on it
        if not torch.distributed.is_initialized():
            meeting = os.path.join(tempfile.mkdtemp(prefix="insightedit-"), "meeting")
            torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=0, world_size=1)
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def stop_processes() -> None:
    """Leave the group of processes, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launched() -> bool:
    """Whether `deepspeed`, `torchrun` or `accelerate launch` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def engine_kind(config: TrainConfig) -> str:
    """`torch` or `deepspeed`, with `auto` decided; a ConfigError if DeepSpeed is needed and not installed."""
    installed = importlib.util.find_spec("deepspeed") is not None
    many = launched() and int(os.environ["WORLD_SIZE"]) > 1
    wanted = config.engine
    if wanted == "auto":
        wanted = "deepspeed" if many or (installed and (launched() or torch.cuda.is_available())) else "torch"
    if wanted == "deepspeed" and not installed:
        raise ConfigError(
            "training in several processes needs DeepSpeed, which is not installed: pip install deepspeed "
            "(Linux only), or train in one process with train.engine=torch."
        )
    return wanted


def _device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    avoid_cudnn_attention()
    return device
