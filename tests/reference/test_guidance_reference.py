"""Guidance and the denoising loop against diffusers' InstructPix2Pix pipeline, on the same UNet and noise."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)

from insightedit.generation.sampling import denoise, initial_noise, step_generators
from insightedit.generation.unet import EditUNet
from insightedit.types import EditCondition


@pytest.fixture(scope="module")
def instruct_pix2pix() -> StableDiffusionInstructPix2PixPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
    )
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4)  # fmt: skip
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=vae.eval(),
        unet=unet.eval(),
        text_encoder=None,
        tokenizer=None,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers' Euler
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, EulerAncestralDiscreteScheduler])
@pytest.mark.parametrize(("guidance_scale", "image_guidance_scale"), [(7.5, 1.5), (3.0, 1.2)])
def test_denoise_equals_instruct_pix2pix(
    instruct_pix2pix, scheduler_class, guidance_scale, image_guidance_scale
) -> None:
    scheduler = instruct_pix2pix.scheduler = scheduler_class()
    torch.manual_seed(1)
    text, null = torch.randn(2, 5, 16), torch.randn(5, 16)
    source = torch.randn(2, 4, 8, 8)
    noise = initial_noise([3, 4], (4, 8, 8))
    expected = instruct_pix2pix(
        prompt_embeds=text,
        negative_prompt_embeds=null.expand(2, -1, -1),
        image=source,  # four channels: taken for latents
        latents=noise.clone(),
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        image_guidance_scale=image_guidance_scale,
        generator=step_generators([3, 4]),
        output_type="latent",
    ).images
    unet = EditUNet.from_unet(
        instruct_pix2pix.unet, source_channels=4, residual_channels=0, image_tokens=0, image_embed_dim=0
    ).eval()
    actual = denoise(
        unet,
        scheduler,
        noise,
        source,
        EditCondition(text),
        null,
        guidance_scale,
        image_guidance_scale,
        num_inference_steps=4,
        generators=step_generators([3, 4]),
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
