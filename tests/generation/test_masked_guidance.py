"""Guidance and condition dropout where text states come with a mask: the null text has all its rows."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PixArtTransformer2DModel

from insightedit.generation.guidance import drop_conditions, null_branches
from insightedit.generation.sampling import denoise, initial_noise
from insightedit.generation.transformer import EditTransformer
from insightedit.types import EditCondition

MASK = torch.tensor([[1, 1, 0, 0]] * 6)
CONDITION = EditCondition(torch.randn(6, 4, 32), encoder_attention_mask=MASK)
SOURCE, NULL = torch.randn(6, 4, 8, 8), torch.randn(4, 32)


def test_a_dropped_text_shows_all_of_the_null():
    condition, source = drop_conditions(
        CONDITION,
        SOURCE,
        NULL,
        generator=torch.Generator().manual_seed(0),
        drop_text=1.0,
        drop_image=0.0,
        drop_both=0.0,
    )
    assert bool((condition.encoder_attention_mask == 1).all())
    assert torch.equal(condition.encoder_hidden_states, NULL.expand(6, -1, -1))
    assert torch.equal(source, SOURCE)


def test_shares_of_the_paper():
    many = 20_000
    condition = EditCondition(torch.ones(many, 1, 2), encoder_attention_mask=torch.zeros(many, 1))
    condition, source = drop_conditions(
        condition, torch.ones(many, 1, 1, 1), torch.zeros(1, 2),
        generator=torch.Generator().manual_seed(0), drop_text=0.05, drop_image=0.05, drop_both=0.05,
    )  # fmt: skip
    no_text = condition.encoder_hidden_states[:, 0, 0] == 0
    no_source = source.flatten() == 0
    for event in (no_text & ~no_source, no_source & ~no_text, no_text & no_source):
        assert abs(float(event.float().mean()) - 0.05) < 0.005
    assert torch.equal(condition.encoder_attention_mask[:, 0] == 1, no_text)


def test_branches_carry_their_masks():
    condition, source = null_branches(CONDITION, SOURCE, NULL)
    assert torch.equal(
        condition.encoder_attention_mask, torch.cat([MASK, torch.ones_like(MASK), torch.ones_like(MASK)])
    )
    assert source[12:].abs().sum() == 0


def _denoiser() -> EditTransformer:
    torch.manual_seed(2)
    stock = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=32, sample_size=8, patch_size=2, caption_channels=32,
    )  # fmt: skip
    transformer = EditTransformer.from_transformer(stock, source_channels=4).eval()
    torch.nn.init.normal_(transformer.pos_embed.proj.weight, std=0.1)
    return transformer


def test_dpm_solver_walks_with_the_papers_formula():
    """n(0,0) + s (n(0,src) - n(0,0)) + y (n(txt,src) - n(0,src)), written out step by step."""
    transformer, rows = _denoiser(), slice(0, 2)
    condition = EditCondition(CONDITION.encoder_hidden_states[rows], encoder_attention_mask=MASK[rows])
    null = EditCondition(NULL.expand(2, -1, -1), encoder_attention_mask=torch.ones(2, 4, dtype=torch.int64))
    source, y, s = SOURCE[rows], 5.0, 1.4

    def solver() -> DPMSolverMultistepScheduler:
        trained = DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
        return DPMSolverMultistepScheduler.from_config(trained.config, algorithm_type="dpmsolver++", solver_order=2)

    ours = denoise(transformer, solver(), initial_noise([1, 2], (4, 8, 8)), source, condition, NULL, y, s, 4)
    scheduler, latents = solver(), initial_noise([1, 2], (4, 8, 8))
    scheduler.set_timesteps(4)
    with torch.no_grad():
        for t in scheduler.timesteps:
            nothing = transformer.predict(latents, t, torch.zeros_like(source), null).noise
            image = transformer.predict(latents, t, source, null).noise
            both = transformer.predict(latents, t, source, condition).noise
            guided = nothing + s * (image - nothing) + y * (both - image)
            latents = scheduler.step(guided, t, latents, return_dict=False)[0]
    torch.testing.assert_close(ours, latents, rtol=1e-4, atol=1e-4)
