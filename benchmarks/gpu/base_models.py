"""LLaVA-1.5-7B, Stable Diffusion 1.5 and CLIP ViT-L/14 in their published shapes, with random weights.

What a training step costs depends on the shapes alone, so a machine that reaches no model hub can measure it. The
tokenizers are the miniature ones: the embedding tables keep their published number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from insightedit.miniatures.tokenizer import IMAGE_TOKEN, small_corpus, train_clip_tokenizer, train_llava_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Shapes:
    """The numbers that a rehearsal makes smaller; the defaults are the published ones."""

    llama_width: int = 4096
    llama_layers: int = 32
    llama_heads: int = 32
    llama_ffn: int = 11008
    llama_vocabulary: int = 32064
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    llava_pixels: int = 336
    clip_pixels: int = 224
    patch: int = 14
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    unet_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)


FULL = Shapes()
REHEARSAL = replace(
    FULL,
    llama_width=64,
    llama_layers=3,
    llama_heads=4,
    llama_ffn=128,
    vision_width=64,
    vision_layers=3,
    vision_heads=4,
    llava_pixels=56,
    clip_pixels=28,
    text_width=64,
    text_layers=2,
    text_heads=4,
    unet_channels=(32, 64, 64, 64),
    vae_channels=(32, 32, 32, 32),
)


def write_base_models(root: Path, shapes: Shapes, device: str) -> None:
    """Write `root`/llava, /sd and /clip, which the recipe's `model` settings can name.

    Args:
        root: folder; made if need be.
        shapes: `FULL`, or `REHEARSAL` to try the program on a CPU.
        device: where weights are drawn; they are stored in bfloat16 (language model) and float32.
    """
    torch.manual_seed(0)
    corpus = small_corpus()
    with torch.device(device):
        tokenizer = train_clip_tokenizer(corpus, root / "clip", 49408, 77)
        clip = _clip(shapes, tokenizer, root)
        _generator(shapes, clip, tokenizer, root)
        torch.set_default_dtype(torch.bfloat16)
        try:
            _llava(shapes, root, corpus)
        finally:
            torch.set_default_dtype(torch.float32)


def _vision(shapes: Shapes, pixels: int) -> dict[str, int | str]:
    return {
        "hidden_act": "quick_gelu",
        "hidden_size": shapes.vision_width,
        "intermediate_size": 4 * shapes.vision_width,
        "num_hidden_layers": shapes.vision_layers,
        "num_attention_heads": shapes.vision_heads,
        "image_size": pixels,
        "patch_size": shapes.patch,
        "projection_dim": shapes.text_width,
    }


def _processor(pixels: int) -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size={"height": pixels, "width": pixels})


def _clip(shapes: Shapes, tokenizer: CLIPTokenizer, root: Path) -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=shapes.text_width,
        intermediate_size=4 * shapes.text_width,
        num_hidden_layers=shapes.text_layers,
        num_attention_heads=shapes.text_heads,
        max_position_embeddings=77,
        projection_dim=shapes.text_width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(**_vision(shapes, shapes.clip_pixels))
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=shapes.text_width)
    )
    clip.save_pretrained(root / "clip")
    _processor(shapes.clip_pixels).save_pretrained(root / "clip")
    return clip


def _generator(shapes: Shapes, clip: CLIPModel, tokenizer: CLIPTokenizer, root: Path) -> None:
    text_encoder = CLIPTextModel(clip.config.text_config)
    text_encoder.load_state_dict(clip.text_model.state_dict())
    blocks = len(shapes.vae_channels)
    vae = AutoencoderKL(
        block_out_channels=shapes.vae_channels,
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        sample_size=512,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=shapes.unet_channels,
        cross_attention_dim=shapes.text_width,
        attention_head_dim=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(root / "sd")


def _llava(shapes: Shapes, root: Path, corpus: Sequence[str]) -> None:
    folder = root / "llava"
    tokenizer = train_llava_tokenizer(corpus, folder, shapes.llama_vocabulary)
    text = LlamaConfig(
        vocab_size=shapes.llama_vocabulary,
        hidden_size=shapes.llama_width,
        intermediate_size=shapes.llama_ffn,
        num_hidden_layers=shapes.llama_layers,
        num_attention_heads=shapes.llama_heads,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision(shapes, shapes.llava_pixels)),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=(shapes.llava_pixels // shapes.patch) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=_processor(shapes.llava_pixels),
        tokenizer=tokenizer,
        patch_size=shapes.patch,
        vision_feature_select_strategy="default",
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
