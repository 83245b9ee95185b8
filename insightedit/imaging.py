"""Pictures in, pictures out: every mode and size that users have, on the way to the model's square and back.

What comes back has the size and mode of what went in, with these exceptions, each because the mode cannot
hold an edit:

| read as | comes back as | note |
| --- | --- | --- |
| `1` | `L` | two values cannot hold shades |
| `P`, `PA` | `RGB`, or `RGBA` with transparency | a palette cannot hold new colours |
| `YCbCr`, `HSV`, `LAB` | `RGB` | |
| `I;16B`, `I;16L`, `I;16N` | `I;16` | same values, native byte order |

Grey stays grey (`L`, `LA`, `I;16`, `I`): convert to RGB first if the edit is to add colour. Alpha is set
aside and given back untouched. The EXIF rotation is applied and its tag dropped; of the metadata only the
colour profile and the resolution in dots per inch are kept. Pillow reads 16-bit *colour* files as 8 bits;
pass a uint16 array to keep them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MAX_SIDE = 16_384  # pixels
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs

_KEPT_INFO = ("icc_profile", "dpi")
_WIDENED = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}
_WIDENED.update(dict.fromkeys(("YCbCr", "HSV", "LAB"), "RGB"))
_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Picture:
    """One picture at its native size.

    Attributes:
        colour: (H, W, C) without alpha: C = 1 grey, 3 RGB, 4 CMYK; uint8, uint16, int32 (mode `I`) or float32
            in [0, 1].
        alpha: (H, W) of the same dtype, or None.
        mode: Pillow mode that it comes back as; None where no Pillow mode can hold it (16-bit or float
            colour).
        info: metadata that is kept.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    mode: str | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, Pillow's order."""
        return self.colour.shape[1], self.colour.shape[0]

    @property
    def white(self) -> float:
        """The value of full brightness: 255, 65535 or 1."""
        kind = self.colour.dtype.kind
        return 1.0 if kind == "f" else 255.0 if self.colour.dtype == np.uint8 else 65535.0

    def with_colour(self, colour: np.ndarray) -> Picture:
        """The same picture with other pixels; alpha, mode and metadata as they were."""
        return replace(self, colour=colour)


PictureInput = Picture | str | os.PathLike | Image.Image | np.ndarray | Tensor


def read_picture(source: PictureInput) -> Picture:
    """Read one picture.

    Args:
        source: path, Pillow image, array (H, W), (H, W, 1 | 2 | 3 | 4) of uint8, uint16 or float in [0, 1] (2
            and 4 channels: the last is alpha), or tensor (1 | 2 | 3 | 4, H, W) with the same dtypes.

    Returns:
        The picture, upright.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: not a picture, truncated, empty, too large, or values out of range.
        TypeError: if `source` is of another kind.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source))
    if isinstance(source, Image.Image):
        return _from_pil(source, "the given image")
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise TypeError(
        f"`image` is a {type(source).__name__}; pass a path, a PIL image, an array (H, W, C) or a tensor "
        "(C, H, W)."
    )


def read_pictures(source: PictureInput | Sequence[PictureInput]) -> list[Picture]:
    """Read one picture or several.

    Args:
        source: what `read_picture` takes, a list or tuple of it, a (B, C, H, W) tensor or (B, H, W, C) array.

    Raises:
        ValueError: if there is none; and as `read_picture`.
    """
    is_batch = isinstance(source, Tensor | np.ndarray) and source.ndim == 4
    several: Any = source if is_batch or isinstance(source, list | tuple) else [source]
    if len(several) == 0:
        raise ValueError("`image` is an empty list: give at least one picture.")
    return [read_picture(one) for one in several]


def read_mask(source: PictureInput, size: tuple[int, int]) -> np.ndarray:
    """A mask: white (128 and brighter; transparent counts as white) may be edited.

    Args:
        source: what `read_picture` takes, or a bool array (H, W).
        size: (width, height) that it has to have: the upright source's.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: if the size is another.
    """
    if isinstance(source, Tensor) and source.dtype == torch.bool:
        source = source.cpu().numpy()
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        source = source.squeeze().astype(np.uint8) * 255
    picture = read_picture(source)
    if picture.size != size:
        raise ValueError(
            f"the mask has {picture.size[0]} x {picture.size[1]} px and the picture {size[0]} x {size[1]}: "
            "make the mask in the picture's size."
        )
    return to_rgb(picture).mean(axis=2) >= 128


def _from_file(path: Path) -> Picture:
    if not path.exists():
        raise FileNotFoundError(f"No file at {path}: check the path of the image.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not an image: name one picture in it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            with Image.open(path) as image:
                _check_size(*image.size, str(path))
                image.load()
                return _from_pil(image, str(path))
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not an image that Pillow can read: convert it to PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(str(path), "more pixels than that")) from error
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged data
        raise ValueError(f"{path} is damaged or cut off ({error}): copy or export it again.") from error


def _from_pil(image: Image.Image, name: str) -> Picture:
    _check_size(*image.size, name)
    info = {key: image.info[key] for key in _KEPT_INFO if image.info.get(key) is not None}
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(
            f"{name} holds floating-point values (mode F) of unknown range: save it with 8 or 16 bits."
        )
    if image.mode in ("P", "1", "L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    image = image.convert(_WIDENED[image.mode]) if image.mode in _WIDENED else image
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        return Picture(values[:, :, None], None, "I;16", info)
    pixels = np.array(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if image.mode == "I" and (pixels.min() < 0 or pixels.max() > 65535):
        raise ValueError(f"{name} holds 32-bit values beyond 0..65535: save it with 8 or 16 bits.")
    if image.mode in ("LA", "RGBA"):
        return Picture(pixels[:, :, :-1], pixels[:, :, -1], image.mode, info)
    return Picture(pixels, None, image.mode, info)


def _from_tensor(tensor: Tensor) -> Picture:
    if tensor.ndim != 3:
        raise ValueError(f"`image` is a tensor of shape {tuple(tensor.shape)}; one picture is (C, H, W).")
    return _from_array(rearrange(tensor.detach().cpu(), "c h w -> h w c").numpy())


def _from_array(array: np.ndarray) -> Picture:
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _MODE_OF_CHANNELS:
        raise ValueError(
            f"`image` is an array of shape {array.shape}; one picture is (H, W) or (H, W, 1 to 4)."
        )
    _check_size(array.shape[1], array.shape[0], "the given array")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"`image` holds floats from {array.min():.3g} to {array.max():.3g}; bring them into [0, 1] "
                "(a picture in [-1, 1] is x / 2 + 0.5)."
            )
    elif array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"`image` has dtype {array.dtype}; use uint8, uint16 or floats in [0, 1].")
    channels = array.shape[2]
    mode = _MODE_OF_CHANNELS[channels] if array.dtype == np.uint8 else None
    mode = "I;16" if array.dtype == np.uint16 and channels == 1 else mode
    if channels in (2, 4):
        return Picture(array[:, :, :-1].copy(), array[:, :, -1].copy(), mode)
    return Picture(array.copy(), None, mode)


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"{name} is empty ({width} x {height} px): give a picture with at least one pixel.")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(_too_large(name, f"{width:,} x {height:,} px"))


def _too_large(name: str, size: str) -> str:
    return (
        f"{name} is too large ({size}): the limit is {MAX_SIDE:,} px a side, {MAX_PIXELS:,} pixels in all; "
        "scale it down or cut out the part to edit."
    )


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of its own mode, with the metadata that is kept.

    Raises:
        ValueError: if no Pillow mode can hold it.
    """
    if picture.mode is None:
        raise ValueError(
            f"a picture of {picture.colour.shape[2]} channels of {picture.colour.dtype} has no Pillow mode: "
            'ask for output_type="np" or "pt".'
        )
    planes = picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])
    planes = planes[:, :, 0] if planes.shape[2] == 1 else planes
    image = Image.frombuffer(picture.mode, picture.size, np.ascontiguousarray(planes).tobytes())
    image = image.copy()
    image.info.update(picture.info)
    return image


def to_float(picture: Picture) -> np.ndarray:
    """(H, W, C) float32 in [0, 1], alpha last; times 255, an 8-bit picture gets its bytes back."""
    planes = picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])
    return planes.astype(np.float32) / np.float32(picture.white)


def to_rgb(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8 as a viewer shows it: grey repeated, CMYK converted, transparency over white."""
    if picture.mode == "CMYK":
        image = Image.frombuffer("CMYK", picture.size, np.ascontiguousarray(picture.colour).tobytes())
        return np.array(image.convert("RGB"))
    colour = _as_uint8(picture.colour, picture.white)
    colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    if picture.alpha is None:
        return colour
    alpha = _as_uint8(picture.alpha, picture.white)
    if alpha.min() == 255:
        return colour
    opacity = alpha.astype(np.float32)[:, :, None] / 255.0
    return np.rint(colour * opacity + 255.0 * (1.0 - opacity)).astype(np.uint8)


def _as_uint8(values: np.ndarray, white: float) -> np.ndarray:
    return values if values.dtype == np.uint8 else np.rint(values * (255.0 / white)).astype(np.uint8)


def from_rgb(rgb: np.ndarray, like: Picture) -> np.ndarray:
    """(H, W, 3) float32 in [0, 255] -> `like.colour`'s channels, as float32 in 0..`like.white`.

    Grey is the luma of ITU-R 601, as in Pillow; CMYK is Pillow's conversion (no ink profile).
    """
    if like.mode == "CMYK":
        inks = 255.0 - rgb
        return np.dstack([inks, np.zeros_like(inks[:, :, :1])])
    if like.colour.shape[2] == 1:
        rgb = (rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[:, :, None]
    return rgb * np.float32(like.white / 255.0)


def squash(rgb: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) -> (side, side, 3) uint8, bicubic; the aspect ratio is not kept, as in SmartEdit."""
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))


def stretch(values: np.ndarray, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """(h, w, C) float32 -> (H, W, C) float32 for `size` = (W, H): bicubic, or bilinear without overshoot."""
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    if values.shape[1::-1] == size:
        return values.astype(np.float32)
    planes = [
        Image.fromarray(np.ascontiguousarray(values[:, :, c], dtype=np.float32))
        for c in range(values.shape[2])
    ]
    return np.dstack([np.asarray(plane.resize(size, method)) for plane in planes])


def pixels_to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return rearrange(torch.from_numpy(np.array(rgb)), "h w c -> c h w").float().div(127.5).sub(1.0)


def tensor_to_pixels(pixels: Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1], values beyond clipped -> (H, W, 3) float32 in [0, 255]."""
    clipped = pixels.detach().float().clamp(-1.0, 1.0).add(1.0).mul(127.5)
    return rearrange(clipped.cpu(), "c h w -> h w c").numpy()
