"""MGIE's two files -> a pipeline.

SRC/mllm.pt   both vocabulary tables, `edit_head.*`
SRC/unet.pt   UNet of eight input channels, names without prefix

The language model's layers and the projector are those of LLaVA-Lightning-7B v1.1, which MGIE leaves as they are and
does not publish again: name that folder, in its authors' format, with `--base weights=`.
"""

from __future__ import annotations

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

NAME = "mgie"
BASES: dict[str, str | None] = {
    "weights": None,
    "llava": "llava-hf/llava-1.5-7b-hf",
    "vision": "openai/clip-vit-large-patch14",
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
LICENCE = "CC-BY-NC for the weights, Apple's own terms for the code"
NUM_EDIT_TOKENS = 8
EDIT_TOKEN = "[IMG{index}]"
# LLaVA 1.1 adds three tokens; the first marks the picture's places and is replaced by its patches
ADDED = (None, "<im_start>", "<im_end>", *(EDIT_TOKEN.format(index=index) for index in range(NUM_EDIT_TOKENS)))
HEADS = 4  # of the edit head; the files do not say it

MLLM_RULES = [
    Rule(r"(?:model\.)?embed_tokens\.weight", "model.language_model.embed_tokens.weight"),
    Rule(r"lm_head\.weight", "lm_head.weight"),
    Rule(r"edit_head\.llm2hid\.(weight|bias)", r"edit_head.proj_in.\1"),
    Rule(r"edit_head\.query", "edit_head.queries", squeeze=True),
    Rule(r"edit_head\.mapper\.(.+)", r"edit_head.transformer.\1"),
    Rule(r"edit_head\.hid2feat\.(weight|bias)", r"edit_head.proj_out.\1"),
]
OWN_TABLE = "MGIE brings both vocabulary tables itself"
WEIGHT_RULES = [
    Rule(r"model\.embed_tokens\.weight", None, OWN_TABLE),
    Rule(r"lm_head\.weight", None, OWN_TABLE),
    Rule(r"model\.vision_tower\..*", None, "the vision tower comes from --base vision="),
    *language.llama_rules(r"model\."),
    language.PROJECTOR,
]


def convert(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """A pipeline of `mllm.pt` and `unet.pt` in a folder, and of `BASES`."""
    if "weights" not in bases:
        raise ValueError(
            "mgie publishes no weights of the language model's layers: name the folder of LLaVA-Lightning-7B-v1-1 (its "
            "delta applied to Vicuna) with --base weights=FOLDER."
        )
    mllm_path, unet_path = (_named(source, stem) for stem in ("mllm", "unet"))
    shell = language.open_llava(bases["llava"], bases["vision"])
    drawing = open_stable_diffusion(bases["sd"], report)
    named = translate(read_checkpoint(mllm_path), MLLM_RULES, report)
    tables = {name: tensor for name, tensor in named.items() if name in language.TABLES}
    llm_tensors = language.rebase_tables(tables, shell, ADDED, mllm_path, report)
    for file in source_files(Path(bases["weights"])):  # layers and projector, in their authors' format
        llm_tensors |= translate(read_checkpoint(file), WEIGHT_RULES, report)
    mllm = language.build_llava(shell, llm_tensors, report, f"{mllm_path} with {bases['weights']}")
    head = {name: tensor for name, tensor in named.items() if name.startswith("edit_head.")}
    bridge = build_bridge(head, shell, drawing, report, mllm_path, bases)
    unet = build_unet(read_checkpoint(unet_path), drawing.unet_config, report)
    pipeline = language.llava_pipeline(
        mllm,
        shell,
        bridge,
        unet,
        drawing,
        num_edit_tokens=NUM_EDIT_TOKENS,
        edit_token=EDIT_TOKEN,
        describe_prompt="{instruction}",
        expressive=True,
        max_new_tokens=96,
        no_repeat_ngram_size=3,
        states_before_tokens=True,
    )
    return Imported(card_of(NAME, "MGIE", "MGIE", LICENCE, bases), pipeline, for_training=drawing.text)


def _named(source: Path, stem: str) -> Path:
    """The file of that name in the folder."""
    files = [file for file in source_files(source) if file.stem == stem]
    if len(files) != 1:
        raise FileNotFoundError(
            f"{source} holds {len(files)} files named {stem}.pt: MGIE publishes mllm.pt and unet.pt in one folder."
        )
    return files[0]


def build_bridge(
    head: Mapping[str, Tensor],
    shell: language.LlavaShell,
    drawing: Drawing,
    report: ImportReport,
    path: Path,
    bases: dict[str, str],
) -> Any:
    """The edit head at the sizes that its tensors have."""
    from insightedit.bridging import EditBridge

    queries, _, text = (
        needed(head, f"edit_head.{name}", path) for name in ("queries", "proj_in.weight", "proj_out.weight")
    )
    made = (queries.shape[0], text.shape[0])
    if made != tuple(drawing.null_text.shape):
        raise ValueError(
            f"{path} makes text states of shape {made}, the text encoder of {bases['sd']} of shape "
            f"{tuple(drawing.null_text.shape)}: name Stable Diffusion 1.5 with --base sd=."
        )
    inner = head.get("edit_head.transformer.encoder.layers.0.linear1.weight")
    with torch.device("meta"):
        bridge = EditBridge(
            num_queries=made[0],
            text_width=made[1],
            llm_width=shell.hidden_size,
            edit_head_config={
                "width": queries.shape[1],
                "num_layers": max(1, count_layers(head, r"edit_head\.transformer\.encoder\.layers\.(\d+)\.")),
                "num_heads": HEADS,
                "ffn_dim": 2048 if inner is None else inner.shape[0],
            },
            null_text="zero_states",
        )
    base = {"null_text_states": drawing.null_text}
    fill("bridge", bridge, head, report, source=str(path), base=base, base_name=shown(bases["sd"]))
    return bridge
