"""The one loop of all training: accumulate, clip, step, schedule, average, log, save."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.optim.lr_scheduler import LambdaLR

from insightedit.config.load import ConfigError
from insightedit.console import STOPPED, TERMINATED
from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.checkpoint import CheckpointFolder
from insightedit.training.engine import BuildSchedule, TorchEngine, build_engine
from insightedit.training.logging import METRIC, RunLog
from insightedit.training.optim import Ema
from insightedit.training.processes import Processes, start_processes
from insightedit.training.trainable import select_trainable
from insightedit.training.trainer_state import TrainerState, seed_everything, take_up, undisturbed

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from insightedit.config.schema import Config, OptimConfig
    from insightedit.training.objectives import TrainingStep

logger = logging.getLogger(__name__)
UNFINISHED = 75  # sysexits' EX_TEMPFAIL: saved, the same command goes on
VALIDATION_SEED = 5_000_011  # of the noise; the run's own seed plays no part, so runs can be compared
STOP_SIGNALS = {"SIGINT": STOPPED, "SIGTERM": TERMINATED, "SIGUSR1": UNFINISHED}


@dataclass
class Budget:
    """What a run may take; give several processes steps alone, because their clocks may disagree."""

    max_steps: int  # of the whole run
    save_every: int  # steps between two checkpoints
    max_minutes: float | None = None  # wall clock of the whole run, all sessions together; None for steps alone
    save_minutes: float | None = None  # between two checkpoints, in addition to `save_every`
    session_minutes: float | None = None  # after which a session stops, saved
    session_steps: int | None = None  # likewise
    _earlier_seconds: float = field(default=0.0, init=False)
    _first_step: int = field(default=0, init=False)
    _began: float = field(default_factory=time.perf_counter, init=False)
    _saved: float = field(default_factory=time.perf_counter, init=False)

    @property
    def seconds(self) -> float:
        """Wall clock of the whole run, earlier sessions included."""
        return self._earlier_seconds + time.perf_counter() - self._began

    def begin(self, step: int, seconds: float) -> None:
        """A session begins, after so many steps and seconds of earlier ones."""
        self._first_step, self._earlier_seconds = step, seconds
        self._began = self._saved = time.perf_counter()

    def used(self, step: int) -> float:
        """Share of the nearer budget that is used: 1 or more at the end, which no run reaches without a step."""
        share = step / self.max_steps
        if self.max_minutes is None or step == 0:  # without a step there would be nothing to save
            return share
        return max(share, self.seconds / 60 / self.max_minutes)

    def session_over(self, step: int) -> bool:
        """Whether this session has to stop."""
        minutes, steps = (time.perf_counter() - self._began) / 60, step - self._first_step
        return minutes > _or_infinite(self.session_minutes) or steps >= _or_infinite(self.session_steps)

    def save_due(self, step: int) -> bool:
        """Whether it is time for a checkpoint; asked once a step."""
        minutes = (time.perf_counter() - self._saved) / 60
        due = step % self.save_every == 0 or minutes > _or_infinite(self.save_minutes)
        if due:
            self._saved = time.perf_counter()
        return due

    def cosine(self, warmup_steps: int) -> Callable[[Optimizer], LambdaLR]:
        """A linear warm-up, then a cosine to zero over `used`: the rate has fallen when the time is over, too."""

        def factor(step: int) -> float:
            warmup = min(1.0, (step + 1) / max(1, warmup_steps))
            return warmup * 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.used(step))))

        return lambda optimizer: LambdaLR(optimizer, factor)

    def schedule_of(self, optim: OptimConfig) -> BuildSchedule | None:
        """The cosine of a run that ends by the clock; None for every other, whose schedule the config builds."""
        if self.max_minutes is None or optim.schedule != "cosine":
            return None
        warmup = optim.warmup_steps
        return self.cosine(round(optim.warmup_ratio * self.max_steps) if warmup is None else warmup)


def budget_of(config: Config, processes: Processes) -> Budget:
    """What `train` allows in steps and minutes; a ConfigError if several clocks would have to agree."""
    train = config.train
    if train.total_minutes is not None and processes.world_size > 1:
        raise ConfigError(
            f"train.total_minutes={train.total_minutes:g} is for one process, here are {processes.world_size}, whose "
            "clocks differ: set train.max_steps."
        )
    return Budget(train.max_steps, train.save_every, train.total_minutes, session_minutes=train.max_minutes)


def _or_infinite(limit: float | None) -> float:
    return math.inf if limit is None else limit


class Callback(Protocol):
    """What is done beside training; every process calls it, and it leaves the run as it was."""

    def after_step(self, state: TrainerState, *, last: bool, saved: bool) -> None:
        """After a step, and after its checkpoint if it was `saved`."""
        ...

    def resumed(self, state: TrainerState, *, last: bool) -> None:
        """A run goes on from a checkpoint: make what a kill right after it left out; `last` if no step is left."""
        ...


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_dir: Path
    steps: int  # optimiser steps done in all
    losses: dict[str, float] = field(default_factory=dict)  # last logged means, `loss` being the weighted total
    seconds: float = 0.0  # wall time of all sessions of this run
    resumed_from: int | None = None  # step this session started from, None for a fresh run
    finished: bool = True  # False after a time limit or a signal; the same command goes on
    exit_code: int = 0  # 0 if finished; else 130 (Ctrl-C), 143 (SIGTERM), or 75 (`train.max_minutes`, SIGUSR1)


def fit(
    module: TrainingStep,
    loader: Any,
    run_dir: str | os.PathLike[str],
    *,
    processes: Processes | None = None,
    held_out: Any = None,
    callback: Callback | None = None,
    budget: Budget | None = None,
    schedule: BuildSchedule | None = None,
) -> RunSummary:
    """Train until the budget is used, from the newest whole checkpoint in `run_dir` if there is one.

    On the CPU, k steps, a kill at any moment and the remaining steps give the same bits as all steps straight.

    Args:
        module: editor, objective and config; trains the parameters that `stage.trainable` names.
        loader: endless iterable of batches with `.to(device)`, `state_dict` and `load_state_dict`.
        run_dir: run folder; made if need be.
        processes: from `start_processes`; joined here when None.
        held_out: loader of the records of the validation loss; None for none.
        callback: draws samples, or exports.
        budget: the config's when None.
        schedule: of the learning rate; the config's when None.

    Raises:
        ConfigError: if settings do not fit the model or the machine.
        StageError: if the run folder cannot be resumed from, saving fails, or training diverges.
    """
    run_dir, train = Path(run_dir), module.config.train
    processes = processes or start_processes(train)
    report = select_trainable(module.editor, module.config.stage.trainable)
    folder = CheckpointFolder(run_dir / "checkpoints", train.keep_checkpoints)
    if processes.is_main:
        logger.info("%s", report.table())
        folder.clean()
    processes.barrier()
    # the order matters: weights before an engine splits them, seeds before anything draws, the rest after the engine
    take_up(folder, module.editor, report.names)
    budget = budget or budget_of(module.config, processes)
    engine = build_engine(module, processes, schedule or budget.schedule_of(module.config.optim))
    generator = seed_everything(train.seed, processes.rank)
    ema = None
    if train.ema_decay is not None:
        values = engine.trainable_state()  # every process helps to gather, the main one alone holds the average
        ema = Ema(train.ema_decay, values) if processes.is_main else None
    state = TrainerState(folder, engine, loader, generator, processes, ema)
    state.restore(train.seed)
    log = RunLog(
        run_dir,
        max_steps=train.max_steps,
        log_every=train.log_every,
        samples_per_step=train.batch_size * train.gradient_accumulation_steps * processes.world_size,
        start_step=state.step,
        enabled=processes.is_main,
    )
    budget.begin(state.step, state.seconds)
    with log, stop_signals() as stop:
        if state.resumed_from is not None:
            last = budget.used(state.step) >= 1
            if last:
                log.draw(last=True)
            if callback is not None:
                callback.resumed(state, last=last)
        code = _train(train, state, budget, log, callback, held_out, stop)
    return RunSummary(run_dir, state.step, state.losses, state.seconds, state.resumed_from, code == 0, code)


def _train(
    train: Any, state: TrainerState, budget: Budget, log: RunLog, callback: Callback | None, held_out: Any, stop: Stop
) -> int:
    """Train to the end, or until asked to stop; returns the exit code."""
    engine, processes = state.engine, state.processes
    batches = _endless(state.loader, state.generator)
    while budget.used(state.step) < 1:
        for _ in range(train.gradient_accumulation_steps):
            total, losses = engine.backward(next(batches).to(processes.device), state.generator)
            named = {name if name.startswith(METRIC) else f"loss/{name}": value for name, value in losses.items()}
            log.meter.add({"loss": total, **named})
        log.meter.add({"grad_norm": engine.step()})
        if train.ema_decay is not None and (state.ema is not None or engine.partitioned):
            values = engine.trainable_state()
            if state.ema is not None:
                state.ema.update(values)
        state.step += 1
        state.seconds = budget.seconds
        log.step(state.step, engine.learning_rate())

        last = budget.used(state.step) >= 1
        if held_out is not None and (last or state.step % train.validate_every == 0):
            count = math.ceil(train.num_validation / (train.batch_size * processes.world_size))
            log.validation(state.step, validation_losses(engine, held_out, count, state.generator))
        # all processes stop at the same step, whichever of them was asked to: one that waits for another hangs
        code = processes.largest(stop.code or (UNFINISHED if budget.session_over(state.step) else 0))
        saved = budget.save_due(state.step) or code != 0 or last
        if saved:
            log.flush(state.step, engine.learning_rate())  # first: what has diverged is not saved
            state.losses = log.last or state.losses
            state.save()
            log.draw(last=last or code != 0)
        if callback is not None:
            callback.after_step(state, last=last, saved=saved)
        if code and not last:
            if processes.is_main:
                logger.info("stopped at step %d of %d, saved: the same command goes on", state.step, train.max_steps)
            return code
    return 0


def validation_losses(
    engine: TorchEngine, loader: Any, num_batches: int, generator: torch.Generator
) -> dict[str, float]:
    """Mean losses on held-out records by name, with the same noise each time; leaves no trace in the run.

    Every process must ask, for its own `num_batches`; all get the same numbers.
    """
    processes, module = engine.processes, engine.module
    sums: dict[str, torch.Tensor] = {}
    loader.position = 0
    module.eval()
    with undisturbed(generator), torch.no_grad(), fast_cpu_attention(processes.device):
        for number, batch in enumerate(islice(loader, num_batches)):
            # the same noise each time, and another one for every batch of every process
            noise = seed_everything(VALIDATION_SEED + number * processes.world_size + processes.rank)
            total, losses = module(batch.to(processes.device), noise)
            for name, value in {"loss": total, **losses}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
    module.train()
    return processes.mean({name: value / num_batches for name, value in sums.items()})


class Stop:
    """Whether a signal asked to stop, as the exit code that stands for it; 0 for none."""

    code = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """What Ctrl-C, SIGTERM or SIGUSR1 (Slurm, before a kill) sets; a second signal acts as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    codes = {getattr(signal, name): code for name, code in STOP_SIGNALS.items() if hasattr(signal, name)}
    before = {number: signal.getsignal(number) for number in codes}

    def ask(number: int, _: object) -> None:
        logger.warning("%s: saving after this step, then stopping", signal.Signals(number).name)
        stop.code = codes[signal.Signals(number)]
        signal.signal(number, before[number])

    try:
        for number in codes:
            signal.signal(number, ask)
        yield stop
    finally:
        for number in codes:
            signal.signal(number, before[number])


def _endless(loader: Any, generator: torch.Generator) -> Iterator[Any]:
    """Batches; a `DataLoader` draws a seed from torch when it starts, which must not count."""
    count = 0
    batches = iter(loader)
    with undisturbed(generator):
        batch = next(batches, None)
    while batch is not None:
        count += 1
        yield batch
        batch = next(batches, None)
    raise RuntimeError(f"the loader ended after {count} batches: training needs one that never ends.")
