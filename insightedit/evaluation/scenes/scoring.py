"""One edit against the truth: all its numbers, and whether it succeeded.

Letters (S, T, O, M, B, D) are those of `insightedit.evaluation.scenes.metrics`.

An edit succeeds if O is nearest to T among all candidate scenes, has gone at least half of the way (`RPS >=
0.5`) and leaves at least 98 % of the background alone. *Nearest* is the Euclidean distance over the union of
the areas that any candidate changes. One rule covers all comparisons: pixels that no candidate changes add
the same amount to every distance, so the order is that of the whole picture, and O beats a rival if and only
if it is nearer to T than to that rival on the pixels where the two differ. M alone would not do: inside it,
an edit of the wrong object looks like the source, so that an output in which both objects were edited could
not be told from the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from insightedit.evaluation.scenes import metrics

VERDICTS = {  # where the candidate's own name would not explain itself
    "only_object": "some objects only",
    "only_subject": "some subjects only",
    "copy_reference": "reference copied",
}


@dataclass(frozen=True)
class EditCase:
    """The truth about one edit, computed once and shared by all outputs that are scored against it."""

    source: np.ndarray  # (H, W, 3) uint8, S
    target: np.ndarray  # (H, W, 3) uint8, T
    rivals: Mapping[str, np.ndarray]  # name -> (H, W, 3) uint8, every candidate but the target
    changed: np.ndarray  # (H, W) bool, M
    background: np.ndarray  # (H, W) bool, B; empty for an edit of the whole picture
    object_masks: Sequence[np.ndarray] = ()  # one (H, W) bool per object of the source, for `target_discrimination`
    instructed: Sequence[int] = ()  # of the objects that the instruction means; may be none
    round_trip: np.ndarray | None = None  # (H, W, 3) uint8, S through the editor's autoencoder and back

    @cached_property
    def wanted_energy(self) -> float:
        """`metrics.gradient_energy` of T around M."""
        return metrics.gradient_energy(self.target, ~self.background)

    @cached_property
    def candidates(self) -> metrics.Candidates:
        """Target and rivals, prepared for `nearest`."""
        return metrics.Candidates(self.target, self.rivals)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in the picture's pixels: of M, of all others, and of B."""
        return np.flatnonzero(self.changed), np.flatnonzero(~self.changed), np.flatnonzero(self.background)

    @cached_property
    def _wanted(self) -> tuple[int, float, int]:
        """Squared distance, mean and largest change of S to T over M, in grey levels."""
        gap = metrics.absolute_gap(self.source, self.target)
        values = _at(gap, self._places[0])
        return _squares(values), float(values.mean()), int(gap.max())

    @cached_property
    def _allowed(self) -> Mapping[int, float]:
        """Leak of the round trip at each threshold; 0 where it is unknown."""
        if self.round_trip is None:
            return dict.fromkeys(metrics.LEAK_THRESHOLDS, 0.0)
        change = metrics.largest_change(self.source, self.round_trip)[self.background]
        return {tau: metrics.share_above(change, tau) for tau in metrics.LEAK_THRESHOLDS}


def _at(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N, 3): a picture's pixels at positions."""
    return picture.reshape(-1, 3)[where]


def _squares(values: np.ndarray) -> int:
    """Exact sum of squares of uint8 values."""
    return int(np.square(values, dtype=np.int32).sum(dtype=np.int64))


@dataclass(frozen=True)
class EditScores:
    """All numbers of one output; None where a number has no meaning for the edit."""

    success: bool  # nearest to the target, `progress >= 0.5` and `leak <= 0.02`
    nearest: str  # name of the nearest candidate; "target" for the right one
    progress: float  # RPS, -1..1
    balanced: float  # BES, 0..1
    leak: float | None  # excess leak at 20 grey levels, 0..1
    leak_plain: float | None  # the same without subtracting the round trip, for editors whose autoencoder is unknown
    leak_by_threshold: Mapping[int, float] | None  # excess leak at each of `LEAK_THRESHOLDS`, keyed by grey levels
    psnr_background: float | None  # strict, dB, over B only
    psnr_paper: float  # SmartEdit's form, dB, over the whole picture with M painted black
    tone_drift: tuple[float, float, float] | None  # mean signed shift of red, green, blue on B, -1..1
    discriminates: bool | None  # TDA, whether the instructed objects are the ones that changed most
    discrimination_margin: float | None  # how clearly, -1..1
    discrimination_chance: float | None  # what guessing the objects would give, 0..1
    iou: float  # overlap of the region that changed with M, 0..1
    precision: float | None  # share of the region that changed that lies in M; None if nothing changed
    recall: float  # share of M that changed
    gradient_energy: float  # of O within M and the band around it (all but B), see `metrics.gradient_energy`
    wanted_energy: float  # of T there; sharpness is the one over the other, see `scenes.report.SceneRow`

    @property
    def verdict(self) -> str:
        """One word or two for people: "success" or what went wrong, the first reason that applies."""
        if self.success:
            return "success"
        if self.nearest == "source":
            return "no edit"
        if self.nearest != "target":
            kind = self.nearest.split(":")[0]
            return VERDICTS.get(kind, kind.replace("_", " "))
        return "partial edit" if self.progress < metrics.MIN_PROGRESS else "leak"


def build_case(
    candidates: Mapping[str, np.ndarray],
    *,
    object_masks: Sequence[np.ndarray] = (),
    instructed: Sequence[int] = (),
    round_trip: np.ndarray | None = None,
) -> EditCase:
    """Prepare the truth about one edit; the named arguments are fields of `EditCase`.

    Candidates are (H, W, 3) uint8 each, "source" and "target" are required. One whose pixels equal the target's is a
    second name of the right answer and is left out.

    Raises:
        ValueError: if source or target is missing, equal, or of another size than the rest; if `instructed`
            names no mask.
        TypeError: if a picture is not uint8.
    """
    if missing := {"source", "target"} - set(candidates):
        raise ValueError(f"candidates lack {', '.join(sorted(missing))}: give the source and the right target.")
    source, target = candidates["source"], candidates["target"]
    for name, picture in candidates.items():
        check_picture(name, picture, source.shape)
    if round_trip is not None:
        check_picture("round_trip", round_trip, source.shape)
    if any(not 0 <= index < len(object_masks) for index in instructed):
        raise ValueError(
            f"instructed is {tuple(instructed)}, but there are {len(object_masks)} object masks: pass all."
        )
    changed = metrics.changed_mask(source, target)
    if not changed.any():
        raise ValueError("source and target are equal: an edit that changes nothing cannot be scored.")
    rivals = {name: c for name, c in candidates.items() if name != "target" and not np.array_equal(c, target)}
    background = metrics.background_mask(changed)
    return EditCase(source, target, rivals, changed, background, object_masks, instructed, round_trip)


def check_picture(name: str, picture: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
    """Refuse what is not uint8 (TypeError), or not (H, W, 3) and of the wanted `shape` (ValueError)."""
    if picture.dtype != np.uint8:
        raise TypeError(f"{name} has dtype {picture.dtype}; pictures are uint8: np.rint(255 * x).astype(np.uint8).")
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"{name} has shape {picture.shape}; pictures are (H, W, 3): convert it to RGB.")
    if shape is not None and picture.shape != shape:
        raise ValueError(f"{name} has shape {picture.shape}, the source {shape}: bring both to one size.")


def score_edit(case: EditCase, output: np.ndarray) -> EditScores:
    """Score one output, (H, W, 3) uint8, against the truth."""
    check_picture("output", output, case.source.shape)
    wanted, wanted_mean, largest = case._wanted
    gap = metrics.absolute_gap(output, case.source)
    change = metrics.largest_change(case.source, output)
    nearest = case.candidates.nearest(output)
    inside, unchanged, _ = case._places
    missing = metrics.absolute_gap(_at(output, inside), _at(case.target, inside))
    progress = metrics.progress_of(_squares(missing), wanted)
    discriminates, margin, chance = metrics.discrimination_of(change, case.object_masks, case.instructed)
    iou, precision, recall = metrics.localisation_of(change, largest, case.changed)
    kept = _background_scores(case, output, gap, change)
    leak = kept["leak"]
    return EditScores(
        success=nearest == "target"
        and progress >= metrics.MIN_PROGRESS
        and (leak is None or leak <= metrics.MAX_LEAK),
        nearest=nearest,
        progress=progress,
        balanced=metrics.balance(progress, kept.pop("harm"), wanted_mean),
        **kept,
        psnr_paper=metrics.decibel(_squares(_at(gap, unchanged)) / gap.size),
        discriminates=discriminates,
        discrimination_margin=margin,
        discrimination_chance=chance,
        iou=iou,
        precision=precision,
        recall=recall,
        gradient_energy=metrics.gradient_energy(output, ~case.background),
        wanted_energy=case.wanted_energy,
    )


def _background_scores(case: EditCase, output: np.ndarray, gap: np.ndarray, change: np.ndarray) -> dict[str, Any]:
    """What became of B: the fields of `EditScores` about it, and `harm`, the mean of |O - S| in grey levels."""
    where = case._places[2]
    if not where.size:
        names = ("leak", "leak_plain", "leak_by_threshold", "psnr_background", "tone_drift")
        return {"harm": 0.0, **dict.fromkeys(names)}
    values, changes = _at(gap, where), change.reshape(-1)[where]
    leaks = {tau: metrics.share_above(changes, tau) for tau in metrics.LEAK_THRESHOLDS}
    excess = {tau: max(0.0, leak - case._allowed[tau]) for tau, leak in leaks.items()}
    drawn, given = (_at(p, where).sum(axis=0, dtype=np.int64) for p in (output, case.source))
    red, green, blue = ((drawn - given) / where.size / 255.0).tolist()
    return {
        "harm": float(values.mean()),
        "leak": excess[metrics.SUCCESS_THRESHOLD],
        "leak_plain": leaks[metrics.SUCCESS_THRESHOLD],
        "leak_by_threshold": excess,
        "psnr_background": metrics.decibel(_squares(values) / values.size),
        "tone_drift": (red, green, blue),
    }
