"""How far the run is: `plan.json` in its folder, which a rerun reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from insightedit.files import write_text
from insightedit.training.checkpoint import TRAINER, CheckpointFolder
from insightedit.training.default.parts import PlannedPart, Settings

PLAN = "plan.json"
KEPT = ("size", "pack", "steps")  # settings that all sessions of a run have in common


@dataclass
class PartState:
    """One part so far."""

    status: Literal["waiting", "running", "stopped", "failed", "done"] = "waiting"
    seconds: float = 0.0  # wall clock of its processes, all sessions together
    planned: float = 0.0  # seconds that it was last told to train in all
    is_second: bool = False  # whether its first command failed, so that the other one is taken
    command: list[str] = field(default_factory=list)  # of its last start


@dataclass
class RunState:
    """All parts, and what was spent."""

    seconds: float = 0.0  # wall clock of all sessions
    minutes: float = 0.0  # that the session before was given
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, PartState] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Settings, parts: tuple[PlannedPart, ...]) -> RunState:
        """What lies in the folder of the run, or a fresh start.

        Raises:
            ValueError: if the run there has other settings, or the file is none of this program's.
        """
        path = settings.runs / PLAN
        chosen = {key: None if (value := getattr(settings, key)) is None else str(value) for key in KEPT}
        told: dict[str, Any] = {}
        if path.is_file():
            try:
                told = json.loads(path.read_text(encoding="utf-8"))
                states = {name: PartState(**held) for name, held in told["parts"].items()}
                seconds, earlier = float(told["seconds"]), dict(told["settings"])
                minutes = float(told["minutes"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path} is no plan of this program: name another folder as RUNS.") from error
            if changed := [
                f"{key} was {earlier.get(key)}, is {chosen[key]}" for key in KEPT if earlier.get(key) != chosen[key]
            ]:
                raise ValueError(
                    f"{settings.runs} holds a run with other settings: {'; '.join(changed)}. Use those to go on, or "
                    "another folder as RUNS for a second run."
                )
        else:
            states, seconds, minutes = {}, 0.0, settings.minutes
        held = {part.name: states.get(part.name, PartState()) for part in parts}
        for state in held.values():
            if state.status in ("running", "failed"):  # it was killed, or its fault may be mended
                state.status = "stopped"
        return cls(seconds, minutes, chosen, held)

    def write(self, settings: Settings) -> None:
        """Keep it."""
        told = {"seconds": round(self.seconds, 1), "minutes": settings.minutes, "settings": self.settings}
        told["parts"] = {name: asdict(state) for name, state in self.parts.items()}
        write_text(settings.runs / PLAN, json.dumps(told, indent=1) + "\n")


def trained(part: PlannedPart, settings: Settings) -> dict[str, Any]:
    """`seconds`, `step` and `losses` of the newest checkpoint of a part, as its own loop counts; empty without one."""
    if part.folder is None:
        return {}
    newest = CheckpointFolder(part.folder(settings) / "checkpoints").latest()
    return {} if newest is None else json.loads((newest / TRAINER).read_text(encoding="utf-8"))


def used_seconds(
    parts: tuple[PlannedPart, ...], settings: Settings, states: Mapping[str, PartState]
) -> dict[str, float]:
    """Seconds that each part has trained, all sessions together; those that a clock ends count as they ran."""
    return {
        part.name: float(trained(part, settings).get("seconds", 0.0))
        if part.folder is not None
        else states[part.name].seconds * bool(part.share)
        for part in parts
    }
