"""Which numbers a setting can have; types are the schema's business."""

from __future__ import annotations

import math
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
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies in it; NaN never does."""
        low = value > self.low if self.above else value >= self.low
        high = self.high is None or (value < self.high if self.below else value <= self.high)
        return low and high and math.isfinite(value)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if self.high is None else f" and {'below' if self.below else 'at most'} {self.high:g}"
        return low + high


COUNT, NATURAL = Range(1), Range(0)
POSITIVE, NOT_NEGATIVE = Range(0, above=True), Range(0)
SHARE, RATE = Range(0, 1), Range(0, 1, below=True)
RANGES = {
    "comprehension.num_edit_tokens": COUNT,
    "comprehension.lora.rank": COUNT,
    "comprehension.lora.alpha": COUNT,
    "comprehension.lora.dropout": RATE,
    "comprehension.max_new_tokens": COUNT,
    "comprehension.no_repeat_ngram_size": NATURAL,
    "comprehension.max_length": COUNT,
    "comprehension.reader.max_length": COUNT,
    "comprehension.reader.max_references": NATURAL,
    "bridge.qformer.num_layers": COUNT,
    "bridge.qformer.num_heads": COUNT,
    "bridge.qformer.ffn_dim": COUNT,
    "bridge.qformer.cross_attention_every": COUNT,
    "bridge.qformer.dropout": RATE,
    "bridge.edit_head.width": COUNT,
    "bridge.edit_head.num_layers": COUNT,
    "bridge.edit_head.num_heads": COUNT,
    "bridge.edit_head.ffn_dim": COUNT,
    "bridge.bim.width": COUNT,
    "bridge.bim.depth": COUNT,
    "bridge.bim.num_heads": COUNT,
    "bridge.bim.mlp_dim": COUNT,
    "bridge.bim.downsample_rate": COUNT,
    "bridge.bim.text_scale": NOT_NEGATIVE,
    "bridge.iaa.hidden_dim": COUNT,
    "bridge.iaa.num_layers": COUNT,
    "bridge.iaa.image_tokens": COUNT,
    "bridge.fusion.num_heads": COUNT,
    "generation.resolution": COUNT,
    "generation.source_prior": NOT_NEGATIVE,
    "generation.image_prompt_scale": NOT_NEGATIVE,
    "guidance.drop_text": SHARE,
    "guidance.drop_image": SHARE,
    "guidance.drop_both": SHARE,
    "guidance.guidance_scale": NOT_NEGATIVE,
    "guidance.image_guidance_scale": NOT_NEGATIVE,
    "guidance.num_inference_steps": COUNT,
    "guidance.creation_guidance_scale": NOT_NEGATIVE,
    "guidance.creation_inference_steps": COUNT,
    "loss.lm": NOT_NEGATIVE,
    "loss.align": NOT_NEGATIVE,
    "loss.noise": NOT_NEGATIVE,
    "loss.iaa": NOT_NEGATIVE,
    "loss.token": NOT_NEGATIVE,
    "loss.place": NOT_NEGATIVE,
    "loss.changed_area_weight": NOT_NEGATIVE,
    "loss.change_floor": POSITIVE,
    "loss.min_snr_gamma": POSITIVE,
    "loss.min_timestep": Range(0, 999),
    "optim.lr": NOT_NEGATIVE,  # 0 trains nothing and tells the losses
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.betas": RATE,
    "optim.eps": POSITIVE,
    "optim.warmup_ratio": SHARE,
    "optim.warmup_steps": NATURAL,
    "optim.max_grad_norm": POSITIVE,
    "data.num_workers": NATURAL,
    "data.prefetch_factor": COUNT,
    "train.max_steps": COUNT,
    "train.batch_size": COUNT,
    "train.gradient_accumulation_steps": COUNT,
    "train.ema_decay": RATE,
    "train.save_every": COUNT,
    "train.keep_checkpoints": COUNT,
    "train.log_every": COUNT,
    "train.sample_every": COUNT,
    "train.num_samples": NATURAL,
    "train.max_minutes": NOT_NEGATIVE,
    "train.seed": NATURAL,
}
"""Dotted key -> the numbers it can have; of a list each entry."""


def range_faults(config: Config) -> list[str]:
    """One sentence for each number that cannot be.

    Args:
        config: a whole config of the right types.
    """
    faults = [
        f"{key} is {value}: it has to be {RANGES[key]}."
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
    return faults


def _numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in vars(section).items():
        if is_dataclass(value):
            yield from _numbers(value, f"{prefix}{name}.")
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, int | float) and not isinstance(entry, bool):
                yield f"{prefix}{name}", entry
