"""Whole-picture operations: values against other implementations, every size, and that each can be seen."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import uniform_filter
from skimage.measure import block_reduce

from insightedit.images import tones
from insightedit.images.tones import LOCAL_TONES, OPERATIONS, TONES, apply_tone, operation_of
from insightedit.scenes.assets import Assets, load_photo

NAMES = ("coffee", "picosdeeuropa", "wine", "sunset", "china")


def photograph(name: str, size: tuple[int, int] = (96, 72)) -> np.ndarray:
    """(H, W, 3) uint8 of one of the embedded photographs."""
    photo = next(p for p in Assets.embedded().photos if p.path.stem == name)
    return np.array(load_photo(photo.path).resize(size, Image.Resampling.BOX))


def gap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(np.int32) - other.astype(np.int32))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_phrases_are_operations_with_degrees() -> None:
    assert len(OPERATIONS) >= 30 and len(TONES) == len(set(TONES)) == sum(map(len, OPERATIONS.values()))
    assert {"warmer", "slightly warmer", "much warmer", "very blurry", "sepia"} <= set(TONES)
    assert {operation_of(phrase) for phrase in TONES} == set(OPERATIONS)
    assert operation_of("much darker at the edges") == "darker at the edges"


@pytest.mark.parametrize("phrase", TONES)
def test_a_tone_gives_a_fresh_picture_of_any_size_in_strips_too(
    phrase: str, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = noise.copy()
    whole = apply_tone(noise, phrase)
    assert whole.shape == noise.shape and whole.dtype == np.uint8 and not np.shares_memory(whole, noise)
    np.testing.assert_array_equal(noise, before)
    monkeypatch.setattr(tones, "PIXELS_AT_ONCE", 300)  # strips of four rows
    np.testing.assert_array_equal(apply_tone(noise, phrase), whole)
    assert apply_tone(noise[:1, :1], phrase).shape == (1, 1, 3)
    if phrase not in LOCAL_TONES:
        np.testing.assert_array_equal(apply_tone(noise[7:9, 30:40], phrase), whole[7:9, 30:40])


def test_every_phrase_shows_and_operations_differ() -> None:
    """Mean over photographs of the mean absolute difference, in grey levels."""
    shown: dict[tuple[str, str], list[float]] = {}
    for name in NAMES:
        picture = photograph(name)
        after = {"": picture} | {phrase: apply_tone(picture, phrase) for phrase in TONES}
        for one, other in combinations(after, 2):
            shown.setdefault((one, other), []).append(float(gap(after[one], after[other]).mean()))
    for (one, other), gaps in shown.items():
        assert np.mean(gaps) > 2.5, (one, other, gaps)


def test_degrees_go_ever_further() -> None:
    picture = photograph("coffee")
    for operation, degrees in OPERATIONS.items():
        phrases = [phrase for phrase in TONES if operation_of(phrase) == operation]
        far = [gap(apply_tone(picture, phrase), picture).mean() for phrase in phrases]
        assert len(degrees) == len(far) and far == sorted(far), operation


def test_values_of_plain_curves(noise: np.ndarray) -> None:
    x = noise.astype(np.int64)
    np.testing.assert_array_equal(apply_tone(noise, "brighter"), np.clip(x * 1250 // 1000 + 30, 0, 255))
    np.testing.assert_array_equal(apply_tone(noise, "inverted"), 255 - noise)
    np.testing.assert_array_equal(apply_tone(noise, "solarised"), np.array(ImageOps.solarize(Image.fromarray(noise))))
    fewer = np.array(ImageOps.posterize(Image.fromarray(noise), 2))
    np.testing.assert_array_equal(apply_tone(noise, "posterised"), fewer // 64 * 85)
    half_warmer = apply_tone(np.full((1, 1, 3), 100, dtype=np.uint8), "slightly warmer")
    assert half_warmer.tolist() == [[[112, 100, 87]]]  # 45 % of (1150, 1000, 720) thousandths and of 15


def test_grey_and_saturation_agree_with_pillow(noise: np.ndarray) -> None:
    picture = Image.fromarray(noise)
    grey = apply_tone(noise, "black and white")
    assert (grey == grey[..., :1]).all() and gap(grey[..., 0], np.array(picture.convert("L"))).max() <= 1
    for phrase, share in (("more colourful", 1.9), ("less colourful", 0.45)):
        assert gap(apply_tone(noise, phrase), np.array(ImageEnhance.Color(picture).enhance(share))).max() <= 2


def test_blurring_and_sharpening_agree_with_scipy(noise: np.ndarray) -> None:
    wide = np.tile(noise, (2, 2, 1))  # 140 pixels wide: radii of 2, 4 and 8
    for phrase, radius in (("slightly blurry", 2), ("blurry", 4), ("very blurry", 8)):
        mean = uniform_filter(wide.astype(np.float64), (2 * radius + 1, 2 * radius + 1, 0), mode="nearest")
        assert gap(apply_tone(wide, phrase), np.floor(mean)).max() <= 1, phrase
    mean = uniform_filter(wide.astype(np.float64), (3, 3, 0), mode="nearest")
    assert gap(apply_tone(wide, "sharper"), np.clip(wide + 1.6 * (wide - mean), 0, 255)).max() <= 4


def test_blocks_agree_with_scikit_image(noise: np.ndarray) -> None:
    picture = noise[:42, :60]  # blocks of 3
    means = np.floor(block_reduce(picture.astype(np.float64), (3, 3, 1), np.mean) + 1e-9)
    expected = np.repeat(np.repeat(means, 3, axis=0), 3, axis=1)
    np.testing.assert_array_equal(apply_tone(picture, "pixelated"), expected)


def test_edges_shadows_and_highlights_act_where_they_say() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shadows = apply_tone(ramp, "brighter in the shadows")[0, :, 0].astype(int) - np.arange(256)
    highlights = apply_tone(ramp, "darker in the highlights")[0, :, 0].astype(int) - np.arange(256)
    assert shadows.argmax() in range(50, 80) and abs(shadows[230:]).max() <= 1
    assert highlights.argmin() == 255 and abs(highlights[:30]).max() <= 1
    flat = np.full((41, 61, 3), 200, dtype=np.uint8)
    edges = apply_tone(flat, "darker at the edges")[..., 0]
    assert edges[20, 30] == 200 and edges[0, 0] < edges[0, 30] < 200 and (edges == edges[::-1, ::-1]).all()


def test_large_copies_look_like_small_ones() -> None:
    small, large = photograph("coffee", (96, 64)), photograph("coffee", (384, 256))
    for phrase in LOCAL_TONES:
        if operation_of(phrase) != "sharper":  # finer than a small picture's pixels
            shrunk = np.array(Image.fromarray(apply_tone(large, phrase)).resize((96, 64), Image.Resampling.BOX))
            assert gap(shrunk, apply_tone(small, phrase)).mean() < 6, phrase


def test_what_is_no_tone_or_no_picture_is_told(noise: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown tone 'louder': choose one of brighter, darker, warmer"):
        apply_tone(noise, "louder")
    with pytest.raises(ValueError, match=re.escape("apply_tone got float64 pixels of shape (50, 70, 3): it needs")):
        apply_tone(noise / 255, "warmer")
    with pytest.raises(ValueError, match=re.escape("apply_tone got uint8 pixels of shape (50, 70): it needs")):
        apply_tone(noise[..., 0], "warmer")
