"""MIGE's published file -> a pipeline for instructions with pictures.

One file (`.pth`, the weights under `state_dict`) in the names of PixArt-alpha (`x_embedder`, `blocks`, `final_layer`),
of LAVIS (`visual_encoder`, `ln_vision`, `Qformer.bert`, `t5_model`, `t5_proj`) and its own (`FFM`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from insightedit.export.card import shown
from insightedit.export.importers.bases import card_of, known_settings, open_base
from insightedit.export.importers.files import read_checkpoint, source_files
from insightedit.export.importers.mapping import Imported, ImportReport, Rule, fill, translate
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from torch import Tensor

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


def _transformer_rules() -> list[Rule]:
    block, new = r"blocks\.(\d+)\.", r"transformer.transformer_blocks.\1."
    split = tuple(rf"{new}attn1.to_{part}.\2" for part in "qkv")
    return [
        Rule(r"pos_embed", None, "fixed sines and cosines, which the model computes from its config"),
        Rule(rf"x_embedder\.proj{ENDS}", r"transformer.pos_embed.proj.\1"),
        Rule(rf"t_embedder\.mlp\.0{ENDS}", r"transformer.adaln_single.emb.timestep_embedder.linear_1.\1"),
        Rule(rf"t_embedder\.mlp\.2{ENDS}", r"transformer.adaln_single.emb.timestep_embedder.linear_2.\1"),
        Rule(rf"t_block\.1{ENDS}", r"transformer.adaln_single.linear.\1"),
        Rule(rf"y_embedder\.y_proj\.fc([12]){ENDS}", r"transformer.caption_projection.linear_\1.\2"),
        Rule(r"y_embedder\.y_embedding", "bridge.null_text_states"),
        Rule(rf"{block}scale_shift_table", rf"{new}scale_shift_table"),
        Rule(rf"{block}attn\.qkv{ENDS}", split),
        Rule(rf"{block}attn\.proj{ENDS}", rf"{new}attn1.to_out.0.\2"),
        Rule(rf"{block}cross_attn\.q_linear{ENDS}", rf"{new}attn2.to_q.\2"),
        Rule(rf"{block}cross_attn\.kv_linear{ENDS}", (rf"{new}attn2.to_k.\2", rf"{new}attn2.to_v.\2")),
        Rule(rf"{block}cross_attn\.proj{ENDS}", rf"{new}attn2.to_out.0.\2"),
        Rule(rf"{block}mlp\.fc1{ENDS}", rf"{new}ff.net.0.proj.\2"),
        Rule(rf"{block}mlp\.fc2{ENDS}", rf"{new}ff.net.2.\2"),
        Rule(rf"final_layer\.linear{ENDS}", r"transformer.proj_out.\1"),
        Rule(r"final_layer\.scale_shift_table", "transformer.scale_shift_table"),
    ]


def _picture_rules() -> list[Rule]:
    tower, new = r"visual_encoder\.", "picture_encoder.vision_model."
    block, layer = rf"{tower}blocks\.(\d+)\.", rf"{new}encoder.layers.\1."
    bert, ours = r"Qformer\.bert\.", "picture_encoder.qformer."
    return [
        Rule(rf"{tower}cls_token", f"{new}embeddings.class_embedding"),
        Rule(rf"{tower}pos_embed", f"{new}embeddings.position_embedding"),
        Rule(rf"{tower}patch_embed\.proj{ENDS}", rf"{new}embeddings.patch_embedding.\1"),
        Rule(rf"{block}norm([12]){ENDS}", rf"{layer}layer_norm\2.\3"),
        Rule(rf"{block}attn\.qkv\.weight", rf"{layer}self_attn.qkv.weight"),
        Rule(rf"{block}attn\.([qv])_bias", rf"{layer}self_attn.qkv.\2_bias"),
        Rule(rf"{block}attn\.proj{ENDS}", rf"{layer}self_attn.projection.\2"),
        Rule(rf"{block}mlp\.fc([12]){ENDS}", rf"{layer}mlp.fc\2.\3"),
        Rule(rf"ln_vision{ENDS}", rf"{new}post_layernorm.\1"),
        Rule(r"query_tokens", "picture_encoder.query_tokens"),
        Rule(rf"{bert}embeddings\.position_ids", None, "a row of counters; queries have no positions"),
        Rule(rf"{bert}embeddings\.LayerNorm{ENDS}", rf"{ours}layernorm.\1"),
        Rule(
            rf"{bert}encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(query|key|value){ENDS}",
            rf"{ours}encoder.layer.\1.\2.attention.\3.\4",
        ),
        Rule(
            rf"{bert}(encoder\.layer\.\d+\.(?:(?:attention|crossattention)\.output|intermediate_query|output_query)\..+)",
            rf"{ours}\1",
        ),
        Rule(rf"t5_proj{ENDS}", r"picture_encoder.language_projection.\1"),
        Rule(r"t5_model\.(shared\.weight|encoder\..+)", r"text_encoder.\1"),
    ]


def _fusion_rules() -> list[Rule]:
    new = "bridge.fusion."
    rules = [
        Rule(r"FFM\.q_proj_1\.weight", f"{new}query.0.weight"),
        Rule(rf"FFM\.ln_q_1{ENDS}", rf"{new}query.1.\1"),
        Rule(rf"FFM\.clip_attn\.out_proj{ENDS}", rf"{new}attention.out_proj.\1"),
        Rule(rf"FFM\.mlp{ENDS}", rf"{new}out.\1"),
        Rule(rf"FFM\.ln_out{ENDS}", rf"{new}norm.\1"),
    ]
    for kind in ("weight", "bias"):
        split = tuple(f"{new}attention.{part}_proj.{kind}" for part in "qkv")
        rules.append(Rule(rf"FFM\.clip_attn\.in_proj_{kind}", split))
    for short, ours in (("k", "key"), ("v", "value")):
        rules.append(Rule(rf"FFM\.{short}_proj_1\.([02]){ENDS}", rf"{new}{ours}.\1.\2"))
        rules.append(Rule(rf"FFM\.ln_{short}_1{ENDS}", rf"{new}{ours}.3.\1"))
    return rules


RULES = [*_transformer_rules(), *_picture_rules(), *_fusion_rules()]


def import_mige(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """A pipeline of the file, or of a folder with this one file; of `blip2`, `t5` and `pixart` no weights are read.

    Raises:
        ValueError: if the file does not fit the bases.
    """
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
    """Part -> its tensors by our names.

    Raises:
        ValueError: if one of a pair of biases is missing.
    """
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
