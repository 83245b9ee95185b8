"""SAM and SAM 2: masks of what is in boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_recipes.backends.base import Truth
from data_recipes.backends.loading import VisionModel

Box = tuple[float, float, float, float]


class _BoxSegmenter(VisionModel, ABC):
    """What both have in common: of the three masks that are proposed for a box, the one of the best predicted IoU."""

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """See `base.Segmenter`."""
        masks: list[list[np.ndarray]] = [[] for _ in pictures]
        numbers = [number for number, some in enumerate(boxes) if len(some)]
        with self._counter.timed(len(pictures)), self._lock:
            if self._model is None and numbers:
                self._load()
            for start in range(0, len(numbers), self._batch_size):
                chosen = numbers[start : start + self._batch_size]
                found = self._run([pictures[n] for n in chosen], [boxes[n] for n in chosen])
                masks_of = dict(zip(chosen, found, strict=True))
                masks = [masks_of.get(number, kept) for number, kept in enumerate(masks)]
                self._counter.add(asked=len(chosen))
        return masks

    @abstractmethod
    def _load(self) -> None:
        """Place the model of a class of transformers."""

    def _run(self, pictures: list[np.ndarray], boxes: list[Sequence[Box]]) -> list[list[np.ndarray]]:
        """Masks of pictures that have a box each."""
        import torch
        from PIL import Image

        longest = max(len(some) for some in boxes)  # all have to have as many: the last one again, to be cut off
        filled = [[list(box) for box in (*some, *[some[-1]] * (longest - len(some)))] for some in boxes]
        inputs = self._processor(
            images=[Image.fromarray(picture) for picture in pictures], input_boxes=filled, return_tensors="pt"
        )
        sizes = [picture.shape[:2] for picture in pictures]
        inputs = inputs.to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        inputs["input_boxes"] = inputs["input_boxes"].to(self._model.dtype)
        with torch.no_grad():
            outputs = self._model(
                pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=True
            )
        best = outputs.iou_scores.argmax(dim=-1)  # (B, K)
        masks = [
            outputs.pred_masks[i].float().gather(1, best[i][:, None, None, None].expand(-1, 1, *hw))
            for i, hw in enumerate([outputs.pred_masks.shape[-2:]] * len(pictures))
        ]  # (K, 1, h, w) each
        whole = self._whole(masks, sizes, inputs)
        return [
            [np.ascontiguousarray(one[0].cpu().numpy().astype(bool)) for one in whole[i][: len(some)]]
            for i, some in enumerate(boxes)
        ]

    @abstractmethod
    def _whole(self, masks: list[Any], sizes: list[tuple[int, ...]], inputs: Any) -> list[Any]:
        """Logits (K, 1, h, w) each -> masks (K, 1, H, W) over the pictures."""


class Sam(_BoxSegmenter):
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

    def _load(self) -> None:
        from transformers import SamModel, SamProcessor

        self._place(SamModel, SamProcessor)

    def _whole(self, masks: list[Any], sizes: list[tuple[int, ...]], inputs: Any) -> list[Any]:
        return self._processor.post_process_masks(masks, sizes, inputs["reshaped_input_sizes"])


class Sam2(_BoxSegmenter):
    """Segment Anything 2, by boxes; AdvancedEdit took sam2_hiera_large, version 2. Arguments and errors as of `Sam`."""

    def __init__(
        self,
        model: str = "facebook/sam2.1-hiera-large",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 2,
    ) -> None:
        super().__init__(model, revision, device, dtype, batch_size)

    def _load(self) -> None:
        from transformers import Sam2Model, Sam2Processor

        self._place(Sam2Model, Sam2Processor)

    def _whole(self, masks: list[Any], sizes: list[tuple[int, ...]], inputs: Any) -> list[Any]:
        return self._processor.post_process_masks(masks, sizes)
