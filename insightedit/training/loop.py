"""The one loop of all stages: accumulate, clip, step, schedule, average, log, sample, save."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from insightedit.console import STOPPED, TERMINATED
from insightedit.training.checkpoint import CheckpointFolder, undisturbed
from insightedit.training.engine import Engine, build_engine
from insightedit.training.logging import RunLog
from insightedit.training.optim import Ema
from insightedit.training.processes import Processes, start_processes
from insightedit.training.samples import EditFn, Painter
from insightedit.training.snapshot import Progress, Snapshot, seed_everything, take_up
from insightedit.training.step import METRIC, TrainingStep
from insightedit.training.trainable import select_trainable
from insightedit.training.validation import Validation

if TYPE_CHECKING:
    import torch

    from insightedit.config.schema import Config

logger = logging.getLogger(__name__)
UNFINISHED = 75  # sysexits' EX_TEMPFAIL: saved, the same command goes on
STOP_SIGNALS = {"SIGINT": STOPPED, "SIGTERM": TERMINATED, "SIGUSR1": UNFINISHED}


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        run_dir: run folder.
        steps: optimiser steps done in all.
        losses: last logged means, `loss` being the weighted total.
        seconds: wall time of all sessions of this run.
        resumed_from: step this session started from, None for a fresh run.
        finished: False if it stopped before `train.max_steps` (time limit or signal); the same command goes
            on.
        exit_code: 0 if finished; else 130 (Ctrl-C), 143 (SIGTERM), or 75 (`train.max_minutes`, SIGUSR1).
    """

    run_dir: Path
    steps: int
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    resumed_from: int | None = None
    finished: bool = True
    exit_code: int = 0


def fit(
    editor: nn.Module,
    objective: Callable[..., dict[str, Tensor]],
    loader: Any,
    config: Config,
    run_dir: str | os.PathLike[str],
    *,
    processes: Processes | None = None,
    edit_fn: EditFn | None = None,
    samples: Sequence[Any] = (),
    held_out: Any = None,
) -> RunSummary:
    """Train until `train.max_steps`, from the newest whole checkpoint in `run_dir` if there is one.

    On the CPU, k steps, a kill at any moment and the remaining steps give the same bits as all steps
    straight.

    Args:
        editor: model whose parameters `stage.trainable` names.
        objective: (editor, batch, config, generator) -> named scalar losses; `metric/...` entries are
            logged only.
        loader: endless iterable of batches with `.to(device)`, `state_dict` and `load_state_dict`.
        config: whole config.
        run_dir: run folder; made if need be.
        processes: from `start_processes`; joined here when None.
        edit_fn: samples -> one (H, W, 3) uint8 picture each; None draws no samples.
        samples: objects with `source`, `target` and `instruction`.
        held_out: loader of the records of the validation loss; None for none.

    Returns:
        What was done; `finished` is False after a time limit or a signal.

    Raises:
        ConfigError: if settings do not fit the model or the machine.
        StageError: if the run folder cannot be resumed from, saving fails, or training diverges.
    """
    run_dir = Path(run_dir)
    processes = processes or start_processes(config.train)
    report = select_trainable(editor, config.stage.trainable)
    if processes.is_main:
        logger.info("%s", report.table())
    folder = CheckpointFolder(run_dir / "checkpoints", config.train.keep_checkpoints)
    if processes.is_main:
        folder.clean()
    processes.barrier()
    take_up(folder, editor, report.names)
    engine = build_engine(TrainingStep(editor, objective, config), processes)
    generator = seed_everything(config.train.seed, processes.rank)
    ema = _build_ema(config, engine, processes)
    snapshot = Snapshot(folder, engine, loader, generator, processes, ema)
    progress = snapshot.restore(config.train.seed)
    validation = None
    if held_out is not None:
        share = config.train.batch_size * processes.world_size
        count = math.ceil(config.train.num_validation / share)
        validation = Validation(engine, held_out, count, generator, processes)
    painter = Painter(run_dir / "samples", engine, ema, generator, processes, edit_fn, samples)
    log = RunLog(
        run_dir,
        max_steps=config.train.max_steps,
        log_every=config.train.log_every,
        samples_per_step=config.train.batch_size * config.train.gradient_accumulation_steps * processes.world_size,
        start_step=progress.step,
        enabled=processes.is_main,
    )
    with log, stop_signals() as stop:
        code = _train(config.train, snapshot, progress, log, painter, validation, stop)
    finished = progress.step >= config.train.max_steps
    return RunSummary(run_dir, progress.step, progress.losses, progress.seconds, progress.resumed_from, finished, code)


def _train(
    train: Any,
    snapshot: Snapshot,
    progress: Progress,
    log: RunLog,
    painter: Painter,
    validation: Validation | None,
    stop: Stop,
) -> int:
    """Train to the end, or until asked to stop; returns the exit code."""
    engine, processes, ema = snapshot.engine, snapshot.processes, snapshot.ema
    batches = _endless(snapshot.loader, snapshot.generator)
    started, before = time.perf_counter(), progress.seconds
    if progress.resumed_from is not None:
        _catch_up(train, progress.step, log, painter)
    while progress.step < train.max_steps:
        for _ in range(train.gradient_accumulation_steps):
            total, losses = engine.backward(next(batches).to(processes.device), snapshot.generator)
            log.meter.add({"loss": total, **{_tag(name): value for name, value in losses.items()}})
        log.meter.add({"grad_norm": engine.step()})
        _update_average(ema, train.ema_decay, engine)
        progress.step += 1
        progress.seconds = before + time.perf_counter() - started
        log.step(progress.step, engine.learning_rate())

        last = progress.step == train.max_steps
        if validation is not None and (last or progress.step % train.validate_every == 0):
            log.validation(progress.step, validation.measure())
        over = train.max_minutes is not None and time.perf_counter() - started > 60 * train.max_minutes
        code = processes.largest(stop.code or (UNFINISHED if over else 0))
        stopping = code != 0
        if stopping or last or progress.step % train.save_every == 0:
            log.flush(progress.step, engine.learning_rate())
            progress.losses = log.last or progress.losses
            snapshot.save(progress)
            log.draw(last=last or stopping)
        if last or progress.step % train.sample_every == 0:
            painter.paint(progress.step)
        if stopping and not last:
            if processes.is_main:
                logger.info(
                    "stopped at step %d of %d, saved: the same command goes on", progress.step, train.max_steps
                )
            return code
    return 0


def _catch_up(train: Any, step: int, log: RunLog, painter: Painter) -> None:
    """Draw what belongs to the checkpoint that the run goes on from, and was cut off after it."""
    last = step >= train.max_steps
    if last:
        log.draw(last=True)
    if last or step % train.sample_every == 0:
        painter.paint_missing(step)


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


def _build_ema(config: Config, engine: Engine, processes: Processes) -> Ema | None:
    """The running average, held by the main process only; the others help to gather the weights."""
    if config.train.ema_decay is None:
        return None
    values = engine.trainable_state()
    return Ema(config.train.ema_decay, values) if processes.is_main else None


def _update_average(ema: Ema | None, decay: float | None, engine: Engine) -> None:
    if decay is None or (ema is None and not engine.partitioned):
        return
    values = engine.trainable_state()
    if ema is not None:
        ema.update(values)


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


def _tag(name: str) -> str:
    """Log name of a loss: `loss/NAME`; metrics keep theirs."""
    return name if name.startswith(METRIC) else f"loss/{name}"
