"""The UNet that starts as a copy of its source."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from insightedit.generation.source_denoiser import source_prediction
from insightedit.generation.unet import EditUNet


def stock() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def schedule() -> torch.Tensor:
    return DDIMScheduler(rescale_betas_zero_snr=True).alphas_cumprod


def build(**changes) -> EditUNet:
    settings = {"source_channels": 4, "residual_channels": 0, "image_tokens": 0, "image_embed_dim": 0}
    settings |= {"source_prior": 0.5, "alphas_cumprod": schedule()} | changes
    return EditUNet.from_unet(stock(), **settings)


def test_untrained_it_copies_at_the_noisy_end_and_trusts_z_t_at_the_clean_end() -> None:
    unet = build()
    z_t, z_src = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    text = torch.randn(2, 5, 16)
    with torch.no_grad():
        noisy = unet(torch.cat([z_t, z_src], 1), torch.tensor([999, 999]), text).sample
        clean = unet(torch.cat([z_t, z_src], 1), torch.tensor([0, 0]), text).sample
    torch.testing.assert_close(noisy, z_src)
    torch.testing.assert_close(clean, z_t, atol=0.05, rtol=0.05)


def test_the_guess_is_the_gaussian_posterior() -> None:
    generator = torch.Generator().manual_seed(0)
    prior, alpha, source = 0.7, 0.4, 1.5
    x = source + prior * torch.randn(400_000, generator=generator)
    z = alpha**0.5 * x + (1 - alpha) ** 0.5 * torch.randn(400_000, generator=generator)
    near = (z - 1.0).abs() < 0.02
    a = torch.full((1, 1, 1, 1), alpha)
    shape = (1, 1, 1, 1)
    z_t, z_src = torch.full(shape, 1.0), torch.full(shape, source)
    mean = source_prediction(torch.zeros(shape), z_t, z_src, a, prior).item()
    deviation = source_prediction(torch.ones(shape), z_t, z_src, a, prior).item() - mean
    assert mean == pytest.approx(x[near].mean().item(), abs=0.02)
    assert deviation == pytest.approx(x[near].std().item(), abs=0.02)


def test_it_survives_saving(tmp_path) -> None:
    unet = build().eval()
    torch.nn.init.normal_(unet.conv_out.weight)
    unet.save_pretrained(tmp_path)
    again = EditUNet.from_pretrained(tmp_path).eval()
    sample, text = torch.randn(1, 8, 8, 8), torch.randn(1, 5, 16)
    with torch.no_grad():
        first, second = (u(sample, torch.tensor(300), text).sample for u in (unet, again))
    assert torch.equal(first, second)


def test_it_explains_what_is_missing() -> None:
    with pytest.raises(ValueError, match="source_prior needs alphas_cumprod of 1000 timesteps, got None"):
        build(alphas_cumprod=None)
    with pytest.raises(ValueError, match="source_prior compares the 3 channels of z_src with 4"):
        build(source_channels=3)
