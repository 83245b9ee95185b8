"""Is the subject still the same: find it, cut it out, compare it with the picture that was given of it.

MIGEBench's rule: the detector's best box for the subject's name; the segmenter's mask of that box; everything
outside the mask black; cut to the box; cosine with the subject's picture (the black version of it, as the crop is
black outside). Where nothing is found, MIGEBench compares the *whole picture*, which hides failures: so the share of
detections is part of the result.

Not as in MIGEBench: its crops went through a JPEG file, ours do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from insightedit.detection.grounding_dino import Detection, GroundingDinoDetector
from insightedit.detection.sam import SamSegmenter
from insightedit.evaluation.metrics.masks import Box, crop
from insightedit.evaluation.metrics.pretrained import Device, Source, load_model, read
from insightedit.evaluation.scenes.scoring import check_picture

BOX_THRESHOLD = 0.3


def load_detector(
    model: Source = "IDEA-Research/grounding-dino-base", *, device: Device = "cpu"
) -> GroundingDinoDetector:
    """Grounding DINO from the disk, in float32; the default is `groundingdino_swinb_cogcoor` of the original."""
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

    network = load_model(GroundingDinoForObjectDetection, model, device=device)
    processor = read(GroundingDinoProcessor.from_pretrained, model, local_files_only=True)
    return GroundingDinoDetector(network, processor, name=str(model))


def load_segmenter(model: Source = "facebook/sam-vit-huge", *, device: Device = "cpu") -> SamSegmenter:
    """SAM from the disk, in float32."""
    from transformers import SamModel, SamProcessor

    network = load_model(SamModel, model, device=device)
    processor = read(SamProcessor.from_pretrained, model, local_files_only=True)
    return SamSegmenter(network, processor, name=str(model))


@dataclass(frozen=True)
class SubjectCut:
    """A subject, cut out."""

    picture: np.ndarray  # (h, w, 3) uint8, black outside of the mask; the whole picture if nothing was found
    detection: Detection | None  # None if nothing was found


def cut_subject(
    picture: np.ndarray, phrase: str, *, detector: GroundingDinoDetector, segmenter: SamSegmenter
) -> SubjectCut:
    """Find and cut out the subject a phrase names in a picture (H, W, 3) uint8, as `MIGEBench_extract_entity.py`."""
    check_picture("picture", picture)
    detection = detector.best_box(picture, phrase, threshold=BOX_THRESHOLD)
    box = None if detection is None else pixel_box(detection.box, picture.shape)
    if detection is None or box is None:
        return SubjectCut(picture, None)
    ((mask,),) = segmenter.segment([picture], [[detection.box]], best_of_three=False)
    if mask.dtype != np.bool_ or mask.shape != picture.shape[:2]:
        raise ValueError(
            f"{segmenter.name} gave a mask of {mask.dtype} {mask.shape} for a picture of {picture.shape[:2]}: a mask "
            "is bool of the picture's height and width."
        )
    # the segmenter may go beyond the box: black first, then the crop
    return SubjectCut(crop(np.where(mask[:, :, None], picture, np.uint8(0)), box), detection)


def pixel_box(box: Sequence[float], shape: Sequence[int]) -> Box | None:
    """A detector's box (left, top, right, bottom) in whole pixels inside a picture of `shape`; None if none is left."""
    limits = (shape[1], shape[0]) * 2  # shape has the height first, boxes the horizontal edge
    edges = (min(max(round(edge), 0), limit) for edge, limit in zip(box, limits, strict=True))  # rounded as by Pillow
    found = Box(*edges)
    return found if found.left < found.right and found.top < found.bottom else None
