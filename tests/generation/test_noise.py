from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr

from insightedit.generation.noise import (
    changed_area_weights,
    diffuse,
    draw_timesteps,
    noise_loss,
    relative_weights,
    snr_weights,
)

LATENTS, NOISE = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
TIMESTEPS = torch.tensor([0, 400, 999])


def scheduler(prediction_type: str = "epsilon", **changes) -> DDIMScheduler:
    return DDIMScheduler(prediction_type=prediction_type, **changes)


def test_timesteps_are_uniform_and_repeatable() -> None:
    drawn = draw_timesteps(20_000, 10, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.int64
    assert torch.bincount(drawn, minlength=10).float().div(2000).sub(1).abs().max() < 0.1
    assert torch.equal(drawn, draw_timesteps(20_000, 10, torch.Generator().manual_seed(0)))


def test_timesteps_may_begin_late() -> None:
    drawn = draw_timesteps(20_000, 10, torch.Generator().manual_seed(0), begin=6)
    assert torch.bincount(drawn, minlength=10)[:6].sum() == 0
    assert torch.bincount(drawn, minlength=10)[6:].float().div(5000).sub(1).abs().max() < 0.1


@pytest.mark.parametrize("begin", [-1, 10])
def test_a_beginning_outside_the_schedule_is_refused(begin: int) -> None:
    with pytest.raises(ValueError, match=f"min_timestep is {begin}, but the schedule has the timesteps 0 to 9"):
        draw_timesteps(2, 10, torch.Generator(), begin=begin)


def test_targets() -> None:
    assert diffuse(scheduler("epsilon"), LATENTS, NOISE, TIMESTEPS)[1] is NOISE
    assert diffuse(scheduler("sample"), LATENTS, NOISE, TIMESTEPS)[1] is LATENTS
    velocity = diffuse(scheduler("v_prediction"), LATENTS, NOISE, TIMESTEPS)[1]
    alphas = scheduler().alphas_cumprod[TIMESTEPS][:, None, None, None]
    torch.testing.assert_close(velocity, alphas.sqrt() * NOISE - (1 - alphas).sqrt() * LATENTS)


def test_min_snr_weights() -> None:
    snr = compute_snr(scheduler(), TIMESTEPS)
    capped = snr.clamp(max=5.0)
    torch.testing.assert_close(snr_weights(scheduler("epsilon"), TIMESTEPS, 5.0), capped / snr, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        snr_weights(scheduler("v_prediction"), TIMESTEPS, 5.0), capped / (snr + 1), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(snr_weights(scheduler("sample"), TIMESTEPS, 5.0), capped, rtol=1e-4, atol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_finite_at_zero_terminal_snr(prediction_type: str) -> None:
    weights = snr_weights(scheduler(prediction_type, rescale_betas_zero_snr=True), TIMESTEPS, 5.0)
    assert weights.isfinite().all()


def test_changed_area_weights() -> None:
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, 0, 16, 16] = 1.0  # one pixel: cell (4, 4) of 8x8 and its neighbours
    weights = changed_area_weights(mask, latent_size=(8, 8), weight=5.0)
    assert weights.shape == (2, 1, 8, 8)
    torch.testing.assert_close(weights.mean(dim=(1, 2, 3)), torch.ones(2))
    changed = weights[0, 0] > 1
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[3:6, 3:6] = True
    assert torch.equal(changed, expected)
    torch.testing.assert_close(weights[0, 0, 4, 4] / weights[0, 0, 0, 0], torch.tensor(5.0))
    assert weights[1].eq(1).all()


def test_weight_one_and_unknown_mask_weigh_all_the_same() -> None:
    mask = torch.rand(2, 1, 32, 32).round()
    assert changed_area_weights(mask, latent_size=(8, 8), weight=1.0).eq(1).all()
    assert changed_area_weights(None, latent_size=(8, 8), weight=5.0).item() == 1.0


def test_loss_is_the_plain_mean_without_weights() -> None:
    torch.testing.assert_close(noise_loss(LATENTS, NOISE), (LATENTS - NOISE).square().mean())
    assert noise_loss(LATENTS.bfloat16(), NOISE).dtype == torch.float32


def test_masked_samples_leave_the_mean() -> None:
    mask = torch.tensor([1.0, 0.0, 1.0])
    broken = LATENTS.clone()
    broken[1] += 100
    expected = (LATENTS[[0, 2]] - NOISE[[0, 2]]).square().mean()
    torch.testing.assert_close(noise_loss(broken, NOISE, sample_mask=mask), expected)
    assert noise_loss(LATENTS, NOISE, sample_mask=torch.zeros(3)) == 0


def test_weights_move_the_loss_to_the_changed_area() -> None:
    error = torch.zeros(1, 4, 8, 8)
    error[..., 4, 4] = 1.0
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 16, 16] = 1.0
    weights = changed_area_weights(mask, latent_size=(8, 8), weight=5.0)
    torch.testing.assert_close(
        noise_loss(error, torch.zeros_like(error), weights),
        noise_loss(error, torch.zeros_like(error)) * weights[0, 0, 4, 4],
    )


def test_rejects_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match=r"DDIMScheduler has prediction_type 'flow'; training knows epsilon, v_pred"):
        diffuse(scheduler("flow"), LATENTS, NOISE, TIMESTEPS)
    with pytest.raises(ValueError, match=r"min_snr_gamma has to be positive, got 0"):
        snr_weights(scheduler(), TIMESTEPS, 0.0)
    with pytest.raises(ValueError, match=r"changed_area_weight has to be positive, got -1"):
        changed_area_weights(None, latent_size=(8, 8), weight=-1.0)


def test_relative_weights_make_a_copy_cost_one() -> None:
    source, target = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    target[0] = source[0] + 5.0
    target[2] = source[2]
    mask = torch.zeros(3, 1, 16, 16)
    mask[:, :, 4:9, 4:9] = 1
    plain = changed_area_weights(mask, latent_size=(8, 8), weight=4.0)
    weights = relative_weights(source, target, plain, floor=0.05)
    costs = ((source - target).square() * weights).mean(dim=(1, 2, 3))
    torch.testing.assert_close(costs, torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(weights[2], plain[2] / 0.05)


def test_relative_weights_need_a_floor() -> None:
    with pytest.raises(ValueError, match=r"change_floor has to be positive, got 0\.0; None turns"):
        relative_weights(LATENTS, NOISE, torch.ones(()), floor=0.0)
