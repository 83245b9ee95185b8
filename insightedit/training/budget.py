"""When a run ends, when a session of it stops, and when it saves: by steps, and by the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import LambdaLR

if TYPE_CHECKING:
    from torch.optim import Optimizer


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
        """Share of the nearer budget that is used: 1 or more at the end."""
        share = step / self.max_steps
        return share if self.max_minutes is None else max(share, self.seconds / 60 / self.max_minutes)

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


def _or_infinite(limit: float | None) -> float:
    return math.inf if limit is None else limit
