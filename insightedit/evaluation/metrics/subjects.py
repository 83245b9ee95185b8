"""Is the subject still the same: find it, cut it out, compare it with the picture that was given of it.

MIGEBench's rule: the detector's best box for the subject's name; the segmenter's mask of that box; everything
outside the mask black; cut to the box; cosine with the subject's picture (the black version of it, as the crop is
black outside). Where nothing is found, MIGEBench compares the *whole picture*, which hides failures: so the share of
detections is part of the result.

Not as in MIGEBench: its crops went through a JPEG file, ours do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from insightedit.evaluation.core.scoring import check_picture
from insightedit.evaluation.core.statistics import Rate, mean, rate
from insightedit.evaluation.metrics.encoders import ImageEncoder
from insightedit.evaluation.metrics.masks import Box, crop
from insightedit.evaluation.metrics.pretrained import check_tokenizer, load_model, read, weights_digest
from insightedit.evaluation.metrics.similarity import BATCH_SIZE, batches, image_similarity

if TYPE_CHECKING:
    import os

BOX_THRESHOLD = 0.3


@dataclass(frozen=True)
class Detection:
    """Where something was found.

    Attributes:
        box: (left, top, right, bottom) in pixels of the picture, not rounded; may reach beyond its edges.
        score: 0..1.
    """

    box: tuple[float, float, float, float]
    score: float


@runtime_checkable
class Detector(Protocol):
    """Finds what a phrase names."""

    @property
    def name(self) -> str:
        """Of the model, for records."""
        ...

    @property
    def revision(self) -> str:
        """Which weights exactly, for records."""
        ...

    def detect(self, picture: np.ndarray, phrase: str) -> Detection | None:
        """The best box for a phrase in an (H, W, 3) uint8 picture; None if nothing is sure enough."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Tells what in a box belongs to its object."""

    @property
    def name(self) -> str:
        """Of the model, for records."""
        ...

    @property
    def revision(self) -> str:
        """Which weights exactly, for records."""
        ...

    def segment(self, picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
        """(H, W) bool: the object in a box (left, top, right, bottom) of an (H, W, 3) uint8 picture."""
        ...


class GroundingDinoDetector:
    """Grounding DINO of transformers.

    MIGEBench's text threshold of 0.25 only decides which words a box is labelled with, not which box is taken, so
    there is none here.

    Args:
        model: `transformers.GroundingDinoForObjectDetection`.
        processor: `transformers.GroundingDinoProcessor`.
        name: for records.
        box_threshold: score that a box has to exceed, 0..1.

    Raises:
        ValueError: if the threshold is out of range.
    """

    def __init__(self, model: Any, processor: Any, *, name: str, box_threshold: float = BOX_THRESHOLD) -> None:
        if not 0 <= box_threshold <= 1:
            raise ValueError(f"box_threshold is {box_threshold}: it lies between 0 and 1, in MIGEBench 0.3.")
        self.model, self.processor, self.name = model.eval(), processor, name
        self.box_threshold = box_threshold

    @cached_property
    def revision(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    @torch.no_grad()
    def detect(self, picture: np.ndarray, phrase: str) -> Detection | None:
        """See `Detector`.

        Raises:
            ValueError: if the phrase is empty.
        """
        text = phrase.strip().lower().rstrip(".")
        if not text:
            raise ValueError("the phrase is empty: name the object to be found.")
        inputs = self.processor(images=Image.fromarray(picture), text=f"{text}.", return_tensors="pt")
        outputs = self.model(**inputs.to(self.model.device))
        found = self.processor.post_process_grounded_object_detection(
            outputs, inputs.input_ids, threshold=self.box_threshold, target_sizes=[picture.shape[:2]]
        )[0]
        if not len(found["scores"]):
            return None
        best = int(found["scores"].argmax())
        left, top, right, bottom = found["boxes"][best].tolist()
        return Detection((left, top, right, bottom), float(found["scores"][best]))


class SamSegmenter:
    """SAM of transformers, asked with a box for one mask.

    Args:
        model: `transformers.SamModel`.
        processor: `transformers.SamProcessor`.
        name: for records.
    """

    def __init__(self, model: Any, processor: Any, *, name: str) -> None:
        self.model, self.processor, self.name = model.eval(), processor, name

    @cached_property
    def revision(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    @torch.no_grad()
    def segment(self, picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
        """See `Segmenter`."""
        inputs = self.processor(images=Image.fromarray(picture), input_boxes=[[list(box)]], return_tensors="pt")
        outputs = self.model(
            pixel_values=inputs.pixel_values.to(self.model.device),
            input_boxes=inputs.input_boxes.float().to(self.model.device),  # the processor makes them float64
            multimask_output=False,
        )
        masks = self.processor.post_process_masks(
            outputs.pred_masks.cpu(), inputs.original_sizes, inputs.reshaped_input_sizes
        )
        return masks[0][0, 0].numpy()


def load_detector(
    model: str | os.PathLike = "IDEA-Research/grounding-dino-base",
    *,
    box_threshold: float = BOX_THRESHOLD,
    cache_dir: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
) -> GroundingDinoDetector:
    """Grounding DINO from the disk, in float32.

    Args:
        model: hub id in the cache, or a folder; the default is `groundingdino_swinb_cogcoor` of the original.
        box_threshold: see `GroundingDinoDetector`.
        cache_dir: of the hub; None for the usual one.
        device: where it computes.

    Raises:
        FileNotFoundError, ValueError: see `insightedit.evaluation.metrics.pretrained.load_model`.
    """
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

    network = load_model(GroundingDinoForObjectDetection, model, cache_dir=cache_dir, device=device)
    processor = read(GroundingDinoProcessor.from_pretrained, model, cache_dir=cache_dir, local_files_only=True)
    check_tokenizer(processor.tokenizer, model)
    return GroundingDinoDetector(network, processor, name=str(model), box_threshold=box_threshold)


def load_segmenter(
    model: str | os.PathLike = "facebook/sam-vit-huge",
    *,
    cache_dir: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
) -> SamSegmenter:
    """SAM from the disk, in float32; arguments and errors as of `load_detector`."""
    from transformers import SamModel, SamProcessor

    network = load_model(SamModel, model, cache_dir=cache_dir, device=device)
    processor = read(SamProcessor.from_pretrained, model, cache_dir=cache_dir, local_files_only=True)
    return SamSegmenter(network, processor, name=str(model))


@dataclass(frozen=True)
class SubjectCut:
    """A subject, cut out.

    Attributes:
        picture: (h, w, 3) uint8, black outside of the mask; the whole picture if nothing was found.
        detection: what was found; None if nothing.
    """

    picture: np.ndarray
    detection: Detection | None


def cut_subject(picture: np.ndarray, phrase: str, *, detector: Detector, segmenter: Segmenter) -> SubjectCut:
    """Find a subject and cut it out.

    Args:
        picture: (H, W, 3) uint8.
        phrase: the subject's name.
        detector: finds its box.
        segmenter: finds its mask.

    Raises:
        TypeError, ValueError: if it is no such picture; if the mask is not bool of the picture's size.

    Source: MIGE, `MIGEBench_extract_entity.py`.
    """
    check_picture("picture", picture)
    detection = detector.detect(picture, phrase)
    box = None if detection is None else pixel_box(detection.box, picture.shape)
    if detection is None or box is None:
        return SubjectCut(picture, None)
    mask = segmenter.segment(picture, detection.box)
    if mask.dtype != np.bool_ or mask.shape != picture.shape[:2]:
        raise ValueError(
            f"{segmenter.name} gave a mask of {mask.dtype} {mask.shape} for a picture of {picture.shape[:2]}: a mask "
            "is bool of the picture's height and width."
        )
    return SubjectCut(crop(np.where(mask[:, :, None], picture, np.uint8(0)), box), detection)


def pixel_box(box: Sequence[float], shape: Sequence[int]) -> Box | None:
    """A detector's box in whole pixels, rounded as Pillow's `crop` does and cut to the picture.

    Args:
        box: (left, top, right, bottom).
        shape: of the picture, height first.

    Returns:
        The box; None if no pixel is left.
    """
    left, top, right, bottom = (
        min(max(round(edge), 0), limit) for edge, limit in zip(box, (shape[1], shape[0]) * 2, strict=True)
    )
    return Box(left, top, right, bottom) if left < right and top < bottom else None


@dataclass(frozen=True)
class SubjectPair:
    """An edited picture and what it should show.

    Attributes:
        edited: (H, W, 3) uint8.
        phrase: the subject's name, for the detector.
        subject: (h, w, 3) uint8, the picture that was given of it, black outside of it.
    """

    edited: np.ndarray
    phrase: str
    subject: np.ndarray


@dataclass(frozen=True)
class SubjectScore:
    """How much of the subject is preserved in one picture.

    Attributes:
        values: metric -> cosine, -1..1; of the whole picture if nothing was found.
        detection: what was found; None if nothing.
    """

    values: Mapping[str, float]
    detection: Detection | None


@dataclass(frozen=True)
class SubjectSummary:
    """How much of the subjects is preserved in many pictures.

    Attributes:
        means: metric -> mean over all pictures, whole pictures where nothing was found (as published).
        means_detected: metric -> mean over the pictures in which the subject was found; None if there is none.
        detection_rate: share of those, with its interval.
    """

    means: Mapping[str, float | None]
    means_detected: Mapping[str, float | None]
    detection_rate: Rate


def subject_preservation(
    encoders: Mapping[str, ImageEncoder],
    pairs: Iterable[SubjectPair],
    *,
    detector: Detector,
    segmenter: Segmenter,
    batch_size: int = BATCH_SIZE,
) -> Iterator[SubjectScore]:
    """Cosine of the cut-out subject and the picture that was given of it.

    Args:
        encoders: name of the metric, e.g. "DINO" or "CLIP_I" -> its encoder.
        pairs: read batch by batch.
        detector: see `load_detector`.
        segmenter: see `load_segmenter`.
        batch_size: pairs that are encoded at a time; detector and segmenter see one picture at a time.

    Yields:
        One score per pair.

    Raises:
        ValueError: if there is no encoder; and as `cut_subject`.
    """
    if not encoders:
        raise ValueError("no encoder: give at least one, e.g. {'DINO': load_dino()}.")
    for batch in batches(pairs, batch_size):
        cuts = [cut_subject(pair.edited, pair.phrase, detector=detector, segmenter=segmenter) for pair in batch]
        couples = [(cut.picture, pair.subject) for cut, pair in zip(cuts, batch, strict=True)]
        columns = {
            name: list(image_similarity(encoder, couples, batch_size=batch_size)) for name, encoder in encoders.items()
        }
        for i, cut in enumerate(cuts):
            yield SubjectScore({name: column[i] for name, column in columns.items()}, cut.detection)


def summarise_subjects(scores: Iterable[SubjectScore]) -> SubjectSummary:
    """Means and detection rate.

    Raises:
        ValueError: if there is no score.
    """
    scores = list(scores)
    found = rate(score.detection is not None for score in scores)
    names = scores[0].values
    return SubjectSummary(
        means={name: mean(score.values[name] for score in scores) for name in names},
        means_detected={
            name: mean(score.values[name] for score in scores if score.detection is not None) for name in names
        },
        detection_rate=found,
    )
