"""Random-weight miniature models in the stock folder formats of transformers and diffusers.

<root>/clip/    CLIPModel, CLIPTokenizer, CLIPImageProcessor
<root>/llava/   LlavaForConditionalGeneration, LlavaProcessor
<root>/sd/      StableDiffusionPipeline: vae, unet, scheduler, text_encoder, tokenizer
<root>/ip2p/    unet of an InstructPix2Pix pipeline, which reads the source's latents too
<root>/blip2/   Blip2ForConditionalGeneration with BlipImageProcessor, which reads instructions with pictures in them
<root>/t5/      T5EncoderModel with T5Tokenizer
<root>/pixart/  transformer of a PixArt pipeline on the autoencoder's latents
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from insightedit.miniatures import tokenizer as tokenizers
from insightedit.miniatures.folders import replace_folder
from insightedit.miniatures.sizes import Size, Tower, get_size

PARTS = ("clip", "llava", "sd", "ip2p", "blip2", "t5", "pixart")
UNTRAINED_SCALE = 1.0  # `scaling_factor` of an autoencoder with random weights; training measures the true one


def build(
    size: str | Size,
    root: str | Path,
    seed: int = 0,
    *,
    corpus: Sequence[str] | None = None,
    parts: Sequence[str] = PARTS,
) -> Path:
    """Build miniature base models with random weights; returns `root` as a path.

    Args:
        size: "tiny", "mini", or a `Size` of your own.
        root: folder that gets a folder for each part; one that exists there is replaced.
        seed: of the weights; the same seed gives the same bytes.
        corpus: text for the tokenizers; by default the fixed small corpus for tiny, the scenes' text otherwise
            (with that of the tasks with pictures for `t5`).
        parts: which ones; `clip`, `llava`, `sd` and `ip2p` belong together, `blip2` and `t5` too.
    """
    size = get_size(size) if isinstance(size, str) else size
    extra: list[str] = []
    if corpus is None:
        corpus = tokenizers.small_corpus() if size.name == "tiny" else tokenizers.scenes_corpus()
        extra = [] if size.name == "tiny" or "t5" not in parts else tokenizers.interleaved_corpus()
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        # seeded anew for what belongs together, so that leaving the rest out changes no weight
        if {"clip", "llava", "sd", "ip2p"} & set(parts):
            torch.manual_seed(seed)
            _build_main(size, root, corpus)
        if {"blip2", "t5"} & set(parts):
            torch.manual_seed(seed)
            with replace_folder(root / "t5") as folder:
                t5_tokenizer = tokenizers.train_t5_tokenizer([*corpus, *extra], folder, size.reader.vocab_size)
                config = _t5_config(size, t5_tokenizer, size.reader.text.layers)
                transformers.T5EncoderModel(config).save_pretrained(folder)
            with replace_folder(root / "blip2") as folder:
                build_blip2(size, t5_tokenizer).save_pretrained(folder)
                side = {"height": size.image_size, "width": size.image_size}
                transformers.BlipImageProcessor(size=side).save_pretrained(folder)
                t5_tokenizer.save_pretrained(folder)
        if "pixart" in parts:
            torch.manual_seed(seed)
            with replace_folder(root / "pixart") as folder:
                build_pixart(size).save_pretrained(folder / "transformer")
    return root


def _build_main(size: Size, root: Path, corpus: Sequence[str]) -> None:
    with replace_folder(root / "clip") as folder:
        tokenizer = tokenizers.train_clip_tokenizer(corpus, folder, size.clip.vocab_size, size.clip.text_positions)
        clip = build_clip(size, tokenizer)
        clip.save_pretrained(folder)
        image_processor(size).save_pretrained(folder)
    with replace_folder(root / "llava") as folder:
        llava_tokenizer = tokenizers.train_llava_tokenizer(corpus, folder, size.llava.vocab_size)
        build_llava(size, clip, llava_tokenizer).save_pretrained(folder)
        transformers.LlavaProcessor(
            image_processor=image_processor(size),
            tokenizer=llava_tokenizer,
            patch_size=size.patch_size,
            vision_feature_select_strategy="default",
            image_token=tokenizers.IMAGE_TOKEN,  # which it expands to one placeholder per patch
            num_additional_image_tokens=1,
        ).save_pretrained(folder)
    with replace_folder(root / "sd") as folder:
        save_generator(size, clip, tokenizer, folder)
    with replace_folder(root / "ip2p") as folder:
        build_unet(size, reads_source=True).save_pretrained(folder / "unet")


def build_clip(size: Size, tokenizer: transformers.CLIPTokenizer) -> transformers.CLIPModel:
    """CLIP whose pooled text state is read at the tokenizer's own end token."""
    part = size.clip
    shared = {"hidden_act": "gelu", "projection_dim": part.projection_dim}  # quick_gelu passes memory three times
    text = {**_tower(part.text), **shared, **_special_tokens(tokenizer), "vocab_size": len(tokenizer)}
    text["max_position_embeddings"] = part.text_positions
    vision = {**_tower(part.vision), **shared, "image_size": size.image_size, "patch_size": size.patch_size}
    return transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=part.projection_dim)
    )


def _tower(part: Tower) -> dict[str, int]:
    return {
        "hidden_size": part.width,
        "intermediate_size": 4 * part.width,
        "num_hidden_layers": part.layers,
        "num_attention_heads": part.heads,
    }


def _special_tokens(tokenizer: transformers.CLIPTokenizer | transformers.LlamaTokenizer) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name) for name in names}


def build_llava(
    size: Size, clip: transformers.CLIPModel, tokenizer: transformers.LlamaTokenizer
) -> transformers.LlavaForConditionalGeneration:
    """LLaVA with `clip`'s vision tower; it reads the tower's last layer, all patches, without the class token."""
    part = size.llava
    text_config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=part.hidden_size,
        intermediate_size=part.ffn_dim,
        num_hidden_layers=part.num_layers,
        num_attention_heads=part.num_heads,
        num_key_value_heads=part.num_heads,
        max_position_embeddings=1024,
        **_special_tokens(tokenizer),
    )
    config = transformers.LlavaConfig(
        vision_config=clip.config.vision_config,
        text_config=text_config,
        image_token_index=tokenizer.convert_tokens_to_ids(tokenizers.IMAGE_TOKEN),
        image_seq_length=size.num_patches,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(**_special_tokens(tokenizer))
    copy_vision_tower(clip, model)
    return model


def copy_vision_tower(clip: transformers.CLIPModel, llava: transformers.LlavaForConditionalGeneration) -> None:
    """Put CLIP's vision weights into LLaVA's tower."""
    llava.model.vision_tower.load_state_dict(clip.vision_model.state_dict())


def image_processor(size: Size) -> transformers.CLIPImageProcessor:
    """OpenAI CLIP's preprocessing (bicubic, centre crop, CLIP mean and deviation) at the miniature's size."""
    pixels = size.image_size
    crop = {"height": pixels, "width": pixels}
    return transformers.CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size=crop)


def save_generator(
    size: Size, clip: transformers.CLIPModel, tokenizer: transformers.CLIPTokenizer, folder: Path
) -> None:
    """Write the subfolders of a text-to-image pipeline around `clip`'s text tower, without safety checker.

    With an AutoencoderKL the folder is a stock `StableDiffusionPipeline`. That pipeline cannot drive an AutoencoderDC
    (it reads `block_out_channels` and decodes with a generator); the same subfolders, each in its stock format, are
    then written without `model_index.json`.
    """
    parts = {
        "vae": build_vae(size),
        "text_encoder": text_tower(clip),
        "tokenizer": tokenizer,
        "unet": build_unet(size),
        "scheduler": noise_scheduler(),
    }
    if size.vae.kind == "kl":
        without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        diffusers.StableDiffusionPipeline(**parts, **without).save_pretrained(folder)
        return
    for name, part in parts.items():
        part.save_pretrained(folder / name)


def text_tower(clip: transformers.CLIPModel) -> transformers.CLIPTextModel:
    """A copy of CLIP's text tower as the stand-alone model that diffusers pipelines hold."""
    tower = transformers.CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict())
    return tower


def build_vae(size: Size) -> diffusers.AutoencoderKL | diffusers.AutoencoderDC:
    """The autoencoder of this size, with random weights and without attention, which costs time and buys nothing here.

    A KL's posterior starts narrow (deviation exp(-3)): from diffusers' own start, deviation one, the first hundreds of
    steps go into learning to be quiet.
    """
    part = size.vae
    blocks = len(part.block_out_channels)
    if part.kind == "dc":
        # no layer on the pixel grid, one on the grid half as fine, the rest on the latent grid
        layers = (0, *(1,) * (blocks - 2), part.layers_per_block)
        return diffusers.AutoencoderDC(
            latent_channels=part.latent_channels,
            encoder_block_out_channels=part.block_out_channels,
            decoder_block_out_channels=part.block_out_channels,
            encoder_layers_per_block=layers,
            decoder_layers_per_block=layers,
            encoder_qkv_multiscales=((),) * blocks,
            decoder_qkv_multiscales=((),) * blocks,
            scaling_factor=UNTRAINED_SCALE,
        )
    vae = diffusers.AutoencoderKL(
        latent_channels=part.latent_channels,
        block_out_channels=part.block_out_channels,
        layers_per_block=part.layers_per_block,
        norm_num_groups=part.norm_num_groups,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        mid_block_add_attention=False,
        sample_size=size.image_size,
        scaling_factor=UNTRAINED_SCALE,
    )
    assert vae.quant_conv is not None and vae.quant_conv.bias is not None
    torch.nn.init.zeros_(vae.quant_conv.weight[part.latent_channels :])
    torch.nn.init.constant_(vae.quant_conv.bias[part.latent_channels :], -6.0)
    return vae


def build_unet(size: Size, *, reads_source: bool = False) -> diffusers.UNet2DConditionModel:
    """Text-to-image UNet on the autoencoder's latents; InstructPix2Pix' kind if it reads the source's beside them."""
    part, latent_channels = size.unet, size.vae.latent_channels
    down = tuple("CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in part.cross_attention)
    up = tuple("CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(part.cross_attention))
    global_text: dict[str, Any] = {}
    if part.global_text:
        global_text = {
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": size.clip.text.heads,
            "resnet_time_scale_shift": "scale_shift",
        }
    return diffusers.UNet2DConditionModel(
        sample_size=size.image_size // size.latent_factor,
        in_channels=2 * latent_channels if reads_source else latent_channels,
        out_channels=latent_channels,
        block_out_channels=part.block_out_channels,
        layers_per_block=part.layers_per_block,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=size.clip.text.width,
        attention_head_dim=part.heads,  # diffusers' name for the number of heads (SD-1.5 compatibility)
        **global_text,
    )


def noise_scheduler() -> diffusers.DDIMScheduler:
    """Stable Diffusion's betas, rescaled to end in pure noise.

    Source: Lin et al., "Common diffusion noise schedules and sample steps are flawed" (v-prediction, trailing steps).
    """
    return diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def build_blip2(size: Size, tokenizer: transformers.T5Tokenizer) -> transformers.Blip2ForConditionalGeneration:
    """BLIP-2 with a language model of one layer, which nothing here uses but every stock folder has.

    Stock BLIP-2 starts its queries at zero and gets them from a checkpoint; equal queries would stay equal for ever,
    so here they start at random.
    """
    part = size.reader
    vision = transformers.Blip2VisionConfig(
        **_tower(part.vision),
        image_size=size.image_size,
        patch_size=size.patch_size,
        initializer_range=0.02,  # stock: 1e-10, for weights that come from a checkpoint
    )
    qformer = transformers.Blip2QFormerConfig(
        **_tower(part.qformer),
        vocab_size=len(tokenizer),
        cross_attention_frequency=2,
        encoder_hidden_size=part.vision.width,
    )
    model = transformers.Blip2ForConditionalGeneration(
        transformers.Blip2Config(
            vision_config=vision,
            qformer_config=qformer,
            text_config=_t5_config(size, tokenizer, num_layers=1),
            num_query_tokens=part.num_queries,
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.02)
    return model


def build_pixart(size: Size) -> diffusers.PixArtTransformer2DModel:
    """Text-to-image transformer with a learned variance, as PixArt-alpha's."""
    part, latent_channels = size.pixart, size.vae.latent_channels
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=part.num_heads,
        attention_head_dim=part.head_dim,
        in_channels=latent_channels,
        out_channels=2 * latent_channels,
        num_layers=part.num_layers,
        cross_attention_dim=part.num_heads * part.head_dim,
        sample_size=size.image_size // size.latent_factor,
        patch_size=part.patch_size,
        caption_channels=size.reader.text.width,
    )


def _t5_config(size: Size, tokenizer: transformers.T5Tokenizer, num_layers: int) -> transformers.T5Config:
    """Flan-T5's kind: gated GELU; `len(tokenizer)` rows, padding starts the decoder."""
    part = size.reader
    return transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=part.text.width,
        d_kv=part.text.width // part.text.heads,
        d_ff=2 * part.text.width,
        num_layers=num_layers,
        num_heads=part.text.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,  # stock: 0.1; the miniatures' training repeats exactly, and small models underfit
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
