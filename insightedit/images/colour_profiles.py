"""Colour profiles: what a picture's numbers mean in sRGB, and back.

The model and every measurement see sRGB; the picture keeps its own numbers and its profile, so that what the
background lock leaves alone stays the same, bit for bit, and what is painted in has the colours it was drawn with.

Relative colorimetric with black point compensation, 8 bits a channel, by Little CMS.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
SAME = 2  # of 255: a profile that differs less is sRGB, written and rounded by another program


class _Transforms(NamedTuple):
    forth: ImageCms.ImageCmsTransform  # to sRGB
    back: ImageCms.ImageCmsTransform


def is_srgb(profile: bytes | None, channels: int) -> bool:
    """Whether a picture's numbers are to be taken as they are; `channels`: 1 grey, 3 RGB, 4 CMYK.

    So it is where the ICC profile is missing, is sRGB, is damaged, is for other channels, or leads only one way.
    """
    return profile is None or _transforms(profile, channels) is None


def to_srgb(colour: np.ndarray, profile: bytes) -> np.ndarray:
    """(H, W, C) uint8 of a profile that is not sRGB -> (H, W, 3) uint8 in sRGB."""
    return _apply(_known(profile, colour.shape[2]).forth, colour)


def from_srgb(rgb: np.ndarray, profile: bytes, channels: int) -> np.ndarray:
    """(H, W, 3) float32 sRGB in [0, 255] -> (H, W, C) float32 in [0, 255] of a profile that is not sRGB."""
    rounded = np.rint(np.clip(rgb, 0.0, 255.0)).astype(np.uint8)
    return _apply(_known(profile, channels).back, rounded).astype(np.float32)


def _known(profile: bytes, channels: int) -> _Transforms:
    made = _transforms(profile, channels)
    if made is None:
        raise ValueError(f"the colour profile says nothing about {channels} channels: ask `is_srgb` first.")
    return made


def _apply(transform: ImageCms.ImageCmsTransform, values: np.ndarray) -> np.ndarray:
    mode, height, width = MODES[values.shape[2]], *values.shape[:2]
    image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(values).tobytes(), "raw", mode, 0, 1)
    changed = np.array(ImageCms.applyTransform(image, transform))
    return changed[:, :, None] if changed.ndim == 2 else changed


@lru_cache(maxsize=8)
def _transforms(profile: bytes, channels: int) -> _Transforms | None:
    mode = MODES[channels]
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        if channels == 1:
            flags |= ImageCms.Flags.NOOPTIMIZE  # which would tabulate grey at 33 points, too few for a linear one
        how = {"renderingIntent": ImageCms.Intent.RELATIVE_COLORIMETRIC, "flags": flags}
        made = _Transforms(
            ImageCms.buildTransform(own, srgb, mode, "RGB", **how),
            ImageCms.buildTransform(srgb, own, "RGB", mode, **how),
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if channels == 4:
        return made
    steps = np.arange(256, dtype=np.uint8) if channels == 1 else np.arange(0, 256, 15, dtype=np.uint8)
    probe = np.stack(np.meshgrid(*[steps] * channels, indexing="ij"), axis=-1).reshape(1, -1, channels)
    off = np.abs(_apply(made.forth, probe).astype(np.int16) - probe)
    return None if off.max() <= SAME else made
