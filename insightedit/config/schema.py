"""The configuration, once: every field, its type, its default and what it means.

A YAML file holds differences from this schema only. Values of the papers name their source; a value that the
papers leave open is marked `ours`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class LoraConfig:
    """Low-rank adapters on the language model (SmartEdit: rank 8, alpha 16, dropout 0.05, q and v)."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass
class ComprehensionConfig:
    """The multimodal language model that reads picture and instruction."""

    model: str = "llava-hf/llava-1.5-7b-hf"  # folder, hub id, or foundation:SIZE/llava
    num_edit_tokens: int = 32  # SmartEdit's r; InsightEdit does not give it (ours)
    edit_token: str = "<img_{index}>"  # name of token number `index`
    vision_feature_layer: int = -2  # LLaVA-1.5
    quantization: Literal["none", "4bit", "8bit"] = "none"
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    describe_prompt: str = (
        "How does the picture look after this edit: {instruction}"  # for `--describe` (ours)
    )
    expressive: bool = False  # write what will change, then edit (MGIE); train on source kind `descriptions`
    max_length: int = 1024  # tokens, image placeholders included (ours)


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
class BimConfig:
    """Bidirectional interaction of text states and vision patches (SmartEdit)."""

    width: int = 1024
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    downsample_rate: int = 2
    text_scale: float = 0.5
    place_head: bool = False  # v' has to say which cells change; adds the loss `place` (ours)


@dataclass
class IaaConfig:
    """Image alignment adapter (InsightEdit eq. 5): edit states -> one CLIP image embedding."""

    hidden_dim: int = 1024  # mapper MLP width (ours)
    num_layers: int = 2  # mapper MLP depth (ours)
    image_tokens: int = 4  # InsightEdit: N = 4


@dataclass
class BridgeConfig:
    """Between understanding and drawing."""

    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    bim: BimConfig | None = field(default_factory=BimConfig)
    iaa: IaaConfig | None = field(default_factory=IaaConfig)


@dataclass
class GenerationConfig:
    """The denoiser, its autoencoder and encoders."""

    model: str = (
        "stable-diffusion-v1-5/stable-diffusion-v1-5"  # folder or hub id of a Stable Diffusion pipeline
    )
    unet: str | None = (
        None  # another UNet folder, e.g. timbrooks/instruct-pix2pix (subfolder unet); None = model
    )
    image_encoder: str = (
        "openai/clip-vit-large-patch14"  # CLIP whose image embedding IAA predicts (768, ours)
    )
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
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    num_inference_steps: int = 50  # SmartEdit: 100; ours, DPM-free schedulers converge by 50


@dataclass
class LossConfig:
    """Weights of the named losses."""

    lm: float = 1.0
    align: float = 1.0
    noise: float = 1.0
    iaa: float = 1.0  # InsightEdit does not give it (ours)
    token: float = 1.0  # with bridge.qformer.token_head, stage 1 (ours)
    place: float = 1.0  # with bridge.bim.place_head (ours)
    changed_area_weight: float = 1.0  # pixels that differ between source and target count this much (ours)
    change_floor: float | None = (
        None  # weigh each edit by 1 / max(this, its latent change); None = off (ours)
    )
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
    schedule: Literal["cosine", "constant"] = "cosine"
    max_grad_norm: float = 1.0


@dataclass
class SourceConfig:
    """One data source of the mixture."""

    kind: str = "scenes"  # scenes | resolved | descriptions | captions | webdataset | parquet | jsonl
    path: str | None = None
    weight: float = 1.0
    split: str = "train"


@dataclass
class DataConfig:
    """The mixture a stage sees."""

    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    num_workers: int = 0
    prefetch_factor: int = 4


@dataclass
class TrainConfig:
    """One stage's run."""

    max_steps: int = 1000
    batch_size: int = 16  # per process and micro-step
    gradient_accumulation_steps: int = 1
    precision: Literal["fp32", "bf16"] = "bf16"
    engine: Literal["auto", "deepspeed", "torch"] = "auto"
    deepspeed: str = "zero2"  # configs/deepspeed/NAME.json or a path
    ema_decay: float | None = None
    gradient_checkpointing: bool = False
    save_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    sample_every: int = 500
    num_samples: int = 8
    max_minutes: float | None = (
        None  # stop early, checkpointed, after this wall time; the same command goes on
    )
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
    init_from: str | None = None  # run folder of the stage before; None = runs/RECIPE/stage(N-1)
    stages: list[int] = field(default_factory=lambda: [1, 2, 3])
    comprehension: ComprehensionConfig = field(default_factory=ComprehensionConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    stage: StageConfig = field(default_factory=StageConfig)
