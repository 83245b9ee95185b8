"""SmartEdit's folder lands bit for bit, at the ids and in the places that its names say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamTwoWayTransformer

from insightedit.pipelines.loading import load_pipeline
from tests.importers import published
from tests.importers.conftest import stored

LLM, QFORMER = (
    f"LLM-{published.STEP}/adapter_model.bin",
    (f"embeddings_qformer/checkpoint-{published.STEP}_embeddings_qformer.bin"),
)
UNET, BIM = f"unet-{published.STEP}/adapter_model.bin", f"modulate-{published.STEP}/adapter_model.bin"
QFORMER_NAMES = {
    "sd_qformer.embeddings.LayerNorm": "qformer.norm",
    "sd_qformer.encoder.layer": "qformer.layers",
    "crossattention.self.query": "cross_attn.q_proj",
    "crossattention.self.key": "cross_attn.k_proj",
    "crossattention.self.value": "cross_attn.v_proj",
    "crossattention.output.dense": "cross_attn.out_proj",
    "crossattention.output.LayerNorm": "cross_attn_norm",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_norm",
    "intermediate_query.dense": "ffn.0",
    "output_query.dense": "ffn.2",
    "output_query.LayerNorm": "ffn_norm",
}
BIM_NAMES = {
    "modulate_transformer.layers": "bim.two_way.blocks",
    "modulate_transformer.final_attn_token_to_image": "bim.two_way.final_attn",
    "modulate_transformer.norm_final_attn": "bim.two_way.final_norm",
    "modulate_head": "bim.text_in",
    "pe_layer.positional_encoding_gaussian_matrix": "bim.positions.frequencies",
    "dimension_reduction_head_zeroconv": "bim.image_out",
    "dimension_reduction_head_qformer_out": "bim.text_out",
    "cross_attn_token_to_image": "token_to_image",
    "cross_attn_image_to_token": "image_to_token",
    "mlp.lin1": "mlp.0",
    "mlp.lin2": "mlp.2",
    "norm1": "self_attn_norm",
    "norm2": "token_to_image_norm",
    "norm3": "mlp_norm",
    "norm4": "image_to_token_norm",
}


def renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name


def test_qformer_and_bim_land_bit_equal(made):
    folder, files, report = made["smartedit"]
    bridge = stored(folder, "bridge")
    expected = {renamed(n, QFORMER_NAMES): t for n, t in files[QFORMER].items() if n.startswith("sd_qformer.")}
    expected.pop("sd_qformer.embeddings.position_ids")
    expected["qformer.queries"] = files[QFORMER]["sd_query_tokens"][0]
    expected |= {renamed(n, BIM_NAMES): t for n, t in files[BIM].items()}
    assert set(bridge) == {*expected, "null_text_states"}
    assert all(torch.equal(bridge[name], tensor) for name, tensor in expected.items())
    assert bridge["null_text_states"].any()
    assert report.parts["bridge"]["from_base"] == ["null_text_states"]


def test_unet_lands_bit_equal(made):
    folder, files, _ = made["smartedit"]
    unet = stored(folder, "unet")
    assert {f"unet.{name}" for name in unet} == set(files[UNET])
    assert all(torch.equal(tensor, files[UNET][f"unet.{name}"]) for name, tensor in unet.items())
    assert unet["conv_in.weight"].shape[1] == 8


def language_name(name: str) -> str:
    inner = name.removeprefix("model.base_model.model.")
    return f"language_model.model.{inner}"


def test_language_model_lands_with_its_adapter_merged(made):
    folder, files, _ = made["smartedit"]
    mllm, source = stored(folder, "mllm"), files[LLM]
    checked = 0
    for name, tensor in source.items():
        if "lora_" in name or "inv_freq" in name or "embed_tokens" in name:
            continue
        ours = mllm[language_name(name)]
        layer = name.removesuffix(".weight")
        if re.search(r"self_attn\.[qv]_proj", name):
            down, up = source[f"{layer}.lora_A.default.weight"], source[f"{layer}.lora_B.default.weight"]
            expected = tensor.float() + 2.0 * (up @ down)
            assert ours.dtype == torch.float32
            assert (expected - tensor.float()).abs().max() > 1e-3
            torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        else:
            assert ours.dtype == torch.bfloat16
            assert torch.equal(ours, tensor)
        checked += 1
    assert checked == 9 * published.LAYERS + 1


def test_edit_tokens_rows_follow_their_tokens(made):
    folder, files, _ = made["smartedit"]
    mllm = stored(folder, "mllm")
    tokenizer = load_pipeline(folder).processor.tokenizer
    tables = {
        "language_model.model.embed_tokens.weight": files[LLM]["model.base_model.model.embed_tokens.weight"],
        "language_model.lm_head.weight": files[QFORMER]["lm_head.weight"],
    }
    for name, source in tables.items():
        ours, text = mllm[name], published.TEXT_ROWS
        assert ours.shape[0] == len(tokenizer)
        assert torch.equal(ours[:text], source[:text])
        for row, token in enumerate(["<img>", "<im_start>", "<im_end>", *(f"<img_{i}>" for i in range(32))]):
            place = tokenizer.convert_tokens_to_ids(token)
            assert place == text + 2 + row  # behind <pad> and <image>
            assert torch.equal(ours[place], source[text + row])


def test_projector_and_vision_tower(made, tiny_root):
    from transformers import CLIPVisionModel

    folder, files, _ = made["smartedit"]
    pipeline = load_pipeline(folder)
    projector = pipeline.mllm.model.multi_modal_projector
    states = torch.randn(2, 16, published.VISION)
    weight, bias = files[QFORMER]["mm_projector.weight"], files[QFORMER]["mm_projector.bias"]
    with torch.no_grad():
        assert torch.equal(projector(states), torch.nn.functional.linear(states, weight, bias))
    tower = CLIPVisionModel.from_pretrained(tiny_root / "clip").state_dict()
    ours = pipeline.mllm.model.vision_tower.state_dict()
    assert set(ours) == set(tower)
    assert all(torch.equal(ours[name], tensor) for name, tensor in tower.items())
    assert pipeline.mllm.config.vision_feature_layer == -2


def test_qformer_computes_what_blip2s_does(made):
    folder, files, _ = made["smartedit"]
    config = Blip2QFormerConfig(
        hidden_size=published.TEXT,
        num_hidden_layers=6,
        num_attention_heads=1,
        intermediate_size=published.FFN_QFORMER,
        encoder_hidden_size=published.LLM,
        cross_attention_frequency=2,
    )
    theirs = Blip2QFormerModel(config).eval()
    state = {}
    for name, tensor in files[QFORMER].items():
        if name.startswith("sd_qformer.") and "position_ids" not in name:
            inner = name.removeprefix("sd_qformer.").replace("attention.self", "attention.attention")
            state[inner.replace("embeddings.LayerNorm", "layernorm")] = tensor
    theirs.load_state_dict(state)
    states = torch.randn(2, 32, published.LLM)
    queries = files[QFORMER]["sd_query_tokens"].expand(2, -1, -1)
    bridge = load_pipeline(folder).bridge
    with torch.no_grad():
        expected = theirs(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
        torch.testing.assert_close(bridge.text_states(states), expected, rtol=0, atol=1e-5)


def test_bim_computes_what_sams_transformer_does(made):
    folder, files, _ = made["smartedit"]
    config = SamMaskDecoderConfig(
        hidden_size=published.VISION,
        num_hidden_layers=2,
        num_attention_heads=8,
        mlp_dim=published.FFN_BIM,
        layer_norm_eps=1e-5,
    )
    theirs = SamTwoWayTransformer(config).eval()
    state = {}
    for name, tensor in files[BIM].items():
        if name.startswith("modulate_transformer."):
            inner = name.removeprefix("modulate_transformer.")
            inner = re.sub(r"layers\.(\d)\.norm(\d)", r"layers.\1.layer_norm\2", inner)
            state[inner.replace("norm_final_attn", "layer_norm_final_attn")] = tensor
    theirs.load_state_dict(state)
    bim = load_pipeline(folder).bridge.bim
    text, patches = torch.randn(1, published.QUERIES, published.TEXT), torch.randn(1, 16, published.VISION)
    with torch.no_grad():
        tokens = torch.nn.functional.linear(text, files[BIM]["modulate_head.weight"], files[BIM]["modulate_head.bias"])
        grid = patches.reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        places = bim.positions(4).reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        read = theirs(tokens[:, None], grid, places, None)[0][:, 0]
        out = "dimension_reduction_head_qformer_out"
        added = torch.nn.functional.linear(read, files[BIM][f"{out}.weight"], files[BIM][f"{out}.bias"])
        states, residual = bim(text, patches, (8, 8))
    torch.testing.assert_close(states, text + 0.5 * added, rtol=0, atol=1e-5)
    assert residual.abs().max() > 1e-3


def test_published_sizes_give_the_published_number_of_tensors(made):
    """133 tensors in the Q-Former's file, 14 a layer and 2 more in the language model's (450 at 32 layers)."""
    _, files, report = made["smartedit"]
    assert len(files[QFORMER]) == 133
    assert len(files[LLM]) == 14 * published.LAYERS + 2
    assert 14 * 32 + 2 == 450
    assert report.counts()[QFORMER] == {"tensors": 133, "mapped": 132, "dropped": 1}
    assert sum(count["tensors"] for count in report.counts().values()) == sum(map(len, files.values()))


def test_the_imported_pipeline_edits(made, picture):
    folder = made["smartedit"][0]
    pipeline = load_pipeline(folder)
    pipeline.register_to_config(resolution=32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"seed": 0, "num_inference_steps": 2, "background_lock": False}
    edited = pipeline(picture, "remove the dog", **options).images[0]
    other = pipeline(picture, "add a cat", **options).images[0]
    assert edited.size == picture.size
    assert not np.array_equal(np.asarray(edited), np.asarray(picture))
    assert not np.array_equal(np.asarray(edited), np.asarray(other))


def test_card_and_report_of_the_folder(made):
    folder = made["smartedit"][0]
    card = (folder / "README.md").read_text()
    assert "license: other" in card
    assert "none stated by its authors" in card
    assert "license: apache-2.0" not in card
    written = json.loads((folder / "import_report.json").read_text())
    assert written["facts"]["step"] == published.STEP
    assert written["facts"]["lora"] == {"rank": 8, "alpha": 16.0, "merged_in": "float32"}
    dropped = [n for places in written["files"].values() for n, p in places.items() if isinstance(p, str)]
    assert all("inv_freq" in name or "position_ids" in name for name in dropped)


@pytest.mark.parametrize(("dtype", "kind"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_weights_can_be_stored_smaller(made, tiny_root, tmp_path, dtype, kind):
    from insightedit.export.importers import import_checkpoint
    from tests.importers.conftest import drawing_bases

    source = made["smartedit"][0].parent / "smartedit-source"
    import_checkpoint("smartedit", source, tmp_path / "small", bases=drawing_bases(tiny_root), dtype=dtype)
    for part in ("mllm", "bridge", "unet", "vae", "text_encoder"):
        assert {tensor.dtype for tensor in stored(tmp_path / "small", part).values()} == {kind}
