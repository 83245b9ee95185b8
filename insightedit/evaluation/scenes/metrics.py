"""Metrics of one edit for pictures whose right answer is known to the pixel; no network, no learnt model.

Every picture is (H, W, 3) uint8 RGB, every mask (H, W) bool. Differences between pictures are reported on the
scale 0..1 (grey levels / 255). Names used throughout: S source, T right target, O output of the editor,

* `M`, the changed area: pixels where any channel of S and T differs;
* `B`, the background: pixels further than `background_radius` from M;
* `D`, per pixel the largest channel of `|O - S|`.

What success is made of them stands in `insightedit.evaluation.scenes.scoring`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

LEAK_THRESHOLDS = (4, 8, 20)  # grey levels of 255
SUCCESS_THRESHOLD = 20  # grey levels; for the leak that decides about success, and for touching an object
MAX_LEAK = 0.02  # share of the background
MIN_PROGRESS = 0.5
PSNR_CAP = 60.0  # dB; equal pictures would be infinite
REFERENCE_SIZE = 128  # pixels; radius and box width below hold at this size
REFERENCE_RADIUS = 3  # pixels
REFERENCE_BOX = 5  # pixels


def changed_mask(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """M: (H, W) bool, where any channel of two (H, W, 3) uint8 pictures differs."""
    red, green, blue = np.moveaxis(source != target, 2, 0)
    return red | green | blue  # a reduction over three values is many times as slow


def background_radius(size: int) -> int:
    """Width in pixels of the band around M that counts neither as edit nor as background: 3 at 128 px."""
    return max(1, round(REFERENCE_RADIUS * size / REFERENCE_SIZE))


def background_mask(changed: np.ndarray) -> np.ndarray:
    """B: (H, W) bool, pixels further than `background_radius(min(H, W))` from every pixel of `changed`."""
    if not changed.any():
        return np.ones_like(changed)
    distance = np.asarray(ndimage.distance_transform_edt(~changed))
    return distance > background_radius(min(changed.shape))


def squared_distance(first: np.ndarray, second: np.ndarray, where: np.ndarray | None = None) -> int:
    """Sum of squared grey-level differences of two uint8 pictures, exact; over `where` if given."""
    if where is not None:
        first, second = first[where], second[where]
    return int(np.square(absolute_gap(first, second), dtype=np.int32).sum(dtype=np.int64))


class Candidates:
    """The right answer among wrong ones, prepared for finding the nearest of them to many outputs.

    Only the pixels in which some candidate differs from the target are kept, because all others add the same to every
    distance; `|O - C|^2` is taken apart into `|O|^2 - 2 O C + |C|^2`, whole numbers below 2^53, so that the order is
    exact.
    """

    def __init__(self, target: np.ndarray, rivals: Mapping[str, np.ndarray]) -> None:
        pictures = {**rivals, "target": target}  # the target last, so that a tie goes to the rival
        self.names = tuple(pictures)
        differs = np.zeros(target.shape, dtype=bool)
        for rival in rivals.values():
            differs |= rival != target
        self.where = np.flatnonzero(differs)
        self.values = np.stack([p.reshape(-1)[self.where] for p in pictures.values()]).astype(np.float64)
        self.squares = np.square(self.values).sum(axis=1)

    def nearest(self, output: np.ndarray) -> str:
        """Name of the candidate that an output, (H, W, 3) uint8, is nearest to; a tie goes to the rival."""
        seen = output.reshape(-1)[self.where].astype(np.float64)
        return self.names[int(np.argmin(self.squares - 2 * (self.values @ seen)))]


def relative_progress(source: np.ndarray, target: np.ndarray, output: np.ndarray, changed: np.ndarray) -> float:
    """RPS: `1 - ||O - T|| / ||S - T||` over M, in -1..1: 0 no edit, 1 the target, below 0 harm."""
    wanted = squared_distance(source, target, changed)
    return progress_of(squared_distance(output, target, changed), wanted)


def progress_of(missing: int, wanted: int) -> float:
    """RPS from the squared distances over M of O to T and of S to T."""
    return max(-1.0, 1.0 - math.sqrt(missing / wanted))


def balance(progress: float, harm: float, wanted: float) -> float:
    """BES: `sqrt(max(RPS, 0) * max(0, 1 - MAE_B / MAE_M))`, 0 for no edit, 1 for the target.

    `MAE_B` (`harm`) is the mean of |O - S| over the background (0 if there is none), `MAE_M` (`wanted`) that of |S - T|
    over M.
    """
    return math.sqrt(max(progress, 0.0) * max(0.0, 1.0 - harm / wanted))


def absolute_gap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: |first - second| of two uint8 pictures."""
    return np.maximum(first, second) - np.minimum(first, second)


def largest_change(source: np.ndarray, output: np.ndarray) -> np.ndarray:
    """D: (H, W) uint8, the largest channel of |O - S|."""
    red, green, blue = np.moveaxis(absolute_gap(source, output), 2, 0)
    return np.maximum(np.maximum(red, green), blue)  # a reduction over three values is many times as slow


def share_above(change: np.ndarray, threshold: int) -> float:
    """Share of values above `threshold`, 0..1."""
    return int(np.count_nonzero(change > threshold)) / change.size


def strict_psnr(source: np.ndarray, output: np.ndarray, background: np.ndarray) -> float | None:
    """PSNR in dB over the background's pixels only, at most `PSNR_CAP`; None without background."""
    if not background.any():
        return None
    return decibel(squared_distance(source, output, background) / (3 * int(background.sum())))


def decibel(mean_squared_error: float) -> float:
    """PSNR in dB of a mean squared error in grey levels, at most `PSNR_CAP`."""
    if mean_squared_error == 0:
        return PSNR_CAP
    return min(PSNR_CAP, 10.0 * math.log10(255.0**2 / mean_squared_error))


def gradient_energy(picture: np.ndarray, where: np.ndarray) -> float:
    """How much a picture's neighbouring pixels differ within an area: squared grey levels for a pixel of it.

    The sum of `(P[y, x + 1] - P[y, x])^2 + (P[y + 1, x] - P[y, x])^2` over three channels and over all pairs of which
    both pixels lie in `where`, divided by its pixels; 0 for an empty area. Blur lowers it, noise raises it.

    Of a (H, W, 3) uint8 picture; `where` is (H, W) bool.
    """
    total = 0
    for axis in (0, 1):
        first, second = ((slice(None),) * axis + (cut,) for cut in (slice(None, -1), slice(1, None)))
        total += squared_distance(picture[first], picture[second], where[first] & where[second])
    return total / max(1, int(np.count_nonzero(where)))


def discrimination_of(
    change: np.ndarray, object_masks: Sequence[np.ndarray], instructed: Sequence[int]
) -> tuple[bool, float, float] | tuple[None, None, None]:
    """TDA: was it the instructed object (were it the instructed objects) that changed most?

    Args:
        change: D, (H, W) uint8.
        object_masks: one (H, W) bool per object; an empty one (a hidden object) counts as unchanged.
        instructed: indices of the objects meant.

    Returns:
        Whether the mean of D over each instructed object exceeds that over every other object, and 20 grey
        levels; the margin `(d_t - d_other) / (d_t + d_other)` between the weakest instructed and the
        strongest other object, -1..1, 0 if nothing changed; and the chance of naming the instructed objects blindly.
        Nothing but None if the instruction names no object or all.
    """
    if not instructed or len(instructed) == len(object_masks):
        return None, None, None
    means = [float(change[mask].mean()) if mask.any() else 0.0 for mask in object_masks]
    wanted = min(means[index] for index in instructed)
    other = max(value for index, value in enumerate(means) if index not in instructed)
    margin = (wanted - other) / (wanted + other) if wanted + other > 0 else 0.0
    chance = 1 / math.comb(len(object_masks), len(instructed))  # one over the ways to choose that many
    return wanted > other and wanted > SUCCESS_THRESHOLD, margin, chance


def box_width(size: int) -> int:
    """Side in pixels, odd, of the box that smooths D before localisation: 5 at 128 px, at least 1."""
    return 2 * int(REFERENCE_BOX * size / REFERENCE_SIZE / 2) + 1


def localisation_of(
    change: np.ndarray, largest: int, changed: np.ndarray, *, width: int | None = None
) -> tuple[float, float | None, float]:
    """IoU, precision and recall of the region that changed against M.

    The region is where the box mean of D exceeds a tenth of the largest |S - T|. The box makes it a little
    larger than M, so the target itself stays below 1: read the number beside the oracle's.

    Args:
        change: D, (H, W) uint8.
        largest: of |S - T|, in grey levels.
        changed: M.
        width: of the box in pixels, 1 for none; `box_width` of the picture by default.

    Returns:
        IoU 0..1; precision 0..1, None if nothing changed (low: too much was changed); recall 0..1 (low: too
        little).
    """
    width = width or box_width(min(changed.shape))
    smooth = ndimage.uniform_filter(change.astype(np.float32), size=width)
    region = smooth > 0.1 * float(largest)
    overlap, found = int((region & changed).sum()), int(region.sum())
    iou = overlap / int((region | changed).sum())
    return iou, overlap / found if found else None, overlap / int(changed.sum())
