"""Grounding DINO, SAM and SAM 2 as backends: loaded with the first call, counted, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from data_recipes.backends.base import Truth
from data_recipes.backends.loading import DTYPES, CountedBackend, check_above, check_choice, model_name, place
from insightedit.detection import XYXY, Detection
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from insightedit.detection.grounding_dino import GroundingDinoDetector
    from insightedit.detection.sam import SamSegmenter


class _VisionBackend(CountedBackend):
    """A model of transformers that is shown pictures."""

    def __init__(
        self, model: str, revision: str | None, device: str | None, dtype: str, batch_size: int, **settings: float
    ) -> None:
        check_choice("dtype", dtype, DTYPES)
        check_above("batch_size", batch_size)
        super().__init__(model_name(model, revision), {**settings, "dtype": dtype})
        self._model_id, self._revision, self._device, self._batch_size = model, revision, device, batch_size

    def _load(self, made: Any, model_class: Any, processor_class: Any) -> Any:
        # float32 unless asked otherwise: Grounding DINO's deformable attention is not exact enough in less
        device, dtype = place(self._device, self.settings["dtype"], half="float32")
        processor = load_pretrained(processor_class, self._model_id, revision=self._revision)
        network = load_pretrained(model_class, self._model_id, revision=self._revision, dtype=dtype)
        return made(network.requires_grad_(False).to(device), processor, name=self.name)


class GroundingDino(_VisionBackend):
    """Finds things by phrases, several in one pass.

    Args:
        model: hub id or folder, in the format of transformers' GroundingDinoForObjectDetection.
        revision: of the hub's repository.
        box_threshold: score that a box has to exceed, 0 to 1. AdvancedEdit: 0.4.
        text_threshold: score that a phrase has to exceed in its box, 0 to 1. AdvancedEdit: 0.3.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is float32.
        batch_size: pictures at a time.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        model: str = "IDEA-Research/grounding-dino-base",
        *,
        revision: str | None = None,
        box_threshold: float = 0.4,
        text_threshold: float = 0.3,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 4,
    ) -> None:
        thresholds = {"box_threshold": box_threshold, "text_threshold": text_threshold}
        super().__init__(model, revision, device, dtype, batch_size, **thresholds)
        for name, value in thresholds.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}: scores are from 0 to 1, choose a number below 1.")
        self._thresholds = thresholds

    @cached_property
    def detector(self) -> GroundingDinoDetector:
        """The network, loaded when it is first asked for."""
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        from insightedit.detection.grounding_dino import GroundingDinoDetector

        return self._load(GroundingDinoDetector, AutoModelForZeroShotObjectDetection, AutoProcessor)

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """See `base.Detector` and `GroundingDinoDetector.detect`."""
        with self.timed(len(pictures)):
            if not len(pictures):
                return []
            seen, read = self.detector.pictures_seen, self.detector.tokens_read
            found = self.detector.detect(pictures, phrases, batch_size=self._batch_size, **self._thresholds)
            self.count(asked=self.detector.pictures_seen - seen, input_tokens=self.detector.tokens_read - read)
            return found


class Sam(_VisionBackend):
    """Segment Anything, by boxes.

    Args:
        model: hub id or folder, in the format of transformers' SamModel.
        revision: of the hub's repository.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is float32.
        batch_size: pictures at a time.

    Raises:
        ValueError: if a setting is out of range.
    """

    _classes = ("SamModel", "SamProcessor")

    def __init__(
        self,
        model: str = "facebook/sam-vit-huge",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 2,
    ) -> None:
        super().__init__(model, revision, device, dtype, batch_size)

    @cached_property
    def segmenter(self) -> SamSegmenter:
        """The network, loaded when it is first asked for."""
        import transformers

        from insightedit.detection.sam import SamSegmenter

        return self._load(SamSegmenter, *(getattr(transformers, name) for name in self._classes))

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[XYXY]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """See `base.Segmenter` and `SamSegmenter.segment`."""
        masks: list[list[np.ndarray]] = [[] for _ in pictures]
        numbers = [number for number, some in enumerate(boxes) if len(some)]
        with self.timed(len(pictures)):
            for start in range(0, len(numbers), self._batch_size):
                chosen = numbers[start : start + self._batch_size]
                found = self.segmenter.segment([pictures[n] for n in chosen], [boxes[n] for n in chosen])
                for number, some in zip(chosen, found, strict=True):
                    masks[number] = some
                self.count(asked=len(chosen))
        return masks


class Sam2(Sam):
    """Segment Anything 2, by boxes; AdvancedEdit took sam2_hiera_large, version 2. Arguments and errors as of `Sam`."""

    _classes = ("Sam2Model", "Sam2Processor")

    def __init__(
        self,
        model: str = "facebook/sam2.1-hiera-large",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 2,
    ) -> None:
        super().__init__(model, revision=revision, device=device, dtype=dtype, batch_size=batch_size)
