"""MIGE's published file -> a pipeline for instructions with pictures.

One file (`.pth`, the weights under `state_dict`) in the names of PixArt-alpha (`x_embedder`, `blocks`, `final_layer`),
of LAVIS (`visual_encoder`, `ln_vision`, `Qformer.bert`, `t5_model`, `t5_proj`) and its own (`FFM`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insightedit.export.card import shown
from insightedit.export.importers.bases import card_of, known_settings, open_base
from insightedit.export.importers.mapping import (
    Imported,
    ImportReport,
    Rule,
    fill,
    read_checkpoint,
    source_files,
    translate,
)
from insightedit.modeling.pretrained import load_pretrained

NAME = "mige"
BASES: dict[str, str | None] = {
    "blip2": "Salesforce/blip2-flan-t5-xxl",
    "t5": "google/t5-v1_1-xxl",
    "pixart": "PixArt-alpha/PixArt-XL-2-512x512",
    "vae": "PixArt-alpha/PixArt-XL-2-512x512",
}
LICENCE = "AGPL-3.0 (its repository; no other terms are stated for the weights)"
ENDS = r"\.(weight|bias)"
FUSION_HEADS = 8  # the file does not say it
PARTS = ("transformer", "picture_encoder", "text_encoder", "bridge")


BLOCK, OUR_BLOCK = r"blocks\.(\d+)\.", r"transformer.transformer_blocks.\1."
TOWER, OUR_TOWER = r"visual_encoder\.", "picture_encoder.vision_model."
LAYER, OUR_LAYER = rf"{TOWER}blocks\.(\d+)\.", rf"{OUR_TOWER}encoder.layers.\1."
BERT, OUR_BERT = r"Qformer\.bert\.", "picture_encoder.qformer."
FUSION = "bridge.fusion."
RULES = [
    Rule(r"pos_embed", None, "fixed sines and cosines, which the model computes from its config"),
    Rule(rf"x_embedder\.proj{ENDS}", r"transformer.pos_embed.proj.\1"),
    Rule(rf"t_embedder\.mlp\.0{ENDS}", r"transformer.adaln_single.emb.timestep_embedder.linear_1.\1"),
    Rule(rf"t_embedder\.mlp\.2{ENDS}", r"transformer.adaln_single.emb.timestep_embedder.linear_2.\1"),
    Rule(rf"t_block\.1{ENDS}", r"transformer.adaln_single.linear.\1"),
    Rule(rf"y_embedder\.y_proj\.fc([12]){ENDS}", r"transformer.caption_projection.linear_\1.\2"),
    Rule(r"y_embedder\.y_embedding", "bridge.null_text_states"),
    Rule(rf"{BLOCK}scale_shift_table", rf"{OUR_BLOCK}scale_shift_table"),
    Rule(rf"{BLOCK}attn\.qkv{ENDS}", tuple(rf"{OUR_BLOCK}attn1.to_{part}.\2" for part in "qkv")),
    Rule(rf"{BLOCK}attn\.proj{ENDS}", rf"{OUR_BLOCK}attn1.to_out.0.\2"),
    Rule(rf"{BLOCK}cross_attn\.q_linear{ENDS}", rf"{OUR_BLOCK}attn2.to_q.\2"),
    Rule(rf"{BLOCK}cross_attn\.kv_linear{ENDS}", (rf"{OUR_BLOCK}attn2.to_k.\2", rf"{OUR_BLOCK}attn2.to_v.\2")),
    Rule(rf"{BLOCK}cross_attn\.proj{ENDS}", rf"{OUR_BLOCK}attn2.to_out.0.\2"),
    Rule(rf"{BLOCK}mlp\.fc1{ENDS}", rf"{OUR_BLOCK}ff.net.0.proj.\2"),
    Rule(rf"{BLOCK}mlp\.fc2{ENDS}", rf"{OUR_BLOCK}ff.net.2.\2"),
    Rule(rf"final_layer\.linear{ENDS}", r"transformer.proj_out.\1"),
    Rule(r"final_layer\.scale_shift_table", "transformer.scale_shift_table"),
    Rule(rf"{TOWER}cls_token", f"{OUR_TOWER}embeddings.class_embedding"),
    Rule(rf"{TOWER}pos_embed", f"{OUR_TOWER}embeddings.position_embedding"),
    Rule(rf"{TOWER}patch_embed\.proj{ENDS}", rf"{OUR_TOWER}embeddings.patch_embedding.\1"),
    Rule(rf"{LAYER}norm([12]){ENDS}", rf"{OUR_LAYER}layer_norm\2.\3"),
    Rule(rf"{LAYER}attn\.qkv\.weight", rf"{OUR_LAYER}self_attn.qkv.weight"),
    Rule(rf"{LAYER}attn\.([qv])_bias", rf"{OUR_LAYER}self_attn.qkv.\2_bias"),
    Rule(rf"{LAYER}attn\.proj{ENDS}", rf"{OUR_LAYER}self_attn.projection.\2"),
    Rule(rf"{LAYER}mlp\.fc([12]){ENDS}", rf"{OUR_LAYER}mlp.fc\2.\3"),
    Rule(rf"ln_vision{ENDS}", rf"{OUR_TOWER}post_layernorm.\1"),
    Rule(r"query_tokens", "picture_encoder.query_tokens"),
    Rule(rf"{BERT}embeddings\.position_ids", None, "a row of counters; queries have no positions"),
    Rule(rf"{BERT}embeddings\.LayerNorm{ENDS}", rf"{OUR_BERT}layernorm.\1"),
    Rule(
        rf"{BERT}encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(query|key|value){ENDS}",
        rf"{OUR_BERT}encoder.layer.\1.\2.attention.\3.\4",
    ),
    Rule(
        rf"{BERT}(encoder\.layer\.\d+\.(?:(?:attention|crossattention)\.output|intermediate_query|output_query)\..+)",
        rf"{OUR_BERT}\1",
    ),
    Rule(rf"t5_proj{ENDS}", r"picture_encoder.language_projection.\1"),
    Rule(r"t5_model\.(shared\.weight|encoder\..+)", r"text_encoder.\1"),
    Rule(r"FFM\.q_proj_1\.weight", f"{FUSION}query.0.weight"),
    Rule(rf"FFM\.ln_q_1{ENDS}", rf"{FUSION}query.1.\1"),
    Rule(rf"FFM\.k_proj_1\.([02]){ENDS}", rf"{FUSION}key.\1.\2"),
    Rule(rf"FFM\.ln_k_1{ENDS}", rf"{FUSION}key.3.\1"),
    Rule(rf"FFM\.v_proj_1\.([02]){ENDS}", rf"{FUSION}value.\1.\2"),
    Rule(rf"FFM\.ln_v_1{ENDS}", rf"{FUSION}value.3.\1"),
    Rule(r"FFM\.clip_attn\.in_proj_(weight|bias)", tuple(rf"{FUSION}attention.{part}_proj.\1" for part in "qkv")),
    Rule(rf"FFM\.clip_attn\.out_proj{ENDS}", rf"{FUSION}attention.out_proj.\1"),
    Rule(rf"FFM\.mlp{ENDS}", rf"{FUSION}out.\1"),
    Rule(rf"FFM\.ln_out{ENDS}", rf"{FUSION}norm.\1"),
]


def convert(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """A pipeline of the file, or of a folder with this one file; of `blip2`, `t5` and `pixart` no weights are read."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtTransformer2DModel
    from transformers import AutoImageProcessor, AutoTokenizer, Blip2Config, T5Config, T5EncoderModel

    from insightedit.bridging.fusion import FusionBridge
    from insightedit.comprehension.blip2_t5 import Blip2PictureEncoder
    from insightedit.generation.transformer import EditTransformer
    from insightedit.pipelines.interleaved import InterleavedEditPipeline

    files = source_files(source)
    if len(files) > 1:
        raise ValueError(f"{source} holds {len(files)} checkpoint files: name the one to import.")
    sampler = {"algorithm_type": "dpmsolver++", "solver_order": 2, "timestep_spacing": "linspace"}
    sampler |= {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    with open_base("a folder with vae/ and scheduler/ of PixArt-alpha", bases["vae"]) as folder:
        scheduler = load_pretrained(DPMSolverMultistepScheduler, folder, subfolder="scheduler", **sampler)
        vae = load_pretrained(AutoencoderKL, folder, subfolder="vae").eval()
    report.taken(shown(bases["vae"]), "vae", "scheduler")
    own, name = _read(files[0], report), str(files[0])
    with open_base("a BLIP-2 model", bases["blip2"]) as folder:
        config: Any = load_pretrained(Blip2Config, folder)
        with init_empty_weights(include_buffers=False):  # buffers are computed, not loaded
            encoder = Blip2PictureEncoder(config)
        image_processor = load_pretrained(AutoImageProcessor, folder)
    fill("picture_encoder", encoder, own["picture_encoder"], report, source=name)
    with open_base("a T5 model with its tokenizer", bases["t5"]) as folder:
        config = load_pretrained(T5Config, folder)
        with init_empty_weights(include_buffers=False):
            text_encoder = T5EncoderModel(config)
        tokenizer = load_pretrained(AutoTokenizer, folder)
    fill("text_encoder", text_encoder, own["text_encoder"], report, source=name)
    text_encoder.tie_weights()
    with open_base("a PixArt-alpha model", bases["pixart"]) as folder:
        held = PixArtTransformer2DModel.load_config(folder, subfolder="transformer")
        settings = known_settings(PixArtTransformer2DModel, held)
        with init_empty_weights(include_buffers=False):
            transformer = EditTransformer(source_channels=settings["in_channels"], **settings)
    fill("transformer", transformer, own["transformer"], report, source=name)
    null = own["bridge"].get("null_text_states")
    bridge = FusionBridge(  # as the released code has it: no ReLU
        token_width=encoder.config.qformer_config.hidden_size,
        visual_width=transformer.inner_dim,
        num_heads=FUSION_HEADS,
        activation="none",
        text_length=256 if null is None else null.shape[0],
        text_width=text_encoder.config.d_model,
    )
    # a file without a null text gets one that is drawn anew
    base = {} if null is not None else {"null_text_states": bridge.null_text_states.clone()}
    fill("bridge", bridge, own["bridge"], report, source=name, base=base, base_name="drawn, seed 0" if base else "")
    pipeline = InterleavedEditPipeline(
        picture_encoder=encoder,
        image_processor=image_processor,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        bridge=bridge,
        vae=vae,
        transformer=transformer,
        scheduler=scheduler,
        resolution=transformer.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1),
        max_length=int(bridge.config["text_length"]),
        max_references=4,
    )
    return Imported(card_of(NAME, "MIGE", "MIGE", LICENCE, bases), pipeline)


def _read(path: Path, report: ImportReport) -> dict[str, dict[str, Tensor]]:
    """Part -> its tensors by our names."""
    named = translate(read_checkpoint(path), RULES, report)
    # EVA's attention has no bias on its keys: q, zeros, v become the stock class's one bias
    halves = {n: named.pop(n) for n in list(named) if n.endswith((".q_bias", ".v_bias"))}
    for layer in sorted({n[: -len(".q_bias")] for n in halves}):
        query, value = halves.get(f"{layer}.q_bias"), halves.get(f"{layer}.v_bias")
        if query is None or value is None:
            raise ValueError(f"{path}: {layer} has one of q_bias and v_bias only: the file is not whole.")
        named[f"{layer}.bias"] = torch.cat([query, torch.zeros_like(query), value])
    # T5's one table has two names, of which a file may hold one
    names = ("text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight")
    if (table := next((named[name] for name in names if name in named), None)) is not None:
        named |= dict.fromkeys(names, table)
    return {
        part: {n.removeprefix(f"{part}."): t for n, t in named.items() if n.startswith(f"{part}.")} for part in PARTS
    }
