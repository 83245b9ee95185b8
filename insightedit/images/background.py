"""Where the edit went, and the lock that keeps every other pixel as it was.

The evidence is the model's own: its edited picture against the autoencoder's round trip of the source, both
at the model's resolution, so that what the autoencoder alone changes cancels out. A change of tone goes over all of the
picture, and comes from a map of colours (`insightedit.images.tone_transfer`); any other edit is drawn over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import disk, remove_small_holes, remove_small_objects

from insightedit.images.colour_profiles import is_srgb
from insightedit.images.reading import Picture, from_rgb, stretch, strips, to_rgb

if TYPE_CHECKING:
    from insightedit.images.tone_transfer import ToneMap

GLOBAL_COVERAGE = 0.6  # a change with one sign over more of the picture than this is no noise
PART_PIXELS = 2**20  # of a picture that are blended at a time
UNCHANGED = 1.0 / 255.0  # mean difference below which nothing was done to the whole picture


@dataclass(frozen=True)
class EditComparison:
    """What one edit changed, at the model's resolution."""

    edited: np.ndarray  # (S, S, 3) float32 in [0, 255], what the model drew
    round_trip: np.ndarray  # (S, S, 3) float32 in [0, 255], the source through the autoencoder and back
    edit_map: np.ndarray  # (S, S) float32 in [0, 1], smoothed mean absolute difference of the two over the channels
    mask: np.ndarray  # (S, S) bool, where the edit went
    tone: ToneMap | None = None  # what it does to colours, where it is a change of tone


def compute_edit_map(
    edited: np.ndarray, round_trip: np.ndarray, threshold: float | None = None, whole_picture: bool | None = None
) -> EditComparison:
    """What one edit changed.

    Args:
        edited: (S, S, 3) float32 in [0, 255], what the model drew.
        round_trip: the same of the source through the autoencoder and back.
        threshold: as of `find_mask`; with one, an edit of the whole picture has a mask like any other.
        whole_picture: whether the model says that it changes the whole picture; None where it does not say.
    """
    difference = (edited - round_trip) / 255.0
    side = edited.shape[0]
    edit_map = ndimage.gaussian_filter(np.abs(difference).mean(axis=2), sigma=side / 64).clip(0, 1).astype(np.float32)
    mask = find_mask(difference, edit_map, threshold)
    if whole_picture is False or edit_map.mean() < UNCHANGED:
        return EditComparison(edited, round_trip, edit_map, mask)
    import torch  # recipes and the doctor do without

    from insightedit.images.tone_transfer import fit_tone, is_tone

    source, drawn = (torch.from_numpy(one / 255.0).permute(2, 0, 1) for one in (round_trip, edited))
    if whole_picture is None and not is_tone(source, drawn):
        return EditComparison(edited, round_trip, edit_map, mask)
    tone = fit_tone(source, drawn)
    if threshold is None and (whole_picture or tone.keeps_detail):
        mask = np.ones_like(mask)
    return EditComparison(edited, round_trip, edit_map, mask, tone if tone.keeps_detail else None)


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


def native_drawing(evidence: EditComparison, size: tuple[int, int], rows: slice | None = None) -> np.ndarray:
    """What the model drew, at the picture's own `size` = (W, H): (H, W, 3) float32 in [0, 255], or some `rows`."""
    drawing = stretch(evidence.edited, size, rows=rows)
    return np.clip(drawing, 0.0, 255.0, out=drawing)


def native_edit(picture: Picture, evidence: EditComparison, rows: slice | None = None) -> np.ndarray:
    """The edit on the picture's own pixels, (H, W, 3) float32 in [0, 255]; with `rows` only these.

    A change of tone is done to the picture's own colours, transparent ones included, so that its detail and depth
    stay; any other edit is what the model drew, needed where objects appear or vanish.
    """
    tone, height = evidence.tone, picture.size[1]
    rows = slice(0, height) if rows is None else rows
    if tone is None:
        return native_drawing(evidence, picture.size, rows)
    import torch

    from insightedit.images.tone_transfer import apply_tone, box_mean, sharpen_radius

    reach = sharpen_radius(picture.size, evidence.edited.shape[0]) if tone.sharpening else 0
    more = slice(max(0, rows.start - reach), min(height, rows.stop + reach))
    own = torch.from_numpy(_own_colours(picture.rows(more)))
    mapped = apply_tone(tone, own.permute(2, 0, 1), more, height)
    if tone.sharpening:
        mapped += tone.sharpening * (mapped - box_mean(mapped, reach))
        mapped = mapped[:, rows.start - more.start : rows.stop - more.start]
    return mapped.clamp_(0, 1).mul_(255.0).permute(1, 2, 0).numpy()


def _own_colours(picture: Picture) -> np.ndarray:
    """(H, W, 3) float32 sRGB in [0, 1] in the picture's own depth, whatever its transparency."""
    channels = picture.colour.shape[2]
    if picture.mode == "CMYK" or not is_srgb(picture.info.get("icc_profile"), channels):
        return to_rgb(replace(picture, alpha=None)).astype(np.float32) / np.float32(255.0)
    colours = picture.colour.astype(np.float32) / np.float32(picture.white)
    return colours if channels == 3 else np.repeat(colours, 3, axis=2)


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
    lines, columns = (np.flatnonzero(mask[rows].any(axis=axis)) for axis in (1, 0))
    if columns.size == 0:
        return depth
    # one row or column without the mask is as good as many, and beyond the strip as many count as are within reach
    first, last = rows.start + int(lines[0]), rows.start + int(lines[-1]) + 1
    top = first - 1 if first > rows.start else max(0, first - reach - 1)
    bottom = last + 1 if last < rows.stop else last + reach + 1
    left = max(0, int(columns[0]) - 1)
    around = mask[top:bottom, left : int(columns[-1]) + 2]
    far = around.all()  # no pixel outside within reach
    distance = np.full_like(around, reach + 1, np.float32) if far else ndimage.distance_transform_edt(around)
    inside = slice(first - rows.start, last - rows.start), slice(left, left + around.shape[1])
    depth[inside] = np.asarray(distance)[first - top : last - top]
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
    if weights.min() < 1.0:
        drawn = picture.colour * (1.0 - weights) + drawn * weights
    return np.where(mask[:, :, None], _quantise(drawn, picture), picture.colour)


def _quantise(values: np.ndarray, like: Picture) -> np.ndarray:
    """Values as the picture keeps them; the given array is spent."""
    np.clip(values, 0.0, like.white, out=values)
    if like.colour.dtype.kind != "f":
        np.rint(values, out=values)
    return values.astype(like.colour.dtype)


def paste_edit(
    picture: Picture, evidence: EditComparison, own_mask: np.ndarray | None, background_lock: bool
) -> tuple[Picture, np.ndarray]:
    """Bring what the model drew onto the picture's own pixels.

    A change of tone is done to the picture's own pixels, so that their detail stays; any other edit replaces what was
    there. With the lock it is blended in over one pixel of the model inside the mask.

    Args:
        picture: the source.
        evidence: what the model drew.
        own_mask: (H, W) bool, the user's; None takes the model's.
        background_lock: outside the mask every value stays exactly the source's. False writes the whole picture.

    Returns:
        The edited picture, in the source's size, mode and depth, and the mask without pixels that nobody sees.
    """
    whole = native_mask(evidence, picture.size) if own_mask is None else own_mask
    mask = whole if (visible := picture.visible) is None else whole & visible
    colour = picture.colour.copy()
    if not background_lock:
        for rows in strips(picture.size):
            for part, edit in _parts(picture, evidence, rows):
                colour[part] = _quantise(from_rgb(edit, picture), picture)
        return picture.with_colour(colour), mask
    feathered = mask if evidence.tone is None else whole  # a tone goes up to where the picture is clear
    for rows, weights in feather_strips(feathered, feather_width(picture.size, evidence.edited.shape[0])):
        if not mask[rows].any():
            continue
        for part, edit in _parts(picture, evidence, rows):
            columns = np.flatnonzero(mask[part].any(axis=0))
            if columns.size == 0:
                continue
            box = part, slice(int(columns[0]), int(columns[-1]) + 1)
            own, here = replace(picture, colour=picture.colour[box], alpha=None), slice(part.start - rows.start, None)
            edit, weight = edit[:, box[1]], weights[here][: len(edit), box[1]]
            colour[box] = write_edit(own, edit, mask[box], weight)
    return picture.with_colour(colour), mask


def _parts(picture: Picture, evidence: EditComparison, rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
    """Some of the `rows` at a time, and the edit there; a drawing is stretched once, since parts round otherwise."""
    drawing = None if evidence.tone else native_drawing(evidence, picture.size, rows)
    for part in strips(picture.size, rows, PART_PIXELS):
        if drawing is None:
            yield part, native_edit(picture, evidence, part)
        else:
            yield part, drawing[part.start - rows.start : part.stop - rows.start]


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
