"""SmartEdit's published folder -> a pipeline.

SRC/LLM-N/adapter_model.bin                                   Vicuna, its LoRA beside it; adapter_config.json
SRC/embeddings_qformer/checkpoint-N_embeddings_qformer.bin    Q-Former, its queries, projector, lm_head
SRC/unet-N/adapter_model.bin                                  UNet of eight input channels
SRC/modulate-N/adapter_model.bin                              BIM
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insightedit.export.card import shown
from insightedit.export.importers import language
from insightedit.export.importers.bases import Drawing, build_unet, card_of, open_stable_diffusion
from insightedit.export.importers.mapping import (
    Imported,
    ImportReport,
    Rule,
    count_layers,
    fill,
    needed,
    read_checkpoint,
    source_files,
    translate,
)

NAME = "smartedit"
BASES: dict[str, str | None] = {
    "llava": "llava-hf/llava-1.5-7b-hf",
    "vision": "openai/clip-vit-large-patch14",
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
LICENCE = "none stated by its authors (no licence file in their repository): ask them before you use or share it"
NUM_EDIT_TOKENS = 32
ADDED = ("<img>", "<im_start>", "<im_end>", *(f"<img_{index}>" for index in range(NUM_EDIT_TOKENS)))
HEAD_WIDTH = 64  # of a BERT attention head; the files do not say it
BIM_HEADS = 8  # likewise

FILES = {
    "llm": "LLM-N/adapter_model.bin",
    "qformer": "embeddings_qformer/checkpoint-N_embeddings_qformer.bin",
    "unet": "unet-N/adapter_model.bin",
    "bim": "modulate-N/adapter_model.bin",
}
"""N is the training step; other endings are read, too."""

LLM_RULES = language.llama_rules(r"(?:model\.)?base_model\.model\.(?:model\.)?")


def _qformer_rules() -> list[Rule]:
    """BERT's names (BLIP-2's), whose text half was taken out."""
    prefix, ends = r"sd_qformer\.(?:bert\.)?", r"(weight|bias)"
    layer, new = rf"{prefix}encoder\.layer\.(\d+)\.", r"qformer.layers.\1."
    rules = [
        Rule(rf"{prefix}embeddings\.position_ids", None, "a row of counters; queries have no positions"),
        Rule(rf"{prefix}embeddings\.LayerNorm\.{ends}", r"qformer.norm.\1"),
        Rule(rf"{layer}intermediate_query\.dense\.{ends}", rf"{new}ffn.0.\2"),
        Rule(rf"{layer}output_query\.dense\.{ends}", rf"{new}ffn.2.\2"),
        Rule(rf"{layer}output_query\.LayerNorm\.{ends}", rf"{new}ffn_norm.\2"),
        Rule(r"sd_query_tokens", "qformer.queries", squeeze=True),
        Rule(r"lm_head\.weight", "lm_head.weight"),
        language.PROJECTOR,
    ]
    for theirs, ours in (("attention", "self_attn"), ("crossattention", "cross_attn")):
        for projection in ("query", "key", "value"):
            old = rf"{layer}{theirs}\.self\.{projection}\.{ends}"
            rules.append(Rule(old, rf"{new}{ours}.{projection[0]}_proj.\2"))
        rules.append(Rule(rf"{layer}{theirs}\.output\.dense\.{ends}", rf"{new}{ours}.out_proj.\2"))
        rules.append(Rule(rf"{layer}{theirs}\.output\.LayerNorm\.{ends}", rf"{new}{ours}_norm.\2"))
    return rules


def _bim_rules() -> list[Rule]:
    """SAM's names for the two-way transformer, SmartEdit's own for the rest."""
    ends = r"\.(weight|bias)"
    layer, new = r"modulate_transformer\.layers\.(\d+)\.", r"bim.two_way.blocks.\1."
    rules = [
        Rule(rf"modulate_head{ends}", r"bim.text_in.\1"),
        Rule(r"pe_layer\.positional_encoding_gaussian_matrix", "bim.positions.frequencies"),
        Rule(rf"dimension_reduction_head_zeroconv{ends}", r"bim.image_out.\1"),
        Rule(rf"dimension_reduction_head_qformer_out{ends}", r"bim.text_out.\1"),
        Rule(rf"{layer}mlp\.lin1{ends}", rf"{new}mlp.0.\2"),
        Rule(rf"{layer}mlp\.lin2{ends}", rf"{new}mlp.2.\2"),
        Rule(
            rf"modulate_transformer\.final_attn_token_to_image\.([qkv]|out)_proj{ends}",
            r"bim.two_way.final_attn.\1_proj.\2",
        ),
        Rule(rf"modulate_transformer\.norm_final_attn{ends}", r"bim.two_way.final_norm.\1"),
    ]
    attentions = {
        "self_attn": "self_attn",
        "cross_attn_token_to_image": "token_to_image",
        "cross_attn_image_to_token": "image_to_token",
    }
    for theirs, ours in attentions.items():
        rules.append(Rule(rf"{layer}{theirs}\.([qkv]|out)_proj{ends}", rf"{new}{ours}.\2_proj.\3"))
    norms = ("self_attn_norm", "token_to_image_norm", "mlp_norm", "image_to_token_norm")
    rules += [Rule(rf"{layer}norm{n}{ends}", rf"{new}{ours}.\2") for n, ours in enumerate(norms, 1)]
    return rules


QFORMER_RULES, BIM_RULES = _qformer_rules(), _bim_rules()


def convert(source: Path, bases: dict[str, str], report: ImportReport, step: int | None = None) -> Imported:
    """A pipeline of one training step that the published folder holds, and of `BASES`."""
    files = find_files(source, step)
    step = report.facts["step"] = int(files["llm"].parent.name.removeprefix("LLM-"))
    shell = language.open_llava(bases["llava"], bases["vision"])
    drawing = open_stable_diffusion(bases["sd"], report)
    llm, qformer = read_checkpoint(files["llm"]), read_checkpoint(files["qformer"])
    named = translate(qformer, QFORMER_RULES, report)
    llm_tensors = {k: v for k, v in named.items() if not k.startswith("qformer.")}
    llm_tensors |= translate(llm, LLM_RULES, report)
    rank, alpha = adapter_scale(files["llm"])
    report.facts["lora"] = {"rank": rank, "alpha": alpha, "merged_in": "float32"}
    llm_tensors = language.merge_lora(llm_tensors, alpha, rank, files["llm"])
    llm_tensors = language.rebase_tables(llm_tensors, shell, ADDED, files["llm"], report)
    mllm = language.build_llava(shell, llm_tensors, report, str(files["llm"]))
    queries = {name: tensor for name, tensor in named.items() if name.startswith("qformer.")}
    bim = translate(read_checkpoint(files["bim"]), BIM_RULES, report)
    bridge = build_bridge({**queries, **bim}, shell, drawing, report, bases, files)
    residual, width = bim["bim.image_out.weight"].shape[0], int(drawing.unet_config["block_out_channels"][0])
    if residual != width:
        raise ValueError(
            f"BIM writes {residual} channels, the UNet of the base has {width} after its first layer: name Stable "
            "Diffusion 1.5 with --base sd=."
        )
    unet = build_unet(read_checkpoint(files["unet"]), drawing.unet_config, report, residual)
    pipeline = language.llava_pipeline(mllm, shell, bridge, unet, drawing, num_edit_tokens=NUM_EDIT_TOKENS)
    card = card_of(NAME, "SmartEdit", f"SmartEdit, step {step}", LICENCE, bases)
    return Imported(card, pipeline, for_training=drawing.text)


def find_files(source: Path, step: int | None) -> dict[str, Path]:
    """The four files of one step."""
    found: dict[str, dict[int, Path]] = {part: {} for part in FILES}
    for file in source_files(source):
        name = file.relative_to(source).as_posix() if source.is_dir() else file.name
        for part, published in FILES.items():
            if match := re.fullmatch(published.replace("-N", r"-(\d+)").replace(".bin", r"\.\w+"), name):
                number = int(match[1])
                if number in found[part]:
                    raise ValueError(f"{source} holds {found[part][number].name} and {file.name}: keep one of them.")
                found[part][number] = file
    steps = sorted(set().union(*found.values()))
    if step is None and len(steps) > 1:
        raise ValueError(
            f"{source} holds files of the steps {', '.join(map(str, steps))}: say which with --step; all four files "
            "have to be of one step."
        )
    chosen = step if step is not None else next(iter(steps), None)
    missing = [FILES[part] for part, files in found.items() if chosen not in files]
    if chosen is None or missing:
        at = "" if chosen is None else f" for step {chosen}"
        raise FileNotFoundError(
            f"{source} lacks {', '.join(missing)}{at}: SmartEdit publishes {', '.join(FILES.values())} in one folder."
        )
    return {part: files[chosen] for part, files in found.items()}


def adapter_scale(llm: Path) -> tuple[int, float]:
    """Rank and alpha from `adapter_config.json` beside the language model or above it; else the published 8 and 16."""
    for folder in (llm.parent, llm.parent.parent):
        path = folder / "adapter_config.json"
        if path.is_file():
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                return int(held["r"]), float(held["lora_alpha"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} does not say r and lora_alpha: fetch it again.") from error
    return 8, 16.0


def build_bridge(
    tensors: Mapping[str, Tensor],
    shell: language.LlavaShell,
    drawing: Drawing,
    report: ImportReport,
    bases: dict[str, str],
    files: dict[str, Path],
) -> Any:
    """Q-Former and BIM, at the sizes that the tensors have."""
    from insightedit.bridging import EditBridge

    source = f"{files['qformer']} with {files['bim']}"
    queries = needed(tensors, "qformer.queries", files["qformer"])
    ffn = needed(tensors, "qformer.layers.0.ffn.0.weight", files["qformer"])
    reads = needed(tensors, "qformer.layers.0.cross_attn.k_proj.weight", files["qformer"])
    text_in = needed(tensors, "bim.text_in.weight", files["bim"])
    inner = needed(tensors, "bim.two_way.final_attn.q_proj.weight", files["bim"])
    mlp = needed(tensors, "bim.two_way.blocks.0.mlp.0.weight", files["bim"])
    image_out = needed(tensors, "bim.image_out.weight", files["bim"])
    if reads.shape[1] != shell.hidden_size:
        raise ValueError(
            f"{files['qformer']} reads a language model {reads.shape[1]} wide, {files['llm']} is {shell.hidden_size} "
            "wide: files of the 7B model (4096) and of the 13B one (5120) are mixed."
        )
    if text_in.shape[0] != shell.vision_width:
        raise ValueError(
            f"{files['bim']} reads vision patches {text_in.shape[0]} wide, {bases['vision']} has {shell.vision_width}: "
            "name the CLIP model that it was trained with (--base vision=openai/clip-vit-large-patch14)."
        )
    if queries.shape != drawing.null_text.shape:
        raise ValueError(
            f"{files['qformer']} makes text states of shape {tuple(queries.shape)}, the text encoder of {bases['sd']} "
            f"of shape {tuple(drawing.null_text.shape)}: name Stable Diffusion 1.5 with --base sd=."
        )
    reading = [n for n in tensors if re.fullmatch(r"qformer\.layers\.\d+\.cross_attn\.k_proj\.weight", n)]
    layers = count_layers(tensors, r"qformer\.layers\.(\d+)\.")
    with torch.device("meta"):
        bridge = EditBridge(
            num_queries=queries.shape[0],
            text_width=queries.shape[1],
            llm_width=shell.hidden_size,
            qformer_config={
                "num_layers": layers,
                "num_heads": max(1, queries.shape[1] // HEAD_WIDTH),
                "ffn_dim": ffn.shape[0],
                "cross_attention_every": max(1, round(layers / len(reading))),
            },
            bim_config={
                "vision_width": shell.vision_width,
                "width": text_in.shape[0],
                "depth": count_layers(tensors, r"bim\.two_way\.blocks\.(\d+)\."),
                "num_heads": BIM_HEADS,
                "mlp_dim": mlp.shape[0],
                "downsample_rate": text_in.shape[0] // inner.shape[0],
                "residual_channels": image_out.shape[0],
            },
        )
    base = {"null_text_states": drawing.null_text}
    fill("bridge", bridge, tensors, report, source=source, base=base, base_name=shown(bases["sd"]))
    return bridge
