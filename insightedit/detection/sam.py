"""SAM and SAM 2: masks of what is in boxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from insightedit.detection import XYXY
from insightedit.modeling.pretrained import weights_digest


class SamSegmenter:
    """SAM or SAM 2, asked with boxes: a `SamModel` or `Sam2Model` with its processor; `name` is for records."""

    def __init__(self, model: Any, processor: Any, *, name: str = "") -> None:
        self.model, self.processor, self.name = model.eval(), processor, name

    @cached_property
    def revision(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    @torch.no_grad()
    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[XYXY]], *, best_of_three: bool = True
    ) -> list[list[np.ndarray]]:
        """Masks (H, W) bool of what is in boxes (at least one a picture, xyxy in pixels) of B pictures (H, W, 3) uint8.

        Of the three masks that are proposed for a box, the one of the best predicted IoU is taken; without
        `best_of_three` a single mask is asked for (MIGEBench).
        """
        longest = max(len(some) for some in boxes)  # all have to have as many: the last one again, to be cut off
        filled = [[list(box) for box in (*some, *[some[-1]] * (longest - len(some)))] for some in boxes]
        images = [Image.fromarray(picture) for picture in pictures]
        inputs = self.processor(images=images, input_boxes=filled, return_tensors="pt").to(self.model.device)
        outputs = self.model(
            pixel_values=inputs["pixel_values"].to(self.model.dtype),
            input_boxes=inputs["input_boxes"].to(self.model.dtype),  # the processor makes them float64
            multimask_output=best_of_three,
        )
        best = outputs.iou_scores.argmax(dim=-1)[..., None, None, None]  # [b, k, 1, 1, 1]
        index = best.expand(-1, -1, 1, *outputs.pred_masks.shape[-2:])
        logits = list(outputs.pred_masks.float().gather(2, index))  # b times [k, 1, h, w]
        # SAM's logits still cover the square that the picture was padded to, SAM 2's the picture alone
        padded = [inputs["reshaped_input_sizes"]] if "reshaped_input_sizes" in inputs else []
        whole = self.processor.post_process_masks(logits, [picture.shape[:2] for picture in pictures], *padded)
        return [
            [np.ascontiguousarray(mask[0].cpu().numpy().astype(bool)) for mask in masks[: len(some)]]
            for masks, some in zip(whole, boxes, strict=True)
        ]
