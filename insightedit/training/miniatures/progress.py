"""A training run as seen from outside: a progress bar and a JSONL log."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG_EVERY = 20  # steps


@contextmanager
def progress(
    name: str, steps: int, done: int, log: Callable[[dict[str, Any]], None], *, show: bool
) -> Iterator[Callable[[int, float, dict[str, float]], None]]:
    """Bar and log of one session.

    Args:
        name: of what is trained.
        steps: of the whole run.
        done: steps that earlier sessions took.
        log: takes one row, every `LOG_EVERY` steps and at the first.
        show: draw the bar.

    Yields:
        A function of (steps done, minutes so far, the step's numbers, `loss` among them).
    """
    recent: deque[float] = deque(maxlen=LOG_EVERY)
    clock = time.monotonic()
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[ms]:.0f} ms/step"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not show, refresh_per_second=1) as bar:
        task = bar.add_task(name, total=steps, completed=done, loss=float("nan"), ms=float("nan"))

        def report(step: int, minutes: float, numbers: dict[str, float]) -> None:
            nonlocal clock
            recent.append(1e3 * (time.monotonic() - clock))
            clock = time.monotonic()
            ms = sum(recent) / len(recent)
            bar.update(task, completed=step, loss=numbers["loss"], ms=ms)
            if step % LOG_EVERY == 0 or step == 1:
                row = {k: float(f"{v:.6g}") for k, v in numbers.items()}
                log({"step": step, "minutes": round(minutes, 3), "ms_per_step": round(ms, 1), **row})

        yield report
