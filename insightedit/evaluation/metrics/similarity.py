"""Metrics by the cosine of features.

| published as | here | encoder | pairs |
| --- | --- | --- | --- |
| CLIP-I | `image_similarity` | CLIP | edited and target (MagicBrush), source (MIGE), or subject |
| DINO | `image_similarity` | DINO v1 S/16 | the same |
| CVS of MGIE | `image_similarity(scale=100)` | CLIP | edited and goal |
| CLIP-T | `text_similarity` | CLIP | edited and target caption |
| CTS of MGIE | `text_similarity(scale=100)` | CLIP | edited and goal caption |
| CLIPScore of the edited region | `clip_score` | CLIP | crop (`masks.paper_crop`, `masks.strict_crop`) and label |
| CLIP_dir | `direction_similarity` | CLIP | source, edited, both captions |
| DreamBench DINO, CLIP-I | `mean_image_similarity` | DINO, CLIP | generated and all real pictures of the subject |

Pictures are (H, W, 3) uint8 of any sizes; an empty caption, or a feature without direction, is a ValueError. Cosines
are computed in float64 from the encoder's float32.

torchmetrics 1.9 would compute `clip_score`, but fails with transformers 5, whose `get_image_features` gives an
output object; and it takes the mean before it cuts below zero.

Source: MagicBrush, `evaluation/image_eval.py`; MIGE, `infer_scripts/edit.py`; else as told at a function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from insightedit.evaluation.metrics.encoders import ImageEncoder, ImageTextEncoder

NO_DIRECTION = 1e-5  # unit features nearer than this differ by the rounding of float32 only


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of each row of one tensor with the same row of another: (B, D), (B, D) -> (B,) float64 in [-1, 1]."""
    if first.shape != second.shape:
        raise ValueError(
            f"features of shapes {tuple(first.shape)} and {tuple(second.shape)}: take both from one encoder."
        )
    # not F.cosine_similarity, which puts an epsilon in place of a zero length and so gives 0 where there is no angle
    return (unit(first) * unit(second)).sum(dim=-1).clamp(-1.0, 1.0)  # rounding reaches 1 + 1e-16


def unit(features: Tensor) -> Tensor:
    """Rows at length 1, (B, D) -> (B, D) float64; ValueError if a row is zero or not finite."""
    features = features.double()
    lengths = features.norm(dim=-1, keepdim=True)
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise ValueError(
            "the encoder gave a feature that is zero or not finite, which has no direction: run it in float32 and "
            "check its weights."
        )
    return features / lengths


def image_similarity(encoder: ImageEncoder, edited: np.ndarray, reference: np.ndarray, *, scale: float = 1.0) -> float:
    """CLIP-I, DINO, CVS: `scale` times the cosine of two pictures' features; 100 for CVS."""
    return float(scale * cosine(encoder.image_features([edited]), encoder.image_features([reference])))


def mean_image_similarity(encoder: ImageEncoder, generated: np.ndarray, real: Sequence[np.ndarray]) -> float:
    """DreamBench's DINO and CLIP-I: mean cosine of a generated picture with all real ones of its subject.

    MIGE compares with the one that the generator was given: `image_similarity`. Source: DreamBooth, section 4.2.
    """
    if not len(real):
        raise ValueError("the subject has no real picture to compare with: add one.")
    references = torch.cat([encoder.image_features([picture]) for picture in real])  # [n, d]
    return float(cosine(encoder.image_features([generated]).expand_as(references), references).mean())


def text_similarity(encoder: ImageTextEncoder, edited: np.ndarray, caption: str, *, scale: float = 1.0) -> float:
    """CLIP-T, CTS: `scale` times the cosine of a picture's and a caption's features; 100 for CTS."""
    texts = [_check_text(caption)]
    return float(scale * cosine(encoder.image_features([edited]), encoder.text_features(texts)))


def clip_score(encoder: ImageTextEncoder, crop: np.ndarray, label: str) -> float:
    """CLIPScore: 100 * max(cosine, 0) of a crop and its label, 0..100.

    SmartEdit uses `masks.paper_crop` and CLIP ViT-L/14 with the preprocess `processor_pil`, which keeps the middle
    square only, so that the ends of long thin objects are lost.

    Source: SmartEdit, `test/metrics_evaluation.py`; torchmetrics, `CLIPScore`, one picture at a time.
    """
    return max(text_similarity(encoder, crop, label, scale=100.0), 0.0)


def direction_similarity(
    encoder: ImageTextEncoder, source: np.ndarray, edited: np.ndarray, source_caption: str, target_caption: str
) -> float | None:
    """CLIP_dir, -1..1: cosine of the change of the picture and the change of the caption, between unit features.

    Where either does not change, the cosine is 0 / 0. A row without a change of caption is left out (None), as MIGE's
    published values show; an edit without a change of picture has failed and scores 0.

    Source: InstructPix2Pix, `metrics/clip_similarity.py`; MIGE, `infer_scripts/edit.py`.
    """
    if source_caption == target_caption:
        return None
    texts = [_check_text(target_caption), _check_text(source_caption)]
    picture = unit(encoder.image_features([edited])) - unit(encoder.image_features([source]))  # [1, d]
    text = unit(encoder.text_features(texts[:1])) - unit(encoder.text_features(texts[1:]))
    if text.norm() <= NO_DIRECTION:  # captions that differ in case, spaces or behind the 77th token
        return None
    if np.array_equal(source, edited) or picture.norm() <= NO_DIRECTION:
        return 0.0
    return float(cosine(picture, text))


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("a caption is empty, and an encoder has a feature even for nothing: leave the row out.")
    return text
