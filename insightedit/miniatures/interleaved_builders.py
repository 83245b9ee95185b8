"""Random-weight miniatures of what reads instructions with pictures in them, and of the transformer that draws.

<root>/blip2/   Blip2ForConditionalGeneration with BlipImageProcessor
<root>/t5/      T5EncoderModel with T5Tokenizer
<root>/pixart/  transformer of a PixArt pipeline on the autoencoder's latents
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import PixArtTransformer2DModel
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    T5Config,
    T5EncoderModel,
)

from insightedit.miniatures.folders import replace_folder
from insightedit.miniatures.sizes import Size
from insightedit.miniatures.tokenizer import train_t5_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import T5Tokenizer


def build_reader(size: Size, root: Path, corpus: Sequence[str], seed: int) -> None:
    """Write `blip2/` and `t5/`, whose widths belong together; the same seed gives the same bytes."""
    torch.manual_seed(seed)
    with replace_folder(root / "t5") as folder:
        tokenizer = train_t5_tokenizer(corpus, folder, size.reader.vocab_size)
        T5EncoderModel(_t5_config(size, tokenizer, size.reader.text_layers)).save_pretrained(folder)
    with replace_folder(root / "blip2") as folder:
        build_blip2(size, tokenizer).save_pretrained(folder)
        side = {"height": size.image_size, "width": size.image_size}
        BlipImageProcessor(size=side).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def build_drawer(size: Size, root: Path, seed: int) -> None:
    """Write `pixart/`; the same seed gives the same bytes."""
    torch.manual_seed(seed)
    with replace_folder(root / "pixart") as folder:
        build_pixart(size).save_pretrained(folder / "transformer")


def build_blip2(size: Size, tokenizer: T5Tokenizer) -> Blip2ForConditionalGeneration:
    """BLIP-2 with a language model of one layer, which nothing here uses but every stock folder has.

    Stock BLIP-2 starts its queries at zero and gets them from a checkpoint; equal queries would stay equal for ever,
    so here they start at random.
    """
    part = size.reader
    vision = Blip2VisionConfig(
        hidden_size=part.vision_width,
        intermediate_size=4 * part.vision_width,
        num_hidden_layers=part.vision_layers,
        num_attention_heads=part.vision_heads,
        image_size=size.image_size,
        patch_size=size.patch_size,
        initializer_range=0.02,  # stock: 1e-10, for weights that come from a checkpoint
    )
    qformer = Blip2QFormerConfig(
        vocab_size=len(tokenizer),
        hidden_size=part.qformer_width,
        num_hidden_layers=part.qformer_layers,
        num_attention_heads=part.qformer_heads,
        intermediate_size=4 * part.qformer_width,
        cross_attention_frequency=2,
        encoder_hidden_size=part.vision_width,
    )
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision,
            qformer_config=qformer,
            text_config=_t5_config(size, tokenizer, num_layers=1),
            num_query_tokens=part.num_queries,
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.02)
    return model


def build_pixart(size: Size) -> PixArtTransformer2DModel:
    """Text-to-image transformer with a learned variance, as PixArt-alpha's."""
    part = size.pixart
    width = part.num_heads * part.head_dim
    latent_channels = size.vae.latent_channels
    return PixArtTransformer2DModel(
        num_attention_heads=part.num_heads,
        attention_head_dim=part.head_dim,
        in_channels=latent_channels,
        out_channels=2 * latent_channels,
        num_layers=part.num_layers,
        cross_attention_dim=width,
        sample_size=size.image_size // size.latent_factor,
        patch_size=part.patch_size,
        caption_channels=size.reader.text_width,
    )


def _t5_config(size: Size, tokenizer: T5Tokenizer, num_layers: int) -> T5Config:
    """Flan-T5's kind: gated GELU; `len(tokenizer)` rows, padding starts the decoder."""
    part = size.reader
    return T5Config(
        vocab_size=len(tokenizer),
        d_model=part.text_width,
        d_kv=part.text_width // part.text_heads,
        d_ff=2 * part.text_width,
        num_layers=num_layers,
        num_heads=part.text_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,  # stock: 0.1; the foundation's training repeats exactly, and small models underfit
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
