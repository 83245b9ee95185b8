"""One small training loop for every miniature base model: bf16 autocast, fused AdamW, cosine schedule, exact resume.

A run with `steps` alone repeats bit for bit, also when it is stopped and resumed. With `minutes` the schedule follows
whichever of the two budgets is nearer to its end, so the learning rate has reached zero when the time is over.
"""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from insightedit.files import lock_folder, write_atomically
from insightedit.modeling.devices import avoid_cudnn_attention, fast_cpu_attention
from insightedit.training.miniatures.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator


class Part(Protocol):
    """What the loop needs to know about a model that it trains."""

    name: str
    model: nn.Module
    hot_modules: list[nn.Module]  # those that `torch.compile` is worth for

    def batch(self, step: int) -> dict[str, Any]:
        """Training batch number `step` on the CPU; depends on nothing else. Runs in a worker process."""
        ...

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one that is minimised. All randomness comes from `generator`."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Numbers on held-out scenes."""
        ...

    def export(self) -> None:
        """Write the model back into its stock folder."""
        ...


@dataclass(frozen=True)
class TrainOptions:
    """How long, how large, how fast.

    Attributes:
        steps: optimiser steps of the whole run.
        minutes: wall clock budget of the whole run, resumed parts included; None for steps alone.
        lr: peak learning rate.
        warmup_steps: linear warm-up.
        weight_decay: on matrices and kernels only.
        max_grad_norm: gradient clipping.
        ema_decay: exponential moving average that is evaluated and exported; None for the weights themselves.
        save_minutes: between two checkpoints.
        save_steps: between two checkpoints; whichever comes first.
        workers: processes that render and tokenize; 0 does it inline.
        stop_after: stop (and save) after this many steps, as an interruption would; for tests and short sessions.
        seed: of noise and dropout.
        amp: bf16 autocast.
        compile: run the loss through `torch.compile`.
        show_progress: draw a progress bar.
    """

    steps: int
    minutes: float | None = None
    lr: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float | None = None
    save_minutes: float = 2.0
    save_steps: int = 1_000_000
    workers: int = 1
    stop_after: int | None = None
    seed: int = 0
    amp: bool = True
    compile: bool = False
    show_progress: bool = True


@dataclass(frozen=True)
class TrainSummary:
    """What a run did.

    Attributes:
        step: optimiser steps in total.
        minutes: wall clock minutes in total.
        finished: whether a budget was used up (else: stopped by `stop_after`).
        ms_per_step: mean of this session.
        metrics: of `Part.evaluate`; empty if not finished.
    """

    step: int
    minutes: float
    finished: bool
    ms_per_step: float
    metrics: dict[str, float]


def train(part: Part, folder: str | Path, options: TrainOptions) -> TrainSummary:
    """Train `part`, resuming from `folder` if a checkpoint lies there, and export it.

    Args:
        part: model, data and loss.
        folder: gets `checkpoint.pt` and `log.jsonl`.
        options: budgets and optimiser.

    Returns:
        What was done.

    Raises:
        ValueError: if another process trains in `folder`.
    """
    run = _Run(part, Path(folder), options)
    with lock_folder(folder):
        return _train(run)


def _train(run: _Run) -> TrainSummary:
    part, options = run.part, run.options
    run.resume()
    first = run.step
    started = time.monotonic()
    with progress(part.name, options.steps, first, run.log, show=options.show_progress) as report:
        for batch in _batches(part, run.step, options):
            if run.progress >= 1.0 or run.step - first == options.stop_after:
                break
            numbers = run.take_step(batch)
            report(run.step, run.minutes, numbers)
            run.save_if_due()
    seconds = time.monotonic() - started
    finished = run.progress >= 1.0
    run.save()
    with run.averaged_weights():
        part.export()
        metrics = part.evaluate() if finished else {}
    run.log({"step": run.step, "minutes": round(run.minutes, 3), "finished": finished, **metrics})
    return TrainSummary(run.step, run.minutes, finished, 1e3 * seconds / max(1, run.step - first), metrics)


def learning_rate(progress: float, step: int, options: TrainOptions) -> float:
    """Linear warm-up over steps, then cosine to zero over `progress` (0 to 1)."""
    warmup = min(1.0, (step + 1) / max(1, options.warmup_steps))
    return options.lr * warmup * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class _Run:
    """Optimiser, average, clock and files of one training run."""

    def __init__(self, part: Part, folder: Path, options: TrainOptions) -> None:
        self.part, self.folder, self.options = part, folder, options
        self.step = 0
        self.device = next(part.model.parameters()).device
        avoid_cudnn_attention()
        self.parameters = [p for p in part.model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.parameters, options)
        self.average = [p.detach().clone() for p in self.parameters] if options.ema_decay else None
        for module in part.hot_modules if options.compile else ():
            module.compile()
        self._earlier_seconds = 0.0
        self._started = self._saved = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def minutes(self) -> float:
        """Wall clock of the whole run, earlier sessions included."""
        return (self._earlier_seconds + time.monotonic() - self._started) / 60.0

    @property
    def progress(self) -> float:
        """Share of the nearer budget that is used, 0 to 1."""
        shares = [self.step / self.options.steps]
        if self.options.minutes is not None:
            shares.append(self.minutes / self.options.minutes)
        return max(shares)

    def take_step(self, batch: dict[str, Any]) -> dict[str, float]:
        """Forward, backward, update; returns the losses and the learning rate."""
        batch = {k: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
        generator = torch.Generator(self.device).manual_seed(self.options.seed * 1_000_003 + self.step)
        self.part.model.train()
        with fast_cpu_attention(self.device):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.amp):
                losses = self.part.loss(batch, generator)
            losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters, self.options.max_grad_norm)
        lr = learning_rate(self.progress, self.step, self.options)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            decay = min(self.options.ema_decay or 0.0, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1.0 - decay)
        numbers = {name: float(value.detach()) for name, value in losses.items()} | {"lr": lr}
        if not math.isfinite(numbers["loss"]):
            raise RuntimeError(
                f"{self.part.name}: the loss is {numbers['loss']} at step {self.step}; lower --lr and start again from "
                f"the last checkpoint in {self.folder}"
            )
        return numbers

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The moving average in place of the weights, in eval mode."""
        kept = [p.detach().clone() for p in self.parameters]
        self.part.model.eval()
        with torch.no_grad():
            if self.average is not None:
                torch._foreach_copy_(self.parameters, self.average)
            yield
            torch._foreach_copy_(self.parameters, kept)

    def save_if_due(self) -> None:
        """Checkpoint and export when enough time or steps have passed."""
        due = time.monotonic() - self._saved > 60.0 * self.options.save_minutes
        if due or self.step % self.options.save_steps == 0:
            self.save()
            with self.averaged_weights():
                self.part.export()

    def save(self) -> None:
        """Write `checkpoint.pt` aside and rename it, so that a killed save never replaces a good one."""
        state = {
            "step": self.step,
            "seconds": 60.0 * self.minutes,
            "model": self.part.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with write_atomically(self.folder / "checkpoint.pt") as aside:
            torch.save(state, aside)
        self._saved = time.monotonic()

    def resume(self) -> None:
        """Continue from `checkpoint.pt` if it exists."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.part.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self._earlier_seconds = state["step"], state["seconds"]
        if self.average is not None and state["average"] is not None:
            torch._foreach_copy_(self.average, state["average"])

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to `log.jsonl`."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def _optimizer(parameters: list[nn.Parameter], options: TrainOptions) -> torch.optim.AdamW:
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr, betas=(0.9, 0.99), fused=True)


class _Batches(Dataset):
    """`part.batch` by step number."""

    def __init__(self, part: Part, steps: int) -> None:
        self.part, self.steps = part, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self.part.batch(step)


def _batches(part: Part, start: int, options: TrainOptions) -> Iterator[dict[str, Any]]:
    """Batches `start`, `start + 1`, ... in order, rendered ahead by worker processes."""
    loader = DataLoader(
        _Batches(part, options.steps),
        sampler=range(start, options.steps),
        batch_size=None,
        num_workers=options.workers,
        prefetch_factor=8 if options.workers else None,
        worker_init_fn=_quiet_worker,
    )
    yield from loader


def _quiet_worker(_: int) -> None:
    os.nice(5)  # the training process goes first
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def with_overrides(options: TrainOptions, **given: Any) -> TrainOptions:
    """`options` with those of `given` that are not None."""
    return replace(options, **{name: value for name, value in given.items() if value is not None})
