"""The part of a picture that a model works on: cut out, brought to its size, and put back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, the last two exclusive."""
        return float(self.left), float(self.top), float(self.left + self.width), float(self.top + self.height)


def box_of(mask: np.ndarray) -> Window:
    """The smallest window that holds all of a mask (H, W) bool, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Window(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


def window_around(mask: np.ndarray, size: int, margin: float) -> Window:
    """What a model shall see around a mask (H, W) bool, which is not empty.

    A square of at least `size` pixels around the mask's box, with a `margin` in shares of the box's longer side; where
    the picture ends a rectangle that is moved inwards; all of a picture whose sides are no longer than `size`.
    """
    box = box_of(mask)
    side = max(size, round(max(box.height, box.width) * (1 + 2 * margin)))
    (height, width) = mask.shape
    tall, wide = min(side, height), min(side, width)
    top = min(max(0, box.top + box.height // 2 - tall // 2), height - tall)
    left = min(max(0, box.left + box.width // 2 - wide // 2), width - wide)
    return Window(top, left, tall, wide)


def working_size(window: Window, size: int, multiple: int) -> tuple[int, int]:
    """Width and height that a window is brought to: the longer side `size`, both multiples of `multiple`."""
    scale = size / max(window.height, window.width)
    width, height = (
        max(multiple, round(side * scale / multiple) * multiple) for side in (window.width, window.height)
    )
    return width, height


def resized(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """(H, W, 3) uint8 -> RGB, smoothly; (H, W) bool -> L, 0 or 255, by the nearest pixel."""
    is_mask = picture.dtype == bool
    drawn = Image.fromarray(picture.astype(np.uint8) * 255 if is_mask else np.ascontiguousarray(picture))
    how = Image.Resampling.NEAREST if is_mask else Image.Resampling.LANCZOS
    return drawn.resize((width, height), how)


def put_back(picture: np.ndarray, painted: Image.Image, mask: np.ndarray, window: Window) -> np.ndarray:
    """A picture (H, W, 3) uint8 with what was painted in its window, within the mask only."""
    back = painted.convert("RGB")
    if back.size != (window.width, window.height):
        back = back.resize((window.width, window.height), Image.Resampling.LANCZOS)
    out = picture.copy()
    inside = mask[window.slices]
    out[window.slices][inside] = np.asarray(back)[inside]
    return out
