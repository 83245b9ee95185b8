"""Grounding DINO, SAM and SAM 2 as backends: loaded with the first call, counted, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_recipes.backends.base import LocalModel, Truth
from insightedit.detection import XYXY, Detection
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from insightedit.detection.grounding_dino import GroundingDinoDetector
    from insightedit.detection.sam import SamSegmenter


@dataclass(eq=False)
class _VisionModel(LocalModel):
    half = "float32"  # unless asked otherwise: Grounding DINO's deformable attention is not exact enough in less
    classes: ClassVar[tuple[str, str]]  # model and processor, of transformers

    def _load(self, made: Any) -> Any:
        import transformers

        model_class, processor_class = (getattr(transformers, name) for name in self.classes)
        device, dtype = self.place()
        processor = load_pretrained(processor_class, self.model, revision=self.revision)
        network = load_pretrained(model_class, self.model, revision=self.revision, dtype=dtype)
        return made(network.requires_grad_(False).to(device), processor, name=self.name)


@dataclass(eq=False)
class GroundingDino(_VisionModel):
    """Finds things by phrases, several in one pass."""

    model: str = "IDEA-Research/grounding-dino-base"  # in the format of transformers' GroundingDinoForObjectDetection
    _: KW_ONLY
    box_threshold: float = 0.4  # score that a box has to exceed, 0 to 1. AdvancedEdit: 0.4.
    text_threshold: float = 0.3  # score that a phrase has to exceed in its box, 0 to 1. AdvancedEdit: 0.3.
    batch_size: int = 4  # pictures at a time

    classes = ("AutoModelForZeroShotObjectDetection", "AutoProcessor")
    deciding = ("box_threshold", "text_threshold", "dtype")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("box_threshold", "text_threshold"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}: scores are from 0 to 1, choose a number below 1.")

    @cached_property
    def detector(self) -> GroundingDinoDetector:
        """The network, loaded when it is first asked for."""
        from insightedit.detection.grounding_dino import GroundingDinoDetector

        return self._load(GroundingDinoDetector)

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """See `backends.base` and `GroundingDinoDetector.detect`."""
        with self.timed(len(pictures)):
            if not len(pictures):
                return []
            seen, read = self.detector.pictures_seen, self.detector.tokens_read
            thresholds = {"box_threshold": self.box_threshold, "text_threshold": self.text_threshold}
            found = self.detector.detect(pictures, phrases, batch_size=self.batch_size, **thresholds)
            self.count(asked=self.detector.pictures_seen - seen, input_tokens=self.detector.tokens_read - read)
            return found


@dataclass(eq=False)
class Sam(_VisionModel):
    """Segment Anything, by boxes; `model` is in the format of transformers' SamModel."""

    model: str = "facebook/sam-vit-huge"
    _: KW_ONLY
    batch_size: int = 2

    classes = ("SamModel", "SamProcessor")

    @cached_property
    def segmenter(self) -> SamSegmenter:
        """The network, loaded when it is first asked for."""
        from insightedit.detection.sam import SamSegmenter

        return self._load(SamSegmenter)

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[XYXY]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """See `backends.base` and `SamSegmenter.segment`."""
        masks: list[list[np.ndarray]] = [[] for _ in pictures]
        numbers = [number for number, some in enumerate(boxes) if len(some)]
        with self.timed(len(pictures)):
            for start in range(0, len(numbers), self.batch_size):
                chosen = numbers[start : start + self.batch_size]
                found = self.segmenter.segment([pictures[n] for n in chosen], [boxes[n] for n in chosen])
                for number, some in zip(chosen, found, strict=True):
                    masks[number] = some
                self.count(asked=len(chosen))
        return masks


@dataclass(eq=False)
class Sam2(Sam):
    """Segment Anything 2, by boxes; AdvancedEdit took sam2_hiera_large, version 2."""

    model: str = "facebook/sam2.1-hiera-large"

    classes = ("Sam2Model", "Sam2Processor")
