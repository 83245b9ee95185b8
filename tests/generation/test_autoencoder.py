from __future__ import annotations

import pytest
import torch

from insightedit.generation.autoencoder import decode, draw_latents, encode_moments, encode_source, latent_factor

PIXELS = torch.rand(2, 3, 8, 12) * 2 - 1


def test_latent_factor_and_shapes(vae) -> None:
    assert latent_factor(vae) == 2
    assert encode_moments(vae, PIXELS).shape == (2, 8, 4, 6)
    assert draw_latents(encode_moments(vae, PIXELS), 4).shape == (2, 4, 4, 6)
    assert encode_source(vae, PIXELS, scaled=True).shape == (2, 4, 4, 6)


def test_source_is_the_mode_scaled_or_not(vae) -> None:
    mode = vae.encode(PIXELS).latent_dist.mode()
    assert torch.equal(encode_source(vae, PIXELS, scaled=False), mode)
    assert torch.equal(encode_source(vae, PIXELS, scaled=True), mode * 0.5)


def test_target_is_a_repeatable_sample_of_the_moments(vae) -> None:
    moments = encode_moments(vae, PIXELS)
    first = draw_latents(moments, 4, torch.Generator().manual_seed(0))
    assert torch.equal(first, vae.encode(PIXELS).latent_dist.sample(torch.Generator().manual_seed(0)))
    assert not torch.equal(first, draw_latents(moments, 4, torch.Generator().manual_seed(1)))


def test_a_deterministic_autoencoder_has_its_latents_for_moments() -> None:
    latents = torch.randn(2, 4, 3, 3)
    assert draw_latents(latents, 4, torch.Generator()) is latents


def test_decode_undoes_the_scale_and_stays_in_range(vae) -> None:
    latents = torch.randn(2, 4, 4, 6)
    pixels = decode(vae, latents * 0.5)
    with torch.no_grad():
        torch.testing.assert_close(pixels, vae.decode(latents).sample.clamp(-1, 1))
    loud = decode(vae, latents * 1000)
    assert loud.min() >= -1
    assert loud.max() <= 1


def test_half_precision_autoencoder_takes_and_gives_float_pixels(vae) -> None:
    vae = vae.bfloat16()
    latents = encode_source(vae, PIXELS, scaled=True)
    assert latents.dtype == torch.bfloat16
    assert decode(vae, latents.float()).dtype == torch.float32


def test_nothing_keeps_a_graph(vae) -> None:
    assert not encode_moments(vae, PIXELS).requires_grad


def test_rejects_sizes_off_the_grid(vae) -> None:
    with pytest.raises(ValueError, match=r"9x12 pixels .* multiples of 2"):
        encode_source(vae, torch.zeros(1, 3, 9, 12), scaled=True)
