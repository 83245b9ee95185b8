"""What recipes ask of models. Pictures are (H, W, 3) uint8 RGB arrays, masks (H, W) bool, boxes pixels xyxy.

Every backend is loaded from a config entry, `backends.NAME: {kind: KIND, ...}`: see `loading.load_backend`. Each
method takes B things and gives B answers, so that a model can batch. `truths` are the records' `truth`, one for each
picture: real models ignore them; an oracle, which draws or knows the scene, reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from insightedit.detection import XYXY, Detection

Truth = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One question to a language model that may see pictures."""

    prompt: str
    pictures: tuple[np.ndarray, ...] = ()  # (H, W, 3) uint8 RGB, in the order in which the prompt speaks of them
    task: str = ""  # what the answer is for, e.g. "caption", "objects", "sc": an oracle answers by it
    about: Mapping[str, Any] = field(default_factory=dict)  # what the prompt was made of, for JSON; an oracle reads it
    truth: Truth = field(default_factory=dict)
    attempt: int = 0  # which attempt after an unusable answer, from 0


@dataclass(frozen=True)
class Usage:
    """What was used so far.

    Attributes:
        calls: questions that were answered, from the store or anew.
        asked: of those, questions that a model answered anew.
        input_tokens, output_tokens: of the new answers; 0 where nobody counts.
        cost: of the new answers in the config's currency; 0.0 where no price is set.
        seconds: that were spent waiting for answers.
    """

    calls: int = 0
    asked: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


class Backend(Protocol):
    """What all backends have."""

    name: str  # of the model, for manifests: hub id and revision, or "oracle"
    settings: Mapping[str, Any]  # what else decides about its answers, ready for JSON
    usage: Usage  # what was used so far


class Chat(Backend, Protocol):
    """A language model, with or without eyes: `chat` writes, `judge` scores, `summariser` shortens."""

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions -> B answers; "" where there is none."""
        ...


class Detector(Backend, Protocol):
    """Finds things by words (Grounding DINO)."""

    def detect(
        self, pictures: Sequence[np.ndarray], phrases: Sequence[Sequence[str]], truths: Sequence[Truth]
    ) -> list[list[Detection]]:
        """B pictures and for each the phrases to look for -> B lists, best first; empty where nothing is found."""
        ...


class Segmenter(Backend, Protocol):
    """Cuts out what is in a box (SAM, SAM 2)."""

    def segment(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[XYXY]], truths: Sequence[Truth]
    ) -> list[list[np.ndarray]]:
        """B pictures and for each K boxes -> B lists of K masks (H, W) bool."""
        ...


@dataclass(frozen=True)
class InpaintRequest:
    """What to paint where: a picture (H, W, 3) uint8 RGB, and the mask (H, W) bool of what may change."""

    picture: np.ndarray
    mask: np.ndarray
    prompt: str = ""  # what shall be seen there; "" = what would be behind it (removal)
    negative_prompt: str = ""
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # e.g. {"class_origin": "dog"}; an oracle reads it


class Inpainter(Backend, Protocol):
    """Paints within masks (any inpainting pipeline of diffusers; models of the BrushNet or PowerPaint class)."""

    def paint(self, paintings: Sequence[InpaintRequest]) -> list[np.ndarray]:
        """B paintings -> B pictures (H, W, 3) uint8 RGB of the given sizes, unchanged outside the masks."""
        ...


@dataclass(frozen=True)
class CompositeRequest:
    """Something pasted into a picture that shall look as if it belonged there."""

    picture: np.ndarray  # (H, W, 3) uint8 RGB with the thing pasted in
    mask: np.ndarray  # (H, W) bool, the thing's pixels
    background: np.ndarray  # (H, W, 3) uint8 RGB without it
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)


class Harmoniser(Backend, Protocol):
    """Adapts light and colours of what was pasted (SmartEdit's fourth picture)."""

    def harmonise(self, pastings: Sequence[CompositeRequest]) -> list[np.ndarray]:
        """B pastings -> B pictures (H, W, 3) uint8 RGB, unchanged outside the masks."""
        ...
