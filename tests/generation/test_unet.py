from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed

from insightedit.generation.unet import EditUNet
from insightedit.generation.unet_input import positions, unet_input

RESIDUAL, TEXT_WIDTH, IMAGE_DIM = 32, 16, 12
NO_BRANCHES = {"source_channels": 4, "residual_channels": 0, "image_tokens": 0, "image_embed_dim": 0}
ALL_BRANCHES = {**NO_BRANCHES, "residual_channels": RESIDUAL, "image_tokens": 3, "image_embed_dim": IMAGE_DIM}
NOISY, SOURCE, TEXT = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.randn(3, 5, TEXT_WIDTH)
TIMESTEPS = torch.tensor([1, 500, 999])
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def run(unet, residual=None, image_embeds=None) -> torch.Tensor:
    sample = unet_input(NOISY, SOURCE, residual, unet.config.residual_channels)
    added = None if image_embeds is None else {"image_embeds": image_embeds}
    with torch.no_grad():
        return unet(sample, TIMESTEPS, TEXT, added_cond_kwargs=added).sample


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_full_size_parameter_count_and_shapes() -> None:
    with torch.device("meta"):
        stock = UNet2DConditionModel(**SD15)
        unet = EditUNet(**SD15, source_channels=4, residual_channels=320, image_tokens=4, image_embed_dim=768)
        sample = unet(
            torch.empty(3, 4 + 4 + 320, 32, 32),
            torch.tensor([1, 2, 3]),
            torch.empty(3, 77, 768),
            added_cond_kwargs={"image_embeds": torch.empty(3, 768)},
        ).sample
    assert sample.shape == (3, 4, 32, 32)
    image_attention = sum(p.numel() for n, p in unet.named_parameters() if "_ip." in n)
    assert count(stock) == pytest.approx(859.5e6, rel=1e-4)
    assert image_attention == pytest.approx(19.2e6, rel=0.005)
    assert count(unet.encoder_hid_proj) == pytest.approx(2.36e6, rel=0.005)
    assert count(unet) == count(stock) + 11_520 + image_attention + count(unet.encoder_hid_proj)


def test_starts_as_the_text_to_image_unet(stock_unet) -> None:
    stock = stock_unet()
    unet = EditUNet.from_unet(stock, **ALL_BRANCHES).eval()
    with torch.no_grad():
        expected = stock(NOISY, TIMESTEPS, TEXT).sample
    assert torch.equal(run(unet), expected)


def test_zero_residual_is_the_plain_eight_channel_unet(stock_unet) -> None:
    stock = stock_unet(in_channels=8)
    unet = EditUNet.from_unet(stock, **ALL_BRANCHES).eval()
    assert torch.equal(unet.conv_in.weight, stock.conv_in.weight)
    with torch.no_grad():
        expected = stock(torch.cat([NOISY, SOURCE], 1), TIMESTEPS, TEXT).sample
    assert torch.equal(run(unet, torch.zeros(3, RESIDUAL, 8, 8)), expected)


def test_residual_is_added_after_conv_in(edit_unet) -> None:
    latents, residual = torch.cat([NOISY, SOURCE], 1), torch.randn(3, RESIDUAL, 8, 8)
    with torch.no_grad():
        plain = torch.nn.functional.conv2d(latents, edit_unet.conv_in.weight, edit_unet.conv_in.bias, padding=1)
        torch.testing.assert_close(edit_unet.conv_in(torch.cat([latents, residual], 1)), plain + residual)
    assert (run(edit_unet, residual) - run(edit_unet)).abs().max() > 1e-3


def test_positions_are_added_after_conv_in_and_survive_saving(stock_unet, tmp_path) -> None:
    stock = stock_unet()
    unet = EditUNet.from_unet(stock, **ALL_BRANCHES, position_embedding=True).eval()
    wanted = get_2d_sincos_pos_embed(RESIDUAL, (8, 8), output_type="pt").T.reshape(1, RESIDUAL, 8, 8)
    residual = wanted.float().expand(3, -1, -1, -1)
    plain = EditUNet.from_unet(stock, **ALL_BRANCHES).eval()
    assert torch.equal(run(unet), run(plain, residual=residual))
    assert not torch.equal(run(unet), run(plain))
    unet.save_pretrained(tmp_path)
    again = EditUNet.from_unet(tmp_path, **ALL_BRANCHES).eval()
    assert again.config.position_embedding
    assert torch.equal(run(again), run(unet))


def test_positions_tell_rows_from_columns() -> None:
    table = positions(8, 3, 5)
    assert table.shape == (8, 3, 5)
    assert table.abs().max() <= 1
    assert len({tuple(cell) for cell in table.flatten(1).T.tolist()}) == 15


def test_a_stock_unet_with_pooled_text_keeps_its_image_branch(stock_unet) -> None:
    stock = stock_unet(
        addition_embed_type="text", addition_embed_type_num_heads=2, resnet_time_scale_shift="scale_shift"
    )
    unet = EditUNet.from_unet(stock, **ALL_BRANCHES).eval()
    with torch.no_grad():
        expected = stock(NOISY, TIMESTEPS, TEXT).sample
    assert torch.equal(run(unet), expected)
    assert not torch.equal(run(unet, image_embeds=torch.randn(3, IMAGE_DIM)), expected)


def test_eight_channel_latents(stock_unet) -> None:
    """A UNet that writes as many channels as it reads is text-to-image, however many they are."""
    stock = stock_unet(in_channels=8, out_channels=8)
    unet = EditUNet.from_unet(stock, **{**NO_BRANCHES, "source_channels": 8})
    assert unet.config.in_channels == 8
    assert unet.conv_in.in_channels == 16
    assert not unet.conv_in.weight[:, 8:].any()


def test_image_keys_and_values_start_as_the_text_ones(stock_unet) -> None:
    unet = EditUNet.from_unet(stock_unet(), **ALL_BRANCHES)
    attentions = [m for n, m in unet.named_modules() if n.endswith("attn2")]
    assert len(attentions) == 4
    for attention in attentions:
        assert torch.equal(attention.processor.to_k_ip[0].weight, attention.to_k.weight)
        assert torch.equal(attention.processor.to_v_ip[0].weight, attention.to_v.weight)


def test_scale_zero_is_text_only_exactly(edit_unet) -> None:
    embeds = torch.randn(3, IMAGE_DIM)
    text_only, full = run(edit_unet), run(edit_unet, image_embeds=embeds)
    assert (full - text_only).abs().max() > 1e-3
    edit_unet.set_image_prompt_scale(0.0)
    assert torch.equal(run(edit_unet, image_embeds=embeds), text_only)
    edit_unet.set_image_prompt_scale(0.5)
    half = run(edit_unet, image_embeds=embeds)
    assert not torch.equal(half, text_only)
    assert not torch.equal(half, full)
    edit_unet.set_image_prompt_scale(1.0)
    assert torch.equal(run(edit_unet, image_embeds=embeds), full)


def test_image_prompt_forms_agree(edit_unet) -> None:
    embeds = torch.randn(3, IMAGE_DIM)
    expected = run(edit_unet, image_embeds=embeds)
    assert torch.equal(run(edit_unet, image_embeds=embeds[:, None]), expected)
    assert torch.equal(run(edit_unet, image_embeds=[embeds[:, None]]), expected)


def test_round_trip(edit_unet, tmp_path) -> None:
    edit_unet.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["_class_name"] == "EditUNet"
    assert saved["in_channels"] == 4
    assert {k: saved[k] for k in ALL_BRANCHES} == ALL_BRANCHES
    loaded = EditUNet.from_pretrained(tmp_path).eval()
    residual, embeds = torch.randn(3, RESIDUAL, 8, 8), torch.randn(3, IMAGE_DIM)
    assert torch.equal(run(loaded, residual, embeds), run(edit_unet, residual, embeds))
    loaded.save_pretrained(tmp_path / "again")
    saved_again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {**saved, "_name_or_path": str(tmp_path)} == saved_again
    again = EditUNet.from_pretrained(tmp_path / "again", low_cpu_mem_usage=False).eval()
    assert torch.equal(run(again, residual, embeds), run(edit_unet, residual, embeds))


@pytest.mark.parametrize("in_channels", [4, 8])
def test_loads_a_stock_folder(stock_unet, tmp_path, in_channels: int) -> None:
    stock = stock_unet(in_channels=in_channels)
    stock.save_pretrained(tmp_path / "unet")
    unet = EditUNet.from_unet(tmp_path, subfolder="unet", **ALL_BRANCHES).eval()
    assert unet.config.in_channels == 4
    assert torch.equal(unet.conv_in.weight[:, :in_channels], stock.conv_in.weight)
    assert torch.equal(run(unet), run(EditUNet.from_unet(stock, **ALL_BRANCHES).eval()))


def test_adds_branches_to_a_trained_edit_unet(edit_unet, stock_unet, tmp_path) -> None:
    plain = EditUNet.from_unet(stock_unet(), **NO_BRANCHES).eval()
    torch.nn.init.normal_(plain.conv_in.weight, std=0.1)
    grown = EditUNet.from_unet(plain, **ALL_BRANCHES).eval()
    assert torch.equal(run(grown), run(plain))
    edit_unet.save_pretrained(tmp_path)
    embeds = torch.randn(3, IMAGE_DIM)
    same = EditUNet.from_unet(tmp_path, **ALL_BRANCHES).eval()
    assert torch.equal(run(same, image_embeds=embeds), run(edit_unet, image_embeds=embeds))


def test_keeps_the_dtype(stock_unet) -> None:
    assert EditUNet.from_unet(stock_unet().half(), **ALL_BRANCHES).dtype == torch.float16


def test_trains_under_bfloat16_autocast(edit_unet) -> None:
    edit_unet.train()
    edit_unet.enable_gradient_checkpointing()
    residual = torch.randn(3, RESIDUAL, 8, 8, requires_grad=True)
    embeds = torch.randn(3, IMAGE_DIM, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = edit_unet(
            unet_input(NOISY, SOURCE, residual, RESIDUAL), TIMESTEPS, TEXT, added_cond_kwargs={"image_embeds": embeds}
        ).sample
        loss = prediction.float().square().mean()
    loss.backward()
    assert residual.grad.abs().max() > 0
    assert embeds.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in edit_unet.parameters())


def test_unet_input_fills_in_zeros() -> None:
    filled = unet_input(NOISY, SOURCE.half(), None, 6)
    assert filled.shape == (3, 14, 8, 8)
    assert filled.dtype == NOISY.dtype
    assert not filled[:, 8:].any()
    assert torch.equal(unet_input(NOISY, SOURCE, None, 0), torch.cat([NOISY, SOURCE], 1))


def test_rejects_a_residual_that_the_unet_cannot_use() -> None:
    with pytest.raises(ValueError, match=r"residual_channels=0 and cannot use it: .*use_bim = False"):
        unet_input(NOISY, SOURCE, torch.zeros(3, 6, 8, 8), 0)


def test_rejects_the_wrong_number_of_channels(edit_unet) -> None:
    with pytest.raises(ValueError, match=r"got 8 input channels and takes 40: 8 of .* 32 of v'.*unet_input"):
        edit_unet(torch.cat([NOISY, SOURCE], 1), TIMESTEPS, TEXT)


def test_rejects_residual_channels_that_do_not_fit(stock_unet) -> None:
    with pytest.raises(ValueError, match=r"residual_channels is 320, .*block_out_channels\[0\] = 32"):
        EditUNet.from_unet(stock_unet(), **{**ALL_BRANCHES, "residual_channels": 320})


def test_rejects_image_tokens_without_width(stock_unet) -> None:
    with pytest.raises(ValueError, match=r"image_tokens=3 needs image_embed_dim > 0, got 0"):
        EditUNet.from_unet(stock_unet(), **{**ALL_BRANCHES, "image_embed_dim": 0})


def test_rejects_an_inpainting_unet(stock_unet) -> None:
    with pytest.raises(ValueError, match=r"reads 9 channels and writes 4: .*not an inpainting UNet"):
        EditUNet.from_unet(stock_unet(in_channels=9), **ALL_BRANCHES)


def test_rejects_dropping_a_trained_branch(edit_unet) -> None:
    with pytest.raises(ValueError, match=r"does not fit: it has .*Drop no branch"):
        EditUNet.from_unet(edit_unet, **NO_BRANCHES)


def test_rejects_an_image_prompt_without_branch(stock_unet) -> None:
    unet = EditUNet.from_unet(stock_unet(), **NO_BRANCHES)
    with pytest.raises(ValueError, match=r"without image branch \(image_tokens=0\)"):
        run(unet, image_embeds=torch.randn(3, IMAGE_DIM))


def test_rejects_an_image_prompt_of_another_width(edit_unet) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 1, 7\), expected \(B, 12\)"):
        run(edit_unet, image_embeds=torch.randn(3, 7))
