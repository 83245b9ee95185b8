"""Masks, boxes and frames against SmartEdit's script, on a mask that went through JPEG as the published ones did."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.evaluation.metrics import masks
from insightedit.evaluation.metrics.masks import Box
from insightedit.images import reading as imaging


def rectangle(box: Box, *, width: int = 512, height: int = 512) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[box.top : box.bottom, box.left : box.right] = 255
    return mask


def through_jpeg(mask: np.ndarray, *, quality: int = 75) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("L"))


def gradient(width: int = 400, height: int = 300) -> np.ndarray:
    """(H, W, 3) uint8: red grows to the right, green downwards, blue is a grid of 1-px lines."""
    rows, columns = np.mgrid[:height, :width]
    red, green = columns * 255 // (width - 1), rows * 255 // (height - 1)
    blue = np.where((rows % 7 == 0) | (columns % 5 == 0), 255, 0)
    return np.dstack([red, green, blue]).astype(np.uint8)


def frame(mask: np.ndarray, side: int = 256) -> np.ndarray:
    return masks.place(mask, masks.squash_frame(side))


def test_jpeg_grows_the_paper_box_to_block_borders_and_leaves_the_strict_one():
    """At 512 px the blocks' borders lie at 96 and 408; the non-zero box at 256 px is 3 px wider on a side."""
    region = Box(102, 102, 402, 402)
    clean, coded = frame(rectangle(region)), frame(through_jpeg(rectangle(region)))
    assert masks.strict_box(clean) == masks.strict_box(coded) == Box(51, 51, 201, 201)
    assert masks.paper_box(clean) == Box(51, 51, 200, 200)
    assert masks.paper_box(coded) == Box(48, 48, 203, 203)
    assert len(np.unique(coded)) > 2
    keep = masks.soft_keep(coded)
    assert keep.min() == 0.0 and keep.max() == 1.0 and ((keep > 0) & (keep < 1)).any()
    assert np.array_equal(masks.soft_keep(clean), 1.0 - clean / 255.0)


def test_the_paper_loses_the_last_row_and_column_of_a_crop():
    picture, mask = gradient(256, 256), rectangle(Box(10, 20, 40, 60), width=256, height=256)
    published = Image.fromarray(picture).crop((10, 20, 39, 59))  # min and max of the non-zero pixels
    assert np.array_equal(masks.paper_crop(picture, mask), np.asarray(published))
    ours = masks.strict_crop(picture, mask, like=picture)
    assert np.array_equal(ours, picture[20:60, 10:40])


@pytest.mark.parametrize("region", [Box(5, 5, 6, 90), Box(5, 5, 90, 6), Box(5, 5, 6, 6)])
def test_a_region_of_one_pixel_cannot_be_cropped_as_in_the_paper(region: Box):
    mask = rectangle(region, width=256, height=256)
    with pytest.raises(masks.EmptyCropError, match="is empty: the region is too thin to be cropped"):
        masks.paper_box(mask)
    with pytest.raises(masks.EmptyCropError, match="the strict one includes its last row and column"):
        masks.paper_crop(gradient(256, 256), mask)
    assert masks.strict_box(mask) == region


def test_empty_and_full_masks_are_refused_by_every_rule():
    empty, full = np.zeros((64, 64), dtype=np.uint8), np.full((64, 64), 255, dtype=np.uint8)
    for rule in (masks.soft_keep, masks.paper_box):
        with pytest.raises(masks.EmptyMaskError, match="no pixel of the mask is above 0"):
            rule(empty)
    for rule in (masks.binary_keep, masks.strict_box):
        with pytest.raises(masks.EmptyMaskError, match="no pixel of the mask is above 127"):
            rule(empty + np.uint8(127))
    with pytest.raises(masks.FullMaskError, match="white everywhere"):
        masks.soft_keep(full)
    with pytest.raises(masks.FullMaskError, match="widened by 6 px, covers the whole picture"):
        masks.binary_keep(full)
    for error in (masks.EmptyMaskError, masks.FullMaskError, masks.EmptyCropError):
        assert issubclass(error, masks.MaskError) and issubclass(error, ValueError)
    picture = gradient(64, 64)
    for pair in (masks.paper_pair, masks.strict_pair):
        with pytest.raises(masks.EmptyMaskError):
            pair(picture, picture, empty)
        with pytest.raises(masks.FullMaskError):
            pair(picture, picture, full)


def test_strict_keep_is_further_than_the_dilation_from_every_marked_pixel():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[32, 32], mask[32, 50] = 128, 127  # marked, and just not
    for dilation in (0, 1, 6):
        rows, columns = np.nonzero(~masks.binary_keep(mask, dilation=dilation))
        distance = np.hypot(rows - 32, columns - 32)
        assert distance.max() == dilation
    assert masks.binary_keep(mask, threshold=126, dilation=0).sum() == 64 * 64 - 2
    assert np.array_equal(masks.binary_keep(mask > 127, dilation=2), masks.binary_keep(mask, dilation=2))


def test_a_mask_that_only_its_dilation_fills_is_full():
    mask = rectangle(Box(3, 3, 61, 61), width=64, height=64)
    assert masks.binary_keep(mask, dilation=2).any()
    with pytest.raises(masks.FullMaskError):
        masks.binary_keep(mask, dilation=6)


def test_squashing_is_pillow_and_nearest_for_masks():
    picture, mask = gradient(), through_jpeg(rectangle(Box(50, 60, 200, 210), width=400, height=300))
    squashed = masks.squash_frame()
    expected = Image.fromarray(picture).resize((256, 256), Image.Resampling.BICUBIC)
    assert np.array_equal(masks.place(picture, squashed), np.asarray(expected))
    assert np.array_equal(masks.place(picture, squashed), imaging.squash(picture, 256))
    nearest = Image.fromarray(mask).resize((256, 256), Image.Resampling.NEAREST)
    assert np.array_equal(masks.place(mask, squashed), np.asarray(nearest))


def test_the_resized_pixels_are_those_stored_here():
    """Bicubic 256, middle 224: a silent change of the filter, or of its rounding, would move every metric."""
    squashed = masks.place(gradient(), masks.squash_frame())
    middle = masks.crop(squashed, Box(16, 16, 240, 240))
    assert middle.shape == (224, 224, 3)
    assert hashlib.sha256(middle.tobytes()).hexdigest()[:16] == "3fd081a04d21d649"
    planes = torch.from_numpy(gradient()).permute(2, 0, 1)[None].float()
    other = torch.nn.functional.interpolate(planes, (256, 256), mode="bicubic", align_corners=False)
    apart = np.abs(other[0].permute(1, 2, 0).numpy().clip(0, 255) - squashed)[16:240, 16:240]
    assert apart.mean() > 1.0  # without antialiasing
    near = torch.nn.functional.interpolate(planes, (256, 256), mode="bicubic", antialias=True)
    assert 0.0 < np.abs(near[0].permute(1, 2, 0).numpy().clip(0, 255).round() - squashed).mean() < 0.5


@pytest.mark.parametrize(
    ("size", "content"),
    [
        ((400, 300), Box(0, 32, 256, 224)),
        ((300, 400), Box(32, 0, 224, 256)),
        ((512, 512), Box(0, 0, 256, 256)),
        ((1000, 1), Box(0, 127, 256, 128)),
    ],
)
def test_a_letterbox_keeps_the_aspect_ratio(size: tuple[int, int], content: Box):
    white = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    letterbox = masks.letterbox_frame(white)
    assert letterbox == (256, content)
    placed = masks.place(white, letterbox)
    assert placed.shape == (256, 256, 3)
    left, top, right, bottom = content
    assert placed[top:bottom, left:right].min() == 255
    assert placed.sum() == 3 * 255 * (right - left) * (bottom - top)


def test_an_output_of_another_shape_is_brought_to_the_sources():
    """A square output of an editor that squashes its input lies over a 4 : 3 source again."""
    source = gradient()
    output = imaging.squash(source, 256)
    mask = rectangle(Box(100, 100, 200, 200), width=400, height=300)
    pair = masks.strict_pair(source, output, mask)
    assert pair.source.shape == pair.edited.shape == (256, 256, 3)
    assert np.abs(pair.source - pair.edited)[..., :2].max() < 0.03  # the smooth channels; a shift would show
    assert not pair.keep[:32].any() and not pair.keep[224:].any()
    expected = masks.binary_keep(np.asarray(Image.fromarray(mask).resize((256, 192), Image.Resampling.NEAREST)))
    assert pair.kept_ratio == expected.mean() == pair.keep[32:224].mean()


def test_pairs_are_black_where_edited_and_say_what_their_means_run_over():
    picture, mask = gradient(256, 256), through_jpeg(rectangle(Box(70, 70, 130, 130), width=256, height=256))
    paper, strict = (pair(picture, 255 - picture, mask) for pair in (masks.paper_pair, masks.strict_pair))
    assert np.allclose(paper.source, picture / 255 * (1 - mask / 255)[:, :, None], atol=0)
    assert np.allclose(paper.edited, (1 - picture / 255) * (1 - mask / 255)[:, :, None], atol=1e-15)
    assert paper.region is None and paper.variant == "paper"
    assert paper.kept_ratio == pytest.approx((1 - mask / 255).mean())
    region = strict.region
    assert region is not None and region.dtype == np.bool_ and strict.variant == "strict"
    assert np.array_equal(region, masks.binary_keep(mask))
    assert not strict.source[~region].any() and not strict.edited[~region].any()
    assert np.array_equal(strict.source[region], picture[region] / 255)


def test_matching_a_size_is_pillows_bicubic():
    picture = gradient()
    expected = np.asarray(Image.fromarray(picture).resize((123, 77)))  # Pillow's own default
    assert np.array_equal(masks.match_size(picture, np.zeros((77, 123, 3), dtype=np.uint8)), expected)
    assert masks.match_size(picture, picture) is picture


def test_masks_are_read_as_grey(tmp_path: Path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    assert masks.read_grey(tmp_path / "mask.png").tolist() == [[76, 150, 29, 200]]
    coded = through_jpeg(rectangle(Box(10, 10, 30, 30), width=64, height=64))
    Image.fromarray(coded).save(tmp_path / "grey.png")
    assert np.array_equal(masks.read_grey(tmp_path / "grey.png"), coded)
    with pytest.raises(FileNotFoundError, match="No file at"):
        masks.read_grey(tmp_path / "none.png")


def test_what_is_no_picture_or_mask_is_refused():
    picture, mask = gradient(64, 64), rectangle(Box(10, 10, 20, 20), width=64, height=64)
    with pytest.raises(TypeError, match="edited has dtype float64; pictures are uint8"):
        masks.paper_pair(picture, picture / 255, mask)
    with pytest.raises(ValueError, match=r"source has shape \(64, 64\); pictures are \(H, W, 3\)"):
        masks.strict_pair(mask, picture, mask)
    with pytest.raises(ValueError, match=r"source has shape \(0, 64, 3\): a picture has at least one pixel"):
        masks.paper_pair(picture[:0], picture, mask)
    with pytest.raises(ValueError, match=r"the mask has shape \(64, 64, 3\); masks are \(H, W\)"):
        masks.paper_pair(picture, picture, picture)
    with pytest.raises(TypeError, match="the mask has dtype int64; masks are uint8 or bool"):
        masks.strict_box(mask.astype(np.int64))
    with pytest.raises(ValueError, match="dilation is -1; it is a number of pixels, 0 or more"):
        masks.binary_keep(mask, dilation=-1)
    with pytest.raises(ValueError, match=r"\(0, 0, 65, 64\) .* reaches beyond 64 x 64 px"):
        masks.crop(picture, Box(0, 0, 65, 64))
    with pytest.raises(masks.EmptyCropError, match=r"the box \(5, 5, 5, 9\)"):
        masks.crop(picture, Box(5, 5, 5, 9))


def test_floats_are_taken_in_their_range_only():
    picture = gradient(16, 12)
    assert np.array_equal(masks.to_unit(picture, "a"), picture / 255)
    assert np.array_equal(masks.to_unit(picture / 255, "a"), picture / 255)
    with pytest.raises(ValueError, match="first holds floats from -1 to 1; bring them into 0..1"):
        masks.to_unit(picture / 127.5 - 1, "first")
    with pytest.raises(ValueError, match="first holds floats from nan to nan"):
        masks.to_unit(np.full((4, 4, 3), np.nan), "first")
    with pytest.raises(TypeError, match="first has dtype int64"):
        masks.to_unit(picture.astype(np.int64), "first")
    with pytest.raises(ValueError, match=r"first has shape \(3, 4, 4\)"):
        masks.to_unit(np.zeros((3, 4, 4)), "first")
