"""MGIE's two files and MIGE's one land bit for bit, and compute what their own parts compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from insightedit.export.importers import import_checkpoint
from insightedit.pipelines.loading import load_pipeline
from tests.importers import published
from tests.importers.conftest import drawing_bases, mige_bases, stored

WEIGHTS = "llava/pytorch_model-00001-of-00001.bin"


def test_mgie_lands_bit_equal(made):
    folder, files, report = made["mgie"]
    names = {"llm2hid": "proj_in", "query": "queries", "mapper": "transformer", "hid2feat": "proj_out"}
    expected = {}
    for name, tensor in files["mllm.pt"].items():
        if name.startswith("edit_head."):
            head, _, rest = name.removeprefix("edit_head.").partition(".")
            ours = f"edit_head.{names[head]}" + (f".{rest}" if rest else "")
            expected[ours] = tensor[0] if head == "query" else tensor
    bridge = stored(folder, "bridge")
    assert set(bridge) == {*expected, "null_text_states"}
    assert all(torch.equal(bridge[name], tensor) for name, tensor in expected.items())
    unet = stored(folder, "unet")
    assert set(unet) == set(files["unet.pt"])
    assert all(torch.equal(tensor, files["unet.pt"][name]) for name, tensor in unet.items())
    mllm = stored(folder, "mllm")
    for name, tensor in files[WEIGHTS].items():
        if name.startswith(("model.layers", "model.norm")) and "inv_freq" not in name:
            assert torch.equal(mllm[f"language_model.{name}"], tensor)
    assert report.counts()["mgie-source/mllm.pt"]["dropped"] == 0


def test_mgies_tokens_are_found_by_name(made):
    folder, files, _ = made["mgie"]
    mllm, tokenizer = stored(folder, "mllm"), load_pipeline(folder).processor.tokenizer
    for ours, theirs in (
        ("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
    ):
        source = files["mllm.pt"][theirs]
        assert torch.equal(mllm[ours][: published.TEXT_ROWS], source[: published.TEXT_ROWS])
        for index in range(8):
            row = mllm[ours][tokenizer.convert_tokens_to_ids(f"[IMG{index}]")]
            assert torch.equal(row, source[published.TEXT_ROWS + 3 + index])


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_mgies_head_computes_what_torchs_transformer_does(made):
    folder, files, _ = made["mgie"]
    head = {n.removeprefix("edit_head."): t.float() for n, t in files["mllm.pt"].items() if "edit_head" in n}
    mapper = nn.Transformer(16, 4, 4, 4, 32, 0.0, batch_first=True, norm_first=True).eval()
    mapper.load_state_dict({n.removeprefix("mapper."): t for n, t in head.items() if n.startswith("mapper.")})
    states, embeddings = torch.randn(2, 8, published.LLM), torch.randn(8, published.LLM)
    bridge = load_pipeline(folder).bridge
    with torch.no_grad():
        read = linear(states + embeddings, head["llm2hid.weight"], head["llm2hid.bias"])
        read = mapper(read, head["query"].expand(2, -1, -1))
        expected = linear(read, head["hid2feat.weight"], head["hid2feat.bias"])
        torch.testing.assert_close(bridge.text_states(states, embeddings), expected, rtol=0, atol=1e-5)


def test_imported_mgie_says_what_it_does_and_edits(made, picture):
    pipeline = load_pipeline(made["mgie"][0])
    pipeline.register_to_config(resolution=32, max_new_tokens=4)
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(picture, "make it winter", seed=0, num_inference_steps=2, background_lock=False)
    assert isinstance(result.expressive_instructions[0], str)
    assert not np.array_equal(np.asarray(result.images[0]), np.asarray(picture))
    config = pipeline.config
    assert config.states_before_tokens
    assert config.expressive
    assert pipeline.bridge.config["null_text"] == "zero_states"


def mgie_refused(tmp_path, tiny_root, files, expected, *, weights=True, step=None):
    source = published.write(tmp_path / "source", {n: t for n, t in files.items() if "/" not in n})
    published.write(tmp_path, {n: t for n, t in files.items() if "/" in n})
    bases = [*drawing_bases(tiny_root), *([f"weights={tmp_path}/llava"] if weights else [])]
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        import_checkpoint("mgie", source, tmp_path / "out", bases=bases, step=step)
    assert not (tmp_path / "out").exists()


def test_mgie_refuses_what_does_not_fit(made, tiny_root, tmp_path):
    files = made["mgie"][1]
    no_unet = {name: tensors for name, tensors in files.items() if name != "unet.pt"}
    mgie_refused(tmp_path / "a", tiny_root, no_unet, r"holds 0 files named unet.pt: MGIE publishes mllm.pt and")
    mgie_refused(tmp_path / "b", tiny_root, files, r"name the folder of LLaVA-Lightning-7B-v1-1", weights=False)
    mgie_refused(tmp_path / "c", tiny_root, files, r"--step 3: mgie has no steps in its files", step=3)
    mllm = files["mllm.pt"]
    no_head = {**files, "mllm.pt": {n: t for n, t in mllm.items() if n != "edit_head.query"}}
    mgie_refused(tmp_path / "d", tiny_root, no_head, r"lacks the tensor for edit_head.queries: the file is not")
    longer = {**files, "mllm.pt": {**mllm, "edit_head.query": torch.zeros(1, 20, 16)}}
    mgie_refused(tmp_path / "e", tiny_root, longer, r"makes text states of shape \(20, 32\), the text encoder of")


def pixart_name(name: str) -> str:
    for old, new in (
        ("x_embedder.proj", "pos_embed.proj"),
        ("t_embedder.mlp.0", "adaln_single.emb.timestep_embedder.linear_1"),
        ("t_embedder.mlp.2", "adaln_single.emb.timestep_embedder.linear_2"),
        ("t_block.1", "adaln_single.linear"),
        ("y_embedder.y_proj.fc", "caption_projection.linear_"),
        ("final_layer.linear", "proj_out"),
        ("final_layer.", ""),
        ("blocks.", "transformer_blocks."),
        ("cross_attn.q_linear", "attn2.to_q"),
        ("cross_attn.proj", "attn2.to_out.0"),
        ("attn.proj", "attn1.to_out.0"),
        ("mlp.fc1", "ff.net.0.proj"),
        ("mlp.fc2", "ff.net.2"),
    ):
        name = name.replace(old, new)
    return name


def test_miges_transformer_lands_bit_equal(made):
    folder, files, _ = made["mige"]
    ours = stored(folder, "transformer")
    own = ("x_embedder", "t_embedder", "t_block", "y_embedder.y_proj", "blocks", "final_layer")
    expected = {}
    for name, tensor in files["mige.pth"].items():
        if not name.startswith(own):
            continue
        block = f"transformer_blocks.{name.split('.')[1]}"
        kind = name.rpartition(".")[2]
        if ".attn.qkv." in name:
            for index, part in enumerate("qkv"):
                expected[f"{block}.attn1.to_{part}.{kind}"] = tensor[32 * index : 32 * index + 32]
        elif "kv_linear" in name:
            expected |= {f"{block}.attn2.to_k.{kind}": tensor[:32], f"{block}.attn2.to_v.{kind}": tensor[32:]}
        else:
            expected[pixart_name(name)] = tensor
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_miges_fusion_computes_what_torchs_attention_does(made):
    folder, files, _ = made["mige"]
    held = {n.removeprefix("FFM."): t for n, t in files["mige.pth"].items() if n.startswith("FFM.")}

    def normed(x, name):
        return nn.functional.layer_norm(x, (32,), held[f"{name}.weight"], held[f"{name}.bias"], 1e-5)

    def two_layers(x, short):
        x = linear(x, held[f"{short}_proj_1.0.weight"], held[f"{short}_proj_1.0.bias"])
        x = linear(nn.functional.gelu(x), held[f"{short}_proj_1.2.weight"], held[f"{short}_proj_1.2.bias"])
        return normed(x, f"ln_{short}_1")

    attention = nn.MultiheadAttention(32, 8, batch_first=True).eval()
    attention.load_state_dict({n.removeprefix("clip_attn."): t for n, t in held.items() if "clip_attn" in n})
    semantic, visual = torch.randn(2, 4, 32), torch.randn(2, 16, 32)
    bridge = load_pipeline(folder).bridge
    with torch.no_grad():
        query = normed(linear(semantic, held["q_proj_1.weight"]), "ln_q_1")
        read = attention(query, two_layers(visual, "k"), two_layers(visual, "v"))[0]
        expected = normed(semantic + linear(read, held["mlp.weight"], held["mlp.bias"]), "ln_out")
        torch.testing.assert_close(bridge.fuse(semantic, visual), expected, rtol=0, atol=1e-5)
    assert torch.equal(bridge.null_text_states, files["mige.pth"]["y_embedder.y_embedding"])


def test_miges_eyes_and_text_land_bit_equal(made):
    folder, files, report = made["mige"]
    source = files["mige.pth"]
    eyes, text = stored(folder, "picture_encoder"), stored(folder, "text_encoder")
    for index in range(2):
        theirs, ours = f"visual_encoder.blocks.{index}.", f"vision_model.encoder.layers.{index}."
        bias = [source[f"{theirs}attn.q_bias"], torch.zeros(32), source[f"{theirs}attn.v_bias"]]
        assert torch.equal(eyes[f"{ours}self_attn.qkv.bias"], torch.cat(bias))
        for old, new in (("attn.qkv", "self_attn.qkv"), ("norm1", "layer_norm1"), ("mlp.fc2", "mlp.fc2")):
            assert torch.equal(eyes[f"{ours}{new}.weight"], source[f"{theirs}{old}.weight"])
    assert torch.equal(eyes["vision_model.post_layernorm.weight"], source["ln_vision.weight"])
    assert torch.equal(eyes["query_tokens"], source["query_tokens"])
    assert torch.equal(eyes["language_projection.weight"], source["t5_proj.weight"])
    key = "encoder.layer.0.crossattention.{}.key.weight"
    assert torch.equal(eyes[f"qformer.{key.format('attention')}"], source[f"Qformer.bert.{key.format('self')}"])
    for name, tensor in text.items():
        assert torch.equal(tensor, source[f"t5_model.{name}"])
    assert report.parts["text_encoder"]["from_base"] == []
    assert report.parts["picture_encoder"]["from_base"] == []


def test_imported_mige_edits(made, picture):
    pipeline = load_pipeline(made["mige"][0])
    pipeline.set_progress_bar_config(disable=True)
    options = {"seed": 0, "num_inference_steps": 2, "background_lock": False}
    edited = pipeline(picture, "remove the dog", **options).images[0]
    assert edited.size == picture.size
    assert not np.array_equal(np.asarray(edited), np.asarray(picture))
    assert pipeline.bridge.config["activation"] == "none"


def test_mige_draws_a_null_text_where_the_file_has_none(made, tiny_root, tmp_path):
    held = {n: t for n, t in made["mige"][1]["mige.pth"].items() if "y_embedding" not in n}
    published.write(tmp_path, {"mige.pth": held})
    report = import_checkpoint("mige", tmp_path / "mige.pth", tmp_path / "out", bases=mige_bases(tiny_root))
    assert report.parts["bridge"]["from_base"] == ["null_text_states"]
    assert stored(tmp_path / "out", "bridge")["null_text_states"].shape == (256, 32)


def test_mige_refuses_what_does_not_fit(made, tiny_root, tmp_path):
    held = made["mige"][1]["mige.pth"]

    def refused(files, expected, source="a/mige.pth", **options):
        published.write(tmp_path / "a", files)
        with pytest.raises(ValueError, match=expected):
            import_checkpoint("mige", tmp_path / source, tmp_path / "out", bases=mige_bases(tiny_root), **options)
        assert not (tmp_path / "out").exists()

    half = {n: t for n, t in held.items() if n != "visual_encoder.blocks.1.attn.v_bias"}
    refused({"mige.pth": half}, r"has one of q_bias and v_bias only: the file is not whole")
    odd = {**held, "blocks.0.attn.qkv.weight": torch.zeros(97, 32)}
    refused({"mige.pth": odd}, r"has shape \(97, 32\), which does not come apart into 3 equal parts")
    refused({"mige.pth": held}, r"--step 1: mige has no steps in its files", step=1)
    refused({"b.pth": held}, r"holds 2 checkpoint files: name the one to import", source="a")
