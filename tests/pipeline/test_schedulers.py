"""Every scheduler of diffusers that fits: finite, repeatable, whole timesteps or not; the others are refused."""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from insightedit.generation.sampling import denoise, initial_noise, step_generators
from insightedit.generation.source_denoiser import alpha_at
from insightedit.generation.unet import EditUNet
from insightedit.types import EditCondition

pytestmark = pytest.mark.filterwarnings("ignore:__array_.*:DeprecationWarning")
BOTH = [
    "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "LCMScheduler", "LMSDiscreteScheduler", "SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler",
]  # fmt: skip
NOISE = [
    "EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler",
]  # fmt: skip
WITH_TORCHSDE = ["DPMSolverSDEScheduler"]
OTHER_TIME = [
    "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler",
    "CMStochasticIterativeScheduler", "DDPMWuerstchenScheduler",
]  # fmt: skip
CONDITION = EditCondition(torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)))
NULL = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
SOURCE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def models():
    """A UNet that says epsilon and one that says the latents, by prediction type, with their schedules."""
    built = {}
    for kind, prior in (("epsilon", 0.0), ("sample", 0.5)):
        torch.manual_seed(0)
        stock = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=16,
            attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        trained = DDIMScheduler(
            prediction_type=kind,
            clip_sample=False,
            rescale_betas_zero_snr=kind == "sample",
            timestep_spacing="trailing",
        )
        unet = EditUNet.from_unet(
            stock, source_channels=4, residual_channels=0, image_tokens=0, image_embed_dim=0,
            source_prior=prior, alphas_cumprod=trained.alphas_cumprod,
        )  # fmt: skip
        torch.nn.init.normal_(unet.conv_out.weight, std=0.02)
        built[kind] = unet.eval(), trained
    return built


def walk(models, kind: str, name: str) -> torch.Tensor:
    unet, trained = models[kind]
    scheduler = getattr(diffusers, name).from_config(trained.config)
    seeds = [1, 2]
    return denoise(
        unet, scheduler, initial_noise(seeds, (4, 8, 8)), SOURCE, CONDITION, NULL, 3.0, 1.0, 5,
        generators=step_generators(seeds),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for name in BOTH for kind in ("epsilon", "sample")] + [("epsilon", name) for name in NOISE],
)
def test_finite_and_repeatable(models, kind, name):
    first = walk(models, kind, name)
    assert first.isfinite().all()
    assert torch.equal(first, walk(models, kind, name))


@pytest.mark.parametrize("name", WITH_TORCHSDE)
def test_finite_and_repeatable_with_torchsde(models, name):
    pytest.importorskip("torchsde")
    test_finite_and_repeatable(models, "epsilon", name)


@pytest.mark.parametrize("name", OTHER_TIME)
def test_schedulers_of_other_diffusions_are_refused(models, name):
    with pytest.raises(ValueError, match=f"{name} (counts time from .* to|takes the denoiser's output for)"):
        walk(models, "epsilon", name)


def test_what_does_not_know_the_prediction_type_is_refused(models):
    with pytest.raises(ValueError, match="Euler.* does not fit this model: prediction_type not implemented"):
        walk(models, "sample", "EulerAncestralDiscreteScheduler")
    unet, trained = models["sample"]
    other = DDIMScheduler.from_config(trained.config, prediction_type="epsilon")
    with pytest.raises(ValueError, match="output for epsilon, and this model gives sample: build the scheduler"):
        denoise(unet, other, SOURCE, SOURCE, CONDITION, NULL)


def test_the_schedule_between_whole_timesteps():
    alphas = torch.tensor([0.9, 0.5, 0.1])
    at = alpha_at(alphas, torch.tensor([0.0, 0.5, 2.0, 7.0]))
    torch.testing.assert_close(at.flatten(), torch.tensor([0.9, 0.7, 0.1, 0.1]))
    assert torch.equal(alpha_at(alphas, torch.tensor([1, 2])).flatten(), alphas[1:])
    assert alpha_at(alphas, 1).shape == (1, 1, 1, 1)
