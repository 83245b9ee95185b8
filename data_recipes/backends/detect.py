"""Grounding DINO: boxes of what phrases name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_recipes.backends.base import Detection, Truth
from data_recipes.backends.loading import VisionModel

Span = tuple[str, int, int]  # a phrase, and where it begins and ends in the text


class GroundingDino(VisionModel):
    """Finds things by phrases, several in one pass.

    All phrases of a picture are put into one text, "a dog. a cat."; a box belongs to the phrase whose tokens it
    agrees with best. Pictures of one size go through together, so no picture is padded and a batch finds what single
    pictures would; a text too long for the model is read in parts.

    Args:
        model: hub id or folder, in the format of transformers' GroundingDinoForObjectDetection.
        revision: of the hub's repository.
        box_threshold: lowest score of a box, 0 to 1. AdvancedEdit: 0.4.
        text_threshold: lowest score of a phrase in its box, 0 to 1; of use below `box_threshold` only where a box owes
            its score to a full stop. AdvancedEdit: 0.3.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is float32: the model's deformable attention is not exact enough in less.
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
        super().__init__(model, revision, device, dtype, batch_size)
        for name, value in (("box_threshold", box_threshold), ("text_threshold", text_threshold)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}: scores are from 0 to 1, choose a number below 1.")
        self.settings = {"box_threshold": box_threshold, "text_threshold": text_threshold, "dtype": dtype}

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """See `base.Detector`; boxes lie within the picture."""
        found: list[list[Detection]] = [[] for _ in pictures]
        with self._counter.timed(len(pictures)), self._lock:
            if self._model is None and len(pictures):
                self._load()
            passes: dict[tuple[int, ...], list[tuple[int, list[Span], str]]] = {}
            for number, (picture, wanted) in enumerate(zip(pictures, phrases, strict=True)):
                for spans, text in self._texts(wanted):
                    passes.setdefault(picture.shape[:2], []).append((number, spans, text))
            for same_size in passes.values():
                for start in range(0, len(same_size), self._batch_size):
                    chosen = same_size[start : start + self._batch_size]
                    boxes = self._run([pictures[number] for number, _, _ in chosen], chosen)
                    for (number, _, _), some in zip(chosen, boxes, strict=True):
                        found[number] += some
        return [sorted(some, key=lambda one: -one.score) for some in found]

    def _load(self) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self._place(AutoModelForZeroShotObjectDetection, AutoProcessor)

    def _texts(self, phrases: Sequence[str]) -> list[tuple[list[Span], str]]:
        """Phrases joined to texts that the model can read, with the places of the phrases."""
        limit = self._model.config.max_text_len
        texts: list[tuple[list[Span], str]] = []
        told: set[str] = set()
        for phrase in phrases:
            words = " ".join(phrase.lower().replace(".", " ").split())
            if not words or words in told:
                continue
            told.add(words)
            spans, text = texts[-1] if texts else ([], "")
            longer = f"{text} {words}." if text else f"{words}."
            if texts and len(self._processor.tokenizer(longer)["input_ids"]) <= limit:
                spans.append((phrase, len(longer) - len(words) - 1, len(longer) - 1))
                texts[-1] = (spans, longer)
            else:
                texts.append(([(phrase, 0, len(words))], f"{words}."))
        return texts

    def _run(self, pictures: list[np.ndarray], chosen: list[tuple[int, list[Span], str]]) -> list[list[Detection]]:
        """Boxes in pictures of one size, by the phrases of each."""
        import torch
        from PIL import Image

        texts = [text for _, _, text in chosen]
        inputs = self._processor(
            images=[Image.fromarray(picture) for picture in pictures],
            text=texts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._model.config.max_text_len,
        )
        places = self._processor.tokenizer(
            texts, return_offsets_mapping=True, truncation=True, max_length=self._model.config.max_text_len
        )["offset_mapping"]
        with torch.no_grad():
            outputs = self._model(**inputs.to(self._model.device, dtype=self._model.dtype))
        self._counter.add(asked=len(pictures), input_tokens=int(inputs["attention_mask"].sum()))
        scores = outputs.logits.float().sigmoid().cpu().numpy()  # (B, Q, T)
        boxes = outputs.pred_boxes.float().cpu().numpy()  # (B, Q, 4), centre and size, shares of the picture
        return [
            self._detections(scores[i], boxes[i], chosen[i][1], places[i], picture.shape[:2])
            for i, picture in enumerate(pictures)
        ]

    def _detections(
        self,
        scores: np.ndarray,
        boxes: np.ndarray,
        spans: list[Span],
        places: list[tuple[int, int]],
        size: tuple[int, ...],
    ) -> list[Detection]:
        """What the thresholds leave of Q boxes (Q, 4) with their scores at T tokens (Q, T)."""
        owned = [_tokens(places, start, end) for _, start, end in spans]
        by_phrase = np.stack([scores[:, tokens].max(axis=1) for tokens in owned], axis=1)  # (Q, phrases)
        best = by_phrase.argmax(axis=1)
        height, width = size
        kept = []
        for query in np.flatnonzero(scores.max(axis=1) > self.settings["box_threshold"]):
            score = float(by_phrase[query, best[query]])
            if score <= self.settings["text_threshold"]:
                continue
            x, y, w, h = (float(value) for value in boxes[query])
            left, right = (min(max(edge, 0.0), 1.0) * width for edge in (x - w / 2, x + w / 2))
            top, bottom = (min(max(edge, 0.0), 1.0) * height for edge in (y - h / 2, y + h / 2))
            if right > left and bottom > top:
                kept.append(Detection(spans[best[query]][0], (left, top, right, bottom), score))
        return kept


def _tokens(places: list[tuple[int, int]], start: int, end: int) -> list[int]:
    """Tokens that lie within a part of the text; never none, since each phrase holds a letter."""
    return [number for number, (a, b) in enumerate(places) if a < b and a < end and b > start] or [0]
