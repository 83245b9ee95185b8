from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from insightedit.generation.sampling import DrawState, denoise, initial_noise, sample_seeds, step_generators
from insightedit.types import EditCondition

SEEDS = [11, 12, 13]
SHAPE = (4, 8, 8)
SOURCE = torch.randn(3, *SHAPE)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


def pick(condition: EditCondition, index: int) -> EditCondition:
    rows = slice(index, index + 1)
    return EditCondition(
        condition.encoder_hidden_states[rows], condition.spatial_residual[rows], condition.image_embeds[rows]
    )


def test_seeds_count_up_and_stay_in_range() -> None:
    assert sample_seeds(5, 3) == [5, 6, 7]
    assert sample_seeds(2**32 - 1, 2) == [2**32 - 1, 0]


def test_noise_depends_on_the_seed_alone() -> None:
    batch = initial_noise(SEEDS, SHAPE)
    for row, seed in zip(batch, SEEDS, strict=True):
        assert torch.equal(initial_noise([seed], SHAPE)[0], row)
    assert torch.pdist(batch.flatten(1)).min() > 1
    assert initial_noise([1], SHAPE, torch.float16).dtype == torch.float16


def test_step_noise_is_not_the_initial_noise() -> None:
    (generator,) = step_generators([11])
    assert not torch.allclose(torch.randn(SHAPE, generator=generator), initial_noise([11], SHAPE)[0])
    (again,) = step_generators([11])
    (other,) = step_generators([12])
    fresh = torch.randn(4, generator=step_generators([11])[0])
    assert torch.equal(torch.randn(4, generator=again), fresh)
    assert not torch.equal(torch.randn(4, generator=other), fresh)


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_batch_composition_does_not_matter(edit_unet, condition, null_text_states, scheduler_class) -> None:
    def run(rows: slice, rows_condition: EditCondition) -> torch.Tensor:
        seeds = SEEDS[rows]
        return denoise(
            edit_unet,
            scheduler_class(),
            initial_noise(seeds, SHAPE),
            SOURCE[rows],
            rows_condition,
            null_text_states,
            num_inference_steps=3,
            generators=step_generators(seeds),
        )

    together = run(slice(0, 3), condition)
    for index in range(3):
        alone = run(slice(index, index + 1), pick(condition, index))
        scale = together.abs().max().item()
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(("scales", "branches"), [((7.5, 1.5), 3), ((4.0, 1.0), 2), ((1.0, 1.0), 1)])
def test_runs_only_the_branches_that_count(
    edit_unet, condition, null_text_states, monkeypatch, scales, branches
) -> None:
    sizes = []
    forward = UNet2DConditionModel.forward

    def spy(self, sample, *args, **kwargs):
        sizes.append(len(sample))
        return forward(self, sample, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", spy)
    latents = denoise(
        edit_unet, DDIMScheduler(), initial_noise(SEEDS, SHAPE), SOURCE, condition, null_text_states, *scales, 2
    )
    assert sizes == [3 * branches] * 2
    assert latents.shape == (3, *SHAPE)
    assert latents.dtype == torch.float32
    assert not latents.requires_grad


def test_callback_sees_and_replaces_the_latents(edit_unet, condition, null_text_states) -> None:
    seen = []

    def callback(number: int, timestep: torch.Tensor, state: DrawState) -> None:
        seen.append((number, int(timestep)))
        assert state.num_timesteps == 3
        if number == 2:
            state.latents = torch.zeros_like(state.latents)

    scheduler = DDIMScheduler()
    latents = denoise(
        edit_unet,
        scheduler,
        initial_noise(SEEDS, SHAPE),
        SOURCE,
        condition,
        null_text_states,
        num_inference_steps=3,
        callback=callback,
    )
    assert seen == list(enumerate(scheduler.timesteps.tolist()))
    assert not latents.any()


def test_half_precision_unet(edit_unet, condition, null_text_states) -> None:
    latents = denoise(
        edit_unet.bfloat16(),
        DDIMScheduler(),
        initial_noise(SEEDS, SHAPE),
        SOURCE,
        condition,
        null_text_states,
        num_inference_steps=2,
    )
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()


def test_rejects_too_few_generators(edit_unet, condition, null_text_states) -> None:
    with pytest.raises(ValueError, match=r"got 1 generators for 3 samples"):
        denoise(
            edit_unet,
            DDIMScheduler(),
            initial_noise(SEEDS, SHAPE),
            SOURCE,
            condition,
            null_text_states,
            generators=step_generators([1]),
        )
