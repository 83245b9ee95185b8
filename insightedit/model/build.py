"""Config -> finished parts. With `build_data`, the only reader of both the config and the classes' arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from insightedit.bridging.bridge import EditBridge
from insightedit.bridging.fusion import FusionBridge
from insightedit.comprehension.interleaved import InterleavedReader, load_eyes, load_words
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.comprehension.prompts import TEMPLATE_SETS
from insightedit.config.load import ConfigError
from insightedit.config.schema import Config, EditHeadConfig, QFormerConfig, ReaderConfig
from insightedit.generation.autoencoder import latent_factor
from insightedit.generation.transformer import EditTransformer
from insightedit.generation.unet import EditUNet
from insightedit.model.editor import Editor
from insightedit.model.interleaved_editor import InterleavedEditor
from insightedit.model.opening import opened
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from diffusers import DDIMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

PIPELINE = "a Stable Diffusion pipeline in diffusers' format (vae/, unet/, scheduler/, text_encoder/, tokenizer/)"
CLIP = "a CLIP model in transformers' format"


def build_editor(config: Config, dtype: torch.dtype | None = None) -> Editor | InterleavedEditor:
    """Load the base models, build the bridge, and compose the editor that `config.stage` needs.

    Stage 1 (`align`) does not draw: no UNet, no autoencoder, no image encoder are loaded. With
    `comprehension.reader` instructions carry pictures, and a transformer draws.

    Args:
        config: a whole, frozen config.
        dtype: of the frozen language model; None = as it is stored. All else is float32.

    Returns:
        The editor on the CPU, everything that is not the stage's to train frozen by the caller.

    Raises:
        ConfigError: where base models do not fit each other.
    """
    torch.manual_seed(config.train.seed)
    if config.comprehension.reader is not None:
        return build_interleaved_editor(config, config.comprehension.reader)
    if config.bridge.fusion is not None or config.generation.transformer is not None:
        raise ConfigError(
            "bridge.fusion and generation.transformer work on instructions with pictures: set comprehension.reader "
            "too, or leave both out."
        )
    comprehension = build_comprehension(config, dtype)
    text_encoder, tokenizer = build_text_encoder(config)
    draws = config.stage.objective != "align"
    parts = build_generator(config) if draws else {}
    bridge = build_bridge(config, comprehension, text_encoder, _image_embed_dim(config))
    bridge.set_null_text_states(null_text_states(text_encoder, tokenizer))
    bridge.use_bim = config.stage.use_bim and config.bridge.bim is not None
    bridge.use_iaa = config.stage.use_iaa and config.bridge.iaa is not None
    return Editor(
        comprehension=comprehension,
        bridge=bridge,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scale_source_latents=config.generation.scale_source_latents,
        **parts,
    )


def build_interleaved_editor(config: Config, part: ReaderConfig) -> InterleavedEditor:
    """Reader, feature fusion and transformer; the same for every stage that draws.

    Raises:
        ConfigError: if a part is missing, or the stage does not draw.
    """
    fusion, transformer = config.bridge.fusion, config.generation.transformer
    if fusion is None or transformer is None:
        raise ConfigError(
            "comprehension.reader is set, so bridge.fusion and generation.transformer have to be, too: the text "
            "encoder's states fit a transformer only."
        )
    if config.stage.objective == "align":
        raise ConfigError(
            "stage.objective `align` teaches a Q-Former to speak CLIP text, and comprehension.reader has none: "
            "train it at stage 3 (stages: [3])."
        )
    with opened("comprehension.reader.vision", part.vision, "a BLIP-2 in transformers' format") as folder:
        picture_encoder, image_processor = load_eyes(folder)
    with opened("comprehension.reader.text_encoder", part.text_encoder, "a T5 in transformers' format") as folder:
        text_encoder, tokenizer = load_words(folder)
    reader = InterleavedReader(
        picture_encoder,
        text_encoder,
        tokenizer,
        image_processor,
        resolution=config.generation.resolution,
        max_length=part.max_length,
        max_references=part.max_references,
        source_in_text=part.source_in_text,
    ).eval()
    vae, scheduler = build_autoencoder(config)
    with opened("generation.transformer.model", transformer.model, "a PixArt pipeline (transformer/)") as folder:
        denoiser = EditTransformer.from_transformer(
            folder,
            subfolder="transformer",
            source_channels=vae.config.latent_channels,
            source_prior=config.generation.source_prior,
            place_head=transformer.place_head,
            alphas_cumprod=scheduler.alphas_cumprod,
        )
    check_resolution(config.generation.resolution, latent_factor(vae) * denoiser.config.patch_size)
    if denoiser.config.in_channels != vae.config.latent_channels:
        raise ConfigError(
            f"generation.transformer.model {transformer.model} denoises {denoiser.config.in_channels} channels, the "
            f"autoencoder of generation.model {config.generation.model} has {vae.config.latent_channels}: name two "
            "that belong together."
        )
    bridge = FusionBridge(
        token_width=reader.token_width,
        visual_width=denoiser.inner_dim,
        num_heads=fusion.num_heads,
        activation=fusion.activation,
        text_length=part.max_length,
        text_width=reader.text_width,
    )
    return InterleavedEditor(
        comprehension=reader,
        bridge=bridge,
        transformer=denoiser,
        vae=vae,
        noise_scheduler=scheduler,
        scale_source_latents=config.generation.scale_source_latents,
    )


def build_comprehension(config: Config, dtype: torch.dtype | None = None) -> LlavaComprehension:
    """The MLLM behind its adapter, edit tokens added, LoRA attached; `dtype` as for `build_editor`."""
    part = config.comprehension
    if part.quantization != "none":
        dtype = dtype or torch.float32  # of what is not quantised
    with opened("comprehension.model", part.model, "a LLaVA model in transformers' format") as folder:
        return LlavaComprehension.from_pretrained(
            folder,
            num_edit_tokens=part.num_edit_tokens,
            edit_token=part.edit_token,
            vision_feature_layer=part.vision_feature_layer,
            quantization=part.quantization,
            lora=part.lora,
            train_embeddings=part.train_embeddings,
            dtype=dtype,
            states_before_tokens=part.states_before_tokens,
            templates=TEMPLATE_SETS[part.templates],
        )


def build_text_encoder(config: Config) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """The generator's own CLIP text tower and its tokenizer."""
    from transformers import CLIPTextModel, CLIPTokenizer

    with opened("generation.model", config.generation.model, PIPELINE) as folder:
        encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder", dtype=torch.float32)
        return encoder, load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")


def build_bridge(
    config: Config, comprehension: LlavaComprehension, text_encoder: CLIPTextModel, image_embed_dim: int | None
) -> EditBridge:
    """Q-Former or edit head, BIM and IAA at the widths of the models they connect.

    Raises:
        ConfigError: if Q-Former and edit head are both set, or both null.
    """
    part = config.bridge
    qformer, head, bim, iaa = part.qformer, part.edit_head, part.bim, part.iaa
    if (qformer is None) == (head is None):
        raise ConfigError(
            f"bridge.qformer and bridge.edit_head are both {'null' if head is None else 'set'}: the text branch is one "
            "of them, so set the other to null."
        )
    return EditBridge(
        num_queries=text_encoder.config.max_position_embeddings,
        text_width=text_encoder.config.hidden_size,
        llm_width=comprehension.hidden_size,
        vision_width=comprehension.vision_hidden_size,
        **_qformer_arguments(qformer),
        **_edit_head_arguments(head),
        null_text=config.guidance.null_text,
        bim_width=bim.width if bim else None,
        bim_depth=bim.depth if bim else 0,
        bim_heads=bim.num_heads if bim else 1,
        bim_mlp_dim=bim.mlp_dim if bim else 0,
        bim_downsample_rate=bim.downsample_rate if bim else 1,
        bim_text_scale=bim.text_scale if bim else 0.0,
        bim_place_head=bim.place_head if bim else False,
        bim_kind=bim.kind if bim else "two_way",
        residual_channels=_unet_config(config)["block_out_channels"][0] if bim else 0,
        iaa_hidden_dim=iaa.hidden_dim if iaa else None,
        iaa_layers=iaa.num_layers if iaa else 0,
        image_embed_dim=image_embed_dim,
    )


def _qformer_arguments(part: QFormerConfig | None) -> dict[str, Any]:
    if part is None:
        return {"qformer_layers": None}
    return {
        "qformer_layers": part.num_layers,
        "qformer_heads": part.num_heads,
        "qformer_ffn_dim": part.ffn_dim,
        "qformer_cross_attention_every": part.cross_attention_every,
        "qformer_dropout": part.dropout,
        "token_head": part.token_head,
    }


def _edit_head_arguments(part: EditHeadConfig | None) -> dict[str, Any]:
    if part is None:
        return {}
    return {
        "edit_head_width": part.width,
        "edit_head_layers": part.num_layers,
        "edit_head_heads": part.num_heads,
        "edit_head_ffn_dim": part.ffn_dim,
        "token_head": part.token_head,
    }


def build_generator(config: Config) -> dict[str, object]:
    """UNet, autoencoder, noise scheduler and, with an image branch, the CLIP image encoder; Editor's keywords."""
    part = config.generation
    vae, scheduler = build_autoencoder(config)
    with _opened_unet(config) as folder:
        unet = EditUNet.from_unet(
            folder,
            subfolder="unet",
            source_channels=vae.config.latent_channels,
            residual_channels=_unet_config(config)["block_out_channels"][0] if config.bridge.bim else 0,
            image_tokens=config.bridge.iaa.image_tokens if config.bridge.iaa else 0,
            image_embed_dim=_image_embed_dim(config) or 0,
            source_prior=part.source_prior,
            alphas_cumprod=scheduler.alphas_cumprod,
        )
    check_resolution(part.resolution, latent_factor(vae) * 2 ** (len(unet.config.block_out_channels) - 1))
    unet.set_image_prompt_scale(part.image_prompt_scale)
    return {
        "unet": unet,
        "vae": vae,
        "noise_scheduler": scheduler,
        "image_encoder": build_image_encoder(config) if config.bridge.iaa else None,
    }


def build_autoencoder(config: Config) -> tuple[Any, DDIMScheduler]:
    """The autoencoder, and the scheduler whose betas and prediction type training uses."""
    from diffusers import AutoModel, DDIMScheduler

    part = config.generation
    with opened("generation.model", part.model, PIPELINE) as folder:
        scheduler: Any = load_pretrained(
            DDIMScheduler,
            folder,
            subfolder="scheduler",
            prediction_type=part.prediction_type,
            rescale_betas_zero_snr=part.zero_terminal_snr,
            timestep_spacing="trailing",
            clip_sample=False,
        )
        vae = load_pretrained(AutoModel, folder, subfolder="vae")
    return vae, scheduler


def check_resolution(resolution: int, grid: int) -> None:
    """Refuse pictures that autoencoder and denoiser cannot halve as often as they do.

    Args:
        resolution: pixels a side.
        grid: what it has to be a multiple of.

    Raises:
        ConfigError: naming the two nearest sides that fit.
    """
    if resolution % grid:
        below = resolution // grid * grid
        near = f"{below} or {below + grid}" if below else str(grid)
        raise ConfigError(
            f"generation.resolution is {resolution}: autoencoder and denoiser need a multiple of {grid}, e.g. {near}."
        )


def build_image_encoder(config: Config) -> CLIPVisionModelWithProjection:
    """The frozen CLIP tower whose embedding of the target IAA learns to predict."""
    from transformers import CLIPVisionModelWithProjection

    with opened("generation.image_encoder", config.generation.image_encoder, CLIP) as folder:
        return load_pretrained(CLIPVisionModelWithProjection, folder, dtype=torch.float32)


@torch.no_grad()
def null_text_states(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """(Q, D_text) CLIP text states of the empty text (InstructPix2Pix' null text)."""
    ids = tokenizer("", padding="max_length", truncation=True, return_tensors="pt").input_ids
    return text_encoder(ids).last_hidden_state[0]


def _unet_config(config: Config) -> dict:
    with _opened_unet(config) as folder:
        return dict(EditUNet.load_config(folder, subfolder="unet"))


def _opened_unet(config: Config) -> AbstractContextManager[str]:
    part = config.generation
    key = "generation.unet" if part.unet else "generation.model"
    return opened(key, part.unet or part.model, "a folder whose unet/ fits this config")


def _image_embed_dim(config: Config) -> int | None:
    """Width of the CLIP image embedding, read from the encoder's config alone."""
    if config.bridge.iaa is None:
        return None
    from transformers import AutoConfig

    with opened("generation.image_encoder", config.generation.image_encoder, CLIP) as folder:
        encoder = load_pretrained(AutoConfig, folder)
    dim = getattr(encoder, "projection_dim", None)
    if dim is None:
        raise ConfigError(
            f"generation.image_encoder: {config.generation.image_encoder} is a {encoder.model_type} without "
            "`projection_dim`; IAA predicts a projected CLIP image embedding: name a CLIP model."
        )
    return int(dim)
