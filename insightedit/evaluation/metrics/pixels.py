"""How far the pixels of two pictures are apart: PSNR, SSIM, L1 and L2.

Pictures are (H, W, 3), uint8 or floats in 0..1; all values hold for the scale 0..1. `keep`, (H, W) bool, restricts a
mean to some pixels; without it the mean runs over all of them. The two readings of a masked pair, `paper` and
`strict`, are told in `insightedit.evaluation.metrics.masks`. For one binary mask their PSNR differs by exactly
`-10 log10(share of kept pixels)`: the black part counts as a perfect match in `paper`.

All raise ValueError if shapes differ or values are out of range, FullMaskError if `keep` has no pixel, and TypeError
if a dtype is wrong.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from skimage.metrics import structural_similarity

from insightedit.evaluation.metrics.masks import check_keep, check_same_size, to_unit

PSNR_CAP = 60.0  # dB; equal pictures would be infinite
CROP_BORDER = 5  # pixels, half of SSIM's window
WINDOW = 2 * CROP_BORDER + 1  # pixels; a Gaussian of sigma 1.5, cut at 3.5 sigma


class Psnr(NamedTuple):
    """A peak signal-to-noise ratio in dB, and whether it was brought down to the cap."""

    value: float
    capped: bool


def l1(first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None) -> float:
    """Mean absolute difference, 0..1."""
    return float(np.abs(_difference(first, second, keep)).mean())


def l2(first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None) -> float:
    """Mean squared difference without a root, 0..1."""
    return float(np.square(_difference(first, second, keep)).mean())


def psnr(first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None, cap: float = PSNR_CAP) -> Psnr:
    """Peak signal-to-noise ratio for a peak of 1; with a `cap` (dB) of `math.inf`, equal pictures are infinite."""
    error = l2(first, second, keep=keep)  # PSNR = 10 log10(peak^2 / MSE), and the peak is 1
    value = math.inf if error == 0.0 else -10.0 * math.log10(error)
    return Psnr(min(value, cap), value > cap)


def ssim(
    first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None, crop_border: int = CROP_BORDER
) -> float:
    """Structural similarity, -1..1: Gaussian window of sigma 1.5, k1 = .01, k2 = .03, mean over channels and pixels.

    Both sides have at least 11 pixels; the windows reach beyond `keep`. A `crop_border` of 5 leaves the outer 5 pixels
    out, as torchmetrics up to 1.3.2 (SmartEdit's time) and as scikit-image, which computes it here; 0 takes them in,
    over a mirrored border, as torchmetrics from 1.4.3, which computes it here.
    """
    check_same_size(first, second)
    first, second = to_unit(first, "first"), to_unit(second, "second")
    if min(first.shape[:2]) < WINDOW:
        raise ValueError(
            f"the pictures have {first.shape[1]} x {first.shape[0]} px; SSIM's window needs {WINDOW} each way."
        )
    if crop_border == CROP_BORDER:
        # population covariance, as the paper's formula; scikit-image's own default divides by N - 1
        how: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        similarity = structural_similarity(first, second, channel_axis=2, data_range=1.0, full=True, **how)[1]
        # scikit-image mirrors the border and leaves it out of its own mean: only whole windows count
        inner = slice(CROP_BORDER, -CROP_BORDER)
        similarity = similarity[inner, inner]
        keep = None if keep is None else check_keep(keep, first)[inner, inner]
    elif crop_border == 0:
        try:
            from torchmetrics.functional.image import structural_similarity_index_measure
        except ImportError as error:
            raise ValueError(
                "SSIM with crop_border=0 needs torchmetrics, which is not installed: pip install 'insightedit[eval]'."
            ) from error
        import torch

        # torchmetrics wants (B, C, H, W), here in float32; at the border it mirrors the picture
        both = (torch.from_numpy(one.transpose(2, 0, 1)).float().contiguous()[None] for one in (first, second))
        _, found = structural_similarity_index_measure(*both, data_range=1.0, return_full_image=True)
        similarity = found[0].double().numpy().transpose(1, 2, 0)
    else:
        raise ValueError(f"crop_border is {crop_border}; it is 5 (cropped) or 0 (not cropped).")
    return float(_kept(similarity, keep).mean())


def _difference(first: np.ndarray, second: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    """Float64 differences of the pixels that count: uint8 would wrap around."""
    check_same_size(first, second)
    return _kept(to_unit(first, "first") - to_unit(second, "second"), keep)


def _kept(values: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    """The pixels of an (H, W, C) array that count."""
    return values if keep is None else values[check_keep(keep, values)]
