"""What repeated editing costs: an instruction that asks for nothing, an edit and its undoing, one edit after another.

Three measures of an editor that edits its own outputs, each beside its controls:

* null: told to keep the picture as it is, how much does it change? An editor's floor is its autoencoder's round trip.
* cycle: a thing is added and removed again; PSNR of what comes out to the picture that went in.
* turns: several edits in a row; PSNR over the pixels that none of them may touch, turn by turn, and its slope.

Copying the source is perfect in all three, so the progress of the edits stands beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from insightedit.console import titled_table
from insightedit.evaluation.metrics.masks import match_size
from insightedit.evaluation.scenes import metrics
from insightedit.files import check_folder, write_text
from insightedit.scenes import EditSample, SceneSampler
from insightedit.scenes.draws import refer
from insightedit.scenes.scene import COLOURS, Edit, Scene, apply_edit
from insightedit.scenes.wordings import PLAIN_TEMPLATES, fix_articles, place

if TYPE_CHECKING:
    from rich.table import Table

    from insightedit.evaluation.core.measure import RoundTrip
    from insightedit.evaluation.scenes.benchmark import EditFn

NAME = "scenes_drift_v1"
NULL_INSTRUCTIONS = ("keep the image as it is", "do not change anything", "leave the photo as it is")
ROTATION = ("add", "recolour", "replace", "remove")  # tasks of the turns
MAX_TRIES = 100  # scenes looked at for each that is kept
FILE = "drift.json"


@dataclass(frozen=True)
class DriftTurn:
    """One call of an editor, with what `EditFn` may look at."""

    source: np.ndarray  # (H, W, 3) uint8: what the editor made of the turn before
    instruction: str  # what it is told
    before: np.ndarray  # (H, W, 3) uint8, what the picture should be before this turn; for the controls
    target: np.ndarray  # (H, W, 3) uint8, what it should be after it
    references: tuple[np.ndarray, ...] = ()  # none


TurnFn = Callable[[Sequence[DriftTurn]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Session:
    """A picture and the edits that are asked for one after another."""

    instructions: tuple[str, ...]  # one a turn
    targets: tuple[np.ndarray, ...]  # (H, W, 3) uint8, the picture before the first turn and after each

    @property
    def untouched(self) -> np.ndarray:
        """(H, W) bool: pixels away from all that any turn changes."""
        pairs = zip(self.targets[:-1], self.targets[1:], strict=True)
        return metrics.background_mask(np.logical_or.reduce([metrics.changed_mask(a, b) for a, b in pairs]))


@dataclass(frozen=True)
class DriftRow:
    """What one editor does; means over the sessions."""

    name: str  # "model" or the name of a control
    null_change: float  # mean of the largest channel's change after a null instruction, grey levels of 255
    null_leak: float  # share of the pixels that change by more than 20 levels after one, 0..1
    null_psnr: float  # dB, at most 60
    cycle_psnr: float  # dB of the picture after a thing was added and removed to the picture before, at most 60
    cycle_progress: float  # RPS of the adding
    turn_psnr: tuple[float, ...]  # dB on the untouched pixels after each turn, at most 60
    turn_progress: tuple[float, ...]  # RPS of each turn, from the wanted picture before it to the wanted one after it
    slope: float  # dB a turn, least squares through `turn_psnr` of each session


@dataclass(frozen=True)
class DriftReport:
    """All that was measured."""

    rows: tuple[DriftRow, ...]  # the model first, then the controls
    protocol: dict[str, Any]  # name, scenes, number of sessions and turns
    settings: dict[str, Any] = field(default_factory=dict)  # of the editor


def measure_drift(
    edit_fn: EditFn,
    *,
    count: int,
    size: int,
    turns: int = 4,
    split: str = "test",
    seed: int = 0,
    round_trip: RoundTrip | None = None,
    progress: Callable[[int], object] | None = None,
) -> DriftReport:
    """Let an editor edit its own outputs.

    Args:
        edit_fn: turns -> edited pictures; see `insightedit.evaluation.scenes.benchmark.evaluate`.
        count: sessions, at least 1.
        size: pixels of a side.
        turns: edits in a row, at least 2.
        split: of the scenes.
        seed: of the scenes.
        round_trip: pictures -> the same through the editor's autoencoder; adds the row `autoencoder`, an editor
            whose edits are right and whose pictures all pass through it.
        progress: called with 1 after each of the `turns + 3` calls of the model on all sessions.

    Raises:
        ValueError: for a number out of range, or an unknown split.
    """
    if count < 1:
        raise ValueError(f"count is {count}: it has to be at least 1.")
    if turns < 2:
        raise ValueError(f"turns is {turns}: a slope needs at least 2.")
    sampler = SceneSampler(split, size, seed)
    drawn = map(sampler.__getitem__, range(MAX_TRIES * count))
    samples = list(islice(filter(_is_plain, drawn), count))
    if len(samples) < count:
        told = f"{len(samples)} of {MAX_TRIES * count} scenes are plain"
        raise RuntimeError(f"{told}: the pack of sprites is too small.")
    cycles = [session_of(sample, ("add", "undo")) for sample in samples]
    chains = [session_of(sample, list(islice(cycle(ROTATION), turns))) for sample in samples]
    editors: dict[str, tuple[TurnFn, Callable[[int], object] | None]] = {
        "model": (cast("TurnFn", edit_fn), progress),
        "copy_source": (lambda given: [turn.source for turn in given], None),
        "oracle": (_right_edits, None),
    }
    if round_trip is not None:
        editors["autoencoder"] = (lambda given: round_trip(_right_edits(given)), None)
    rows = tuple(_measure(name, fn, cycles, chains, told) for name, (fn, told) in editors.items())
    protocol = {"name": NAME, "split": split, "size": size, "seed": seed, "count": count, "turns": turns}
    return DriftReport(rows, protocol)


def _right_edits(turns: Sequence[DriftTurn]) -> list[np.ndarray]:
    """Each wanted change made, everything else left as it came in."""
    return [
        np.where(metrics.changed_mask(turn.before, turn.target)[..., None], turn.target, turn.source) for turn in turns
    ]


def _is_plain(sample: EditSample) -> bool:
    """Whether every thing has a name of its own, and there is no mirror."""
    names = [thing.name for thing in sample.scene.objects]
    return not sample.scene.mirror and len(set(names)) == len(names)


def session_of(sample: EditSample, tasks: Sequence[str]) -> Session:
    """Edits of a scene one after another, drawn by the sample's number alone.

    Args:
        sample: its scene is what the first turn starts from.
        tasks: of the turns, from `ROTATION`; "undo" removes what the turn before added.

    Raises:
        RuntimeError: if a task is not possible on the scene.
    """
    rng = np.random.default_rng(sample.index)
    scene, instructions, targets = sample.scene, [], [sample.source]
    for task in tasks:
        for _ in range(MAX_TRIES):
            edit = _draw_edit(rng, scene, task, sample.renderer.assets.classes)
            after = apply_edit(scene, edit)
            picture = sample.renderer.render(after)
            if (picture != targets[-1]).any():
                break
        else:
            raise RuntimeError(f"no {task} edit changes scene {sample.index}: it shows too few things.")
        templates = [t for t in PLAIN_TEMPLATES[edit.task] if t.style == "simple"]
        reference = refer(scene, edit.targets, "plain") if edit.targets else ""
        words = {"ref": reference, "new": edit.name, "colour": edit.colour, "place": place(edit.slot or 0)}
        instructions.append(fix_articles(templates[int(rng.integers(len(templates)))].text.format(**words)))
        scene = after
        targets.append(picture)
    return Session(tuple(instructions), tuple(targets))


def _draw_edit(rng: np.random.Generator, scene: Scene, task: str, classes: Sequence[str]) -> Edit:
    """An edit that the scene allows: new things are of classes that it does not show."""
    absent = [name for name in classes if name not in {thing.name for thing in scene.objects}]
    number = int(rng.integers(len(scene.objects))) if scene.objects else 0
    name = absent[int(rng.integers(len(absent)))]
    if task == "add":
        empty = [slot for slot in range(9) if slot not in {thing.slot for thing in scene.objects}]
        return Edit("add", name=name, slot=empty[int(rng.integers(len(empty)))])
    if task == "undo":
        return Edit("remove", (len(scene.objects) - 1,))
    if task == "recolour":
        return Edit("recolour", (number,), colour=list(COLOURS)[int(rng.integers(len(COLOURS)))])
    return Edit(task, (number,), name=name if task == "replace" else None)


def _measure(
    name: str,
    edit_fn: TurnFn,
    cycles: Sequence[Session],
    chains: Sequence[Session],
    progress: Callable[[int], object] | None,
) -> DriftRow:
    """All three measures of one editor."""
    starts = [session.targets[0] for session in cycles]
    idle = [Session((told,), (start, start)) for told, start in zip(cycle(NULL_INSTRUCTIONS), starts)]
    kept = [outputs[0] for outputs in _play(edit_fn, idle, progress)]
    changes = [metrics.largest_change(a, b) for a, b in zip(starts, kept, strict=True)]
    there_and_back = _play(edit_fn, cycles, progress)
    rows = [_follow(*one) for one in zip(chains, _play(edit_fn, chains, progress), strict=True)]
    kept_rows = [psnr for psnr, _ in rows if psnr is not None]

    def decibel(outputs: Sequence[np.ndarray]) -> float:
        """Of whole pictures to those of the start."""
        pairs = zip(starts, outputs, strict=True)
        return _mean([metrics.decibel(metrics.squared_distance(a, b) / a.size) for a, b in pairs])

    return DriftRow(
        name,
        null_change=_mean([float(change.mean()) for change in changes]),
        null_leak=_mean([metrics.share_above(change, metrics.SUCCESS_THRESHOLD) for change in changes]),
        null_psnr=decibel(kept),
        cycle_psnr=decibel([outputs[1] for outputs in there_and_back]),
        cycle_progress=_mean([_follow(*one)[1][0] for one in zip(cycles, there_and_back, strict=True)]),
        turn_psnr=tuple(np.mean(kept_rows, axis=0).tolist()),
        turn_progress=tuple(np.mean([steps for _, steps in rows], axis=0).tolist()),
        slope=_mean([float(np.polyfit(range(len(psnr)), psnr, 1)[0]) for psnr in kept_rows]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _play(
    edit_fn: TurnFn, sessions: Sequence[Session], progress: Callable[[int], object] | None
) -> list[list[np.ndarray]]:
    """What an editor makes of each session, turn by turn, each time of its own last picture."""
    outputs: list[list[np.ndarray]] = [[session.targets[0]] for session in sessions]
    for number in range(len(sessions[0].instructions)):
        turns = [
            DriftTurn(done[-1], s.instructions[number], s.targets[number], s.targets[number + 1])
            for s, done in zip(sessions, outputs, strict=True)
        ]
        for done, turn, picture in zip(outputs, turns, edit_fn(turns), strict=True):
            done.append(match_size(picture, turn.target))
        if progress is not None:
            progress(1)
    return [done[1:] for done in outputs]


def _follow(session: Session, outputs: Sequence[np.ndarray]) -> tuple[list[float] | None, list[float]]:
    """Strict PSNR after each turn (None if the turns leave no pixel alone), and the progress of each."""
    untouched = session.untouched
    psnr = [metrics.strict_psnr(session.targets[0], output, untouched) for output in outputs]
    steps = [
        metrics.relative_progress(before, after, output, metrics.changed_mask(before, after))
        for before, after, output in zip(session.targets[:-1], session.targets[1:], outputs, strict=True)
    ]
    return [value for value in psnr if value is not None] or None, steps


def drift_table(report: DriftReport) -> Table:
    """The editor beside its controls."""
    protocol = report.protocol
    title = f"drift, {protocol['split']} split, {protocol['count']} sessions at {protocol['size']} px"
    numbers = ["null: change", "leak", "dB", "cycle: dB", "progress", "turns: dB", "progress", "dB a turn"]
    table = titled_table(title, [""], numbers)
    for row in report.rows:
        table.add_row(
            row.name.replace("_", " "),
            f"{row.null_change:.1f}",
            f"{100 * row.null_leak:.1f} %",
            f"{row.null_psnr:.1f}",
            f"{row.cycle_psnr:.1f}",
            f"{row.cycle_progress:.2f}",
            " ".join(f"{value:.1f}" for value in row.turn_psnr),
            " ".join(f"{value:.2f}" for value in row.turn_progress),
            f"{round(row.slope, 2) + 0.0:+.2f}",  # no minus before a zero
            style="bold" if row is report.rows[0] else None,
        )
    return table


def write_drift(report: DriftReport, folder: Path, settings: dict[str, Any]) -> Path:
    """Write `drift.json`, with the editor's settings; an older one is replaced."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = asdict(replace(report, settings=settings))
    write_text(folder / FILE, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return folder / FILE
