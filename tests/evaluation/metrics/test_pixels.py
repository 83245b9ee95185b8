"""PSNR, SSIM, L1 and L2 against scikit-image, torchmetrics, identities and stored numbers."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim

from insightedit.evaluation.metrics import masks, pixels

HOLE = slice(64, 192)


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.transpose(2, 0, 1)))[None]


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """(256, 256, 3) uint8."""
    return np.asarray(Image.fromarray(data.astronaut()).resize((256, 256), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def pair(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The stored pair: a photograph, the same with noise and with an "edit" in its middle, and what is kept."""
    first = astronaut / 255.0
    rng = np.random.default_rng(0)
    second = np.clip(first + rng.normal(0, 0.05, first.shape), 0, 1)
    second[HOLE, HOLE] = rng.random((128, 128, 3))
    keep = np.ones((256, 256), dtype=bool)
    keep[HOLE, HOLE] = False
    return first * keep[:, :, None], second * keep[:, :, None], keep


def smartedit_scores(
    source: np.ndarray, edited: np.ndarray, mask: np.ndarray, *, crop_border: int = 5, dilation: int = 6
) -> dict[str, SimpleNamespace]:
    """SmartEdit's background metrics without LPIPS, as published and as they should be."""
    scores = {}
    for pair in (masks.paper_pair(source, edited, mask), masks.strict_pair(source, edited, mask, dilation=dilation)):
        both, keep = (pair.source, pair.edited), pair.region
        ratio = pixels.psnr(*both, keep=keep)
        scores[pair.variant] = SimpleNamespace(
            psnr=ratio.value,
            psnr_capped=ratio.capped,
            ssim=pixels.ssim(*both, keep=keep, crop_border=crop_border),
            l1=pixels.l1(*both, keep=keep),
            l2=pixels.l2(*both, keep=keep),
            kept_ratio=pair.kept_ratio,
        )
    return scores


def mask_of(keep: np.ndarray) -> np.ndarray:
    return (~keep).astype(np.uint8) * np.uint8(255)


@pytest.mark.parametrize("offset", [0.5, 0.1, 1 / 255])
def test_a_constant_offset_gives_its_own_decibels(offset: float):
    first = np.random.default_rng(0).random((32, 48, 3)) * 0.5
    assert pixels.psnr(first, first + offset).value == pytest.approx(-20 * math.log10(offset), abs=1e-9)
    assert pixels.l1(first, first + offset) == pytest.approx(offset)
    assert pixels.l2(first, first + offset) == pytest.approx(offset**2)


def test_psnr_is_that_of_scikit_image_and_torchmetrics():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 64, 80, 3), dtype=np.float32)
    ours = pixels.psnr(first, second).value
    assert ours == pytest.approx(peak_signal_noise_ratio(first, second, data_range=1), abs=1e-5)
    assert ours == pytest.approx(float(torchmetrics_psnr(tensor(second), tensor(first), data_range=1.0)), abs=1e-5)


def test_grey_levels_do_not_wrap():
    black, white = np.zeros((16, 16, 3), dtype=np.uint8), np.full((16, 16, 3), 255, dtype=np.uint8)
    assert pixels.psnr(black, white).value == 0.0
    assert pixels.l1(black, white) == pixels.l2(black, white) == 1.0


def test_equal_pictures_are_capped_and_say_so():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert pixels.psnr(picture, picture) == pixels.Psnr(60.0, True)
    assert pixels.psnr(picture, picture, cap=math.inf) == pixels.Psnr(math.inf, False)
    one_level = picture.copy()
    one_level[0, 0, 0] ^= 1
    exact = 10 * math.log10(255**2 * picture.size)
    assert exact > 60 and pixels.psnr(picture, one_level) == pixels.Psnr(60.0, True)
    assert pixels.psnr(picture, one_level, cap=100.0) == pixels.Psnr(pytest.approx(exact), False)


def test_stored_numbers_of_the_stored_pair(pair: tuple[np.ndarray, np.ndarray, np.ndarray]):
    """A quarter painted black: +1.25 dB; 0.714 against 0.620 in SSIM; scikit-image's own defaults give 0.740."""
    first, second, keep = pair
    assert pixels.ssim(first, second) == pytest.approx(0.73089, abs=5e-6)
    assert pixels.ssim(first, second, crop_border=0) == pytest.approx(0.71398, abs=5e-6)
    assert pixels.ssim(first, second, keep=keep, crop_border=0) == pytest.approx(0.620, abs=5e-4)
    assert pixels.ssim(first, second, keep=keep) == pytest.approx(0.63231, abs=5e-6)
    assert pixels.psnr(first, second).value == pytest.approx(27.76, abs=5e-3)
    assert pixels.psnr(first, second, keep=keep).value == pytest.approx(26.51, abs=5e-3)
    assert structural_similarity(first, second, channel_axis=2, data_range=1) == pytest.approx(0.740, abs=5e-4)


@pytest.mark.parametrize("shape", [(64, 80, 3), (11, 11, 3), (256, 31, 3)])
def test_ssim_cropped_is_scikit_image_and_not_cropped_torchmetrics(shape: tuple[int, ...]):
    rng = np.random.default_rng(2)
    first = rng.random(shape)
    second = np.clip(first + rng.normal(0, 0.1, shape), 0, 1)
    cropped = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=1
    )
    assert pixels.ssim(first, second) == pytest.approx(cropped, abs=1e-9)
    whole, similarity = torchmetrics_ssim(
        tensor(second).float(), tensor(first).float(), data_range=1.0, return_full_image=True
    )
    assert pixels.ssim(first, second, crop_border=0) == pytest.approx(float(whole), abs=1e-5)
    inside = similarity[0, :, 5:-5, 5:-5].mean()  # what torchmetrics averaged up to 1.3.2
    assert pixels.ssim(first, second) == pytest.approx(float(inside), abs=1e-5)


def test_one_is_the_similarity_of_equal_pictures(astronaut: np.ndarray):
    assert pixels.ssim(astronaut, astronaut) == pytest.approx(1.0)
    assert pixels.ssim(astronaut, astronaut, crop_border=0) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_paper_psnr_exceeds_the_strict_one_by_the_kept_share(astronaut: np.ndarray, share: float):
    """An identity, for any binary mask: both have the same sum of squares, over other numbers of pixels."""
    mask = np.random.default_rng(3).random((256, 256)) < share
    edited = np.random.default_rng(4).integers(0, 256, astronaut.shape, dtype=np.uint8)
    scores = smartedit_scores(astronaut, edited, mask, dilation=0)
    paper, strict = scores["paper"], scores["strict"]
    assert paper.kept_ratio == strict.kept_ratio == (~mask).mean()
    assert paper.psnr - strict.psnr == pytest.approx(-10 * math.log10((~mask).mean()), abs=1e-9)
    assert paper.l1 == pytest.approx(strict.l1 * (~mask).mean())
    assert paper.l2 == pytest.approx(strict.l2 * (~mask).mean())
    gaps = np.square(astronaut.astype(float) - edited)[~mask].sum() / astronaut.size
    assert paper.psnr == pytest.approx(10 * math.log10(255**2 / gaps), abs=1e-9)


def test_smartedit_set_follows_the_published_steps():
    """The script's steps with its own libraries, on pictures that are neither square nor of one size."""
    rng = np.random.default_rng(5)
    source = data.astronaut()[:, :400]
    edited = np.clip(source[::2, ::2] + rng.normal(0, 12, (256, 200, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((512, 400), dtype=np.uint8)
    mask[100:300, 50:250] = 255
    mask[80:100, 50:250] = 90  # grey, as JPEG leaves it
    side = (256, 256)
    s, o = (np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC)) for p in (source, edited))
    m = np.asarray(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST))
    k = 1 - tensor(m[:, :, None]).float() / 255
    a, b = tensor(s).float() / 255 * k, tensor(o).float() / 255 * k
    _, full = torchmetrics_ssim(b, a, data_range=1.0, return_full_image=True)
    ours = smartedit_scores(source, edited, mask)["paper"]
    assert ours.psnr == pytest.approx(float(torchmetrics_psnr(b, a, data_range=1.0)), abs=1e-4)
    assert ours.ssim == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-5)
    assert ours.l2 == pytest.approx(float(torch.nn.functional.mse_loss(b, a)), rel=1e-5)
    assert ours.l1 == pytest.approx(float(torch.nn.functional.l1_loss(b, a)), rel=1e-5)
    assert not ours.psnr_capped
    modern = smartedit_scores(source, edited, mask, crop_border=0)["paper"]
    assert modern.ssim == pytest.approx(float(full.mean()), abs=1e-5) and modern.ssim != ours.ssim


def test_strict_scores_do_not_see_the_edit_nor_the_soft_rim(
    astronaut: np.ndarray, pair: tuple[np.ndarray, np.ndarray, np.ndarray]
):
    mask = mask_of(pair[2])
    rng = np.random.default_rng(6)
    rim = 3  # pixels within the dilation of 6
    edited = astronaut.copy()
    edited[64 - rim : 192 + rim, 64 - rim : 192 + rim] = rng.integers(0, 256, (134, 134, 3))
    scores = smartedit_scores(astronaut, edited, mask)
    strict, paper = scores["strict"], scores["paper"]
    assert (strict.psnr, strict.psnr_capped, strict.l1, strict.l2) == (60.0, True, 0.0, 0.0)
    assert strict.ssim == pytest.approx(1.0)
    assert paper.psnr < 30 and paper.ssim < 0.99
    tight = smartedit_scores(astronaut, edited, mask, dilation=0)
    assert tight["strict"].psnr < 25
    assert strict.kept_ratio < tight["strict"].kept_ratio == 0.75


def test_strict_scores_do_not_depend_on_the_letterbox():
    """Black beside the picture counts as nothing, where `paper` would count it as a perfect match."""
    rng = np.random.default_rng(7)
    source = rng.integers(0, 200, (128, 256, 3), dtype=np.uint8)
    edited = source + np.uint8(20)
    mask = np.zeros((128, 256), dtype=bool)
    mask[40:80, 100:150] = True
    strict = smartedit_scores(source, edited, mask)["strict"]
    assert strict.psnr == pytest.approx(-20 * math.log10(20 / 255))
    assert strict.l1 == pytest.approx(20 / 255)
    assert strict.kept_ratio == masks.binary_keep(mask).mean()


def test_errors_say_what_holds(astronaut: np.ndarray):
    keep = np.zeros((256, 256), dtype=bool)
    with pytest.raises(masks.FullMaskError, match="no pixel is left to compare"):
        pixels.l1(astronaut, astronaut, keep=keep)
    keep[0] = True  # kept, but within the cropped border
    assert pixels.l2(astronaut, astronaut, keep=keep) == 0.0
    with pytest.raises(masks.FullMaskError, match="no pixel is left to compare"):
        pixels.ssim(astronaut, astronaut, keep=keep)
    with pytest.raises(TypeError, match="keep has dtype uint8; it is bool"):
        pixels.psnr(astronaut, astronaut, keep=keep.astype(np.uint8))
    with pytest.raises(ValueError, match=r"keep has shape \(255, 256\), the pictures \(256, 256, 3\)"):
        pixels.ssim(astronaut, astronaut, keep=keep[1:])
    with pytest.raises(ValueError, match=r"shapes \(256, 256, 3\) and \(255, 256, 3\): bring them to one size"):
        pixels.l2(astronaut, astronaut[1:])
    with pytest.raises(ValueError, match="the pictures have 256 x 10 px; SSIM's window needs 11 each way"):
        pixels.ssim(astronaut[:10], astronaut[:10])
    with pytest.raises(ValueError, match=r"crop_border is 3; it is 5 \(cropped\) or 0"):
        pixels.ssim(astronaut, astronaut, crop_border=3)
    with pytest.raises(ValueError, match="second holds floats from"):
        pixels.psnr(astronaut, astronaut / 127.5)


def test_a_missing_package_is_named(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    assert pixels.ssim(astronaut, astronaut) == pytest.approx(1.0)
    with pytest.raises(
        ValueError, match=r"needs torchmetrics, which is not installed: pip install 'insightedit\[eval\]'"
    ):
        pixels.ssim(astronaut, astronaut, crop_border=0)
