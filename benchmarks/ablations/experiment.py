"""One folder of runs that share everything but row and seed: what they share, where they lie, how long they take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ablations.studies import Cost, Row, Stage
from insightedit.files import write_text
from insightedit.scenes.assets import SPLITS

EXPERIMENT, RUN_RECORD = "experiment.json", "run.json"
SCALES = ("mini", "tiny")  # tiny: random weights, for tests
USUAL_BATCH = 16  # of `Cost.step`


@dataclass(frozen=True)
class Settings:
    """What all runs of a folder share; two numbers stand in one table only if it is the same.

    Attributes:
        scale: "mini", or "tiny" for toy models with random weights.
        steps: optimiser steps of a row, times its stages' factors.
        batch_size: samples a step.
        lr: peak learning rate; 5 % warm-up, then a cosine to zero.
        count: scenes of each task.
        split: of the scenes that are measured on.
        scene_seed: of those scenes.

    Raises:
        ValueError: if one is out of range.
    """

    scale: str = "mini"
    steps: int = 200
    batch_size: int = 16
    lr: float = 5.0e-4
    count: int = 200
    split: str = "test"
    scene_seed: int = 0

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale is {self.scale!r}: choose one of {', '.join(SCALES)}.")
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}: choose one of {', '.join(SPLITS)}.")
        for name in ("steps", "batch_size", "count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it has to be at least 1.")
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}: it has to be above 0.")

    def steps_of(self, stage: Stage) -> int:
        """Steps of one stage of a row, at least 1."""
        return max(1, round(self.steps * stage.steps))


@dataclass(frozen=True)
class Run:
    """A row with a seed, and its folder."""

    row: Row
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.seed}"

    @property
    def model(self) -> Path:
        """Where the exported model lies."""
        return self.folder / "model"

    def report(self, task: str) -> Path:
        """Folder of the report of a task."""
        return self.folder / "eval" / task

    def record(self) -> dict[str, Any] | None:
        """What was written when the run was done; None while it is not.

        Raises:
            ValueError: if the file is damaged.
        """
        return _read_json(self.folder / RUN_RECORD)


@dataclass(frozen=True)
class Experiment:
    """A folder and what its runs share.

    Attributes:
        folder: of everything.
        settings: see `Settings`.
        bases: part of the start weights -> digest, as far as runs have used them.
        command: that began it, for people.
    """

    folder: Path
    settings: Settings
    bases: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @classmethod
    def open(cls, folder: Path, given: Mapping[str, Any], command: str = "") -> Experiment:
        """The experiment of a folder, or a new one that is written down on its first run (`keep`).

        Args:
            folder: may be missing.
            given: settings that the user names; None means as the folder has it, or the default.
            command: for a new experiment.

        Raises:
            ValueError: if the folder's runs were made with other settings; every difference is named.
        """
        wanted = {name: value for name, value in given.items() if value is not None}
        held = _read_json(folder / EXPERIMENT)
        if held is None:
            return cls(folder, Settings(**wanted), command=command)
        try:
            settings, bases, began = Settings(**held["settings"]), held["bases"], held["command"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / EXPERIMENT} is damaged, or of another program ({error}): delete it, or name another folder."
            ) from error
        odd = [
            f"{name} was {getattr(settings, name)}, is {value}"
            for name, value in wanted.items()
            if getattr(settings, name) != value
        ]
        if odd:
            raise ValueError(
                f"{folder} holds runs of other settings ({'; '.join(odd)}): leave these options out to go on, or name "
                "another folder with --out."
            )
        return cls(folder, settings, bases, began)

    def keep(self, bases: Mapping[str, str]) -> Experiment:
        """Write the experiment down, with the weights that its next runs start from.

        Raises:
            ValueError: if runs in the folder started from other weights.
        """
        odd = [name for name, digest in bases.items() if self.bases.get(name, digest) != digest]
        if odd:
            raise ValueError(
                f"{', '.join(odd)}: not the weights that the runs in {self.folder} started from. Bring those back, or "
                "name another folder with --out."
            )
        whole = Experiment(self.folder, self.settings, {**self.bases, **bases}, self.command)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "settings": asdict(self.settings),
            "bases": dict(sorted(whole.bases.items())),
            "command": self.command,
        }
        write_json(self.folder / EXPERIMENT, content)
        return whole

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over settings and start weights."""
        content = {"settings": asdict(self.settings), "bases": dict(self.bases)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def start_folder(self) -> Path:
        """Where start weights are laid out."""
        return self.folder / "start"

    def run(self, row: Row, seed: int) -> Run:
        """A row with a seed."""
        return Run(row, seed, self.folder / "runs" / row.name / f"seed-{seed}")

    def runs(self, rows: Iterable[Row], seeds: Sequence[int]) -> list[Run]:
        """All rows with the first seed, then all with the second: whatever is there can be compared."""
        rows = list(rows)
        return [self.run(row, seed) for seed in seeds for row in rows]


@dataclass(frozen=True)
class Estimate:
    """Seconds on one core.

    Attributes:
        seconds: name of a run -> seconds.
        measured: kinds of rows whose cost comes from finished runs here; others come from the tables of `studies`.
    """

    seconds: Mapping[str, float]
    measured: tuple[str, ...]

    @property
    def total(self) -> float:
        """Of all runs."""
        return sum(self.seconds.values())


def estimate(todo: Sequence[Run], settings: Settings, records: Sequence[Mapping[str, Any]]) -> Estimate:
    """How long runs take: from finished ones of the same kind where there are any.

    Args:
        todo: runs that are not done.
        settings: of the experiment.
        records: of finished runs.
    """
    costs = {run.row.cost.name: run.row.cost for run in todo}
    seen = {name: _measured(cost, records) for name, cost in costs.items()}
    seconds = {}
    for run in todo:
        cost = seen[run.row.cost.name] or run.row.cost
        steps = sum(settings.steps_of(stage) for stage in run.row.stages)
        scenes = settings.count * len(run.row.tasks)
        per_step = cost.step * settings.batch_size / USUAL_BATCH
        seconds[run.name] = steps * per_step + scenes * cost.scene + cost.run
    return Estimate(seconds, tuple(name for name, cost in seen.items() if cost is not None))


def _measured(cost: Cost, records: Sequence[Mapping[str, Any]]) -> Cost | None:
    same = [record["cost"] for record in records if record["cost"]["name"] == cost.name]
    if not same:
        return None
    samples = sum(one["samples"] for one in same)
    scenes = sum(one["scenes"] for one in same)
    return Cost(
        cost.name,
        step=USUAL_BATCH * sum(one["training_seconds"] for one in same) / samples,
        scene=sum(one["scene_seconds"] for one in same) / scenes,
        run=sum(one["other_seconds"] for one in same) / len(same),
    )


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def _read_json(path: Path) -> Any:
    """Content of a JSON file; None if there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it; what it tells is made anew.") from error
