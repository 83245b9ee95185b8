"""The edit map finds the edit; the lock keeps everything else, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from insightedit.images.background import (
    compute_edit_map,
    feather_strips,
    feather_width,
    find_mask,
    hidden_share,
    native_drawing,
    native_map,
    native_mask,
    paste_edit,
    psnr,
    write_edit,
)
from insightedit.images.reading import read_picture, stretch, to_rgb

MODES = ["L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "P", "1"]


def feather_weights(mask, width):
    """(H, W) float32."""
    return np.concatenate([part for _, part in feather_strips(mask, width)])


def evidence_of_square(side=32, value=200.0, background=100.0):
    """A model's picture with one bright square on an even ground."""
    round_trip = np.full((side, side, 3), background, np.float32)
    edited = round_trip.copy()
    edited[side // 4 : side // 2, side // 4 : side // 2] = value
    return compute_edit_map(edited, round_trip)


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    mode=st.sampled_from(MODES),
    coverage=st.floats(0, 1),
    feather=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_outside_the_mask_nothing_changes(picture_of, size, mode, coverage, feather, seed):
    rng = np.random.default_rng(seed)
    picture = read_picture(picture_of(mode, size, seed))
    mask = rng.random((size[1], size[0])) < coverage
    edit = rng.random((size[1], size[0], 3)).astype(np.float32) * 255
    edited = picture.with_colour(write_edit(picture, edit, mask, feather_weights(mask, feather)))
    assert edited.colour.dtype == picture.colour.dtype
    assert edited.mode == picture.mode
    np.testing.assert_array_equal(edited.colour[~mask], picture.colour[~mask])
    np.testing.assert_array_equal(edited.alpha, picture.alpha)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), mode=st.sampled_from(MODES))
def test_a_whole_edit_keeps_its_outside(picture_of, size, mode):
    picture = read_picture(picture_of(mode, size))
    edited, mask = paste_edit(picture, evidence_of_square(), None, background_lock=True)
    np.testing.assert_array_equal(edited.colour[~mask], picture.colour[~mask])
    assert mask.shape == (size[1], size[0])


def test_arrays_keep_their_depth():
    deep = np.random.default_rng(0).integers(0, 65536, (40, 30, 4)).astype(np.uint16)
    edited, mask = paste_edit(read_picture(deep), evidence_of_square(), None, background_lock=True)
    assert mask.any()
    assert edited.colour.dtype == np.uint16
    np.testing.assert_array_equal(edited.colour[~mask], deep[:, :, :3][~mask])
    np.testing.assert_array_equal(edited.alpha, deep[:, :, 3])


def test_inside_the_edit_arrives():
    picture = read_picture(np.full((64, 64, 3), 100, np.uint8))
    edited, mask = paste_edit(picture, evidence_of_square(), None, background_lock=True)
    assert edited.colour[24, 24].tolist() == [200, 200, 200]
    assert 0.05 < mask.mean() < 0.3


def test_without_the_lock_the_model_draws_everything():
    picture = read_picture(np.zeros((20, 30, 3), np.uint8))
    edited, mask = paste_edit(picture, evidence_of_square(), None, background_lock=False)
    assert (edited.colour[~mask] > 90).all()


def test_own_mask_takes_the_place_of_the_estimate():
    picture = read_picture(np.zeros((64, 64, 3), np.uint8))
    own = np.zeros((64, 64), bool)
    own[50:, 50:] = True
    edited, mask = paste_edit(picture, evidence_of_square(), own, background_lock=True)
    np.testing.assert_array_equal(mask, own)
    assert (edited.colour[~own] == 0).all()
    assert (edited.colour[63, 63] > 80).all()


class TestMask:
    def test_a_square_is_found(self):
        evidence = evidence_of_square()
        assert evidence.mask[8:16, 8:16].all()
        assert evidence.mask.mean() < 0.25
        assert evidence.tone is None

    def test_nothing_is_found_in_noise(self):
        rng = np.random.default_rng(0)
        ground = np.full((64, 64, 3), 128, np.float32)
        noisy = ground + rng.normal(0, 12, ground.shape).astype(np.float32)
        assert not compute_edit_map(noisy, ground).mask.any()

    def test_a_square_is_found_in_noise(self):
        rng = np.random.default_rng(0)
        ground = np.full((64, 64, 3), 128, np.float32)
        edited = ground + rng.normal(0, 12, ground.shape).astype(np.float32)
        edited[20:36, 20:36] = 20
        mask = compute_edit_map(edited, ground).mask
        assert mask[20:36, 20:36].all()
        assert mask.mean() < 0.2

    @pytest.mark.parametrize("shift", [25.0, -60.0])
    def test_a_change_of_tone_is_everywhere(self, shift):
        ground = np.random.default_rng(0).uniform(70, 180, (64, 64, 3)).astype(np.float32)
        evidence = compute_edit_map(ground + shift, ground)
        assert evidence.tone is not None
        assert evidence.mask.all()

    def test_specks_are_removed(self):
        ground = np.zeros((128, 128, 3), np.float32)
        edited = ground.copy()
        edited[60, 60] = 90
        assert not compute_edit_map(edited, ground).mask.any()

    def test_own_threshold(self):
        ground = np.zeros((32, 32, 3), np.float32)
        edited = ground.copy()
        edited[8:24, 8:24] = 0.3 * 255
        difference = (edited - ground) / 255
        edit_map = np.abs(difference).mean(axis=2)
        assert find_mask(difference, edit_map, 0.2).any()
        assert not find_mask(difference, edit_map, 0.4).any()


def test_change_of_tone_keeps_native_detail():
    fine = np.random.default_rng(0).integers(60, 180, (200, 300, 3)).astype(np.uint8)
    picture = read_picture(fine)
    ground = np.full((32, 32, 3), 120, np.float32)
    evidence = compute_edit_map(ground + 40, ground)
    edited, mask = paste_edit(picture, evidence, None, background_lock=True)
    assert mask.all()
    np.testing.assert_array_equal(edited.colour, fine + 40)
    np.testing.assert_allclose(native_drawing(evidence, picture.size), 160, atol=1e-3)


class TestFeather:
    def test_lies_inside(self):
        mask = np.zeros((40, 40), bool)
        mask[10:30, 10:30] = True
        weights = feather_weights(mask, 4)
        assert (weights[~mask] == 0).all()
        assert (weights[mask] > 0).all()
        assert weights[20, 20] == 1
        assert (np.diff(weights[20, 9:16]) >= 0).all()

    def test_the_pictures_border_is_no_border(self):
        mask = np.zeros((20, 20), bool)
        mask[:, :10] = True
        assert (feather_weights(mask, 3)[:, 0] == 1).all()

    @pytest.mark.parametrize("value", [True, False])
    def test_all_or_nothing(self, value):
        assert (feather_weights(np.full((5, 6), value), 3) == float(value)).all()

    def test_width_is_one_model_pixel(self):
        assert feather_width((64, 32), 64) == 1
        assert feather_width((640, 1000), 64) == 16


def test_native_map_and_mask_have_the_pictures_size():
    evidence = evidence_of_square()
    for size in [(1, 1), (7, 90), (32, 32)]:
        assert native_map(evidence, size).shape == size[::-1]
        assert native_mask(evidence, size).shape == size[::-1]
    assert 0 <= native_map(evidence, (90, 90)).min() <= native_map(evidence, (90, 90)).max() <= 1


@pytest.mark.parametrize("size", [(90, 70), (33, 150), (400, 21)])
@pytest.mark.parametrize("lock", [True, False])
def test_a_picture_in_strips_is_the_picture_as_a_whole(monkeypatch, picture_of, size, lock):
    picture = read_picture(picture_of("RGBA", size))
    proof = evidence_of_square()
    whole, mask = paste_edit(picture, proof, None, lock)
    monkeypatch.setattr("insightedit.images.reading.STRIP_PIXELS", 500)
    striped, same = paste_edit(picture, proof, None, lock)
    assert (mask == same).mean() > 0.999  # where the strip begins is told to Pillow in 32 bits
    np.testing.assert_allclose(striped.colour.astype(int), whole.colour, atol=1)
    np.testing.assert_array_equal(striped.colour[~same & lock], picture.colour[~same & lock])
    whole_map = stretch(proof.edit_map[..., None], size, smooth=False)[..., 0]
    np.testing.assert_allclose(native_map(proof, size), whole_map.clip(0, 1), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(st.integers(1, 60), st.integers(1, 60)), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_feathering_in_strips_is_exact(size, width, seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 6)) < 0.7, np.ones((10, 10), bool))[: size[1], : size[0]]
    whole = feather_weights(mask, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("insightedit.images.reading.STRIP_PIXELS", 3 * size[0])
        np.testing.assert_array_equal(feather_weights(mask, width), whole)


def test_what_is_fully_transparent_is_no_edit(picture_of):
    image = picture_of("RGBA", (64, 64))
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 20:] = 9
    image.putalpha(Image.fromarray(alpha))
    picture, proof = read_picture(image), evidence_of_square()
    edited, mask = paste_edit(picture, proof, None, background_lock=True)
    assert mask.any() and not mask[:, :20].any()
    np.testing.assert_array_equal(edited.colour[:, :20], picture.colour[:, :20])
    drawn = native_mask(proof, (64, 64))
    assert hidden_share(picture, proof) == drawn[:, :20].sum() / drawn.sum()
    assert hidden_share(read_picture(image.convert("RGB")), proof) == 0


def test_psnr():
    first = np.zeros((4, 4, 3))
    second = first.copy()
    second[0, 0] = 255
    where = np.zeros((4, 4), bool)
    assert psnr(first, second, where) is None
    where[1:] = True
    assert psnr(first, second, where) == math.inf
    where[0, 0] = True
    assert psnr(first, second, where) == pytest.approx(10 * math.log10(13))


def test_to_rgb_of_locked_edit_is_seen_as_locked(picture_of):
    picture = read_picture(picture_of("CMYK", (50, 40)))
    edited, mask = paste_edit(picture, evidence_of_square(), None, background_lock=True)
    np.testing.assert_array_equal(to_rgb(edited)[~mask], to_rgb(picture)[~mask])
