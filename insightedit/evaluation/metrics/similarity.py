"""Metrics by the cosine of features: streaming, one number per sample, whatever the batch size.

| published as | here | encoder | pairs |
| --- | --- | --- | --- |
| CLIP-I | `image_similarity` | CLIP | edited and target (MagicBrush), source (MIGE), or subject |
| DINO | `image_similarity` | DINO v1 S/16 | the same |
| CVS of MGIE | `image_similarity(scale=100)` | CLIP | edited and goal |
| CLIP-T | `text_similarity` | CLIP | edited and target caption |
| CTS of MGIE | `text_similarity(scale=100)` | CLIP | edited and goal caption |
| CLIPScore of the edited region | `clip_score` | CLIP | crop (`masks.paper_crop`, `masks.strict_crop`) and label |
| CLIP_dir | `direction_similarity` | CLIP | source, edited, both captions |
| DreamBench DINO, CLIP-I | `dreambench_similarity` | DINO, CLIP | generated and real pictures of the subject |

All take an iterable that they read batch by batch, so that pictures can be opened while they are measured, and
yield their results in its order. Cosines are computed in float64 from the encoder's float32.

torchmetrics 1.9 would compute `clip_score`, but fails with transformers 5, whose `get_image_features` gives an
output object; and it takes the mean before it cuts below zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from insightedit.evaluation.core.statistics import mean
from insightedit.evaluation.metrics.encoders import ImageEncoder, ImageTextEncoder

BATCH_SIZE = 16
NO_DIRECTION = 1e-5  # unit features nearer than this differ by the rounding of float32 only
PAIRINGS = ("all", "input")

T = TypeVar("T")


@dataclass(frozen=True)
class DirectionRow:
    """What CLIP_dir compares.

    Attributes:
        source: (H, W, 3) uint8.
        edited: (H, W, 3) uint8, of any size.
        source_caption: of the source.
        target_caption: of what the edit should give.
    """

    source: np.ndarray
    edited: np.ndarray
    source_caption: str
    target_caption: str


@dataclass(frozen=True)
class Direction:
    """CLIP_dir of one row.

    Attributes:
        value: -1..1; 0 for an edit that changed nothing; None for equal captions.
        status: "scored"; "equal_captions": the captions say the same to the encoder, so there is no direction and
            the row is left out; "no_op": the picture looks the same to the encoder.
    """

    value: float | None
    status: Literal["scored", "equal_captions", "no_op"]


@dataclass(frozen=True)
class DirectionSummary:
    """CLIP_dir of many rows.

    Attributes:
        mean: over all rows but those with equal captions, no-ops as 0; None if there is none.
        n: rows in the mean.
        no_ops: rows of these that changed nothing.
        dropped: rows with equal captions.
    """

    mean: float | None
    n: int
    no_ops: int
    dropped: int


@dataclass(frozen=True)
class GeneratedSubject:
    """One picture generated from a subject.

    Attributes:
        picture: (H, W, 3) uint8.
        subject: name of the subject.
        input_index: which of the subject's real pictures the generator was given, from 0.
    """

    picture: np.ndarray
    subject: str
    input_index: int = 0


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of each row of one tensor with the same row of another.

    Args:
        first: (B, D), any float type.
        second: (B, D).

    Returns:
        (B,) float64 in [-1, 1].

    Raises:
        ValueError: if the shapes differ, or a row is zero or not finite.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"features of shapes {tuple(first.shape)} and {tuple(second.shape)}: take both from one encoder."
        )
    return (unit(first) * unit(second)).sum(dim=-1).clamp(-1.0, 1.0)


def unit(features: Tensor) -> Tensor:
    """Rows at length 1: (B, D) -> (B, D) float64.

    Raises:
        ValueError: if a row is zero or not finite.
    """
    features = features.double()
    lengths = features.norm(dim=-1, keepdim=True)
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise ValueError(
            "the encoder gave a feature that is zero or not finite, which has no direction: run it in float32 and "
            "check its weights."
        )
    return features / lengths


def image_similarity(
    encoder: ImageEncoder,
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    scale: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Iterator[float]:
    """CLIP-I, DINO, CVS: cosine of two pictures' features.

    Args:
        encoder: of pictures.
        pairs: edited picture and its reference, (H, W, 3) uint8 each, of any sizes.
        scale: 100 for CVS.
        batch_size: pairs at a time.

    Yields:
        scale * cosine, for each pair.

    Source: MagicBrush, `evaluation/image_eval.py`; MIGE, `infer_scripts/edit.py`.
    """
    for batch in batches(pairs, batch_size):
        edited = encoder.image_features([pair[0] for pair in batch])
        reference = encoder.image_features([pair[1] for pair in batch])
        yield from (scale * cosine(edited, reference)).tolist()


def text_similarity(
    encoder: ImageTextEncoder,
    pairs: Iterable[tuple[np.ndarray, str]],
    *,
    scale: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Iterator[float]:
    """CLIP-T, CTS: cosine of a picture's and a caption's features.

    MIGE leaves out rows whose captions of source and target are equal.

    Args:
        encoder: of pictures and texts.
        pairs: edited picture, (H, W, 3) uint8, and caption.
        scale: 100 for CTS.
        batch_size: pairs at a time.

    Yields:
        scale * cosine, for each pair.

    Raises:
        ValueError: if a caption is empty.

    Source: MagicBrush, `evaluation/image_eval.py`; MIGE, `infer_scripts/edit.py`.
    """
    for batch in batches(pairs, batch_size):
        texts = [_check_text(pair[1]) for pair in batch]
        pictures = encoder.image_features([pair[0] for pair in batch])
        yield from (scale * cosine(pictures, encoder.text_features(texts))).tolist()


def clip_score(
    encoder: ImageTextEncoder, pairs: Iterable[tuple[np.ndarray, str]], *, batch_size: int = BATCH_SIZE
) -> Iterator[float]:
    """CLIPScore: 100 * max(cosine, 0) of a crop and its label.

    SmartEdit uses `masks.paper_crop` and CLIP ViT-L/14 with the preprocess `processor_pil`, which keeps the middle
    square only, so that the ends of long thin objects are lost.

    Args:
        encoder: of pictures and texts.
        pairs: crop, (H, W, 3) uint8, and label.
        batch_size: pairs at a time.

    Yields:
        0..100 for each pair.

    Raises:
        ValueError: if a label is empty.

    Source: SmartEdit, `test/metrics_evaluation.py`; torchmetrics, `CLIPScore`, one picture at a time.
    """
    for value in text_similarity(encoder, pairs, scale=100.0, batch_size=batch_size):
        yield max(value, 0.0)


def direction_similarity(
    encoder: ImageTextEncoder, rows: Iterable[DirectionRow], *, batch_size: int = BATCH_SIZE
) -> Iterator[Direction]:
    """CLIP_dir: cosine of the change of the picture and the change of the caption, between unit features.

    Where either does not change, the cosine is 0 / 0. Rows without a change of caption are left out, as MIGE's
    published values show; edits without a change of picture have failed and score 0. Both are counted.

    Args:
        encoder: of pictures and texts.
        rows: of any sizes.
        batch_size: rows at a time.

    Yields:
        One result per row.

    Raises:
        ValueError: if a caption is empty.

    Source: InstructPix2Pix, `metrics/clip_similarity.py`; MIGE, `infer_scripts/edit.py`.
    """
    for batch in batches(rows, batch_size):
        differing = [row for row in batch if row.source_caption != row.target_caption]
        results = iter(_directions(encoder, differing) if differing else [])
        for row in batch:
            equal = row.source_caption == row.target_caption
            yield Direction(None, "equal_captions") if equal else next(results)


def summarise_directions(directions: Iterable[Direction]) -> DirectionSummary:
    """Mean and counts of CLIP_dir."""
    directions = list(directions)
    counts = Counter(direction.status for direction in directions)
    return DirectionSummary(
        mean=mean(direction.value for direction in directions),
        n=counts["scored"] + counts["no_op"],
        no_ops=counts["no_op"],
        dropped=counts["equal_captions"],
    )


def dreambench_similarity(
    encoder: ImageEncoder,
    generated: Iterable[GeneratedSubject],
    real: Mapping[str, Sequence[np.ndarray]],
    *,
    pairing: Literal["all", "input"],
    batch_size: int = BATCH_SIZE,
) -> Iterator[float]:
    """DreamBench's DINO and CLIP-I: generated pictures against the real ones of their subject.

    Args:
        encoder: of pictures.
        generated: 3,000 in the full benchmark.
        real: subject -> its real pictures, (H, W, 3) uint8 each; asked once per subject, so it may read files then.
        pairing: "all": mean cosine with all real pictures (DreamBooth); "input": cosine with the one that the
            generator was given (zero-shot methods, MIGE).
        batch_size: pictures at a time.

    Yields:
        -1..1 for each generated picture.

    Raises:
        ValueError: if the pairing is unknown, a subject has no real picture, or not the one that was given.

    Source: DreamBooth, section 4.2; MIGE, `compute_clip_I` in `infer_scripts/edit.py`.
    """
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}: it is one of {', '.join(PAIRINGS)}.")
    known: dict[str, Tensor] = {}
    for batch in batches(generated, batch_size):
        for row in batch:
            if row.subject not in known:
                known[row.subject] = _real_features(encoder, row.subject, real, batch_size)
        features = encoder.image_features([row.picture for row in batch])
        for row, feature in zip(batch, features, strict=True):
            references = known[row.subject]
            if pairing == "input":
                references = _input_feature(references, row)
            yield float(cosine(feature.expand_as(references), references).mean())


def _directions(encoder: ImageTextEncoder, rows: Sequence[DirectionRow]) -> list[Direction]:
    """CLIP_dir of rows whose captions are not the same string."""
    pictures = _change(encoder.image_features, [row.source for row in rows], [row.edited for row in rows])
    texts = _change(
        encoder.text_features,
        [_check_text(row.source_caption) for row in rows],
        [_check_text(row.target_caption) for row in rows],
    )
    return [_direction(*both, row) for *both, row in zip(pictures, texts, rows, strict=True)]


def _direction(picture: Tensor, text: Tensor, row: DirectionRow) -> Direction:
    """CLIP_dir from the two changes, (D,) float64 each."""
    if text.norm() <= NO_DIRECTION:  # captions that differ in case, spaces or behind the 77th token
        return Direction(None, "equal_captions")
    if np.array_equal(row.source, row.edited) or picture.norm() <= NO_DIRECTION:
        return Direction(0.0, "no_op")
    return Direction(float(cosine(picture[None], text[None])[0]), "scored")


def _change(encode: Callable[[list[T]], Tensor], before: list[T], after: list[T]) -> Tensor:
    """(B, D) float64: difference of the unit features."""
    return unit(encode(after)) - unit(encode(before))


def _real_features(
    encoder: ImageEncoder, subject: str, real: Mapping[str, Sequence[np.ndarray]], batch_size: int
) -> Tensor:
    """(N, D) float32: features of a subject's real pictures."""
    pictures = real.get(subject, ())
    if not len(pictures):
        raise ValueError(f"the subject {subject!r} has no real picture to compare with: add it to `real`.")
    return torch.cat([encoder.image_features(batch) for batch in batches(pictures, batch_size)])


def _input_feature(references: Tensor, row: GeneratedSubject) -> Tensor:
    """(1, D): the feature of the picture that the generator was given."""
    if not 0 <= row.input_index < len(references):
        raise ValueError(
            f"input_index is {row.input_index}, and {row.subject!r} has {len(references)} real pictures, counted "
            "from 0."
        )
    return references[row.input_index][None]


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("a caption is empty, and an encoder has a feature even for nothing: leave the row out.")
    return text


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter.

    Raises:
        ValueError: if `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size is {size}: it is at least 1.")
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
