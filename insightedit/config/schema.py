"""The configuration, once: every field, its type, its default and what it means.

A YAML file holds differences from this schema only. Values of the papers name their source; a value that the
papers leave open is marked `ours`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass
class LoraConfig:
    """Low-rank adapters on the language model (SmartEdit: rank 8, alpha 16, dropout 0.05, q and v)."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass
class ComprehensionConfig:
    """What reads picture and instruction; the settings of each kind derive from it.

    `base_models` names the settings that hold a model's folder or hub id, and the folder that a finished model has
    for each.
    """

    base_models: ClassVar[dict[str, str]] = {}
    kind: str = "llava"  # llava | blip2_t5, or MODULE:CLASS of your own


@dataclass
class LlavaConfig(ComprehensionConfig):
    """A multimodal language model; its states at the edit tokens are what is read."""

    base_models: ClassVar[dict[str, str]] = {"model": "mllm"}
    model: str = "llava-hf/llava-1.5-7b-hf"  # folder, hub id, or miniature:SIZE/llava
    num_edit_tokens: int = 32  # SmartEdit's r; InsightEdit does not give it (ours)
    edit_token: str = "<img_{index}>"  # name of token number `index`
    vision_feature_layer: int = -2  # LLaVA-1.5
    quantization: Literal["none", "4bit", "8bit"] = "none"
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    describe_prompt: str = "How does the picture look after this edit: {instruction}"  # for `--describe` (ours)
    expressive: bool = False  # write what will change, then edit (MGIE); train on source kind `descriptions`
    max_new_tokens: int = 64  # longest text it writes, in tokens; MGIE: 96
    no_repeat_ngram_size: int = 0  # so many tokens in a row do not come twice, the question's included; MGIE: 3
    states_before_tokens: bool = False  # read the states that predict the edit tokens, one position before (MGIE)
    train_embeddings: bool = False  # let all rows of embed_tokens and lm_head train, not the edit tokens' (MGIE)
    max_length: int = 1024  # tokens, image placeholders included (ours)
    templates: Literal["few", "thirty"] = "few"  # paraphrases in training; SmartEdit: thirty


@dataclass
class Blip2T5Config(ComprehensionConfig):
    """BLIP-2 and a text encoder, which read instructions with pictures in them (MIGE); with bridge.fusion."""

    base_models: ClassVar[dict[str, str]] = {"vision": "picture_encoder", "text_encoder": "text_encoder"}
    kind: str = "blip2_t5"
    vision: str = "Salesforce/blip2-flan-t5-xxl"  # BLIP-2, of which vision tower, Q-Former and projection are used
    text_encoder: str = "google/flan-t5-xxl"  # paper; released code: google/t5-v1_1-xxl
    max_length: int = 256  # tokens of one instruction, 32 for each picture included
    max_references: int = 4  # reference images of one instruction, the source not counted
    source_in_text: bool = True  # the source is one of the instruction's pictures; false = MIGE's ablation without


@dataclass
class QFormerConfig:
    """Learned queries that read the edit tokens' states (SmartEdit, lineage of BLIP-2)."""

    num_layers: int = 6
    num_heads: int = 12
    ffn_dim: int = 3072
    cross_attention_every: int = 2  # layers 0, 2, 4
    dropout: float = 0.1  # bert-base
    token_head: bool = False  # the states have to name the words they stand for; adds the loss `token` (ours)


@dataclass
class EditHeadConfig:
    """Encoder-decoder transformer with learned queries, in the Q-Former's place (MGIE, lineage of GILL)."""

    width: int = 512
    num_layers: int = 4  # of the encoder, and as many of the decoder
    num_heads: int = 4
    ffn_dim: int = 2048
    token_head: bool = False  # as the Q-Former's (ours)


@dataclass
class BimConfig:
    """Bidirectional interaction of text states and vision patches (SmartEdit)."""

    width: int = 1024
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    downsample_rate: int = 2
    text_scale: float = 0.5
    place_head: bool = False  # v' has to say which cells change; adds the loss `place` (ours)
    kind: Literal["two_way", "self_attention", "mlp"] = (
        "two_way"  # the others ablate the exchange (SmartEdit, supplement, table 1)
    )


@dataclass
class IaaConfig:
    """Image alignment adapter (InsightEdit eq. 5): edit states -> one CLIP image embedding."""

    hidden_dim: int = 1024  # mapper MLP width (ours)
    num_layers: int = 2  # mapper MLP depth (ours)
    image_tokens: int = 4  # InsightEdit: N = 4


@dataclass
class FusionConfig:
    """Q-Former tokens of a picture read its VAE features (MIGE)."""

    num_heads: int = 8
    activation: Literal["relu", "none"] = "relu"  # before the last linear layer: paper; released code: none


@dataclass
class BridgeConfig:
    """Between understanding and drawing. The text branch is a Q-Former or an edit head: one of them is null."""

    qformer: QFormerConfig | None = field(default_factory=QFormerConfig)
    edit_head: EditHeadConfig | None = None
    bim: BimConfig | None = field(default_factory=BimConfig)
    iaa: IaaConfig | None = field(default_factory=IaaConfig)
    fusion: FusionConfig | None = None  # with comprehension.kind blip2_t5; then Q-Former, BIM and IAA are null


@dataclass
class DenoiserConfig:
    """What draws; the settings of each kind derive from it. `base_models` as in `ComprehensionConfig`."""

    base_models: ClassVar[dict[str, str]] = {}
    kind: str = "unet"  # unet | pixart, or MODULE:CLASS of your own


@dataclass
class UNetConfig(DenoiserConfig):
    """Stable Diffusion's UNet."""

    base_models: ClassVar[dict[str, str]] = {"model": "unet"}
    # folder or hub id with a subfolder `unet`, e.g. timbrooks/instruct-pix2pix; None = generation.model
    model: str | None = None


@dataclass
class PixArtConfig(DenoiserConfig):
    """A PixArt transformer (MIGE); it takes no v' and no image embedding, so bridge.bim and bridge.iaa are null."""

    base_models: ClassVar[dict[str, str]] = {"model": "transformer"}
    kind: str = "pixart"
    model: str = "PixArt-alpha/PixArt-XL-2-512x512"  # folder or hub id, subfolder `transformer`
    place_head: bool = False  # half-way it has to say which patches change; adds the loss `place` (ours)


@dataclass
class GenerationConfig:
    """The denoiser, its autoencoder and encoders."""

    # folder or hub id of a diffusers pipeline: autoencoder, noise schedule, text encoder
    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    denoiser: DenoiserConfig = field(default_factory=UNetConfig)
    objective: Literal["ddpm"] = "ddpm"  # how noise is mixed in and what is learned; see generation/noise.py
    image_encoder: str = "openai/clip-vit-large-patch14"  # CLIP whose image embedding IAA predicts (768, ours)
    resolution: int = 256  # pixels, SmartEdit
    scale_source_latents: bool = False  # InstructPix2Pix and SmartEdit: source latents are the unscaled mode
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    source_prior: float = 0.0  # expected size of a change in latent units; 0 = off (ours; needs `sample`)
    zero_terminal_snr: bool = False
    image_prompt_scale: float = 1.0  # lambda; InsightEdit does not give it (ours)


@dataclass
class GuidanceConfig:
    """Condition dropout in training and the two guidance scales at inference (InstructPix2Pix, SmartEdit)."""

    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    null_text: Literal["empty", "zero_states"] = "empty"  # CLIP's "", or the text branch on zero states (MGIE)
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    num_inference_steps: int = 50  # SmartEdit: 100; ours, DPM-free schedulers converge by 50
    creation_guidance_scale: float | None = None  # where there is no source (MIGE); None = guidance_scale
    creation_inference_steps: int | None = None  # likewise; None = num_inference_steps


@dataclass
class LossConfig:
    """Weights of the named losses."""

    lm: float = 1.0
    align: float = 1.0
    noise: float = 1.0
    iaa: float = 1.0  # InsightEdit does not give it (ours)
    token: float = 1.0  # with a token_head in the bridge, stage 1 (ours)
    place: float = 1.0  # with a place_head in bridge.bim or generation.denoiser (ours)
    changed_area_weight: float = 1.0  # pixels that differ between source and target count this much (ours)
    change_floor: float | None = None  # weigh each edit by 1 / max(this, its latent change); None = off (ours)
    min_snr_gamma: float | None = None
    min_timestep: int = 0  # first timestep that is trained; 0 = all, as in the papers (ours)


@dataclass
class OptimConfig:
    """Optimiser and schedule."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    lr: float = 1.0e-5
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1.0e-8
    warmup_ratio: float = 0.001
    warmup_steps: int | None = None  # in place of the ratio
    schedule: Literal["cosine", "constant"] = "cosine"
    max_grad_norm: float = 1.0


@dataclass
class SourceConfig:
    """One data source of the mixture."""

    # scenes | resolved | descriptions | full_descriptions | resolved_words | captions | subjects | subject_edits,
    # or of files: webdataset | parquet | jsonl | mige (MIGE's JSON list)
    kind: str = "scenes"
    path: str | None = None
    weight: float | None = 1.0  # relative to the others of its list; null = as many as it has records
    split: str = "train"
    style: Literal["simple", "advanced"] | None = None  # of the wordings of rendered scenes; null = both
    pack: str | None = None  # folder of photographs that rendered scenes stand on, beside the embedded ones
    images: str | None = None  # folder of the pictures where they do not lie beside the annotations
    columns: dict[str, str] = field(
        default_factory=dict
    )  # role -> column of your table, e.g. {source: before, target: after, instruction: words}
    val_fraction: float = 0.0  # share of the records that is held out for the validation loss
    sources: list[SourceConfig] = field(default_factory=list)  # of kind `mixture`: a mixture within the mixture


@dataclass
class DataConfig:
    """The mixture a stage sees."""

    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    num_workers: int = 0
    prefetch_factor: int = 4
    cache: str | None = None  # folder of `insightedit cache`: what frozen parts gave, in place of running them
    cache_repeat: bool = False  # begin again from its first sample where it ends; false: the stage says so and stops


@dataclass
class TrainConfig:
    """One stage's run."""

    max_steps: int = 1000
    batch_size: int = 16  # per process and micro-step
    gradient_accumulation_steps: int = 1
    precision: Literal["fp32", "bf16"] = "bf16"
    engine: Literal["auto", "deepspeed", "torch"] = "auto"
    deepspeed: str = "zero2"  # configs/deepspeed/NAME.json or a path
    deepspeed_files: bool = True  # under ZeRO also DeepSpeed's own files, for its tools (zero_to_fp32.py)
    ema_decay: float | None = None
    gradient_checkpointing: bool = False
    save_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    sample_every: int = 500
    num_samples: int = 8
    validate_every: int = 500  # steps between two validation losses, of sources with a val_fraction
    num_validation: int = 64  # held-out records of one validation loss
    max_minutes: float | None = None  # stop early, checkpointed, after this wall time; the same command goes on
    total_minutes: float | None = None  # wall time of the whole run, all sessions together: then it is done (ours)
    seed: int = 0


@dataclass
class StageConfig:
    """What a stage trains and on which objective."""

    number: int = 3
    objective: Literal["align", "understand", "edit"] = "edit"
    trainable: list[str] = field(default_factory=list)  # dotted parameter patterns (fnmatch) of the editor
    use_bim: bool = True
    use_iaa: bool = True


@dataclass
class Config:
    """The whole: schema < recipe < stage < overlay < command line."""

    recipe: str = "insightedit"
    output_dir: str = "runs/${recipe}/stage${stage.number}"
    init_from: str | None = None  # run folder of the stage before, or a model; None = runs/RECIPE/stage(N-1)
    stages: list[int] = field(default_factory=lambda: [1, 2, 3])
    comprehension: ComprehensionConfig = field(default_factory=LlavaConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    stage: StageConfig = field(default_factory=StageConfig)
