"""LLaVA of version 1.1 (Vicuna, one linear projector, CLIP at 224 px) -> transformers' stock LLaVA.

The projector of stock LLaVA has two linear layers with an activation between them. Version 1.1 has one. With the
activation `linear`, which does nothing, and the identity as second layer the stock class computes the same numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from insightedit.export.card import shown
from insightedit.export.importers.bases import Drawing, open_base
from insightedit.export.importers.mapping import ImportReport, Rule, fill
from insightedit.modeling.pretrained import load_pretrained

LAYERS = "model.language_model.layers"
FREQUENCIES = "rotary frequencies, which the model computes from its config"
TABLES = {"model.language_model.embed_tokens.weight": "input", "lm_head.weight": "output"}


def llama_rules(prefix: str) -> list[Rule]:
    """Rules for a Llama's layers behind a prefix (a regular expression)."""
    layer = rf"{prefix}layers\.(\d+)\."
    kept = r"(self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj|input_layernorm|post_attention_layernorm)"
    return [
        Rule(rf"{layer}self_attn\.rotary_emb\.inv_freq", None, FREQUENCIES),
        Rule(rf"{layer}{kept}(?:\.base_layer)?\.weight", rf"{LAYERS}.\1.\2.weight"),
        Rule(rf"{layer}{kept}\.lora_([AB])(?:\.default)?\.weight", rf"{LAYERS}.\1.\2.lora_\3"),
        Rule(rf"{prefix}norm\.weight", "model.language_model.norm.weight"),
        Rule(rf"{prefix}embed_tokens\.weight", "model.language_model.embed_tokens.weight"),
    ]


PROJECTOR = Rule(r"(?:model\.)?mm_projector\.(weight|bias)", r"model.multi_modal_projector.linear_1.\1")


def merge_lora(tensors: dict[str, Tensor], alpha: float, rank: int, source: Path) -> dict[str, Tensor]:
    """Fold pairs `....lora_A` (r, D_in) and `....lora_B` (D_out, r) into their layers: W + alpha / r * B A, in float32.

    A layer in bfloat16 would round away most of what a learning rate of 1e-5 has taught its adapter.
    """
    merged = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    layers = sorted({name.rpartition(".lora_")[0] for name in tensors if ".lora_" in name})
    for layer in layers:
        down, up = tensors.get(f"{layer}.lora_A"), tensors.get(f"{layer}.lora_B")
        weight = merged.get(f"{layer}.weight")
        if down is None or up is None or weight is None:
            lost = "lora_A" if down is None else "lora_B" if up is None else "weight"
            raise ValueError(
                f"{source}: {layer} has no {lost} beside the rest of its adapter: the file is not whole. Fetch it "
                "again."
            )
        shapes = (tuple(down.shape), tuple(up.shape))
        if shapes != ((rank, weight.shape[1]), (weight.shape[0], rank)):
            raise ValueError(
                f"{source}: the adapter of {layer} has shapes {shapes} and its layer {tuple(weight.shape)}; "
                f"adapter_config.json says rank {rank}: files of different models are mixed."
            )
        merged[f"{layer}.weight"] = weight.float() + alpha / rank * (up.float() @ down.float())
    return merged


@dataclass(frozen=True)
class LlavaShell:
    """A stock LLaVA without weights of its own: config, processor, and the vision tower's weights."""

    name: str  # what the base is called
    config: Any  # `LlavaConfig`, changed freely by the importer
    processor: Any  # `LlavaProcessor`, likewise
    tower: dict[str, Tensor]  # weights of the vision tower by the model's names
    vision: str  # what the tower's source is called
    hidden_size: int  # D_llm
    vision_width: int  # D_vis


def open_llava(llava: str, vision: str) -> LlavaShell:
    """Config and processor of a stock LLaVA, made to see with another vision tower.

    Of `llava` the Llama's config and the tokenizer are used, of `vision` (a CLIP model) tower and preprocessing.
    """
    from transformers import AutoConfig, AutoProcessor, CLIPImageProcessor, CLIPVisionModel

    with open_base("a LLaVA model in transformers' format", llava) as folder:
        config = load_pretrained(AutoConfig, folder)
        if config.model_type != "llava":
            raise ValueError(f"its config.json says {config.model_type}")
        processor = load_pretrained(AutoProcessor, folder)
    with open_base("a CLIP model with its image processor", vision) as folder:
        kind = load_pretrained(AutoConfig, folder).model_type
        if kind not in ("clip", "clip_vision_model"):
            raise ValueError(f"its config.json says {kind}")
        tower = load_pretrained(CLIPVisionModel, folder)
        image_processor = load_pretrained(CLIPImageProcessor, folder)
    config.vision_config = copy.deepcopy(tower.config)
    config.vision_feature_layer = -2
    config.vision_feature_select_strategy = "default"
    config.projector_hidden_act = "linear"
    config.multimodal_projector_bias = True
    config.image_seq_length = (tower.config.image_size // tower.config.patch_size) ** 2
    config.tie_word_embeddings = False
    processor.image_processor = image_processor
    processor.patch_size = tower.config.patch_size
    processor.num_additional_image_tokens = 1
    processor.vision_feature_select_strategy = "default"
    weights = {f"model.vision_tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    sizes = (int(config.text_config.hidden_size), int(config.vision_config.hidden_size))
    return LlavaShell(shown(llava), config, processor, weights, shown(vision), *sizes)


def rebase_tables(
    tensors: dict[str, Tensor], shell: LlavaShell, added: Sequence[str | None], source: Path, report: ImportReport
) -> dict[str, Tensor]:
    """Move the vocabulary tables' rows to the ids that our tokenizer gives the same tokens.

    New tokens are added to the shell's tokenizer and found there by name. Rows of tokens that only the base's
    tokenizer has (`<image>`, `<pad>`) become the mean of the text rows; nothing reads them.

    `added` are the tokens whose rows stand behind the text's, in the order of their ids; None is not needed.
    """
    tokenizer = shell.processor.tokenizer
    text_rows = int(tokenizer.vocab_size)
    for name in TABLES:
        if name not in tensors:
            raise ValueError(f"{source} lacks the vocabulary table {name}: the file is not whole.")
        rows, width = tensors[name].shape
        if width != shell.hidden_size:
            raise ValueError(
                f"{source} is {width} wide, the base {shell.name} {shell.hidden_size}: a 7B model is 4096 wide, a 13B "
                "one 5120. Name the base of the same size with --base llava=."
            )
        if rows != text_rows + len(added):
            raise ValueError(
                f"{source}: {name} has {rows} rows; the tokenizer of {shell.name} has {text_rows} tokens of text and "
                f"the system adds {len(added)}, {text_rows + len(added)} in all. Name the base "
                "with the checkpoint's own tokenizer, or check that the file is as published."
            )
    held = tokenizer.get_vocab()
    new: list[str | AddedToken] = [
        AddedToken(name, special=True, normalized=False) for name in added if name is not None and name not in held
    ]
    tokenizer.add_tokens(new, special_tokens=True)
    ids = tokenizer.get_vocab()
    moved = {text_rows + row: ids[name] for row, name in enumerate(added) if name is not None}
    shell.config.text_config.vocab_size = len(tokenizer)
    report.facts["token_ids"] = {
        "text": f"0-{text_rows - 1}, unchanged",
        "added": {name: [old, ids[name]] for old, name in zip(moved, filter(None, added), strict=True)},
    }
    rebased = dict(tensors)
    for name in TABLES:
        table = tensors[name]
        longer = table[:text_rows].float().mean(dim=0).to(table.dtype).expand(len(tokenizer), -1).clone()
        longer[:text_rows] = table[:text_rows]
        longer[list(moved.values())] = table[list(moved)]
        rebased[name] = longer
    return rebased


def build_llava(shell: LlavaShell, tensors: Mapping[str, Tensor], report: ImportReport, source: str) -> Any:
    """The stock model, filled."""
    from accelerate import init_empty_weights
    from transformers import LlavaForConditionalGeneration

    with init_empty_weights(include_buffers=False):  # buffers are computed, not loaded
        mllm = LlavaForConditionalGeneration(shell.config)
    second = "model.multi_modal_projector.linear_2"  # x I + 0
    identity = {f"{second}.weight": torch.eye(shell.hidden_size), f"{second}.bias": torch.zeros(shell.hidden_size)}
    base = shell.tower | identity
    name = f"{shell.vision} (vision tower); an identity (projector's second layer)"
    fill("mllm", mllm, tensors, report, source=source, base=base, base_name=name)
    tokenizer = shell.processor.tokenizer
    mllm.generation_config.bos_token_id = tokenizer.bos_token_id
    mllm.generation_config.eos_token_id = tokenizer.eos_token_id
    mllm.generation_config.pad_token_id = tokenizer.pad_token_id
    return mllm


def llava_pipeline(mllm: Any, shell: LlavaShell, bridge: Any, unet: Any, drawing: Drawing, **settings: Any) -> Any:
    """A pipeline that edits at Stable Diffusion's half size, as SmartEdit and MGIE do."""
    from insightedit.pipelines.edit import InsightEditPipeline

    return InsightEditPipeline(
        mllm=mllm,
        processor=shell.processor,
        bridge=bridge,
        vae=drawing.vae,
        unet=unet,
        scheduler=drawing.scheduler,
        resolution=256,
        default_guidance_scale=7.5,
        default_image_guidance_scale=1.5,
        default_num_inference_steps=100,
        **settings,
    )
