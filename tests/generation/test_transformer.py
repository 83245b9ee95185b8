"""EditTransformer: what stock weights do in it, what its new inputs do, and what its output means."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, PixArtTransformer2DModel

from insightedit.generation.noise import noise_loss
from insightedit.generation.transformer import EditTransformer
from insightedit.types import EditCondition

Z, SOURCE = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
STEPS = torch.tensor([10, 500, 999])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0]] * 3)
CONDITION = EditCondition(torch.randn(3, 6, 32), encoder_attention_mask=MASK)
ALPHAS = DDIMScheduler(beta_schedule="scaled_linear").alphas_cumprod


@pytest.fixture
def stock() -> PixArtTransformer2DModel:
    torch.manual_seed(1)
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=32, sample_size=8, patch_size=2, caption_channels=32,
    )  # fmt: skip
    return model.eval()


def edit(stock, **options) -> EditTransformer:
    return EditTransformer.from_transformer(stock, **{"source_channels": 4, **options}).eval()


@torch.no_grad()
def test_with_zero_extra_weights_it_is_the_stock_transformer(stock):
    whole = stock(
        Z, encoder_hidden_states=CONDITION.encoder_hidden_states, timestep=STEPS, encoder_attention_mask=MASK,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None}, return_dict=False,
    )[0]  # fmt: skip
    ours = edit(stock)
    assert ours.pos_embed.proj.weight[:, 4:].abs().sum() == 0
    assert torch.equal(ours.predict(Z, STEPS, SOURCE, CONDITION).noise, whole[:, :4])


@torch.no_grad()
def test_a_stock_folder_loads_and_an_own_one_comes_back(stock, tmp_path):
    stock.save_pretrained(tmp_path / "stock" / "transformer")
    ours = edit(str(tmp_path / "stock"), subfolder="transformer")
    torch.nn.init.normal_(ours.pos_embed.proj.weight)
    ours.save_pretrained(tmp_path / "own")
    again = EditTransformer.from_pretrained(tmp_path / "own")
    assert (again.config.in_channels, again.config.source_channels) == (4, 4)
    expected = ours.predict(Z, STEPS, SOURCE, CONDITION).noise
    assert torch.equal(again.predict(Z, STEPS, SOURCE, CONDITION).noise, expected)
    assert torch.equal(edit(str(tmp_path / "own")).predict(Z, STEPS, SOURCE, CONDITION).noise, expected)


@torch.no_grad()
def test_masked_text_states_do_not_matter(stock):
    ours = edit(stock)
    states = CONDITION.encoder_hidden_states.clone()
    states[:, 4:] = 7.0
    other = replace(CONDITION, encoder_hidden_states=states)
    torch.testing.assert_close(
        ours.predict(Z, STEPS, SOURCE, other).noise, ours.predict(Z, STEPS, SOURCE, CONDITION).noise, rtol=0, atol=1e-5
    )
    unmasked = replace(other, encoder_attention_mask=None)
    assert not torch.allclose(
        ours.predict(Z, STEPS, SOURCE, unmasked).noise, ours.predict(Z, STEPS, SOURCE, other).noise
    )


def test_the_variance_half_is_not_trained(stock):
    ours = edit(stock).train()
    noise_loss(ours.predict(Z, STEPS, SOURCE, CONDITION).noise, torch.randn_like(Z)).backward()
    grads = ours.proj_out.weight.grad.reshape(2, 2, 8, -1)  # (patch, patch, channel, D)
    assert grads[:, :, :4].abs().sum() > 0
    assert grads[:, :, 4:].abs().sum() == 0


@torch.no_grad()
def test_patch_features_are_the_embedders_own_without_position(stock):
    ours = edit(stock)
    features = ours.patch_features(Z)
    assert features.shape == (3, 16, 32)
    with_position = ours.pos_embed(torch.cat([Z, torch.zeros_like(Z)], dim=1))
    torch.testing.assert_close(features + ours.pos_embed.pos_embed, with_position)


class TestSourcePrior:
    @torch.no_grad()
    def test_a_new_one_copies_its_source_at_pure_noise(self, stock):
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
        ours = edit(stock, source_prior=0.25, alphas_cumprod=scheduler.alphas_cumprod)
        prediction = ours.predict(Z, torch.tensor([999] * 3), SOURCE, CONDITION).noise
        torch.testing.assert_close(prediction, SOURCE, rtol=0, atol=1e-3)

    @torch.no_grad()
    def test_on_a_blank_canvas_it_expects_a_whole_picture(self, stock):
        """With unit variance around zero, the mean of the latents given z_t is sqrt(a) z_t."""
        ours = edit(stock, source_prior=0.25, alphas_cumprod=ALPHAS)
        prediction = ours.predict(Z, STEPS, torch.zeros_like(Z), CONDITION).noise
        torch.testing.assert_close(prediction, ALPHAS[STEPS].sqrt()[:, None, None, None] * Z)

    @torch.no_grad()
    def test_it_survives_saving_and_a_second_start(self, stock, tmp_path):
        ours = edit(stock, source_prior=0.25, alphas_cumprod=ALPHAS)
        torch.nn.init.normal_(ours.proj_out.weight)
        ours.save_pretrained(tmp_path)
        again = EditTransformer.from_pretrained(tmp_path)
        assert torch.equal(again.alphas_cumprod, ALPHAS)
        kept = edit(again, source_prior=0.25, alphas_cumprod=ALPHAS)
        assert torch.equal(kept.proj_out.weight, ours.proj_out.weight)

    def test_it_needs_the_schedule(self, stock):
        with pytest.raises(ValueError, match="source_prior needs alphas_cumprod of 1000 timesteps, got None"):
            edit(stock, source_prior=0.25)
        with pytest.raises(ValueError, match=r"got \(10,\): give the noise scheduler's"):
            edit(stock, source_prior=0.25, alphas_cumprod=torch.ones(10))


class TestPlaceHead:
    @torch.no_grad()
    def test_a_new_one_is_undecided_and_changes_nothing(self, stock):
        both = edit(stock, place_head=True).predict(Z, STEPS, SOURCE, CONDITION, mark_places=True)
        assert both.place_logits is not None
        assert both.place_logits.shape == (3, 1, 4, 4)
        assert both.place_logits.abs().max() == 0
        without = edit(stock).predict(Z, STEPS, SOURCE, CONDITION, mark_places=True)
        assert without.place_logits is None
        assert torch.equal(both.noise, without.noise)

    def test_it_reads_the_features_half_way(self, stock):
        """Patch (row, column) of the picture is cell (row, column) of the marks."""
        ours = edit(stock, place_head=True)
        torch.nn.init.normal_(ours.place_out.weight)
        seen = []
        ours.transformer_blocks[1].register_forward_hook(lambda module, given, output: seen.append(output))
        marks = ours.predict(Z, STEPS, SOURCE, CONDITION, mark_places=True).place_logits
        assert marks is not None
        expected = seen[0] @ ours.place_out.weight[0]
        torch.testing.assert_close(marks[:, 0, 2, 3], expected[:, 2 * 4 + 3])
        marks.sum().backward()
        assert ours.transformer_blocks[0].attn1.to_q.weight.grad.abs().sum() > 0
        assert ours.proj_out.weight.grad is None
        assert not ours.transformer_blocks[0]._forward_hooks  # nothing stays behind

    def test_gradients_are_the_same_when_activations_are_computed_again(self, stock):
        grads = []
        for saves_memory in (False, True):
            ours = edit(stock, place_head=True).train()
            torch.nn.init.ones_(ours.place_out.weight)
            if saves_memory:
                ours.enable_gradient_checkpointing()
            both = ours.predict(Z, STEPS, SOURCE, CONDITION, mark_places=True)
            (both.place_logits.square().mean() + both.noise.square().mean()).backward()
            grads.append(ours.transformer_blocks[0].attn1.to_q.weight.grad)
        torch.testing.assert_close(grads[0], grads[1])

    @torch.no_grad()
    def test_it_survives_saving_and_a_second_start_and_can_be_left(self, stock, tmp_path):
        ours = edit(stock, place_head=True)
        torch.nn.init.normal_(ours.place_out.weight)
        ours.save_pretrained(tmp_path)
        again = edit(EditTransformer.from_pretrained(tmp_path), place_head=True)
        assert torch.equal(again.place_out.weight, ours.place_out.weight)
        left = edit(again)
        assert left.place_out is None
        assert torch.equal(
            left.predict(Z, STEPS, SOURCE, CONDITION).noise, ours.predict(Z, STEPS, SOURCE, CONDITION).noise
        )

    def test_it_draws_no_random_number(self, stock):
        torch.manual_seed(3)
        edit(stock)
        expected = torch.rand(2)
        torch.manual_seed(3)
        edit(stock, place_head=True)
        assert torch.equal(torch.rand(2), expected)


def test_what_does_not_fit_is_named(stock):
    with pytest.raises(ValueError, match="source_channels is -1: give the number of the autoencoder's"):
        EditTransformer(source_channels=-1, **{k: v for k, v in stock.config.items() if not k.startswith("_")})
    six = edit(stock, source_channels=2)
    with pytest.raises(ValueError, match="reads 6 channels, 4 of them noisy latents.* reads 4 .* or 8"):
        edit(six)
    with pytest.raises(ValueError, match="holds v' or an image embedding, which a transformer has no place for"):
        edit(stock).predict(Z, STEPS, SOURCE, replace(CONDITION, image_embeds=torch.zeros(3, 5)))


def test_full_size_is_pixart_with_eight_channels():
    with torch.device("meta"):
        ours = EditTransformer(source_channels=4, sample_size=64, caption_channels=4096)
        stock = PixArtTransformer2DModel(sample_size=64, caption_channels=4096)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, stock)]
    assert counts[0] - counts[1] == 4 * 1152 * 2 * 2
    assert counts[1] == pytest.approx(611e6, rel=0.005)
    assert ours.pos_embed.proj.weight.shape == (1152, 8, 2, 2)
