"""Every kind of picture comes in, and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.images.reading import (
    MAX_SIDE,
    from_rgb,
    pixels_to_tensor,
    read_mask,
    read_picture,
    read_pictures,
    squash,
    stretch,
    tensor_to_pixels,
    to_float,
    to_pil,
    to_rgb,
)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_kept_modes_come_back_byte_for_byte(picture_of, mode):
    image = picture_of(mode, (13, 7))
    back = to_pil(read_picture(image))
    assert (back.mode, back.size, back.tobytes()) == (image.mode, image.size, image.tobytes())


@pytest.mark.parametrize(
    ("mode", "wide"), [("1", "L"), ("P", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("LAB", "RGB")]
)
def test_narrow_modes_are_widened(picture_of, mode, wide):
    image = picture_of(mode, (13, 7))
    back = to_pil(read_picture(image))
    assert back.mode == wide
    assert back.tobytes() == image.convert(wide).tobytes()


def test_palette_with_transparency_becomes_rgba(tmp_path, picture_of):
    image = picture_of("P", (9, 9))
    image.save(tmp_path / "p.png", transparency=image.getpixel((0, 0)))
    picture = read_picture(tmp_path / "p.png")
    assert picture.mode == "RGBA"
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0


def test_exif_rotation_is_applied_and_dropped(tmp_path, picture_of):
    image = picture_of("RGB", (12, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its right side
    image.save(tmp_path / "photo.png", exif=exif)
    back = to_pil(read_picture(tmp_path / "photo.png"))
    assert back.size == (8, 12)
    assert back.tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()
    assert not back.getexif()


def test_colour_profile_stays(tmp_path, picture_of):
    picture_of("RGB", (4, 4)).save(tmp_path / "a.png", icc_profile=b"profile", dpi=(300, 300))
    info = to_pil(read_picture(tmp_path / "a.png")).info
    assert info["icc_profile"] == b"profile"
    assert info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_arrays_and_tensors():
    values = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    from_tensor = read_picture(torch.from_numpy(values).permute(2, 0, 1))
    np.testing.assert_array_equal(from_tensor.colour, read_picture(values).colour)
    deep = read_picture(values.astype(np.uint16) * 257)
    assert deep.mode is None
    np.testing.assert_array_equal(to_rgb(deep), values)
    with pytest.raises(ValueError, match='has no Pillow mode: ask for output_type="np"'):
        to_pil(deep)
    assert [p.size for p in read_pictures(np.zeros((2, 5, 4, 3), np.uint8))] == [(4, 5)] * 2


def test_floats_keep_bytes(picture_of):
    image = picture_of("RGBA", (6, 5))
    again = np.rint(to_float(read_picture(image)) * 255).astype(np.uint8)
    np.testing.assert_array_equal(again, np.asarray(image))


def test_transparent_pixels_are_seen_over_white():
    picture = read_picture(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8))
    np.testing.assert_array_equal(to_rgb(picture), [[[255, 255, 255], [10, 20, 30]]])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "I;16"])
def test_from_rgb_undoes_to_rgb_for_grey_pixels(picture_of, mode):
    picture = read_picture(picture_of("L", (5, 5)).convert(mode) if mode != "I;16" else picture_of("I;16", (5, 5)))
    again = from_rgb(to_rgb(picture).astype(np.float32), picture)
    tolerance = picture.white / 255
    expected = picture.colour if mode != "CMYK" else np.asarray(to_pil(picture).convert("RGB").convert("CMYK"))
    np.testing.assert_allclose(again, expected, atol=tolerance)


def test_model_square_round_trip(picture_of):
    rgb = np.asarray(picture_of("RGB", (8, 8)))
    assert squash(rgb, 8) is rgb
    assert squash(rgb, 4).shape == (4, 4, 3)
    np.testing.assert_allclose(tensor_to_pixels(pixels_to_tensor(rgb)), rgb, atol=1e-3)
    assert stretch(rgb.astype(np.float32), (20, 3)).shape == (3, 20, 3)


class TestErrors:
    """One sentence that says what was given, what holds, and what to do."""

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No file at .*check the path"):
            read_picture(tmp_path / "no.png")

    def test_folder(self, tmp_path):
        with pytest.raises(ValueError, match="is a folder, not an image"):
            read_picture(tmp_path)

    def test_not_an_image(self, tmp_path):
        path = tmp_path / "text.png"
        path.write_text("hello")
        with pytest.raises(ValueError, match="is not an image that can be read here"):
            read_picture(path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_truncated(self, tmp_path, picture_of, suffix):
        path = tmp_path / f"cut{suffix}"
        picture_of("RGB", (80, 80)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match="is damaged or cut off"):
            read_picture(path)

    @pytest.mark.parametrize("empty", [Image.new("RGB", (0, 0)), np.zeros((0, 5, 3), np.uint8)])
    def test_empty(self, empty):
        with pytest.raises(ValueError, match=r"is empty .*at least one pixel"):
            read_picture(empty)

    def test_too_wide(self, tmp_path):
        path: Path = tmp_path / "wide.png"
        Image.new("L", (20_000, 2)).save(path)
        with pytest.raises(ValueError, match=rf"\(20,000 x 2 px\): the limit is {MAX_SIDE:,} px"):
            read_picture(path)

    def test_too_many_pixels(self, tmp_path):
        path: Path = tmp_path / "bomb.png"
        Image.new("1", (15_000, 15_000)).save(path)
        with pytest.raises(ValueError, match="too large"):
            read_picture(path)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
            (np.full((4, 4, 3), -1.0), r"bring them into \[0, 1\]"),
            (np.full((4, 4, 3), np.nan), r"bring them into \[0, 1\]"),
            (torch.zeros(2, 2), r"one picture is \(C, H, W\)"),
            (Image.new("F", (4, 4), 255.0), r"floats from 255 to 255; bring them into \[0, 1\]"),
            (Image.fromarray(np.full((2, 2), 70_000, np.int32)), "beyond 0..65535"),
        ],
    )
    def test_values(self, value, message):
        with pytest.raises(ValueError, match=message):
            read_picture(value)

    @pytest.mark.parametrize("value", [7, np.zeros((4, 4, 3), np.int64)])
    def test_kinds(self, value):
        with pytest.raises(TypeError, match="`image`"):
            read_picture(value)

    def test_no_pictures(self):
        with pytest.raises(ValueError, match="empty list"):
            read_pictures([])


def test_masks():
    wanted = np.array([[True, False], [False, True]])
    white = Image.fromarray(wanted.astype(np.uint8) * 255)
    for given in (wanted, torch.from_numpy(wanted), white, white.convert("RGB")):
        np.testing.assert_array_equal(read_mask(given, (2, 2)), wanted)
    with pytest.raises(ValueError, match="2 x 2 px and the picture 3 x 2"):
        read_mask(wanted, (3, 2))
