"""CLIP, DINO, Grounding DINO and SAM at a size that builds in a moment, and an encoder whose features are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

TINY = "tiny-quickgelu"  # name of the tiny CLIP in open_clip's list
SIDE, PATCH, WIDTH, LAYERS, HEADS, FEATURES, WORDS = 32, 8, 32, 2, 2, 16, 49408


class ProjectionEncoder:
    """Features from a fixed random projection: of the mean colours of a 4 x 4 grid, and of a text's bytes."""

    name, revision = "projection", "seed 0"

    def __init__(self, width: int = 12) -> None:
        draw = np.random.default_rng(0)
        self.pixels = torch.from_numpy(draw.normal(size=(48, width))).float()
        self.bytes = torch.from_numpy(draw.normal(size=(32, width))).float()
        self.batches: list[int] = []

    def image_features(self, pictures: Sequence[np.ndarray]) -> Tensor:
        self.batches.append(len(pictures))
        return torch.cat([self._grid(picture) @ self.pixels for picture in pictures])

    def text_features(self, texts: Sequence[str]) -> Tensor:
        digests = [hashlib.sha256(text.lower().strip().encode()).digest() for text in texts]
        return (torch.tensor([list(digest) for digest in digests]).float() / 255 - 0.5) @ self.bytes

    @staticmethod
    def _grid(picture: np.ndarray) -> Tensor:
        cells = [cell for row in np.array_split(picture, 4) for cell in np.array_split(row, 4, axis=1)]
        means = np.concatenate([cell.reshape(-1, 3).mean(axis=0) for cell in cells])
        return torch.from_numpy(means)[None].float() / 255 - 0.5


def photos(count: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    """Smooth random pictures, (height, width, 3) uint8."""
    from PIL import Image

    draw = np.random.default_rng(1)
    coarse = draw.integers(0, 256, size=(count, 5, 7, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(one).resize((width, height))) for one in coarse]


@cache
def tokenizer() -> CLIPTokenizer:
    """CLIP's own, from the vocabulary that open_clip ships."""
    simple = open_clip.SimpleTokenizer()
    rename = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {rename.get(word, word): number for word, number in simple.encoder.items()}
    return CLIPTokenizer(vocabulary, list(simple.bpe_ranks))


@cache
def byte_tokenizer() -> CLIPTokenizer:
    """CLIP's without its merges: one word per byte, and the special words under their own numbers; quick to load."""
    words = list(open_clip.SimpleTokenizer().encoder)[:512]
    special = {"<|startoftext|>": WORDS - 2, "<|endoftext|>": WORDS - 1}
    return CLIPTokenizer({**{word: number for number, word in enumerate(words)}, **special}, [])


@cache
def tiny_clip() -> CLIPModel:
    """A random CLIP of transformers; its weights are large enough that every part matters."""
    torch.manual_seed(0)
    tower: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_act": "quick_gelu",
    }
    text = {**tower, "vocab_size": WORDS, "eos_token_id": WORDS - 1, "bos_token_id": WORDS - 2}
    vision = {**tower, "image_size": SIDE, "patch_size": PATCH}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=FEATURES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def save_clip(folder: Path) -> Path:
    """The tiny CLIP as a folder of transformers, with `byte_tokenizer`."""
    tiny_clip().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def open_clip_config() -> dict[str, Any]:
    """The tiny CLIP in open_clip's words."""
    return {
        "embed_dim": FEATURES,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": WIDTH // HEADS,
            "patch_size": PATCH,
        },
        "text_cfg": {"context_length": 77, "vocab_size": WORDS, "width": WIDTH, "heads": HEADS, "layers": LAYERS},
    }


def register_open_clip(folder: Path) -> None:
    """Make `TINY`, and the same with GELU, names that open_clip knows."""
    for name, quick in ((TINY, True), (TINY.removesuffix("-quickgelu"), False)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({**open_clip_config(), "quick_gelu": quick}))
        open_clip.add_model_config(path)


def open_clip_weights(model: CLIPModel) -> dict[str, Tensor]:
    """The state dict of a CLIP of transformers, in open_clip's and OpenAI's words."""
    theirs = {
        "logit_scale": model.logit_scale,
        "text_projection": model.text_projection.weight.T,
        "visual.proj": model.visual_projection.weight.T,
        "visual.class_embedding": model.vision_model.embeddings.class_embedding,
        "visual.conv1.weight": model.vision_model.embeddings.patch_embedding.weight,
        "visual.positional_embedding": model.vision_model.embeddings.position_embedding.weight,
        "token_embedding.weight": model.text_model.embeddings.token_embedding.weight,
        "positional_embedding": model.text_model.embeddings.position_embedding.weight,
        **_norm("visual.ln_pre", model.vision_model.pre_layrnorm),
        **_norm("visual.ln_post", model.vision_model.post_layernorm),
        **_norm("ln_final", model.text_model.final_layer_norm),
    }
    for prefix, tower in (("visual.transformer", model.vision_model), ("transformer", model.text_model)):
        for i, layer in enumerate(tower.encoder.layers):
            theirs.update(_block(f"{prefix}.resblocks.{i}", layer))
    return {name: tensor.detach().clone().contiguous() for name, tensor in theirs.items()}


def _block(name: str, layer: Any) -> dict[str, Tensor]:
    attention = layer.self_attn
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    return {
        f"{name}.attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        f"{name}.attn.in_proj_bias": torch.cat([part.bias for part in parts]),
        **_norm(f"{name}.attn.out_proj", attention.out_proj),
        **_norm(f"{name}.ln_1", layer.layer_norm1),
        **_norm(f"{name}.ln_2", layer.layer_norm2),
        **_norm(f"{name}.mlp.c_fc", layer.mlp.fc1),
        **_norm(f"{name}.mlp.c_proj", layer.mlp.fc2),
    }


def _norm(name: str, module: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


@cache
def tiny_dino() -> ViTModel:
    """A random ViT with the pooler that DINO does not have."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=SIDE,
        patch_size=PATCH,
        layer_norm_eps=1e-6,
    )
    model = ViTModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def save_dino(folder: Path) -> Path:
    """The tiny DINO as a folder of transformers; with the pooler, as the published folder has one."""
    tiny_dino().save_pretrained(folder)
    return folder
