"""The package's own model parts are loaded whole or not at all, and never saved otherwise."""

from __future__ import annotations

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from safetensors.torch import load_file, save_file

from insightedit.bridging import EditBridge
from insightedit.bridging.fusion import FusionBridge
from insightedit.generation.transformer import EditTransformer

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(params=["unet", "transformer", "bridge", "fusion"])
def model(request, edit_unet):
    torch.manual_seed(0)
    if request.param == "unet":
        return edit_unet
    if request.param == "transformer":
        return EditTransformer.from_transformer(
            PixArtTransformer2DModel(
                num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
                cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=16,
            ),
            source_channels=4,
        )  # fmt: skip
    if request.param == "fusion":
        return FusionBridge(token_width=8, visual_width=8, num_heads=2, text_length=3, text_width=4)
    return EditBridge(
        num_queries=4,
        text_width=16,
        llm_width=24,
        qformer_config={"num_layers": 1, "num_heads": 2, "ffn_dim": 16},
        bim_config={
            "vision_width": 12,
            "width": 16,
            "depth": 1,
            "num_heads": 2,
            "mlp_dim": 16,
            "residual_channels": 8,
        },
        iaa_config={"hidden_dim": 8, "image_embed_dim": 6},
    )


def test_missing_unexpected_and_misshapen_tensors_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    whole = load_file(tmp_path / WEIGHTS)
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.items())
    first, last = min(whole), max(whole)
    for state, message in (
        ({n: t for n, t in whole.items() if n != last}, rf"it lacks {last} \(1 tensors missing, 0 unexpected"),
        ({**whole, "extra": torch.ones(1)}, r"it holds extra, which has no place in it \(0 tensors missing, 1"),
        ({**whole, first: torch.ones(3, 5, 7)}, f"does not fit its config.json: {first} has another shape"),
    ):
        save_file(state, tmp_path / WEIGHTS)
        with pytest.raises(ValueError, match=message):
            type(model).from_pretrained(tmp_path)
    save_file(whole, tmp_path / WEIGHTS)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == [] and isinstance(loaded, type(model))


def test_what_lost_a_tensor_is_not_saved(model, tmp_path):
    owner = next(m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.bias is not None)
    owner.bias = None
    with pytest.raises(ValueError, match="is not what its config builds.*bias is missing. Take LoRA"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_loaded_weights_lie_where_new_ones_would(model, tmp_path):
    """Across a file's odd offsets, matrix products round otherwise: the same weights gave other pixels."""
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert {p.data_ptr() % 64 for p in [*loaded.parameters(), *loaded.buffers()] if p.numel()} == {0}


class TestImageBranch:
    @pytest.mark.parametrize(
        "change",
        [
            lambda unet: unet.set_attention_slice("max"),
            lambda unet: unet.set_attention_slice("auto"),
            lambda unet: unet.set_attention_slice(None),
            lambda unet: unet.set_default_attn_processor(),
            lambda unet: unet.set_attn_processor(AttnProcessor2_0()),
            lambda unet: unet.set_attn_processor({name: AttnProcessor() for name in unet.attn_processors}),
            lambda unet: unet.disable_xformers_memory_efficient_attention(),
            lambda unet: (unet.fuse_qkv_projections(), unet.unfuse_qkv_projections()),
        ],
    )
    @torch.no_grad()
    def test_it_stays_whatever_processor_is_set(self, edit_unet, tmp_path, change):
        sample = torch.randn(1, 8 + edit_unet.config.residual_channels, 8, 8)
        given = (torch.randn(1, 5, 16), {"image_embeds": torch.randn(1, edit_unet.config.image_embed_dim)})

        def say(unet):
            return unet(sample, 7, encoder_hidden_states=given[0], added_cond_kwargs=given[1]).sample

        before, names = say(edit_unet), set(edit_unet.state_dict())
        change(edit_unet)
        assert set(edit_unet.state_dict()) == names
        torch.testing.assert_close(say(edit_unet), before, rtol=1e-4, atol=1e-4)
        edit_unet.save_pretrained(tmp_path)
        loaded = type(edit_unet).from_pretrained(tmp_path)
        torch.testing.assert_close(say(loaded), before, rtol=1e-4, atol=1e-4)
