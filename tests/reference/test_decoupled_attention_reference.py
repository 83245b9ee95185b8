"""The image branch against diffusers' own loading of an IP-Adapter checkpoint into the stock UNet."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from insightedit.generation.unet import EditUNet

TEXT_WIDTH, IMAGE_DIM, TOKENS = 16, 12, 4
CONFIG = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
}


def as_ip_adapter(unet: EditUNet) -> dict[str, dict[str, torch.Tensor]]:
    """The image branch under the names of a released IP-Adapter."""
    projection = unet.encoder_hid_proj.image_projection_layers[0].state_dict()
    adapter = {}
    for index, (name, processor) in enumerate(unet.attn_processors.items()):
        if name.endswith("attn2.processor"):
            adapter[f"{index}.to_k_ip.weight"] = processor.to_k_ip[0].weight.detach()
            adapter[f"{index}.to_v_ip.weight"] = processor.to_v_ip[0].weight.detach()
    return {"image_proj": {k.replace("image_embeds", "proj"): v for k, v in projection.items()}, "ip_adapter": adapter}


def test_image_branch_equals_ip_adapter() -> None:
    torch.manual_seed(0)
    stock = UNet2DConditionModel(**CONFIG).eval()
    ours = EditUNet.from_unet(
        stock, source_channels=4, residual_channels=0, image_tokens=TOKENS, image_embed_dim=IMAGE_DIM
    ).eval()
    for processor in ours.attn_processors.values():
        for parameter in getattr(processor, "parameters", list)():
            torch.nn.init.normal_(parameter, std=0.3)
    stock._load_ip_adapter_weights(as_ip_adapter(ours))
    for processor in stock.attn_processors.values():
        processor.scale = [0.7]
    ours.set_image_prompt_scale(0.7)

    noisy, source = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    text, embeds = torch.randn(2, 5, TEXT_WIDTH), torch.randn(2, IMAGE_DIM)
    with torch.no_grad():
        expected = stock(noisy, 7, text, added_cond_kwargs={"image_embeds": [embeds[:, None]]}).sample
        actual = ours(torch.cat([noisy, source], 1), 7, text, added_cond_kwargs={"image_embeds": embeds}).sample
        without = ours(torch.cat([noisy, source], 1), 7, text).sample
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert (actual - without).abs().max() > 1e-3
