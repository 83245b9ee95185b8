"""Tiny real parts for the generator's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from insightedit.generation.unet import EditUNet
from insightedit.types import EditCondition

TEXT_WIDTH, QUERIES, IMAGE_DIM, RESIDUAL = 16, 5, 12, 32


@pytest.fixture
def stock_unet() -> Callable[..., UNet2DConditionModel]:
    """Builder of tiny stock UNets."""

    def build(**changes) -> UNet2DConditionModel:
        torch.manual_seed(0)
        config = {
            "sample_size": 8,
            "block_out_channels": (RESIDUAL, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": TEXT_WIDTH,
            "attention_head_dim": 8,
        }
        return UNet2DConditionModel(**{**config, **changes}).eval()

    return build


@pytest.fixture
def edit_unet(stock_unet) -> EditUNet:
    """An EditUNet with every branch, all weights random, so that no branch hides behind a zero."""
    unet = EditUNet.from_unet(
        stock_unet(), source_channels=4, residual_channels=RESIDUAL, image_tokens=3, image_embed_dim=IMAGE_DIM
    ).eval()
    torch.nn.init.normal_(unet.conv_in.weight, std=0.1)
    return unet


@pytest.fixture
def condition() -> EditCondition:
    """Condition for 3 samples on an 8x8 latent grid."""
    torch.manual_seed(1)
    return EditCondition(
        torch.randn(3, QUERIES, TEXT_WIDTH), torch.randn(3, RESIDUAL, 8, 8), torch.randn(3, IMAGE_DIM)
    )


@pytest.fixture
def null_text_states() -> torch.Tensor:
    """(Q, D_text)."""
    return torch.randn(QUERIES, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def vae() -> AutoencoderKL:
    """Tiny autoencoder with latent factor 2."""
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
        layers_per_block=1,
    ).eval()
