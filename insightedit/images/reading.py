"""Pictures in, pictures out: the one reader of the package, and the way to the model's square and back.

Editing, training, recipes, the doctor and the evaluation see the same pixels, because all read here:

upright, 8 bits, sRGB, transparency over white, of several frames the first; floats are [0, 1] and 32-bit integers
0..65535, since a guess at other ranges would be a wrong brightness without a word.

What comes back has the size and mode of what went in, except where the mode cannot hold an edit: `1` becomes `L`, `P`
and `PA` become `RGB` or `RGBA`, other colour spaces `RGB`. Grey stays grey; alpha, colour profile and resolution are
given back untouched. docs/pictures.md has the whole table.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from einops import rearrange
from PIL import Image

from insightedit.images.colour_profiles import from_srgb, is_srgb, to_srgb
from insightedit.images.picture_files import MAX_SIDE as MAX_SIDE
from insightedit.images.picture_files import PICTURE_SUFFIXES as PICTURE_SUFFIXES
from insightedit.images.picture_files import PictureError, check_size, name_of, open_picture
from insightedit.images.picture_files import is_picture_file as is_picture_file

if TYPE_CHECKING:
    from torch import Tensor

STRIP_PIXELS = 2**24  # what is computed in floats is computed so many pixels at a time
_WIDENED = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}
_WIDENED.update(dict.fromkeys(("YCbCr", "HSV", "LAB"), "RGB"))
_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_T = Image.Transpose
_TURNS = {  # EXIF's orientation -> what brings it upright
    2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_270,
    7: _T.TRANSVERSE, 8: _T.ROTATE_90,
}  # fmt: skip
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = {5, 6, 7, 8}


@dataclass(frozen=True)
class Picture:
    """One picture at its native size."""

    # (H, W, C) without alpha: C = 1 grey, 3 RGB, 4 CMYK; uint8, uint16, int32 (mode `I`) or float32 in [0, 1]
    colour: np.ndarray
    alpha: np.ndarray | None = None  # (H, W) of the same dtype, or None
    mode: str | None = None  # of Pillow that it comes back as; None where none can hold it (16-bit or float colour)
    info: dict[str, Any] = field(default_factory=dict)  # `icc_profile` (bytes), `dpi` (two floats)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, Pillow's order."""
        return self.colour.shape[1], self.colour.shape[0]

    @property
    def white(self) -> float:
        """The value of full brightness: 255, 65535 or 1."""
        kind = self.colour.dtype.kind
        return 1.0 if kind == "f" else 255.0 if self.colour.dtype == np.uint8 else 65535.0

    @property
    def visible(self) -> np.ndarray | None:
        """(H, W) bool, False where alpha is 0; None if there is no such pixel."""
        return None if self.alpha is None or self.alpha.min() > 0 else self.alpha > 0

    def with_colour(self, colour: np.ndarray) -> Picture:
        """The same picture with other pixels; alpha, mode and metadata as they were."""
        return replace(self, colour=colour)

    def rows(self, rows: slice) -> Picture:
        """Some of its rows, as a view."""
        return replace(self, colour=self.colour[rows], alpha=None if self.alpha is None else self.alpha[rows])


PictureInput: TypeAlias = "Picture | str | os.PathLike | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"


def strips(size: tuple[int, int], rows: slice | None = None, pixels: int | None = None) -> Iterator[slice]:
    """Rows of a picture of `size` = (W, H), or some of them, at most `pixels` (`STRIP_PIXELS`) or one row at a time."""
    height, part = max(1, (pixels or STRIP_PIXELS) // size[0]), rows or slice(0, size[1])
    return (slice(top, min(top + height, part.stop)) for top in range(part.start, part.stop, height))


def read_picture(source: PictureInput, name: str | None = None) -> Picture:
    """Read one picture, upright.

    Args:
        source: path, a file's content, a binary file object, Pillow image, array (H, W), (H, W, 1 | 2 | 3 | 4) of
            uint8, uint16 or float in [0, 1] (2 and 4 channels: the last is alpha), or tensor
            (1 | 2 | 3 | 4, H, W) with the same dtypes.
        name: what messages call it; by default its path.

    Raises:
        FileNotFoundError: if there is no such file.
        PictureError: not a picture, damaged, empty, too large, or values out of range.
        TypeError: if `source` is of another kind.
    """
    if isinstance(source, Picture):
        return source
    if _is_tensor(source):
        if source.ndim != 3:
            raise PictureError(f"`image` is a tensor of shape {tuple(source.shape)}; one picture is (C, H, W).")
        source = rearrange(source.detach().cpu(), "c h w -> h w c").numpy()
    if isinstance(source, np.ndarray):
        return _from_array(source)
    with open_picture(source, name) as image:
        return _from_pil(image, name or name_of(source))


def read_rgb(source: PictureInput, name: str | None = None) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of what `read_picture` takes, upright, transparency over white; raises as it does."""
    return to_rgb(read_picture(source, name))


def read_pictures(source: PictureInput | Sequence[PictureInput]) -> list[Picture]:
    """Read what `read_picture` takes, a list of it, a (B, C, H, W) tensor or a (B, H, W, C) array."""
    is_batch = (_is_tensor(source) or isinstance(source, np.ndarray)) and source.ndim == 4
    several: Any = source if is_batch or isinstance(source, list | tuple) else [source]
    if len(several) == 0:
        raise ValueError("`image` is an empty list: give at least one picture.")
    return [read_picture(one) for one in several]


def read_mask(source: PictureInput, size: tuple[int, int]) -> np.ndarray:
    """A mask, (H, W) bool: white (128 and brighter; transparent counts as white) may be edited.

    `source` may also be a bool array (H, W); `size` is the upright picture's (width, height), else a ValueError.
    """
    if _is_tensor(source) and str(source.dtype) == "torch.bool":
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


def read_region(source: PictureInput, name: str | None = None) -> np.ndarray:
    """A data set's mask, (H, W) uint8, 255 = meant: a picture with a hole, which is meant, or white on black."""
    picture = read_picture(source, name)
    if picture.alpha is not None and picture.alpha.min() < picture.white:
        return 255 - _as_uint8(picture.alpha, picture.white)
    return np.asarray(Image.fromarray(to_rgb(picture)).convert("L"))


def read_labels(source: PictureInput, name: str | None = None) -> np.ndarray:
    """(H, W) values of a label picture as they are stored: grey levels, or the numbers of a palette's colours."""
    with open_picture(source, name) as image:
        return np.array(image)


def _from_pil(image: Image.Image, name: str) -> Picture:
    image.load()
    info: dict[str, Any] = {}
    if isinstance(profile := image.info.get("icc_profile"), bytes) and profile:
        info["icc_profile"] = profile
    dpi = image.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2:
        dpi = tuple(float(value) for value in dpi)
        if all(math.isfinite(value) and value > 1.0 for value in dpi):  # Pillow tells 1 where a TIFF file tells none
            info["dpi"] = dpi
    orientation = _orientation(image)
    turn = _TURNS.get(orientation)
    if orientation in _SIDEWAYS and "dpi" in info:
        info["dpi"] = info["dpi"][::-1]
    if image.mode == "LAB":
        info.pop("icc_profile", None)  # Pillow goes by the standard's own white
    if image.mode in ("P", "1", "L", "RGB") and image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    image = image.convert(_WIDENED[image.mode]) if image.mode in _WIDENED else image
    image = image if turn is None else image.transpose(turn)
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    pixels = _pixels(image)
    if mode == "I" and (pixels.min() < 0 or pixels.max() > 65535):
        raise PictureError(f"{name} holds 32-bit values beyond 0..65535: save it with 8 or 16 bits.")
    if mode == "F":
        _check_floats(pixels, name)
    if mode in ("LA", "RGBA"):
        return Picture(pixels[:, :, :-1], pixels[:, :, -1], mode, info)
    return Picture(pixels, None, mode, info)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, C) in native byte order; by strips, since Pillow hands out every part as a copy."""
    one = np.asarray(image.crop((0, 0, 1, 1)))
    shape = (image.height, image.width, 1 if one.ndim == 2 else one.shape[2])
    pixels = np.empty(shape, one.dtype.newbyteorder("="))
    for rows in strips(image.size):
        part = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        pixels[rows] = part[:, :, None] if part.ndim == 2 else part
    return pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) that an opened picture will have once it is read, without decoding it."""
    turned = image.format != "TIFF" and _orientation(image) in _SIDEWAYS  # Pillow itself turns TIFF
    width, height = image.size
    return (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where the metadata are damaged, as viewers take it."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises anything for damaged EXIF data, and the picture itself is whole
        return 1


def _is_tensor(source: object) -> TypeGuard[Tensor]:
    """Without torch, which recipes and the doctor do without, there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_array(array: np.ndarray) -> Picture:
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _MODE_OF_CHANNELS:
        raise PictureError(f"`image` is an array of shape {array.shape}; one picture is (H, W) or (H, W, 1 to 4).")
    check_size(array.shape[1], array.shape[0], "the given array")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        _check_floats(array, "`image`")
    elif array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"`image` has dtype {array.dtype}; use uint8, uint16 or floats in [0, 1].")
    channels = array.shape[2]
    mode = _MODE_OF_CHANNELS[channels] if array.dtype == np.uint8 else None
    mode = "I;16" if array.dtype == np.uint16 and channels == 1 else mode
    if channels in (2, 4):
        return Picture(array[:, :, :-1].copy(), array[:, :, -1].copy(), mode)
    return Picture(array.copy(), None, mode)


def _check_floats(values: np.ndarray, name: str) -> None:
    if not (values.min() >= 0 and values.max() <= 1):
        raise PictureError(
            f"{name} holds floats from {values.min():.3g} to {values.max():.3g}; bring them into [0, 1] (a picture in "
            "[-1, 1] is x / 2 + 0.5, one up to 255 is x / 255)."
        )


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of its own mode, with the metadata that is kept; a `ValueError` where none is."""
    if picture.mode is None:
        raise ValueError(
            f"a picture of {picture.colour.shape[2]} channels of {picture.colour.dtype} has no Pillow mode: "
            'ask for output_type="np" or "pt".'
        )
    values = np.ascontiguousarray(_planes(picture)).reshape(-1).view(np.uint8)
    image = Image.frombuffer(picture.mode, picture.size, values.data, "raw", picture.mode, 0, 1)
    image = image.copy() if image.readonly else image  # of grey pictures Pillow shares the memory
    image.info.update(picture.info)
    return image


def _planes(picture: Picture) -> np.ndarray:
    return picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])


def to_float(picture: Picture) -> np.ndarray:
    """(H, W, C) float32 in [0, 1], alpha last; times 255, an 8-bit picture gets its bytes back."""
    return _planes(picture).astype(np.float32) / np.float32(picture.white)


def to_rgb(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8 sRGB as a viewer shows it: grey repeated, CMYK converted, transparency over white."""
    is_bytes = picture.colour.dtype == np.uint8 and picture.colour.shape[2] == 3
    is_opaque = picture.alpha is None or picture.alpha.min() == 255
    if is_bytes and is_opaque and is_srgb(picture.info.get("icc_profile"), 3):
        return picture.colour
    rgb = np.empty((*picture.colour.shape[:2], 3), np.uint8)
    for rows in strips(picture.size):
        rgb[rows] = _rgb_of(picture.rows(rows))
    return rgb


def _rgb_of(picture: Picture) -> np.ndarray:
    colour = picture.colour if picture.mode == "CMYK" else _as_uint8(picture.colour, picture.white)
    profile = picture.info.get("icc_profile")
    if not is_srgb(profile, colour.shape[2]):
        colour = to_srgb(colour, profile)
    elif picture.mode == "CMYK":
        image = Image.frombuffer("CMYK", picture.size, np.ascontiguousarray(colour).tobytes())
        colour = np.array(image.convert("RGB"))
    if picture.alpha is None:
        return colour
    opacity = _as_uint8(picture.alpha, picture.white).astype(np.float32)[:, :, None] / 255.0
    return np.rint(colour * opacity + 255.0 * (1.0 - opacity)).astype(np.uint8)


def _as_uint8(values: np.ndarray, white: float) -> np.ndarray:
    return values if values.dtype == np.uint8 else np.rint(values * (255.0 / white)).astype(np.uint8)


def from_rgb(rgb: np.ndarray, like: Picture) -> np.ndarray:
    """(H, W, 3) float32 sRGB in [0, 255] -> `like.colour`'s channels, as float32 in 0..`like.white`."""
    profile = like.info.get("icc_profile")
    if not is_srgb(profile, like.colour.shape[2]):
        return from_srgb(rgb, profile, like.colour.shape[2]) * np.float32(like.white / 255.0)
    if like.mode == "CMYK":  # as Pillow's conversion has it
        inks = 255.0 - rgb
        return np.dstack([inks, np.zeros_like(inks[:, :, :1])])
    if like.colour.shape[2] == 1:  # the luma of ITU-R 601, as in Pillow
        rgb = (rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[:, :, None]
    return rgb * np.float32(like.white / 255.0)


def squash(rgb: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) -> (side, side, 3) uint8, bicubic; the aspect ratio is not kept, as in SmartEdit."""
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))


def stretch(values: np.ndarray, size: tuple[int, int], smooth: bool = True, rows: slice | None = None) -> np.ndarray:
    """(h, w, C) float32 -> (H, W, C) float32 for `size` = (W, H): bicubic, or bilinear without overshoot.

    With `rows` only these of the result.
    """
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    part = slice(0, size[1]) if rows is None else rows
    if values.shape[1::-1] == size:
        return values[part].astype(np.float32)
    share = values.shape[0] / size[1]
    box = (0.0, part.start * share, float(values.shape[1]), min(part.stop * share, float(values.shape[0])))
    out = (size[0], part.stop - part.start)
    stretched = np.empty((*out[::-1], values.shape[2]), np.float32)
    for c in range(values.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(values[:, :, c], dtype=np.float32))
        stretched[:, :, c] = plane.resize(out, method, box)
    return stretched


def pixels_to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    import torch

    return rearrange(torch.from_numpy(np.array(rgb)), "h w c -> c h w").float().div(127.5).sub(1.0)


def tensor_to_pixels(pixels: Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1], values beyond clipped -> (H, W, 3) float32 in [0, 255]."""
    clipped = pixels.detach().float().clamp(-1.0, 1.0).add(1.0).mul(127.5)
    return rearrange(clipped.cpu(), "c h w -> h w c").numpy()
