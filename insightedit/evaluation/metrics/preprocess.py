"""How a picture becomes what an encoder sees: the ways of the published scripts, each under its own name.

| name | resize | crop |
| --- | --- | --- |
| `openai` | Pillow, bicubic, short side | centre, half a pixel to the even one |
| `processor_pil` | the same | centre, half a pixel up and to the left |
| `processor_torchvision` | torchvision, bicubic, antialias, short side | as `processor_pil` |
| `instructpix2pix` | bicubic *without* antialias to the square, aspect ratio lost | none |

`openai` is what OpenAI's `clip`, open_clip and MagicBrush do, with the transforms of torchvision on Pillow images;
`processor_pil` the processor of transformers 4 (`CLIPImageProcessorPil` of 5), so SmartEdit and MIGE;
`processor_torchvision` the `CLIPImageProcessor` of transformers 5.

Scores of different ways do not belong into one table: on four photographs of 256 x 256 px, `instructpix2pix` is 0.6
to 1.7 grey levels a pixel away from `openai` in the mean, `processor_torchvision` 0.001 to 0.003, and the two
roundings may shift a picture that is not square by a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as tv
from torchvision.transforms.v2 import functional as tv2

from insightedit.evaluation.scenes.scoring import check_picture

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """One way, ready to be applied."""

    method: str  # a name of `METHODS`
    size: int = 224  # pixels of a side of what comes out
    short_side: int = 224  # pixels of the short side between resize and crop; `instructpix2pix` does without
    mean: tuple[float, float, float] = CLIP_MEAN  # of red, green, blue, on the scale 0..1, subtracted
    std: tuple[float, float, float] = CLIP_STD  # of red, green, blue, divided by

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"the preprocess {self.method!r} is unknown: it is one of {', '.join(METHODS)}.")
        if not 0 < self.size <= self.short_side:
            raise ValueError(
                f"size is {self.size} and short_side {self.short_side}: a crop has at least 1 px and no more than "
                "the short side it is cut from."
            )

    def __call__(self, picture: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB of any size -> (3, size, size) float32, normalised."""
        check_picture("picture", picture)
        if picture.size == 0:
            raise ValueError(f"picture has shape {picture.shape}: an encoder needs at least one pixel.")
        pixels = METHODS[self.method](picture, self.short_side, self.size)
        mean, std = (torch.tensor(one)[:, None, None] for one in (self.mean, self.std))  # [3, 1, 1]
        return (pixels - mean) / std


def clip_preprocess(method: str = "openai", *, size: int = 224) -> Preprocess:
    """CLIP's: short side and crop of the same `size`, CLIP's means."""
    return Preprocess(method, size, size)


def dino_preprocess(method: str = "openai", *, size: int = 224) -> Preprocess:
    """DINO's by MagicBrush's `evaluation/image_eval.py` and MIGE: short side 256, crop 224 or so, ImageNet's mean."""
    return Preprocess(method, size, round(size * 256 / 224), IMAGENET_MEAN, IMAGENET_STD)


def _openai(picture: np.ndarray, short_side: int, size: int) -> Tensor:
    # torchvision leaves the even one of n and n + 1 px above and to the left, where 2n + 1 are too many
    return tv.to_tensor(tv.center_crop(_resized(picture, short_side), [size]))


def _processor_pil(picture: np.ndarray, short_side: int, size: int) -> Tensor:
    return _middle(tv.to_tensor(_resized(picture, short_side)), size)


def _processor_torchvision(picture: np.ndarray, short_side: int, size: int) -> Tensor:
    pixels = rearrange(torch.from_numpy(np.array(picture)), "h w c -> c h w")
    # still uint8: the resize rounds to whole grey levels, as the processor's does
    resized = tv2.resize(pixels, [short_side], interpolation=tv.InterpolationMode.BICUBIC, antialias=True)
    return _middle(resized.float().div(255.0), size)


def _instructpix2pix(picture: np.ndarray, short_side: int, size: int) -> Tensor:
    # bicubic weights are negative in places: values may lie a little beyond 0..1, and the script does not clamp them
    pixels = tv.to_tensor(np.array(picture))[None]
    return F.interpolate(pixels, size=(size, size), mode="bicubic", align_corners=False)[0]


METHODS: dict[str, Callable[[np.ndarray, int, int], Tensor]] = {
    "openai": _openai,
    "processor_pil": _processor_pil,
    "processor_torchvision": _processor_torchvision,
    "instructpix2pix": _instructpix2pix,
}  # name -> (picture, short side, size) -> (3, size, size) float32 on the scale 0..1


def _resized(picture: np.ndarray, short_side: int) -> Any:
    """`PIL.Image.Image`, by Pillow's bicubic filter; the long side is rounded down."""
    opened: Any = Image.fromarray(picture)  # torchvision names tensors only
    return tv.resize(opened, [short_side], tv.InterpolationMode.BICUBIC)


def _middle(pixels: Tensor, size: int) -> Tensor:
    """(3, H, W) -> (3, size, size); of 2n + 1 px too many, n are above and to the left, as in transformers."""
    top, left = ((length - size) // 2 for length in pixels.shape[1:])
    return pixels[:, top : top + size, left : left + size]
