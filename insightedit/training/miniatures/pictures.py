"""Scenes as training pictures: stacking, value ranges, and the pairs of picture and caption in every scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Mean and deviation of OpenAI's CLIP, as in transformers' CLIPImageProcessor.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VAL_COUNT = 256  # held-out scenes that `evaluate` looks at


class Sampler(Protocol):
    """What trainers need of `insightedit.scenes.SceneSampler`: edit samples by index."""

    def __getitem__(self, index: int) -> Any:
        """Sample with `source` and `target` (H, W, 3) uint8, `caption_source`, `caption_target`, ..."""
        ...


def scene_samplers(size: int, seed: int = 0) -> tuple[Sampler, Sampler]:
    """Training and held-out scenes at `size` pixels."""
    from insightedit.scenes import SceneSampler

    return SceneSampler(split="train", size=size, seed=seed), SceneSampler(split="val", size=size, seed=seed)


def stack(pictures: Iterable[np.ndarray]) -> Tensor:
    """(H, W, 3) uint8 arrays -> (B, 3, H, W) uint8 tensor.

    In plain memory order: on the CPU, torch's bf16 group norm is up to twelve times slower channels-last, which costs
    a convolutional net more than it gains.
    """
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).contiguous()


def both_images(samples: Sequence[Any]) -> Tensor:
    """(2 B, 3, H, W) uint8 sources of B scenes, then their targets.

    A scene's two images differ by one edit, so each is a hard negative of the other.
    """
    return stack([s.source for s in samples] + [s.target for s in samples])


def both_captions(samples: Sequence[Any]) -> list[str]:
    """The captions of `both_images`."""
    return [s.caption_source for s in samples] + [s.caption_target for s in samples]


def padded(tokenizer: Any, texts: list[str], length: int) -> Any:
    """`input_ids` and `attention_mask` (B, `length`) int64 of texts."""
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def to_vae_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1.0


def to_clip_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 normalised as CLIPImageProcessor does for pictures of its own size."""
    mean = torch.tensor(CLIP_MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=pictures.device)[:, None, None]
    return (pictures.float() / 255.0 - mean) / std
