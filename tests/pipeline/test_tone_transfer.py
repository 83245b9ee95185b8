"""A change of tone drawn at 64 px arrives on the photograph's own pixels; an edit of things is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from insightedit.images.background import compute_edit_map, native_edit, paste_edit, psnr
from insightedit.images.reading import read_picture, read_rgb, squash, stretch, to_rgb
from insightedit.images.tone_transfer import apply_tone, box_mean, fit_tone, is_tone, sharpen_radius
from insightedit.images.tones import apply_tone as exactly
from insightedit.pipelines.understanding import tells_whole_picture
from insightedit.scenes.assets import Assets
from insightedit.scenes.sampler import SceneSampler

SIDE = 64
# Ideal drawings of one photograph: the least PSNR in dB of what arrives to the exact operation on the photograph
LEAST = {
    "brighter": 45, "much darker": 45, "slightly warmer": 48, "higher in contrast": 40, "more colourful": 40,
    "black and white": 42, "sepia": 42, "duotone": 42, "vintage": 40, "inverted": 36, "faded": 45,
    "brighter in the shadows": 36, "darker at the edges": 40, "solarised": 28,
}  # fmt: skip


@pytest.fixture(scope="module")
def photo():
    return read_rgb(next(one for one in Assets.embedded().photos if one.name == "china").path)


def pixels(rgb):
    """(H, W, 3) uint8 or in [0, 255] -> (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(rgb, np.float32) / 255).permute(2, 0, 1)


def drawing(rgb, phrase):
    """What an ideal model draws of a photograph, and its source, (64, 64, 3) float32 in [0, 255]."""
    small = squash(rgb, SIDE)
    return exactly(small, phrase).astype(np.float32), small.astype(np.float32)


def decibels(one, other):
    return psnr(one.astype(np.uint8), other, np.ones(one.shape[:2], bool))


@pytest.mark.parametrize("phrase", LEAST)
def test_a_change_of_tone_arrives(photo, phrase):
    evidence = compute_edit_map(*drawing(photo, phrase), whole_picture=True)
    edited, mask = paste_edit(read_picture(photo), evidence, None, background_lock=True)
    truth = exactly(photo, phrase)
    assert mask.all()
    found = decibels(edited.colour, truth)
    assert found >= LEAST[phrase]
    change = stretch(evidence.edited - evidence.round_trip, edited.size)
    assert found > decibels(np.clip(photo + change, 0, 255).round(), truth), "never worse than adding what changed"


@pytest.mark.parametrize("phrase", ["blurry", "very blurry", "pixelated"])
def test_what_loses_detail_is_drawn(photo, phrase):
    evidence = compute_edit_map(*drawing(photo, phrase), whole_picture=True)
    assert evidence.tone is None
    assert evidence.mask.all()
    edited, _ = paste_edit(read_picture(photo), evidence, None, background_lock=True)
    drawn = np.rint(np.clip(stretch(evidence.edited, edited.size), 0, 255))
    np.testing.assert_array_equal(edited.colour, drawn)


def test_sharpening_is_done_to_the_finest_detail(photo):
    drawn, source = drawing(photo, "much sharper")
    tone = fit_tone(pixels(source), pixels(drawn))
    assert tone.sharpening > 0.5
    plain = compute_edit_map(drawn, source, whole_picture=True)
    edited, _ = paste_edit(read_picture(photo), plain, None, background_lock=True)
    truth = exactly(photo, "much sharper")
    assert decibels(edited.colour, truth) > decibels(photo, truth) + 2
    assert fit_tone(pixels(source), pixels(source)).sharpening == 0
    assert sharpen_radius((4000, 3000), 64) == 25
    assert sharpen_radius((4000, 3000), 512) == 7
    assert sharpen_radius((50, 40), 64) == 1


def test_no_change_is_the_identity(photo):
    source = pixels(squash(photo, SIDE))
    tone = fit_tone(source, source)
    torch.testing.assert_close(apply_tone(tone, pixels(photo)), pixels(photo), atol=1e-4, rtol=0)
    assert tone.detail == pytest.approx(1, abs=1e-4)


def test_colours_that_the_drawing_lacks_change_as_all_do():
    """A plain ground tells a change of light only, and that is what every colour gets."""
    ground = torch.full((3, 16, 16), 0.4)
    tone = fit_tone(ground, ground + 0.2)
    colours = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.05
    torch.testing.assert_close(apply_tone(tone, colours), colours + 0.2, atol=2e-3, rtol=0)


def test_what_is_cut_off_in_the_drawing_is_cut_off_at_the_end(photo):
    """Drawn white may lie beyond: midtones are not dimmed by what highlights lack."""
    source = pixels(squash(photo, SIDE))
    tone = fit_tone(source, (source * 2).clamp(0, 1))
    dark = torch.full((3, 4, 4), 0.3)
    torch.testing.assert_close(apply_tone(tone, dark), dark * 2, atol=0.01, rtol=0)
    assert (apply_tone(tone, torch.full((3, 4, 4), 0.9)) > 0.9).all()


class TestRecognition:
    @pytest.mark.parametrize("phrase", ["brighter", "darker", "sepia", "inverted", "cooler", "faded"])
    def test_a_change_of_tone_is_seen_without_words(self, photo, phrase):
        drawn, source = drawing(photo, phrase)
        assert is_tone(pixels(source), pixels(drawn))
        assert compute_edit_map(drawn, source).tone is not None

    def test_edits_of_things_are_none(self):
        sampler, seen = SceneSampler("val", SIDE, seed=3), 0
        for index in range(40):
            sample = sampler[index]
            if sample.task != "photometric":
                seen += 1
                assert not is_tone(pixels(sample.source), pixels(sample.target)), index
        assert seen > 20

    def test_a_thing_that_fills_most_of_the_picture_is_none(self, photo):
        drawn = squash(photo, SIDE).astype(np.float32)
        rng = np.random.default_rng(0)
        other = ndimage.gaussian_filter(rng.uniform(0, 255, (SIDE, SIDE, 3)), (2, 2, 0)).astype(np.float32)
        drawn[4:60, 4:60] = 128 + 4 * (other[4:60, 4:60] - 128)
        evidence = compute_edit_map(drawn.clip(0, 255), squash(photo, SIDE).astype(np.float32))
        assert evidence.mask.mean() > 0.6
        assert evidence.tone is None

    def test_words_decide(self, photo):
        drawn, source = drawing(photo, "sepia")
        words_of_things = compute_edit_map(drawn, source, whole_picture=False)
        assert words_of_things.tone is None
        np.testing.assert_array_equal(native_edit(read_picture(drawn.astype(np.uint8)), words_of_things), drawn)
        nothing = compute_edit_map(source, source, whole_picture=True)
        assert nothing.tone is None
        assert not nothing.mask.any()

    def test_a_threshold_of_ones_own_keeps_its_mask(self, photo):
        drawn, source = drawing(photo, "sepia")
        evidence = compute_edit_map(drawn, source, 0.12, whole_picture=True)
        assert evidence.tone is not None
        assert 0 < evidence.mask.mean() < 1
        edited, mask = paste_edit(read_picture(photo), evidence, None, background_lock=True)
        np.testing.assert_array_equal(edited.colour[~mask], photo[~mask])

    def test_words(self):
        assert tells_whole_picture("Make the whole picture sepia", None) is True
        assert tells_whole_picture("make the whole picture sepia", "make the") is True
        assert tells_whole_picture("remove the dog", "remove the dog") is False
        assert tells_whole_picture("the dog would be gone", None) is None
        assert tells_whole_picture(None, "remove") is None


class TestKindsOfPictures:
    def test_deep_colours_stay_deep(self, photo):
        """More shades come out than 8 bits have."""
        evidence = compute_edit_map(*drawing(photo, "darker"))
        ramp = np.broadcast_to(np.linspace(5000, 60000, 4096).astype(np.uint16)[:, None, None], (4096, 2, 3))
        edited, _ = paste_edit(read_picture(ramp), evidence, None, background_lock=True)
        assert edited.colour.dtype == np.uint16
        assert len(np.unique(edited.colour[:, 0, 0])) > 2000
        np.testing.assert_allclose(edited.colour, ramp * 0.55, atol=0.02 * 65535)

    def test_what_shines_through_keeps_its_own_colours(self, photo):
        evidence = compute_edit_map(*drawing(photo, "darker"))
        clear = np.dstack([photo, np.full(photo.shape[:2], 128, np.uint8)])
        clear[:, :50, 3] = 0
        edited, mask = paste_edit(read_picture(clear), evidence, None, background_lock=True)
        opaque, _ = paste_edit(read_picture(photo), evidence, None, background_lock=True)
        np.testing.assert_array_equal(edited.colour[:, 50:], opaque.colour[:, 50:])
        np.testing.assert_array_equal(edited.colour[:, :50], photo[:, :50])
        np.testing.assert_array_equal(edited.alpha, clear[..., 3])
        assert not mask[:, :50].any()

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "P", "1"])
    @pytest.mark.parametrize("lock", [True, False])
    def test_every_mode(self, photo, picture_of, mode, lock):
        picture = read_picture(picture_of(mode, (70, 50)))
        edited, _ = paste_edit(picture, compute_edit_map(*drawing(photo, "inverted")), None, lock)
        assert (edited.mode, edited.colour.dtype) == (picture.mode, picture.colour.dtype)
        clear = np.zeros((50, 70), bool) if picture.visible is None else ~picture.visible
        before, after = (to_rgb(replace(one, alpha=None)).astype(int)[~clear] for one in (picture, edited))
        assert np.abs(after - (255 - before)).mean() < 3

    @pytest.mark.parametrize("phrase", ["much sharper", "darker at the edges"])
    def test_strips_are_the_whole(self, photo, monkeypatch, phrase):
        evidence, picture = compute_edit_map(*drawing(photo, phrase), whole_picture=True), read_picture(photo)
        whole = native_edit(picture, evidence)
        monkeypatch.setattr("insightedit.images.tone_transfer.PIXELS_AT_ONCE", 1000)
        striped = np.concatenate([native_edit(picture, evidence, slice(top, top + 17)) for top in range(0, 238, 17)])
        np.testing.assert_allclose(striped, whole[:238], atol=1e-3)


def test_large_drawings_are_fitted_small_and_judged_large(photo):
    large = squash(photo, 256)
    tone = fit_tone(pixels(large), pixels(exactly(large, "sepia")))
    assert tone.affine.shape == (3, 4, 128, 128)
    assert tone.detail > 0.99
    blurred = ndimage.gaussian_filter(large.astype(np.float32), (1.5, 1.5, 0))  # nothing of it is seen at 128 px
    assert not fit_tone(pixels(large), pixels(blurred)).keeps_detail


def test_box_mean_is_that_of_scipy():
    values = torch.rand(3, 20, 31, generator=torch.Generator().manual_seed(0))
    for radius in (1, 4, 40):
        wanted = ndimage.uniform_filter(values.numpy(), (0, 2 * radius + 1, 2 * radius + 1), mode="nearest")
        np.testing.assert_allclose(box_mean(values, radius), wanted, atol=1e-6)
