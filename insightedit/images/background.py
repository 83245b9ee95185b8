"""Where the edit went, and the lock that keeps every other pixel as it was.

The evidence is the model's own: its edited picture against the autoencoder's round trip of the source, both
at the model's resolution, so that what the autoencoder alone changes cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import disk, remove_small_holes, remove_small_objects

from insightedit.images.reading import Picture, from_rgb, stretch, strips, to_rgb

GLOBAL_COVERAGE = 0.6  # an edit over more of the picture than this is a change of tone: keep native detail


@dataclass(frozen=True)
class EditComparison:
    """What one edit changed, at the model's resolution."""

    edited: np.ndarray  # (S, S, 3) float32 in [0, 255], what the model drew
    round_trip: np.ndarray  # (S, S, 3) float32 in [0, 255], the source through the autoencoder and back
    edit_map: np.ndarray  # (S, S) float32 in [0, 1], smoothed mean absolute difference of the two over the channels
    mask: np.ndarray  # (S, S) bool, where the edit went

    @property
    def is_global(self) -> bool:
        """Whether the edit covers so much that it is taken for a change of tone."""
        return float(self.mask.mean()) > GLOBAL_COVERAGE


def compute_edit_map(edited: np.ndarray, round_trip: np.ndarray, threshold: float | None = None) -> EditComparison:
    """Edit map and mask of one edit: pictures (S, S, 3) float32 in [0, 255]; `threshold` as of `find_mask`."""
    difference = (edited - round_trip) / 255.0
    side = edited.shape[0]
    edit_map = ndimage.gaussian_filter(np.abs(difference).mean(axis=2), sigma=side / 64).clip(0, 1).astype(np.float32)
    return EditComparison(edited, round_trip, edit_map, find_mask(difference, edit_map, threshold))


def find_mask(difference: np.ndarray, edit_map: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Hysteresis threshold of the edit map, without specks and pinholes, grown a little.

    `difference` (S, S, 3) is edited minus round trip, of a picture in [0, 1], `edit_map` (S, S) float32 in [0, 1]; the
    mask is (S, S) bool. `threshold` is the difference in 0..1 that a changed region has to reach somewhere; it extends
    down to half of that. None adapts to the model's noise: three times the map's median, held within 0.08 to 0.16, and
    0.08 for a change of tone.
    """
    side = edit_map.shape[0]
    if threshold is None:
        # noise has no sign over large areas; a change of tone has one over most of the picture, and its median is none
        sigma = side / 16
        drift = np.abs(ndimage.gaussian_filter(difference, sigma=(sigma, sigma, 0))).mean(axis=2)
        changes_tone = float((drift > 0.04).mean()) > GLOBAL_COVERAGE
        threshold = 0.08 if changes_tone else float(np.clip(3.0 * np.median(edit_map), 0.08, 0.16))
    mask = apply_hysteresis_threshold(edit_map, threshold / 2, threshold)
    speck = max(1, side * side // 1000)
    mask = remove_small_objects(mask, max_size=speck)
    mask = remove_small_holes(mask, max_size=speck)
    return ndimage.binary_dilation(mask, structure=disk(max(1, round(side / 64))))


def native_map(evidence: EditComparison, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the edit map at the picture's own `size` = (W, H)."""
    native = np.empty(size[::-1], np.float32)
    for rows in strips(size):
        native[rows] = stretch(evidence.edit_map[:, :, None], size, smooth=False, rows=rows)[:, :, 0].clip(0, 1)
    return native


def native_mask(evidence: EditComparison, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the mask at the picture's own `size` = (W, H)."""
    mask, native = evidence.mask[:, :, None].astype(np.float32), np.empty(size[::-1], np.bool_)
    for rows in strips(size):
        native[rows] = stretch(mask, size, smooth=False, rows=rows)[:, :, 0] >= 0.5
    return native


def hidden_share(picture: Picture, evidence: EditComparison) -> float:
    """How much of the edit lies where the picture is fully transparent, 0..1."""
    visible = picture.visible
    if visible is None:
        return 0.0
    mask = native_mask(evidence, picture.size)
    return float((mask & ~visible).sum() / max(1, mask.sum()))


def native_edit(
    picture: Picture, evidence: EditComparison, keep_detail: bool, rows: slice | None = None
) -> np.ndarray:
    """The edit on the picture's own pixels, (H, W, 3) float32 in [0, 255]; with `rows` only these.

    With `keep_detail` the model's *change* is added to the source (fine detail survives a change of tone); without, the
    model's picture is taken as it is (needed where objects appear or vanish).
    """
    if keep_detail:
        change = stretch(evidence.edited - evidence.round_trip, picture.size, rows=rows)
        return np.clip(to_rgb(picture if rows is None else picture.rows(rows)) + change, 0.0, 255.0)
    return np.clip(stretch(evidence.edited, picture.size, rows=rows), 0.0, 255.0)


def feather_strips(mask: np.ndarray, width: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, their weights) of a mask (H, W) bool: 0 outside it, rising to 1 over `width` pixels *inside* it, float32.

    The picture's own border is no border of the mask. Parts thinner than twice the width rise over half their depth.
    It goes strip by strip, since distances take ten times the memory of what they are taken of.
    """
    parts = list(strips(mask.shape[::-1]))
    if mask.all() or not mask.any():
        yield from ((rows, mask[rows].astype(np.float32)) for rows in parts)
        return
    depth, deepest = np.empty(0), 0.0
    for rows in parts:
        depth = _depth(mask, rows, 2 * width)
        deepest = max(deepest, float(depth.max()))
        if deepest >= 2 * width:
            break
    rise = min(float(width), deepest / 2)
    for rows in parts:
        depth = depth if len(parts) == 1 else _depth(mask, rows, 2 * width)
        yield rows, np.clip(depth / (rise + 1.0), 0.0, 1.0) if rise > 1.0 else mask[rows].astype(np.float32)


def _depth(mask: np.ndarray, rows: slice, reach: int) -> np.ndarray:
    """(h, w) float32: distance to the nearest pixel outside the mask; exact up to `reach`, at least that beyond."""
    depth = np.zeros((rows.stop - rows.start, mask.shape[1]), np.float32)
    columns = np.flatnonzero(mask[rows].any(axis=0))
    if columns.size == 0:
        return depth
    top, left = max(0, rows.start - reach - 1), max(0, int(columns[0]) - 1)
    around = mask[top : rows.stop + reach + 1, left : int(columns[-1]) + 2]
    far = around.all()  # no pixel outside within reach
    distance = np.full_like(around, reach + 1, np.float32) if far else ndimage.distance_transform_edt(around)
    depth[:, left : left + around.shape[1]] = np.asarray(distance)[rows.start - top : rows.stop - top]
    return depth


def feather_width(size: tuple[int, int], side: int) -> int:
    """Native pixels that one pixel of the model covers: the sharpest border that the model can draw."""
    return max(1, math.ceil(max(size) / side))


def write_edit(picture: Picture, edit: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A picture's new `colour` with an edit (H, W, 3) float32 in [0, 255] put onto its own pixels.

    Outside the mask (H, W) bool every value stays exactly the source's; inside, the edit has its `weights` (H, W) in
    [0, 1].
    """
    drawn, weights = from_rgb(edit, picture), weights[:, :, None]
    blended = _quantise(picture.colour * (1.0 - weights) + drawn * weights, picture)
    return np.where(mask[:, :, None], blended, picture.colour)


def _quantise(values: np.ndarray, like: Picture) -> np.ndarray:
    values = np.clip(values, 0.0, like.white)
    values = values if like.colour.dtype.kind == "f" else np.rint(values)
    return values.astype(like.colour.dtype)


def paste_edit(
    picture: Picture, evidence: EditComparison, own_mask: np.ndarray | None, background_lock: bool
) -> tuple[Picture, np.ndarray]:
    """Bring what the model drew onto the picture's own pixels.

    With the lock, a change of tone (the model's mask covers more than 60 % of the picture) is added to the
    source, so that its fine detail stays; any other edit replaces what was there, blended in over one pixel of the
    model inside the mask.

    Args:
        picture: the source.
        evidence: what the model drew.
        own_mask: (H, W) bool, the user's; None takes the model's.
        background_lock: outside the mask every value stays exactly the source's. False writes the whole picture.

    Returns:
        The edited picture, in the source's size, mode and depth, and the mask without pixels that nobody sees.
    """
    mask = native_mask(evidence, picture.size) if own_mask is None else own_mask
    mask = mask if (visible := picture.visible) is None else mask & visible
    colour = np.empty_like(picture.colour)
    if not background_lock:
        for rows in strips(picture.size):
            edit = native_edit(picture, evidence, keep_detail=False, rows=rows)
            colour[rows] = _quantise(from_rgb(edit, picture), picture)
        return picture.with_colour(colour), mask
    for rows, weights in feather_strips(mask, feather_width(picture.size, evidence.edited.shape[0])):
        if not mask[rows].any():
            colour[rows] = picture.colour[rows]
            continue
        edit = native_edit(picture, evidence, keep_detail=evidence.is_global, rows=rows)
        colour[rows] = write_edit(picture.rows(rows), edit, mask[rows], weights)
    return picture.with_colour(colour), mask


def psnr(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio in dB of two pictures (H, W, 3) in 0..255 over the pixels (H, W) bool that count.

    Infinity for equal pixels, None if no pixel counts.
    """
    if not where.any():
        return None
    total = 0.0
    for rows in strips(where.shape[::-1]):
        one, other = first[rows][where[rows]], second[rows][where[rows]]
        total += float(np.square(one.astype(np.float32) - other.astype(np.float32)).sum(dtype=np.float64))
    error = total / (int(where.sum()) * first.shape[2])
    return math.inf if error == 0 else float(10.0 * math.log10(255.0**2 / error))
