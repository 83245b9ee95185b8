"""Checkpoints as other projects publish them: their names in full, their layout, reduced width.

Written from the published layouts, not with the package's own rules: a name is spelled out here once more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

TEXT_ROWS = 510  # of the tiny LLaVA's tokenizer
LLM, VISION, TEXT, QUERIES, UNET = 48, 32, 32, 16, 32  # widths of the tiny models
FFN_LLM, FFN_QFORMER, FFN_BIM, RANK, LAYERS = 96, 64, 64, 8, 2
STEP = 15000

Tensors = dict[str, Tensor]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape) * 0.1).to(dtype)


def linear(name: str, rows: int, columns: int, bias: bool = True) -> Tensors:
    tensors = {f"{name}.weight": draw(rows, columns)}
    return {**tensors, f"{name}.bias": draw(rows)} if bias else tensors


def norm(name: str, width: int) -> Tensors:
    return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}


def llama_layers(prefix: str, dtype: torch.dtype) -> Tensors:
    tensors: Tensors = {}
    for index in range(LAYERS):
        layer = f"{prefix}layers.{index}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{layer}self_attn.{name}.weight"] = draw(LLM, LLM, dtype=dtype)
        for name in ("gate_proj", "up_proj"):
            tensors[f"{layer}mlp.{name}.weight"] = draw(FFN_LLM, LLM, dtype=dtype)
        tensors[f"{layer}mlp.down_proj.weight"] = draw(LLM, FFN_LLM, dtype=dtype)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}{name}.weight"] = (1 + draw(LLM)).to(dtype)
        tensors[f"{layer}self_attn.rotary_emb.inv_freq"] = torch.rand(LLM // 4)
    return tensors


def smartedit_llm() -> Tensors:
    """Whole language model in bfloat16, its adapter and token rows in float32; no lm_head."""
    prefix = "model.base_model.model."
    tensors = llama_layers(prefix, torch.bfloat16)
    for index in range(LAYERS):
        for name in ("q_proj", "v_proj"):
            layer = f"{prefix}layers.{index}.self_attn.{name}."
            tensors[f"{layer}lora_A.default.weight"] = draw(RANK, LLM)
            tensors[f"{layer}lora_B.default.weight"] = draw(LLM, RANK)
    tensors[f"{prefix}embed_tokens.weight"] = draw(TEXT_ROWS + 35, LLM)
    tensors[f"{prefix}norm.weight"] = (1 + draw(LLM)).to(torch.bfloat16)
    return tensors


def bert_layers(prefix: str, width: int, ffn: int, reads: int, layers: int, every: int = 2) -> Tensors:
    tensors: Tensors = {}
    for index in range(layers):
        layer = f"{prefix}encoder.layer.{index}."
        for attention, columns in {"attention": width, "crossattention": reads}.items():
            if attention == "crossattention" and index % every:
                continue
            tensors |= linear(f"{layer}{attention}.self.query", width, width)
            tensors |= linear(f"{layer}{attention}.self.key", width, columns)
            tensors |= linear(f"{layer}{attention}.self.value", width, columns)
            tensors |= linear(f"{layer}{attention}.output.dense", width, width)
            tensors |= norm(f"{layer}{attention}.output.LayerNorm", width)
        tensors |= linear(f"{layer}intermediate_query.dense", ffn, width)
        tensors |= linear(f"{layer}output_query.dense", width, ffn)
        tensors |= norm(f"{layer}output_query.LayerNorm", width)
    return tensors


def smartedit_qformer(llm: int = LLM, layers: int = 6) -> Tensors:
    tensors = {"sd_query_tokens": draw(1, QUERIES, TEXT)}
    tensors["sd_qformer.embeddings.position_ids"] = torch.arange(512)[None]
    tensors |= norm("sd_qformer.embeddings.LayerNorm", TEXT)
    tensors |= bert_layers("sd_qformer.", TEXT, FFN_QFORMER, llm, layers)
    tensors |= linear("mm_projector", llm, VISION)
    tensors["lm_head.weight"] = draw(TEXT_ROWS + 35, llm)
    return tensors


def smartedit_bim() -> Tensors:
    tensors = linear("modulate_head", VISION, TEXT)
    for index in range(2):
        layer = f"modulate_transformer.layers.{index}."
        for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            inner = VISION if name == "self_attn" else VISION // 2
            for projection in ("q_proj", "k_proj", "v_proj"):
                tensors |= linear(f"{layer}{name}.{projection}", inner, VISION)
            tensors |= linear(f"{layer}{name}.out_proj", VISION, inner)
        tensors |= linear(f"{layer}mlp.lin1", FFN_BIM, VISION)
        tensors |= linear(f"{layer}mlp.lin2", VISION, FFN_BIM)
        for number in range(1, 5):
            tensors |= norm(f"{layer}norm{number}", VISION)
    final = "modulate_transformer.final_attn_token_to_image"
    for projection in ("q_proj", "k_proj", "v_proj"):
        tensors |= linear(f"{final}.{projection}", VISION // 2, VISION)
    tensors |= linear(f"{final}.out_proj", VISION, VISION // 2)
    tensors |= norm("modulate_transformer.norm_final_attn", VISION)
    tensors["pe_layer.positional_encoding_gaussian_matrix"] = torch.randn(2, VISION // 2)
    tensors["dimension_reduction_head_zeroconv.weight"] = draw(UNET, VISION, 1, 1)
    tensors["dimension_reduction_head_zeroconv.bias"] = draw(UNET)
    tensors |= linear("dimension_reduction_head_qformer_out", TEXT, VISION)
    return tensors


def edit_unet(root: Path, dtype: torch.dtype = torch.float32) -> Tensors:
    """Every name of the tiny UNet, new numbers, eight input channels."""
    from diffusers import UNet2DConditionModel

    state = UNet2DConditionModel.from_pretrained(root / "sd", subfolder="unet").state_dict()
    tensors = {name: draw(*tensor.shape, dtype=dtype) for name, tensor in state.items()}
    first = state["conv_in.weight"].shape
    tensors["conv_in.weight"] = draw(first[0], 8, *first[2:], dtype=dtype)
    return tensors


def smartedit(root: Path) -> dict[str, Tensors]:
    return {
        f"LLM-{STEP}/adapter_model.bin": smartedit_llm(),
        f"embeddings_qformer/checkpoint-{STEP}_embeddings_qformer.bin": smartedit_qformer(),
        f"unet-{STEP}/adapter_model.bin": {f"unet.{name}": t for name, t in edit_unet(root).items()},
        f"modulate-{STEP}/adapter_model.bin": smartedit_bim(),
    }


def write(folder: Path, files: dict[str, Tensors]) -> Path:
    for name, tensors in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path)
    return folder


def write_smartedit(folder: Path, files: dict[str, Tensors]) -> Path:
    write(folder, files)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    (folder / f"LLM-{STEP}/adapter_config.json").write_text(json.dumps(config))
    return folder


def mgie(root: Path) -> dict[str, Tensors]:
    width, ffn = 16, 32
    mllm = {
        "model.embed_tokens.weight": draw(TEXT_ROWS + 11, LLM).half(),
        "lm_head.weight": draw(TEXT_ROWS + 11, LLM).half(),
        "edit_head.query": draw(1, QUERIES, width).half(),
    }
    head = linear("llm2hid", width, LLM) | linear("hid2feat", TEXT, width)
    for half in ("encoder", "decoder"):
        for index in range(4):
            layer = f"mapper.{half}.layers.{index}."
            attentions = ("self_attn",) if half == "encoder" else ("self_attn", "multihead_attn")
            for name in attentions:
                head[f"{layer}{name}.in_proj_weight"] = draw(3 * width, width)
                head[f"{layer}{name}.in_proj_bias"] = draw(3 * width)
                head |= linear(f"{layer}{name}.out_proj", width, width)
            head |= linear(f"{layer}linear1", ffn, width) | linear(f"{layer}linear2", width, ffn)
            for number in range(1, 3 + (half == "decoder")):
                head |= norm(f"{layer}norm{number}", width)
        head |= norm(f"mapper.{half}.norm", width)
    mllm |= {f"edit_head.{name}": tensor.half() for name, tensor in head.items()}
    return {"mllm.pt": mllm, "unet.pt": edit_unet(root, torch.float16)}


def llava_v1() -> Tensors:
    """LLaVA 1.1 as its authors publish it: three tokens behind the text."""
    tensors = llama_layers("model.", torch.float16)
    tensors["model.embed_tokens.weight"] = draw(TEXT_ROWS + 3, LLM).half()
    tensors["model.norm.weight"] = (1 + draw(LLM)).half()
    tensors["lm_head.weight"] = draw(TEXT_ROWS + 3, LLM).half()
    tensors |= {f"model.{name}": t.half() for name, t in linear("mm_projector", LLM, VISION).items()}
    return tensors


def ip_adapter(tokens: int = 4, width: int = 24, channels: tuple[int, ...] = (32, 64, 64, 64, 32, 32, 64)) -> dict:
    """Nested as in the `.bin` files; `channels` of the tiny UNet's cross-attentions, in the order of its processors."""
    layers: Tensors = {}
    for index, rows in enumerate(channels):
        layers[f"{2 * index + 1}.to_k_ip.weight"] = draw(rows, TEXT)
        layers[f"{2 * index + 1}.to_v_ip.weight"] = draw(rows, TEXT)
    projection = linear("proj", tokens * TEXT, width) | norm("norm", TEXT)
    return {"image_proj": projection, "ip_adapter": layers}


def mige(root: Path) -> Tensors:
    """PixArt's, LAVIS' and its own names, at the tiny models' widths."""
    width, depth, text = 32, 2, 32
    tensors = {"pos_embed": draw(1, 16, width)}
    tensors["x_embedder.proj.weight"] = draw(width, 8, 2, 2)
    tensors["x_embedder.proj.bias"] = draw(width)
    tensors |= linear("t_embedder.mlp.0", width, 256) | linear("t_embedder.mlp.2", width, width)
    tensors |= linear("t_block.1", 6 * width, width)
    tensors |= linear("y_embedder.y_proj.fc1", width, text) | linear("y_embedder.y_proj.fc2", width, width)
    tensors["y_embedder.y_embedding"] = draw(40, text)
    for index in range(depth):
        block = f"blocks.{index}."
        tensors[f"{block}scale_shift_table"] = draw(6, width)
        tensors |= linear(f"{block}attn.qkv", 3 * width, width) | linear(f"{block}attn.proj", width, width)
        tensors |= linear(f"{block}cross_attn.q_linear", width, width)
        tensors |= linear(f"{block}cross_attn.kv_linear", 2 * width, width)
        tensors |= linear(f"{block}cross_attn.proj", width, width)
        tensors |= linear(f"{block}mlp.fc1", 4 * width, width) | linear(f"{block}mlp.fc2", width, 4 * width)
    tensors |= linear("final_layer.linear", 32, width)
    tensors["final_layer.scale_shift_table"] = draw(2, width)
    return tensors | _mige_eyes(width, depth) | _mige_fusion(width) | _mige_text(root)


def _mige_eyes(width: int, depth: int) -> Tensors:
    tensors = {"visual_encoder.cls_token": draw(1, 1, width), "visual_encoder.pos_embed": draw(1, 17, width)}
    tensors["visual_encoder.patch_embed.proj.weight"] = draw(width, 3, 8, 8)
    tensors["visual_encoder.patch_embed.proj.bias"] = draw(width)
    for index in range(depth):
        block = f"visual_encoder.blocks.{index}."
        tensors |= norm(f"{block}norm1", width) | norm(f"{block}norm2", width)
        tensors[f"{block}attn.q_bias"] = draw(width)
        tensors[f"{block}attn.v_bias"] = draw(width)
        tensors[f"{block}attn.qkv.weight"] = draw(3 * width, width)
        tensors |= linear(f"{block}attn.proj", width, width)
        tensors |= linear(f"{block}mlp.fc1", 4 * width, width) | linear(f"{block}mlp.fc2", width, 4 * width)
    tensors |= norm("ln_vision", width)
    tensors["query_tokens"] = draw(1, 4, width)
    tensors["Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    tensors |= norm("Qformer.bert.embeddings.LayerNorm", width)
    tensors |= bert_layers("Qformer.bert.", width, 4 * width, width, 2)
    return tensors | linear("t5_proj", 32, width)


def _mige_fusion(width: int) -> Tensors:
    tensors = linear("FFM.q_proj_1", width, width, bias=False)
    for short in ("k", "v"):
        tensors |= linear(f"FFM.{short}_proj_1.0", width, width)
        tensors |= linear(f"FFM.{short}_proj_1.2", width, width)
    for name in ("ln_q_1", "ln_k_1", "ln_v_1", "ln_out"):
        tensors |= norm(f"FFM.{name}", width)
    tensors["FFM.clip_attn.in_proj_weight"] = draw(3 * width, width)
    tensors["FFM.clip_attn.in_proj_bias"] = draw(3 * width)
    return tensors | linear("FFM.clip_attn.out_proj", width, width) | linear("FFM.mlp", width, width)


def _mige_text(root: Path) -> Tensors:
    from transformers import T5EncoderModel

    state = T5EncoderModel.from_pretrained(root / "t5").state_dict()
    tensors = {f"t5_model.{name}": draw(*tensor.shape) for name, tensor in state.items()}
    tensors["t5_model.encoder.embed_tokens.weight"] = tensors["t5_model.shared.weight"]
    return tensors
