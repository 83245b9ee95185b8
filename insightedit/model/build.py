"""Config -> finished parts. With `build_data`, the only reader of both the config and the classes' arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from insightedit.bridging.bridge import EditBridge
from insightedit.bridging.fusion import FusionBridge
from insightedit.config.kinds import part_class
from insightedit.config.load import ConfigError
from insightedit.config.schema import Config
from insightedit.generation.autoencoder import latent_factor
from insightedit.model.editor import Editor
from insightedit.modeling.pretrained import load_pretrained, open_base_model

if TYPE_CHECKING:
    from diffusers import DDIMScheduler
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from insightedit.comprehension.base import Comprehension
    from insightedit.generation.denoiser import DenoiserInputs

PIPELINE = "a Stable Diffusion pipeline in diffusers' format (vae/, unet/, scheduler/, text_encoder/, tokenizer/)"
CLIP = "a CLIP model in transformers' format"
T5_LENGTH = 120  # T5 reads texts of any length; PixArt-alpha was trained on so many tokens


def comprehension_class(config: Config) -> type[Comprehension]:
    """The class that reads."""
    return part_class("comprehension", config.comprehension.kind)


def build_editor(
    config: Config,
    dtype: torch.dtype | None = None,
    *,
    read_with: Callable[[], Any] | None = None,
    with_image_encoder: bool = True,
) -> Editor:
    """Load the base models, build the bridge, and compose the editor that `config.stage` needs, on the CPU.

    Stage 1 (`align`) does not draw: no denoiser, no autoencoder, no image encoder are loaded. `dtype` is the frozen
    language model's, None as it is stored; all else is float32. The caller freezes what is not the stage's to train.
    Where a cache stands for parts, `read_with` makes what takes comprehension's place, and IAA's teacher stays away.

    Raises:
        ConfigError: where base models do not fit each other.
    """
    torch.manual_seed(config.train.seed)
    inputs = part_class("generation.denoiser", config.generation.denoiser.kind).inputs_of(config)
    check_parts(config, inputs)
    # the order of what follows is the order in which new weights are drawn: another one is another initialisation
    comprehension = read_with() if read_with else comprehension_class(config).build(config, dtype)
    fuses = config.bridge.fusion is not None
    text_encoder, tokenizer = (None, None) if fuses else build_text_encoder(config)
    parts = {} if config.stage.objective == "align" else build_generator(config, with_image_encoder)
    if config.bridge.fusion is not None:
        reader: Any = comprehension
        bridge: Any = FusionBridge(
            token_width=reader.token_width,
            visual_width=inputs.visual_width,
            num_heads=config.bridge.fusion.num_heads,
            activation=config.bridge.fusion.activation,
            text_length=reader.tokenizer.max_length,
            text_width=reader.hidden_size,
        )
    else:
        bridge = build_bridge(config, comprehension, text_encoder, inputs, _image_embed_dim(config))
        bridge.set_null_text_states(null_text_states(text_encoder, tokenizer, bridge.config["num_queries"]))
        bridge.use_bim = config.stage.use_bim and config.bridge.bim is not None
        bridge.use_iaa = config.stage.use_iaa and config.bridge.iaa is not None
    editor = Editor(
        comprehension=comprehension, bridge=bridge, text_encoder=text_encoder, tokenizer=tokenizer, **parts
    )
    editor.scale_source_latents = config.generation.scale_source_latents
    return editor


def check_parts(config: Config, inputs: DenoiserInputs) -> None:
    """Refuse parts that cannot stand beside each other, before anything is loaded; `inputs` are the denoiser's."""
    bridge, reads, draws = config.bridge, config.comprehension.kind, config.generation.denoiser.kind
    fuses = comprehension_class(config).reads_references
    built = [name for name in ("qformer", "edit_head", "bim", "iaa") if getattr(bridge, name) is not None]
    if fuses and (bridge.fusion is None or built):
        which = f"bridge.{built[0]} is set" if built else "bridge.fusion is null"
        raise ConfigError(
            f"comprehension.kind {reads} reads instructions with pictures, which bridge.fusion alone brings to the "
            f"denoiser, and {which}: set bridge.fusion, and qformer, edit_head, bim and iaa to null."
        )
    if bridge.fusion is not None and not fuses:
        raise ConfigError(
            f"bridge.fusion joins the pictures inside an instruction, and comprehension.kind {reads} reads none: set "
            "bridge.fusion=null, or comprehension.kind=blip2_t5."
        )
    if fuses and not inputs.visual_width:
        raise ConfigError(
            f"bridge.fusion reads a picture through the denoiser's patches, and generation.denoiser.kind {draws} has "
            "none: take pixart."
        )
    if fuses and config.stage.objective == "align":
        raise ConfigError(
            f"stage.objective `align` teaches a Q-Former to speak CLIP text, and comprehension.kind {reads} has none: "
            "train it at stage 3 (stages: [3])."
        )
    for name, takes, what in (
        ("bim", inputs.residual_channels, "v'"),
        ("iaa", inputs.image_embeds, "an image prompt"),
    ):
        if getattr(bridge, name) is not None and not takes:
            raise ConfigError(
                f"bridge.{name} makes {what}, which generation.denoiser.kind {draws} does not take: set "
                f"bridge.{name}=null."
            )


def build_text_encoder(config: Config) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The generator's own text encoder, CLIP's text tower or T5's encoder, and its tokenizer."""
    from transformers import AutoConfig, CLIPTextModel, T5EncoderModel

    with open_base_model("generation.model", config.generation.model, PIPELINE) as folder:
        own = load_pretrained(AutoConfig, folder, subfolder="text_encoder")
        loader = T5EncoderModel if own.model_type in ("t5", "umt5") else CLIPTextModel
        encoder = load_pretrained(loader, folder, subfolder="text_encoder", dtype=torch.float32)
    return encoder, build_text_tokenizer(config)


def build_text_tokenizer(config: Config) -> PreTrainedTokenizerBase:
    """The tokenizer of the generator's own text encoder, alone."""
    from transformers import AutoTokenizer

    with open_base_model("generation.model", config.generation.model, "a pipeline with tokenizer/") as folder:
        return load_pretrained(AutoTokenizer, folder, subfolder="tokenizer")


def build_bridge(
    config: Config,
    comprehension: Comprehension,
    text_encoder: Any,
    inputs: DenoiserInputs,
    image_embed_dim: int | None,
) -> EditBridge:
    """Q-Former or edit head, BIM and IAA at the widths of the models they connect."""
    part = config.bridge
    qformer, head, bim, iaa = part.qformer, part.edit_head, part.bim, part.iaa
    if (qformer is None) == (head is None):
        raise ConfigError(
            f"bridge.qformer and bridge.edit_head are both {'null' if head is None else 'set'}: the text branch is one "
            "of them, so set the other to null."
        )
    own = text_encoder.config
    if own.hidden_size != inputs.text_width:
        raise ConfigError(
            f"the text encoder of generation.model {config.generation.model} has states of width {own.hidden_size}, "
            f"generation.denoiser.kind {config.generation.denoiser.kind} reads width {inputs.text_width}: name a "
            "pipeline and a denoiser that belong together."
        )
    widths = {"vision_width": comprehension.vision_hidden_size, "residual_channels": inputs.residual_channels}
    return EditBridge(
        num_queries=getattr(own, "max_position_embeddings", None) or T5_LENGTH,
        text_width=own.hidden_size,
        llm_width=comprehension.hidden_size,
        qformer_config=asdict(qformer) if qformer else None,
        edit_head_config=asdict(head) if head else None,
        bim_config=bim and asdict(bim) | widths,
        iaa_config=iaa
        and {"hidden_dim": iaa.hidden_dim, "num_layers": iaa.num_layers, "image_embed_dim": image_embed_dim},
        null_text=config.guidance.null_text,
    )


def build_generator(config: Config, with_image_encoder: bool = True) -> dict[str, Any]:
    """Denoiser, autoencoder, noise scheduler and, with an image branch, the CLIP image encoder; Editor's keywords."""
    from transformers import CLIPVisionModelWithProjection

    vae, scheduler = build_autoencoder(config)
    denoiser = part_class("generation.denoiser", config.generation.denoiser.kind).build(
        config,
        latent_channels=vae.config.latent_channels,
        image_embed_dim=_image_embed_dim(config) or 0,
        alphas_cumprod=scheduler.alphas_cumprod,
    )
    check_resolution(config.generation.resolution, latent_factor(vae) * denoiser.grid)
    encoder = None
    if config.bridge.iaa and with_image_encoder:  # it learns to predict this frozen tower's embedding of the target
        with open_base_model("generation.image_encoder", config.generation.image_encoder, CLIP) as folder:
            encoder = load_pretrained(CLIPVisionModelWithProjection, folder, dtype=torch.float32)
    return {"denoiser": denoiser, "vae": vae, "noise_scheduler": scheduler, "image_encoder": encoder}


def build_autoencoder(config: Config) -> tuple[Any, DDIMScheduler]:
    """The autoencoder, and the scheduler whose betas and prediction type training uses."""
    from diffusers import AutoModel, DDIMScheduler

    part = config.generation
    with open_base_model("generation.model", part.model, PIPELINE) as folder:
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
    """Refuse images that autoencoder and denoiser cannot halve as often as they do, to a multiple of `grid` pixels."""
    if resolution % grid:
        below = resolution // grid * grid
        near = f"{below} or {below + grid}" if below else str(grid)
        raise ConfigError(
            f"generation.resolution is {resolution}: autoencoder and denoiser need a multiple of {grid}, e.g. {near}."
        )


@torch.no_grad()
def null_text_states(text_encoder: Any, tokenizer: Any, length: int) -> torch.Tensor:
    """(Q, D_text) text states of the empty text (InstructPix2Pix' null text), Q = `length`."""
    ids = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return text_encoder(ids).last_hidden_state[0]


def _image_embed_dim(config: Config) -> int | None:
    """Width of the CLIP image embedding, read from the encoder's config alone."""
    if config.bridge.iaa is None:
        return None
    from transformers import AutoConfig

    with open_base_model("generation.image_encoder", config.generation.image_encoder, CLIP) as folder:
        encoder = load_pretrained(AutoConfig, folder)
    dim = getattr(encoder, "projection_dim", None)
    if dim is None:
        raise ConfigError(
            f"generation.image_encoder: {config.generation.image_encoder} is a {encoder.model_type} without "
            "`projection_dim`; IAA predicts a projected CLIP image embedding: name a CLIP model."
        )
    return int(dim)
