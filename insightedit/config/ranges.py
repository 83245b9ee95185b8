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
    """An interval; `above` and `below` leave an end out, and None is no end."""

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False
    cap: float = 1e9  # largest value that anything here could be built or counted with; told only where it is passed

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


COUNT, NATURAL, POSITIVE = Range(1), Range(0), Range(0, above=True)
SHARE, RATE = Range(0, 1), Range(0, 1, below=True)
LAYERS, HEADS, WIDTH, TOKENS, STEPS = (Range(1, cap=cap) for cap in (256, 1024, 65536, 4096, 1000))
SCALE, WEIGHT, FEW = Range(0, cap=1000), Range(0, cap=1e6), Range(0, cap=256)
_SECTIONS: dict[str, dict[str, Range]] = {
    "comprehension": {
        "num_edit_tokens max_new_tokens": TOKENS,
        "max_length": WIDTH,
        "max_references": FEW,
        "no_repeat_ngram_size": Range(0, cap=4096),
        "vision_feature_layer": Range(-256, cap=256),
    },
    "comprehension.lora": {"rank alpha": WIDTH, "dropout": RATE},
    "bridge.qformer": {
        "num_layers cross_attention_every": LAYERS,
        "num_heads": HEADS,
        "ffn_dim": WIDTH,
        "dropout": RATE,
    },
    "bridge.edit_head": {"num_layers": LAYERS, "num_heads": HEADS, "width ffn_dim": WIDTH},
    "bridge.bim": {"depth": LAYERS, "num_heads downsample_rate": HEADS, "width mlp_dim": WIDTH, "text_scale": SCALE},
    "bridge.iaa": {"num_layers": LAYERS, "hidden_dim": WIDTH, "image_tokens": TOKENS},
    "bridge.fusion": {"num_heads": HEADS},
    "generation": {"source_prior image_prompt_scale": SCALE, "resolution": Range(8, cap=8192)},
    "guidance": {
        "drop_text drop_image drop_both": SHARE,
        "guidance_scale image_guidance_scale creation_guidance_scale": SCALE,
        "num_inference_steps creation_inference_steps": STEPS,
    },
    "loss": {
        "lm align noise iaa token place changed_area_weight": WEIGHT,
        "change_floor min_snr_gamma": POSITIVE,
        "min_timestep": Range(0, 999),
    },
    "optim": {
        "lr weight_decay": SCALE,  # a rate of 0 trains nothing and tells the losses
        "betas": RATE,
        "eps": Range(0, above=True, cap=1),
        "warmup_ratio": SHARE,
        "warmup_steps": NATURAL,
        "max_grad_norm": POSITIVE,
    },
    "data.sources": {"weight": POSITIVE, "val_fraction": RATE},
    "data": {"num_workers": Range(0, cap=1024), "prefetch_factor": Range(1, cap=10000)},
    "train": {
        "max_steps save_every keep_checkpoints log_every sample_every validate_every num_validation": COUNT,
        "batch_size": WIDTH,
        "gradient_accumulation_steps": Range(1, cap=1e6),
        "ema_decay": RATE,
        "num_samples": Range(0, cap=1000),
        "max_minutes total_minutes": NATURAL,
        "seed": Range(0, cap=2**32 - 1),
    },
}
RANGES = {
    f"{section}.{name}": held
    for section, ranges in _SECTIONS.items()
    for names, held in ranges.items()
    for name in names.split()
}
"""Dotted key -> the numbers it can have; of a list each entry."""


def range_faults(config: Config) -> list[str]:
    """One sentence for each number of a config that cannot be."""
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
    return faults or _memory_faults(config)


def _memory_faults(config: Config) -> list[str]:
    """One sentence for each group of settings that this machine's memory cannot hold, however little else is there."""
    try:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows does not tell
        return []
    bridge, side = config.bridge, config.generation.resolution
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


def _numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in vars(section).items():
        if is_dataclass(value):
            yield from _numbers(value, f"{prefix}{name}.")
        for entry in value if isinstance(value, list) else [value]:
            if is_dataclass(entry) and entry is not value:
                yield from _numbers(entry, f"{prefix}{name}.")
            elif isinstance(entry, int | float) and not isinstance(entry, bool):
                yield f"{prefix}{name}", entry
