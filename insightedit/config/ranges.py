"""Which numbers a setting can have; types are the schema's business."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insightedit.config.schema import Config


@dataclass(frozen=True)
class Range:
    """An interval.

    Attributes:
        low: smallest value; `above` leaves itself out.
        high: largest value; None for none, `below` leaves itself out.
        above: whether `low` itself is too small.
        below: whether `high` itself is too large.
        cap: largest value that anything here could be built or counted with; told only where it is passed.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False
    cap: float = 1e9

    def holds(self, value: float) -> bool:
        """Whether a value lies in it; NaN never does."""
        low = value > self.low if self.above else value >= self.low
        high = self.high is None or (value < self.high if self.below else value <= self.high)
        return low and high and value <= self.cap and math.isfinite(value)

    def wanted(self, value: float) -> str:
        """What a value that does not lie in it would have to be, in words."""
        if self.high is None and math.isfinite(value) and value > self.cap:
            return f"at most {self.cap:.12g}"
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if self.high is None else f" and {'below' if self.below else 'at most'} {self.high:g}"
        return low + high


COUNT, NATURAL = Range(1), Range(0)
POSITIVE, NOT_NEGATIVE = Range(0, above=True), Range(0)
SHARE, RATE = Range(0, 1), Range(0, 1, below=True)
LAYERS, HEADS, WIDTH, TOKENS = (Range(1, cap=cap) for cap in (256, 1024, 65536, 4096))
STEPS, SCALE, WEIGHT = Range(1, cap=1000), Range(0, cap=1000), Range(0, cap=1e6)
RANGES = {
    "comprehension.vision_feature_layer": Range(-256, cap=256),
    "comprehension.num_edit_tokens": TOKENS,
    "comprehension.lora.rank": WIDTH,
    "comprehension.lora.alpha": WIDTH,
    "comprehension.lora.dropout": RATE,
    "comprehension.max_new_tokens": TOKENS,
    "comprehension.no_repeat_ngram_size": Range(0, cap=4096),
    "comprehension.max_length": WIDTH,
    "comprehension.max_references": Range(0, cap=256),
    "bridge.qformer.num_layers": LAYERS,
    "bridge.qformer.num_heads": HEADS,
    "bridge.qformer.ffn_dim": WIDTH,
    "bridge.qformer.cross_attention_every": LAYERS,
    "bridge.qformer.dropout": RATE,
    "bridge.edit_head.width": WIDTH,
    "bridge.edit_head.num_layers": LAYERS,
    "bridge.edit_head.num_heads": HEADS,
    "bridge.edit_head.ffn_dim": WIDTH,
    "bridge.bim.width": WIDTH,
    "bridge.bim.depth": LAYERS,
    "bridge.bim.num_heads": HEADS,
    "bridge.bim.mlp_dim": WIDTH,
    "bridge.bim.downsample_rate": HEADS,
    "bridge.bim.text_scale": SCALE,
    "bridge.iaa.hidden_dim": WIDTH,
    "bridge.iaa.num_layers": LAYERS,
    "bridge.iaa.image_tokens": TOKENS,
    "bridge.fusion.num_heads": HEADS,
    "generation.resolution": Range(8, cap=8192),
    "generation.source_prior": SCALE,
    "generation.image_prompt_scale": SCALE,
    "guidance.drop_text": SHARE,
    "guidance.drop_image": SHARE,
    "guidance.drop_both": SHARE,
    "guidance.guidance_scale": SCALE,
    "guidance.image_guidance_scale": SCALE,
    "guidance.num_inference_steps": STEPS,
    "guidance.creation_guidance_scale": SCALE,
    "guidance.creation_inference_steps": STEPS,
    "loss.lm": WEIGHT,
    "loss.align": WEIGHT,
    "loss.noise": WEIGHT,
    "loss.iaa": WEIGHT,
    "loss.token": WEIGHT,
    "loss.place": WEIGHT,
    "loss.changed_area_weight": WEIGHT,
    "loss.change_floor": POSITIVE,
    "loss.min_snr_gamma": POSITIVE,
    "loss.min_timestep": Range(0, 999),
    "optim.lr": SCALE,  # 0 trains nothing and tells the losses
    "optim.weight_decay": SCALE,
    "optim.betas": RATE,
    "optim.eps": Range(0, above=True, cap=1),
    "optim.warmup_ratio": SHARE,
    "optim.warmup_steps": NATURAL,
    "optim.max_grad_norm": POSITIVE,
    "data.sources.weight": POSITIVE,
    "data.sources.val_fraction": RATE,
    "data.num_workers": Range(0, cap=1024),
    "data.prefetch_factor": Range(1, cap=10000),
    "train.max_steps": COUNT,
    "train.batch_size": WIDTH,
    "train.gradient_accumulation_steps": Range(1, cap=1e6),
    "train.ema_decay": RATE,
    "train.save_every": COUNT,
    "train.keep_checkpoints": COUNT,
    "train.log_every": COUNT,
    "train.sample_every": COUNT,
    "train.num_samples": Range(0, cap=1000),
    "train.validate_every": COUNT,
    "train.num_validation": COUNT,
    "train.max_minutes": NOT_NEGATIVE,
    "train.seed": Range(0, cap=2**32 - 1),
}
"""Dotted key -> the numbers it can have; of a list each entry."""


def range_faults(config: Config) -> list[str]:
    """One sentence for each number that cannot be.

    Args:
        config: a whole config of the right types.
    """
    faults = [
        f"{key} is {value}: it has to be {RANGES[key].wanted(value)}."
        for key, value in _numbers(config)
        if key in RANGES and not RANGES[key].holds(value)
    ]
    guidance = config.guidance
    dropped = guidance.drop_text + guidance.drop_image + guidance.drop_both
    if dropped > 1:
        faults.append(
            f"guidance.drop_text, drop_image and drop_both are {dropped:g} together: they are shares of the samples, "
            "so at most 1."
        )
    if not config.data.sources:
        faults.append("data.sources is empty: name at least one source, e.g. [{kind: scenes}].")
    return faults or memory_faults(config)


def memory_faults(config: Config) -> list[str]:
    """One sentence for each group of settings that this machine's memory cannot hold, however little else is there.

    Args:
        config: a whole config, each number in its range.
    """
    bridge, side, total = config.bridge, config.generation.resolution, _memory()
    head, bim, qformer = bridge.edit_head, bridge.bim, bridge.qformer
    needs = {
        "generation.resolution and train.batch_size": 24 * side * side * config.train.batch_size,
        "bridge.edit_head": 0 if head is None else _weights(2 * head.num_layers, head.width, head.ffn_dim),
        "bridge.bim": 0 if bim is None else _weights(bim.depth, bim.width, bim.mlp_dim),
        "bridge.qformer": 0 if qformer is None else _weights(qformer.num_layers, 0, qformer.ffn_dim),
    }
    return [
        f"{what} need {size / 2**30:.0f} GB or more, and this machine has {total / 2**30:.0f} GB: make them smaller."
        for what, size in needs.items()
        if size > total
    ]


def _weights(layers: int, width: int, inner: int) -> int:
    """Bytes of transformer layers in float32, at least: attention and feed-forward matrices."""
    return 4 * layers * (4 * width * width + 2 * max(width, 64) * inner)


def _memory() -> float:
    """Bytes of main memory; without end where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def _numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in vars(section).items():
        if is_dataclass(value):
            yield from _numbers(value, f"{prefix}{name}.")
        for entry in value if isinstance(value, list) else [value]:
            if is_dataclass(entry) and entry is not value:
                yield from _numbers(entry, f"{prefix}{name}.")
            elif isinstance(entry, int | float) and not isinstance(entry, bool):
                yield f"{prefix}{name}", entry
