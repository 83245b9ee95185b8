"""Things taken out of their photos: alone on white as references, and pasted into other photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from data_recipes.backends.windows import Window, box_of

WHITE = 255
MARGIN = 0.1  # of a reference's longer side, on each side; ours


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
