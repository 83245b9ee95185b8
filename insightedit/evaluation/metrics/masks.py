"""What of a picture counts as background: masks, the boxes around them, and the frame in which both are compared.

Two readings of one mask file, white where the picture is to be edited:

* `paper`, as SmartEdit's script: the grey values are used as they are, `k = 1 - mask / 255`; source and output
  are squashed to 256 x 256 and multiplied by `k`; every mean runs over the whole frame, its black part included;
  the box ends *at* the last row and column, which are lost.
* `strict`: the mask is cut at 127 and widened by `dilation` pixels, the aspect ratio is kept, every mean runs
  over the kept pixels only, and the box includes its last row and column.

Pictures are (H, W, 3) uint8 RGB, masks (H, W) uint8 or bool. Both sides are painted black where they may differ,
so no number depends on what the edit shows. A mask with which a sample cannot be measured is a `MaskError`, a wrong
shape or range a ValueError, a wrong dtype a TypeError.

Source: SmartEdit, `test/metrics_evaluation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from insightedit.evaluation.scenes.scoring import check_picture
from insightedit.images.reading import read_rgb

SIDE = 256  # pixels, SmartEdit's frame
THRESHOLD = 127  # grey levels; brighter is to be edited
DILATION = 6  # pixels at `SIDE`: 3 at 128, as in the scenes benchmark

Variant = Literal["paper", "strict"]


class MaskError(ValueError):
    """A mask with which a sample cannot be measured."""


class EmptyMaskError(MaskError):
    """Nothing is marked as to be edited."""


class FullMaskError(MaskError):
    """Nothing is left as background."""


class EmptyCropError(MaskError):
    """The box around the edited region has no width or no height."""


class Box(NamedTuple):
    """Pixel edges of a crop, Pillow's order; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class Frame(NamedTuple):
    """`side` x `side` pixels, `content` the part of them that the picture fills; the rest is black."""

    side: int
    content: Box


@dataclass(frozen=True)
class MaskedPair:
    """Source and output as the background metrics want them."""

    source: np.ndarray  # (H, W, 3) float64 in 0..1, black where edited
    edited: np.ndarray  # likewise; the output
    keep: np.ndarray  # (H, W) float64, 1 = background, 0 = edited or outside the picture; soft for `paper`
    kept_ratio: float  # mean of `keep` over the picture, 0..1
    variant: Variant  # which reading of the mask

    @property
    def region(self) -> np.ndarray | None:
        """(H, W) bool that means are restricted to; None for `paper`, whose means run over the whole frame."""
        return self.keep > 0 if self.variant == "strict" else None


def read_grey(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8, Pillow's mode `L`; transparent counts as white. Errors as of `read_rgb`."""
    return np.asarray(Image.fromarray(read_rgb(path)).convert("L"))


def to_unit(picture: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8, or floats already in 0..1, as float64 in 0..1; `name` is the argument's, for the error."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"{name} has shape {picture.shape}; pictures are (H, W, 3).")
    if picture.dtype == np.uint8:
        return picture / 255.0
    if picture.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {picture.dtype}; pictures are uint8, or floats in 0..1.")
    if not (picture.min() >= 0.0 and picture.max() <= 1.0):  # written so that NaN is refused too
        raise ValueError(f"{name} holds floats from {picture.min():.3g} to {picture.max():.3g}; bring them into 0..1.")
    return picture.astype(np.float64)


def check_same_size(first: np.ndarray, second: np.ndarray) -> None:
    """Refuse (ValueError) two pictures of different shapes."""
    if first.shape != second.shape:
        raise ValueError(f"the pictures have shapes {first.shape} and {second.shape}: bring them to one size first.")


def check_keep(keep: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The pixels (H, W) bool that count in a picture (H, W, ...), if they can be used."""
    if keep.dtype != np.bool_:
        raise TypeError(f"keep has dtype {keep.dtype}; it is bool: cut the mask first.")
    if keep.shape != like.shape[:2]:
        raise ValueError(f"keep has shape {keep.shape}, the pictures {like.shape}: take both in one size.")
    if not keep.any():
        raise FullMaskError("no pixel is left to compare: check the mask, or widen it by less.")
    return keep


def soft_keep(mask: np.ndarray) -> np.ndarray:
    """(H, W) float64 `1 - mask / 255`: SmartEdit's, not cut at any level, so grey counts in part."""
    mask = _grey(mask)
    _marked(mask, 0)
    if mask.min() == 255:
        raise FullMaskError("the mask is white everywhere, so there is no background to compare: check it.")
    return 1.0 - mask / 255.0


def binary_keep(mask: np.ndarray, *, threshold: int = THRESHOLD, dilation: int = DILATION) -> np.ndarray:
    """(H, W) bool, the pixels further than `dilation` px (a disc's radius) from every one brighter than `threshold`."""
    if dilation < 0:
        raise ValueError(f"dilation is {dilation}; it is a number of pixels, 0 or more.")
    # the distance to the nearest marked pixel: cheaper than a dilation by a disc, and exact for any radius
    keep = np.asarray(ndimage.distance_transform_edt(~_marked(mask, threshold))) > dilation
    if not keep.any():
        raise FullMaskError(
            f"the mask, widened by {dilation} px, covers the whole picture, so there is no background to compare: "
            "check it, or widen it by less."
        )
    return keep


def paper_box(mask: np.ndarray) -> Box:
    """Box of the non-zero pixels whose last row and column are lost, as SmartEdit crops for CLIPScore."""
    left, top, right, bottom = strict_box(mask, threshold=0)
    box = Box(left, top, right - 1, bottom - 1)  # the script takes the last row and column for exclusive ends
    _check_box(box)
    return box


def strict_box(mask: np.ndarray, *, threshold: int = THRESHOLD) -> Box:
    """Box of the pixels brighter than `threshold`, all of them inside; EmptyMaskError if no pixel is."""
    rows, columns = np.nonzero(_marked(mask, threshold))
    return Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """The part of a (H, W, ...) array inside `box`, a copy."""
    _check_box(box)
    height, width = picture.shape[:2]
    if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
        raise ValueError(
            f"{tuple(box)} (left, top, right, bottom) reaches beyond {width} x {height} px: take mask and picture "
            "in one size."
        )
    return picture[box.top : box.bottom, box.left : box.right].copy()


def match_size(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`picture` in the size of `like`, both (H, W, 3) uint8: Pillow's bicubic, as MagicBrush's L1 and L2."""
    return _resized(picture, like.shape[1], like.shape[0], Image.Resampling.BICUBIC)


def squash_frame(side: int = SIDE) -> Frame:
    """The frame of SmartEdit's script: pictures fill it, their aspect ratio is lost."""
    return Frame(side, Box(0, 0, side, side))


def letterbox_frame(like: np.ndarray, side: int = SIDE) -> Frame:
    """The frame of a source (H, W, ...): the aspect ratio is kept, with black beside the picture."""
    height, width = like.shape[:2]
    scale = side / max(width, height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (side - inner_width) // 2, (side - inner_height) // 2
    return Frame(side, Box(left, top, left + inner_width, top + inner_height))


def place(picture: np.ndarray, frame: Frame) -> np.ndarray:
    """A picture in its frame: (H, W, 3) uint8 bicubic, or a mask (H, W) uint8 to the nearest pixel."""
    left, top, right, bottom = frame.content
    # a filter would mix grey levels into a mask's rim, and `threshold` would cut elsewhere
    method = Image.Resampling.BICUBIC if picture.ndim == 3 else Image.Resampling.NEAREST
    framed = np.zeros((frame.side, frame.side, *picture.shape[2:]), dtype=picture.dtype)
    framed[top:bottom, left:right] = _resized(picture, right - left, bottom - top, method)
    return framed


def paper_pair(source: np.ndarray, edited: np.ndarray, mask: np.ndarray, *, side: int = SIDE) -> MaskedPair:
    """Source and output times the soft mask, as SmartEdit compares them; of any sizes."""
    frame = squash_frame(side)
    return _pair(source, edited, soft_keep(place(_grey(mask), frame)), frame, "paper")


def strict_pair(
    source: np.ndarray,
    edited: np.ndarray,
    mask: np.ndarray,
    *,
    side: int = SIDE,
    threshold: int = THRESHOLD,
    dilation: int = DILATION,
) -> MaskedPair:
    """Source and output, black outside the background that is surely meant to stay.

    All three may differ in size: the output is brought to the source's aspect ratio first. `threshold` and `dilation`,
    in pixels of the frame, are those of `binary_keep`.
    """
    frame = letterbox_frame(source, side)
    # only the content is asked: the black beside it is no background that a wide dilation could leave over
    inner = crop(place(_grey(mask), frame), frame.content)
    return _pair(source, edited, binary_keep(inner, threshold=threshold, dilation=dilation), frame, "strict")


def paper_crop(edited: np.ndarray, mask: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """The edited region (H, W, 3) uint8 as SmartEdit shows it to CLIP: picture and mask squashed, then `paper_box`."""
    frame = squash_frame(side)
    return crop(place(edited, frame), paper_box(place(_grey(mask), frame)))


def strict_crop(edited: np.ndarray, mask: np.ndarray, *, like: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The edited region (H, W, 3) uint8 inside `strict_box`, in the frame of the source that it is `like`."""
    frame = letterbox_frame(like, side)
    return crop(place(edited, frame), strict_box(place(_grey(mask), frame)))


def _pair(source: np.ndarray, edited: np.ndarray, keep: np.ndarray, frame: Frame, variant: Variant) -> MaskedPair:
    """Both in the frame, painted black where `keep`, given for the frame's content, is 0."""
    left, top, right, bottom = frame.content
    weights = np.zeros((frame.side, frame.side))
    weights[top:bottom, left:right] = keep
    both = []
    for name, picture in (("source", source), ("edited", edited)):
        check_picture(name, picture)
        if picture.size == 0:
            raise ValueError(f"{name} has shape {picture.shape}: a picture has at least one pixel.")
        both.append(place(picture, frame) / 255.0 * weights[:, :, None])
    return MaskedPair(*both, weights, float(keep.mean()), variant)


def _grey(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of a mask that may be bool."""
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"the mask has shape {mask.shape}; masks are (H, W) with at least one pixel.")
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8) * np.uint8(255)
    if mask.dtype != np.uint8:
        raise TypeError(f"the mask has dtype {mask.dtype}; masks are uint8 or bool.")
    return mask


def _marked(mask: np.ndarray, threshold: int) -> np.ndarray:
    """(H, W) bool, what is to be edited."""
    marked = _grey(mask) > threshold
    if not marked.any():
        raise EmptyMaskError(f"no pixel of the mask is above {threshold}, so nothing is to be edited: check the mask.")
    return marked


def _check_box(box: Box) -> None:
    if box.right <= box.left or box.bottom <= box.top:
        raise EmptyCropError(
            f"the box {tuple(box)} (left, top, right, bottom) is empty: the region is too thin to be cropped by this "
            "rule; the strict one includes its last row and column."
        )


def _resized(values: np.ndarray, width: int, height: int, method: Image.Resampling) -> np.ndarray:
    if values.shape[:2] == (height, width):
        return values
    return np.asarray(Image.fromarray(values).resize((width, height), method))
