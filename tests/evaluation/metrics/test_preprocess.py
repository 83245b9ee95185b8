"""Each way of preparing a picture is the one it is named after, to the bit where bits are defined."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from transformers import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from insightedit.evaluation.metrics.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    METHODS,
    Preprocess,
    clip_preprocess,
    dino_preprocess,
)
from tests.evaluation.metrics.toy_encoders import photos

SIZES = [(300, 400), (400, 300), (224, 227), (229, 224), (31, 1), (500, 500)]


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is their exclusive or: fine detail that a filter changes."""
    rows, columns = np.mgrid[:height, :width]
    planes = [columns * 255 // max(width - 1, 1), rows * 255 // max(height - 1, 1), rows ^ columns]
    return np.dstack(planes).astype(np.uint8)


def grey_levels(pixels: torch.Tensor) -> np.ndarray:
    """Undo CLIP's normalisation: (3, S, S) on the scale 0..255."""
    return ((pixels.numpy().T * CLIP_STD + CLIP_MEAN) * 255).T


def openai_clip(size: int, short_side: int, mean: tuple, std: tuple) -> transforms.Compose:
    """The transforms of OpenAI's `clip` and of MagicBrush, written with torchvision as they are there."""
    return transforms.Compose(
        [
            transforms.Resize(short_side, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def test_bicubic_256_and_crop_224_have_their_checksum():
    cropped = np.rint(METHODS["openai"](gradient(300, 401), 256, 224).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    assert cropped.shape == (224, 224, 3)
    digest = hashlib.sha256(np.ascontiguousarray(cropped).tobytes()).hexdigest()
    assert digest == "344df71ebe1a85f2ef5440617c3fe1a6598ea89875824bb52a5e1ebfcd2fa2be"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_openai_is_torchvision_on_pillow(size):
    picture = gradient(*size)
    theirs = openai_clip(224, 224, CLIP_MEAN, CLIP_STD)(Image.fromarray(picture))
    torch.testing.assert_close(clip_preprocess("openai")(picture), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dino_is_that_of_magicbrush(size):
    picture = gradient(*size)
    theirs = openai_clip(224, 256, IMAGENET_MEAN, IMAGENET_STD)(Image.fromarray(picture))
    torch.testing.assert_close(dino_preprocess()(picture), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("method", "processor"), [("processor_pil", CLIPImageProcessorPil), ("processor_torchvision", CLIPImageProcessor)]
)
def test_processors_are_those_of_transformers(size, method, processor):
    picture = gradient(*size)
    theirs = processor()(images=Image.fromarray(picture), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(clip_preprocess(method)(picture), theirs, rtol=0, atol=1e-5)


def test_instructpix2pix_is_interpolation_without_antialias():
    picture = gradient(300, 400)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255.0
    squashed = torch.nn.functional.interpolate(pixels, (224, 224), mode="bicubic")[0]
    theirs = transforms.Normalize(CLIP_MEAN, CLIP_STD)(squashed)
    torch.testing.assert_close(clip_preprocess("instructpix2pix")(picture), theirs, rtol=0, atol=1e-6)


def test_no_two_ways_are_the_same():
    """Guards against one way being used in place of another: 300 x 401 px -> 224 x 299, 75 columns too many."""
    seen = {name: grey_levels(clip_preprocess(name)(gradient(300, 401))) for name in METHODS}
    gaps = {pair: np.abs(seen[pair[0]] - seen[pair[1]]).mean() for pair in combinations(METHODS, 2)}
    assert 0 < gaps.pop(("processor_pil", "processor_torchvision")) < 0.05  # integers against floats
    assert min(gaps.values()) > 1, gaps


@pytest.mark.parametrize(("rest", "even", "down"), [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 2, 1), (5, 2, 2)])
def test_an_odd_rest_is_split_in_two_ways(rest, even, down):
    picture = gradient(4, 4 + rest)
    for name, left in (("openai", even), ("processor_pil", down), ("processor_torchvision", down)):
        cropped = METHODS[name](picture, 4, 4).permute(1, 2, 0).numpy() * 255
        np.testing.assert_array_equal(np.rint(cropped), picture[:, left : left + 4])


def test_dino_keeps_its_proportion_at_other_sizes():
    way = dino_preprocess(size=32)
    assert (way.size, way.short_side) == (32, 37)
    assert way(photos(1)[0]).shape == (3, 32, 32)


def test_what_cannot_be_prepared_is_refused():
    way = clip_preprocess()
    with pytest.raises(ValueError, match=r"shape \(0, 5, 3\): an encoder needs at least one pixel"):
        way(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(5, 5\); pictures are \(H, W, 3\)"):
        way(np.zeros((5, 5), np.uint8))
    with pytest.raises(TypeError, match="dtype float64; pictures are uint8"):
        way(np.zeros((5, 5, 3)))
    with pytest.raises(ValueError, match="'bilinear' is unknown: it is one of openai, processor_pil"):
        Preprocess("bilinear")
    for size, short_side in ((0, 224), (225, 224)):
        with pytest.raises(ValueError, match=f"size is {size} and short_side 224"):
            Preprocess("openai", size, short_side)
