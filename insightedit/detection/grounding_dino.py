"""Grounding DINO: boxes of what phrases name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from insightedit.detection import Detection
from insightedit.modeling.pretrained import weights_digest

Span = tuple[str, int, int]  # a phrase, and where it begins and ends in the text


class GroundingDinoDetector:
    """Grounding DINO: `GroundingDinoForObjectDetection` and `GroundingDinoProcessor`; `name` is for records.

    It counts `pictures_seen`, each as often as it went through the network, and `tokens_read` of their texts.
    """

    def __init__(self, model: Any, processor: Any, *, name: str = "") -> None:
        self.model, self.processor, self.name = model.eval(), processor, name
        self.pictures_seen = self.tokens_read = 0
        self._limits = {"truncation": True, "max_length": model.config.max_text_len}  # of a text

    @cached_property
    def revision(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    def best_box(self, picture: np.ndarray, phrase: str, *, threshold: float) -> Detection | None:
        """The best box for a phrase, of a score above the threshold, as MIGEBench finds its subjects; None without one.

        It may reach beyond the picture's edges. MIGEBench's text threshold of 0.25 only decides which words a box is
        labelled with, not which box is taken, so there is none here.
        """
        text = phrase.strip().lower().rstrip(".")
        if not text:
            raise ValueError("the phrase is empty: name the object to be found.")
        inputs, outputs = self._forward([picture], [f"{text}."])
        found = self.processor.post_process_grounded_object_detection(
            outputs, inputs.input_ids, threshold=threshold, target_sizes=[picture.shape[:2]]
        )[0]
        if not len(found["scores"]):
            return None
        best = int(found["scores"].argmax())
        left, top, right, bottom = found["boxes"][best].tolist()
        return Detection(phrase, (left, top, right, bottom), float(found["scores"][best]))

    def detect(
        self,
        pictures: Sequence[np.ndarray],
        phrases: Sequence[Sequence[str]],
        *,
        box_threshold: float,
        text_threshold: float,
        batch_size: int = 4,
    ) -> list[list[Detection]]:
        """All boxes of several phrases, best first and cut to the picture, for each of B pictures (H, W, 3) uint8.

        All phrases of a picture are put into one text, "a dog. a cat."; a box belongs to the phrase whose tokens it
        agrees with best. Pictures of one size go through together, so no picture is padded and a batch finds what
        single pictures would; a text too long for the model is read in parts. Empty phrases and repetitions are left
        out.

        A box has to exceed `box_threshold`, and its phrase `text_threshold` in it, which is of use below the other only
        where a box owes its score to a full stop; both 0..1.
        """
        passes: dict[tuple[int, ...], list[tuple[int, list[Span], str]]] = {}
        for number, (picture, wanted) in enumerate(zip(pictures, phrases, strict=True)):
            for spans, text in self.join_phrases(wanted):
                passes.setdefault(picture.shape[:2], []).append((number, spans, text))
        found: list[list[Detection]] = [[] for _ in pictures]
        for size, same_size in passes.items():
            for start in range(0, len(same_size), batch_size):
                numbers, spans, texts = zip(*same_size[start : start + batch_size], strict=True)
                _, outputs = self._forward([pictures[number] for number in numbers], list(texts))
                scores = outputs.logits.float().sigmoid().cpu().numpy()  # [b, q, t]: of each box at each token
                boxes = outputs.pred_boxes.float().cpu().numpy()  # [b, q, 4], centre and size, shares of the picture
                places = self.processor.tokenizer(list(texts), return_offsets_mapping=True, **self._limits)
                for i, number in enumerate(numbers):
                    # full stops and [CLS] attract scores too: a phrase is judged by the tokens of its own words
                    owned = [
                        [t for t, (a, b) in enumerate(places["offset_mapping"][i]) if a < b and a < end and b > begin]
                        or [0]
                        for _, begin, end in spans[i]
                    ]
                    by_phrase = np.stack([scores[i][:, tokens].max(axis=1) for tokens in owned], axis=1)  # [q, p]
                    kept = np.flatnonzero(scores[i].max(axis=1) > box_threshold)
                    names = [phrase for phrase, _, _ in spans[i]]
                    some = assign_phrases(names, by_phrase[kept], boxes[i][kept], size)
                    found[number] += [one for one in some if one.score > text_threshold]
        return [sorted(some, key=lambda one: -one.score) for some in found]

    def join_phrases(self, phrases: Sequence[str]) -> list[tuple[list[Span], str]]:
        """Phrases joined to texts that the model can read, with the places of the phrases."""
        texts: list[tuple[list[Span], str]] = []
        seen: set[str] = set()
        for phrase in phrases:
            words = " ".join(phrase.lower().replace(".", " ").split())
            if not words or words in seen:
                continue
            seen.add(words)
            spans, text = texts[-1] if texts else ([], "")
            longer = f"{text} {words}." if text else f"{words}."
            if texts and len(self.processor.tokenizer(longer)["input_ids"]) <= self._limits["max_length"]:
                spans.append((phrase, len(longer) - len(words) - 1, len(longer) - 1))
                texts[-1] = (spans, longer)
            else:
                texts.append(([(phrase, 0, len(words))], f"{words}."))
        return texts

    @torch.no_grad()
    def _forward(self, pictures: list[np.ndarray], texts: list[str]) -> tuple[Any, Any]:
        """Inputs and outputs of pictures of one size, each with its text."""
        images = [Image.fromarray(picture) for picture in pictures]
        inputs = self.processor(images=images, text=texts, return_tensors="pt", padding=True, **self._limits)
        self.pictures_seen += len(pictures)
        self.tokens_read += int(inputs["attention_mask"].sum())
        return inputs, self.model(**inputs.to(self.model.device, dtype=self.model.dtype))


def assign_phrases(
    phrases: Sequence[str], scores: np.ndarray, boxes: np.ndarray, size: tuple[int, ...]
) -> list[Detection]:
    """Boxes with the phrase that each agrees with best, cut to the picture; those with nothing inside it are dropped.

    Of P phrases: scores (Q, P); boxes (Q, 4), centre x, centre y, width and height, in shares of the picture; size of
    the picture, height first.
    """
    height, width = size
    found = []
    for row, (x, y, w, h) in zip(scores, boxes.astype(np.float64).tolist(), strict=True):
        best = int(row.argmax())
        left, right = (min(max(edge, 0.0), 1.0) * width for edge in (x - w / 2, x + w / 2))
        top, bottom = (min(max(edge, 0.0), 1.0) * height for edge in (y - h / 2, y + h / 2))
        if right > left and bottom > top:
            found.append(Detection(phrases[best], (left, top, right, bottom), float(row[best])))
    return found
