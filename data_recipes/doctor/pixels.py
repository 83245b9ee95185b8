"""What two pictures tell about each other: whether they are one picture, shifted, and which of them comes first.

All take (H, W, 3) uint8 of one size. Which picture comes first can be told only where the edit has a direction:
something that is removed leaves no edge behind, a picture that is made brighter is brighter. A replacement has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, uniform_filter

from data_recipes.doctor import wordings

WORK_SIDE = 256  # pixels of the longer side at which alignment is looked at
VISIBLE = 24  # of 255: a pixel that differs by more has changed
SAME_BLOCK = 2.0  # of 255: mean differences of 4 x 4 pixels that stay as they are
SAME_LIGHT, SAME_CHANNEL = 3.0, 16.0  # of 255: largest ones of 8 x 8 pixels that JPEG 90 and better makes
SAME_TONE = 1.0  # of 255: difference of a channel's mean over the picture
LIGHT = np.array([0.299, 0.587, 0.114], np.float32)
MATCH = 6.0  # of 255: pixels that are the same
MOST, FITS, MIN_ERROR = 32.0, 12.0, 3.0  # of 255: differences of shifted pictures
MIN_TEXTURE = 200  # pixels with structure that alignment needs
STRUCTURE, STRONG = 60, 85  # percentiles of the steps between neighbours
EVIDENCE = 0.3  # from here on an edge is on one side only; measured on scenes
STANDS_OUT = 1.5  # so many times the edges around it
FRAMED = 3  # sides of the picture that a frame touches
MIN_TONE = 4.0  # of 255: means that differ
Places = tuple[slice, slice]


def changed(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(H, W) int16: largest difference of a channel."""
    return np.abs(source.astype(np.int16) - target.astype(np.int16)).max(axis=2)


def is_identical(source: np.ndarray, target: np.ndarray) -> bool:
    """Whether nothing but compression lies between the two: a little everywhere, and nowhere much."""
    if np.array_equal(source, target):
        return True
    if (source == target).all(axis=2).mean() > 0.5:
        return False  # what is changed is in one place
    means = _block_means(source, target, 8)
    if np.abs(means.mean(axis=(0, 1))).max() > SAME_TONE:
        return False  # slightly warmer, say
    return bool(np.abs(means @ LIGHT).max() < SAME_LIGHT and np.abs(means).max() < SAME_CHANNEL)


def _block_means(source: np.ndarray, target: np.ndarray, side: int = 4) -> np.ndarray:
    """(H, W, 3) float32: mean signed difference of a square around each pixel; noise cancels out in it."""
    signed = source.astype(np.float32) - target.astype(np.float32)
    return uniform_filter(signed, size=(side, side, 1), mode="reflect")


@dataclass(frozen=True)
class Shift:
    """By how many pixels the target is moved: right and down are positive. `match` is the share that fits then."""

    right: int
    down: int
    match: float


def shift_between(source: np.ndarray, target: np.ndarray) -> Shift | None:
    """By how much the target is moved as a whole; None where it is not, or where there is too little structure.

    Phase correlation (Kuglin and Hines, 1975) proposes; a shift is believed if far more structured pixels are the same
    then.
    """
    from skimage.registration import phase_cross_correlation

    scale = max(1.0, max(source.shape[:2]) / WORK_SIDE)
    one, other = (_grey(picture, scale) for picture in (source, target))
    edges = _structure(one)
    strong = edges > max(6.0, float(np.percentile(edges, STRONG)))
    if strong.sum() < MIN_TEXTURE or (np.abs(one - other)[strong] < MATCH).mean() > 0.7:
        return None
    window = np.outer(np.hanning(one.shape[0]), np.hanning(one.shape[1])).astype(np.float32)
    back, _, _ = phase_cross_correlation(*((grey - grey.mean()) * window for grey in (one, other)))
    down, right = -back[0], -back[1]
    if (right, down) == (0, 0) or abs(right) > one.shape[1] // 3 or abs(down) > one.shape[0] // 3:
        return None
    if scale > 1:
        one, other = _grey(source, 1.0), _grey(target, 1.0)
        edges = _structure(one)
    structured = edges > max(4.0, float(np.percentile(edges, STRUCTURE)))
    if structured.sum() < MIN_TEXTURE:
        return None
    reach = range(-math.ceil(scale), math.ceil(scale) + 1) if scale > 1 else (0,)
    tried = [(round(right * scale) + x, round(down * scale) + y) for x in reach for y in reach]
    errors = {place: _error(one, other, structured, *place) for place in tried}
    best = min(errors, key=lambda place: errors[place][0])
    unmoved = _error(one, other, structured, 0, 0)[0]
    if best == (0, 0) or unmoved < MIN_ERROR or errors[best][0] > 0.5 * unmoved:
        return None
    return Shift(*best, errors[best][1])


def _error(one: np.ndarray, other: np.ndarray, structured: np.ndarray, right: int, down: int) -> tuple[float, float]:
    """Mean difference of structured pixels moved back, each up to `MOST` for edits not to decide; share that fits."""
    height, width = one.shape
    top, bottom, left, end = max(0, -down), min(height, height - down), max(0, -right), min(width, width - right)
    within = structured[top:bottom, left:end]
    if within.sum() < MIN_TEXTURE // 2:
        return MOST, 0.0
    moved = other[top + down : bottom + down, left + right : end + right]
    difference = np.abs(one[top:bottom, left:end] - moved)[within]
    return float(np.minimum(difference, MOST).mean()), float((difference < FITS).mean())


def _grey(picture: np.ndarray, scale: float) -> np.ndarray:
    image = Image.fromarray(picture).convert("L")
    if scale > 1:
        image = image.resize((round(image.width / scale), round(image.height / scale)), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def _structure(grey: np.ndarray) -> np.ndarray:
    """(H, W): how much a pixel differs from its right and lower neighbours."""
    edges = np.zeros_like(grey)
    edges[:, :-1] = np.abs(np.diff(grey, axis=1))
    edges[:-1] += np.abs(np.diff(grey, axis=0))
    return edges


def mask_fault(mask: np.ndarray, source: np.ndarray | None, target: np.ndarray) -> tuple[str, str] | None:
    """(fault, detail) of a mask, (H, W) bool; None where it is good. There is no source of what is drawn from blank."""
    if not mask.any():
        return "empty_mask", ""
    if source is None:
        return None
    visible = changed(source, target) > VISIBLE
    share = float(visible.mean())
    if mask.mean() > 0.995:
        kept = float((np.abs(_block_means(source, target)).max(axis=2) < SAME_BLOCK).mean())
        return ("full_mask", f"{100 * kept:.0f} % of the picture stays as it is") if kept > 0.6 else None
    if share < 0.001 or share > 0.6:
        return None  # nothing to compare with, or a change of the whole picture
    reach = max(1, round(0.02 * max(mask.shape)))
    within = float(binary_dilation(mask, iterations=reach)[visible].mean())
    if within < 0.1:
        return "mask_elsewhere", f"{100 * within:.0f} % of what changes lies within it"
    return None


def direction(
    instruction: str, task: str, source: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None
) -> float | None:
    """How well a pair fits the direction that its instruction has, -1 to 1: below 0 it is the other way round.

    None where the edit shows no direction. Where the task is "edit" the words decide; a mask must not contradict.
    """
    named = wordings.tasks_named(instruction)
    task = task if task in wordings.CHECKED else named.pop() if len(named) == 1 else ""
    if task == "remove":
        return _edge_evidence(source, target, mask)
    if task == "add":
        return _edge_evidence(target, source, mask)
    tone, colour = wordings.named_tone(instruction), wordings.named_colour(instruction)
    if task == "photometric" and tone is not None:
        # whether the target is what a change of tone makes of the source
        one, other = (_tone(tone, picture.astype(np.float32)) for picture in (source, target))
        wanted = -1 if tone in ("darker", "grey", "cooler", "less contrast", "blurry") else 1
        return None if abs(one - other) < MIN_TONE else float(wanted * np.sign(other - one))
    visible = changed(source, target) > VISIBLE
    if task == "recolour" and colour is not None and 0.002 <= visible.mean() <= 0.5:
        # whether what changes has more of the colour in the target
        axis = np.array(wordings.COLOURS[colour], dtype=np.float32)
        axis -= axis.mean()
        axis /= np.linalg.norm(axis)
        one, other = (float((picture[visible].astype(np.float32) @ axis).mean()) for picture in (source, target))
        return (other - one) / (abs(one) + abs(other) + 20.0)
    return None


def _tone(tone: str, picture: np.ndarray) -> float:
    """What a change of tone changes, in 0 to 255."""
    if tone in ("brighter", "darker"):
        return float(picture.mean())
    if tone == "grey":
        return float((picture.max(axis=2) - picture.min(axis=2)).mean())
    if tone in ("warmer", "cooler"):
        return float((picture[..., 0] - picture[..., 2]).mean()) + 255.0
    grey = picture.mean(axis=2)
    return float(grey.std()) if "contrast" in tone else float(np.abs(np.diff(grey, axis=1)).mean()) * 4


def _edge_evidence(with_it: np.ndarray, without: np.ndarray, mask: np.ndarray | None) -> float | None:
    """Whether something stands in the first picture and not in the second, -1 to 1, by the border of what changes."""
    visible = changed(with_it, without) > VISIBLE
    if not 0.002 <= visible.mean() <= 0.5:
        return None
    # where the background has the thing's own colours nothing changes: the borders of such holes are the background's
    reach = max(2, round(0.02 * max(visible.shape)))
    room = np.pad(visible, reach, mode="edge")
    closed = binary_closing(room, iterations=reach)[reach:-reach, reach:-reach]
    visible = np.asarray(binary_fill_holes(closed), dtype=bool)
    if sum(side.any() for side in (visible[0], visible[-1], visible[:, 0], visible[:, -1])) >= FRAMED:
        return None  # a frame: its border is the picture's own
    evidence = _edge_balance(with_it, without, visible)
    if evidence is None or evidence > 0:
        return evidence
    # the border has to be more of an edge than the picture has around it anyway: gravel is full of edges
    reach = max(3, round(0.04 * max(visible.shape)))
    around = binary_dilation(visible, iterations=reach) & np.logical_not(binary_dilation(visible, iterations=2))
    texture = _steps(without, lambda one, other: around[one])
    if len(texture) >= 20 and _border_steps(without, visible).mean() <= STANDS_OUT * texture.mean():
        return None
    by_mask = None if mask is None else _edge_balance(with_it, without, mask)
    return None if by_mask is not None and by_mask > 0.05 else evidence


def _edge_balance(one: np.ndarray, other: np.ndarray, region: np.ndarray) -> float | None:
    """How much stronger the region's border is in the first picture, -1 to 1; None where there is too little of it."""
    steps = [_border_steps(picture, region) for picture in (one, other)]
    if len(steps[0]) < 20 or steps[0].mean() + steps[1].mean() < 8:
        return None
    return float((steps[0].mean() - steps[1].mean()) / (steps[0].mean() + steps[1].mean()))


def _border_steps(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Differences of neighbours of which one lies in the region and one outside."""
    return _steps(picture, lambda one, other: region[one] != region[other])


def _steps(picture: np.ndarray, chosen: Callable[[Places, Places], np.ndarray]) -> np.ndarray:
    """Differences of neighbours, two pixels apart, across each axis, of those that are chosen by their places."""
    values = picture.astype(np.int16)
    steps = []
    for one, other in ((np.s_[:-2, :], np.s_[2:, :]), (np.s_[:, :-2], np.s_[:, 2:])):
        steps.append(np.abs(values[one] - values[other])[chosen(one, other)].mean(axis=-1))
    return np.concatenate(steps)
