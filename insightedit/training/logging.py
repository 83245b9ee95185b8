"""What a run says: JSONL first, then TensorBoard, a progress bar and a picture of the losses."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insightedit.files import write_atomically, write_text
from insightedit.training.checkpoint import StageError

logger = logging.getLogger(__name__)
LOG = "log.jsonl"
METRIC = "metric/"  # begins the name of what is only logged
VALIDATION = "val/"
DRAWN = ("loss", METRIC, "grad_norm", VALIDATION)
DRAW_EVERY = 30.0  # seconds


class Meter:
    """Means of named values between two log lines; a GPU is waited for only when they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Count one observation of each value."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value
            self._counts[name] += 1

    def take(self) -> dict[str, float]:
        """Mean per name; the next window begins."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


@dataclass
class RunLog:
    """Writes the log of one run; use as a context manager."""

    run_dir: Path
    max_steps: int  # of the whole run, for the time left
    log_every: int  # steps between two lines
    samples_per_step: int  # of all processes together, for samples per second
    start_step: int = 0  # resumed from; later lines of a killed run are dropped from the log
    enabled: bool = True  # False in every process but the main one: then nothing is written
    meter: Meter = field(default_factory=Meter)
    last: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)
    _drawn: float = field(default_factory=time.perf_counter)
    _steps_since: int = 0
    _bar: Any = None
    _task: Any = None
    _board: Any = None

    def __enter__(self) -> RunLog:
        if not self.enabled:
            return self
        self.run_dir.mkdir(parents=True, exist_ok=True)
        drop_lines_after(self.run_dir / LOG, self.start_step)
        with suppress(ImportError):  # the log holds the same numbers
            from torch.utils.tensorboard import SummaryWriter

            purged = self.start_step + 1 if self.start_step else None
            self._board = SummaryWriter(str(self.run_dir / "tensorboard"), purge_step=purged)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("", total=self.max_steps, completed=self.start_step)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, learning_rate: float) -> None:
        """Close step `step`; writes a line when one is due."""
        self._steps_since += 1
        if step % self.log_every == 0 or step == self.max_steps:
            self.flush(step, learning_rate)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def flush(self, step: int, learning_rate: float) -> None:
        """Write what was gathered since the last line, if anything; a StageError if a loss is not finite."""
        if not self._steps_since:
            return
        means = self.meter.take()
        watched = {name: value for name, value in means.items() if name.startswith(("loss", "grad_norm"))}
        if bad := [name for name, value in watched.items() if not math.isfinite(value)]:
            raise StageError(
                f"training diverged before step {step}: {', '.join(bad)} is not finite. The checkpoints in "
                f"{self.run_dir} are from before; lower optim.lr, or set train.precision=fp32, and start anew with "
                "--restart."
            )
        self.last = {name.removeprefix("loss/"): value for name, value in means.items() if name.startswith("loss")}
        seconds = (time.perf_counter() - self._since) / self._steps_since
        record = {
            "step": step,
            "time": round(time.time(), 3),
            "samples_per_second": self.samples_per_step / max(seconds, 1e-9),
            "eta_seconds": seconds * (self.max_steps - step),
        }
        if torch.cuda.is_available():  # the most that tensors took on this process' GPU so far, in 1e9 bytes
            record["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        record |= {"lr": learning_rate, **means}
        self._since, self._steps_since = time.perf_counter(), 0
        if self.enabled:
            self._write(step, record)
            shown = {k: v for k, v in record.items() if k.startswith(("loss", METRIC))}
            text = "  ".join(f"{k.removeprefix('loss/').removeprefix(METRIC)} {v:.4g}" for k, v in shown.items())
            if self._bar is not None:
                self._bar.update(self._task, description=text)
            elif step % (10 * self.log_every) == 0 or step == self.max_steps:
                left = timedelta(seconds=round(record["eta_seconds"]))
                speed = record["samples_per_second"]
                logger.info("step %d of %d  %s  %.3g samples/s  %s left", step, self.max_steps, text, speed, left)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Write the losses on held-out records, `val/loss` being the weighted total."""
        if not self.enabled:
            return
        values = {f"{VALIDATION}{name.removeprefix(METRIC)}": value for name, value in losses.items()}
        self._write(step, {"step": step, "time": round(time.time(), 3), **values})
        logger.info("step %d of %d  validation loss %.4g", step, self.max_steps, losses["loss"])

    def _write(self, step: int, record: Mapping[str, float]) -> None:
        with (self.run_dir / LOG).open("a") as file:
            file.write(json.dumps({k: round(v, 8) if isinstance(v, float) else v for k, v in record.items()}) + "\n")
        if self._board is not None:
            for name, value in record.items():
                if name not in ("step", "time"):
                    self._board.add_scalar(name, value, step)

    def draw(self, *, last: bool = False) -> None:
        """Redraw `losses.png` from the log, every half minute at most unless it is the last time."""
        if not self.enabled or not (last or time.perf_counter() - self._drawn > DRAW_EVERY):
            return
        draw_losses(self.run_dir / LOG, self.run_dir / "losses.png")
        self._drawn = time.perf_counter()


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log; a line that a kill cut short is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            logger.warning("left out a broken line of %s", path)
    return records


def drop_lines_after(path: Path, step: int) -> None:
    """Forget the lines that a killed run wrote after its last checkpoint."""
    if not path.exists():
        return
    kept = [record for record in read_log(path) if record["step"] <= step]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def draw_losses(log: Path, picture: Path) -> None:
    """One small panel per loss and metric, step on the x axis; nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return  # as without tensorboard: the log holds the same numbers
    records = read_log(log)
    names = sorted({name for record in records for name in record if name.startswith(DRAWN)})
    if not names:
        return
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, number)
        points = [(record["step"], record[name]) for record in records if name in record]
        axes.plot([step for step, _ in points], [value for _, value in points], linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    with write_atomically(picture) as aside:
        figure.savefig(aside, format="png", dpi=110)
