"""The part of a picture that a model works on, cut out and put back; things cut out, on white or pasted elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

WHITE = 255
MARGIN = 0.1  # of a reference's longer side, on each side; ours


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


def cut_out(picture: np.ndarray, mask: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """A thing of a picture (H, W, 3) uint8 RGB alone on white, in the middle of a square (S, S, 3), as large as it was.

    `mask` (H, W) bool is not empty; `margin` of white on each side at least is a share of the thing's longer side.
    """
    box = box_of(mask)
    longer = max(box.height, box.width)
    side = longer + 2 * round(margin * longer)
    top, left = (side - box.height) // 2, (side - box.width) // 2
    out = np.full((side, side, 3), WHITE, dtype=np.uint8)
    place = out[top : top + box.height, left : left + box.width]
    place[mask[box.slices]] = picture[box.slices][mask[box.slices]]
    return out


def touches_border(mask: np.ndarray) -> bool:
    """Whether a (H, W) bool mask reaches the picture's edge, where things are mostly cut off."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def trimmed(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A (H, W) bool mask without its outermost pixels, which show the background, too; as it was if none is left."""
    if pixels < 1:
        return mask
    inner = ndimage.binary_erosion(mask, iterations=pixels)
    return np.asarray(inner if inner.any() else mask)


@dataclass(frozen=True)
class CutOut:
    """A thing with its mask, no larger than its box."""

    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    mask: np.ndarray  # (h, w) bool

    @classmethod
    def of(cls, picture: np.ndarray, mask: np.ndarray) -> CutOut:
        """What a mask (H, W) bool shows of a picture (H, W, 3) uint8 RGB."""
        slices = box_of(mask).slices
        return cls(np.ascontiguousarray(picture[slices]), np.ascontiguousarray(mask[slices]))

    @classmethod
    def from_pictures(cls, pictures: tuple[np.ndarray, ...]) -> CutOut:
        """The opposite of `pictures`."""
        return cls(pictures[0], pictures[1][..., 0] > 0)

    @property
    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and mask as two pictures (h, w, 3) uint8, which records can carry; the mask is white on black."""
        return self.pixels, np.repeat(self.mask[..., None], 3, axis=2).astype(np.uint8) * 255

    def pasted(self, picture: np.ndarray, where: Window) -> tuple[np.ndarray, np.ndarray]:
        """The thing in another picture (H, W, 3) uint8 RGB, smoothly at its edges, brought to a size and place in it.

        Also (H, W) bool: every pixel that the thing has a share in.
        """
        alpha = Image.fromarray(self.mask.astype(np.uint8) * 255)
        # colours are spread into what is not the thing's, or its old background would shine through at the edges
        nearest = ndimage.distance_transform_edt(~self.mask, return_distances=False, return_indices=True)
        colours = Image.fromarray(np.ascontiguousarray(self.pixels[tuple(nearest)]))
        size = (where.width, where.height)
        if size != colours.size:
            colours, alpha = (one.resize(size, Image.Resampling.LANCZOS) for one in (colours, alpha))
        share = np.asarray(alpha, dtype=np.uint32)[..., None]
        out, inside = picture.copy(), np.zeros(picture.shape[:2], dtype=bool)
        below = picture[where.slices].astype(np.uint32)
        mixed = (np.asarray(colours, dtype=np.uint32) * share + below * (255 - share) + 127) // 255
        out[where.slices] = mixed.astype(np.uint8)
        inside[where.slices] = share[..., 0] > 0
        return out, inside
