"""What recipes ask of models: pictures are (H, W, 3) uint8 RGB arrays, masks (H, W) bool, boxes pixels xyxy.

| backends | method | B things -> B answers, so that a model can batch |
| --- | --- | --- |
| chat, judge, summariser | `answer(questions)` | `Question`s -> texts; "" where there is none |
| detector | `detect(pictures, phrases, truths)` | for each the phrases to look for -> `Detection`s, best first |
| segmenter | `segment(pictures, boxes, truths)` | for each K boxes -> lists of K masks |
| inpainter | `paint(requests)` | `InpaintRequest`s -> pictures of the same sizes, unchanged outside the masks |
| harmoniser | `harmonise(requests)` | `CompositeRequest`s -> the same |

All have a `name` (of the model, for manifests: hub id and revision, or "oracle"), `settings` (what else decides about
the answers, ready for JSON) and their `usage` so far. `truths` are the records' `truth`, one for each picture: real
models ignore them; an oracle, which draws or knows the scene, reads nothing else. A backend is loaded from a config
entry, `backends.NAME: {kind: KIND, ...}`: see `loading.load_backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Truth = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One question to a language model that may see pictures."""

    prompt: str
    pictures: tuple[np.ndarray, ...] = ()  # in the order in which the prompt speaks of them
    task: str = ""  # what the answer is for, e.g. "caption", "objects", "sc": an oracle answers by it
    about: Mapping[str, Any] = field(default_factory=dict)  # what the prompt was made of, for JSON; an oracle reads it
    truth: Truth = field(default_factory=dict)
    attempt: int = 0  # which attempt after an unusable answer, from 0


@dataclass(frozen=True)
class Usage:
    """What was used so far."""

    calls: int = 0  # questions that were answered, from the store or anew
    asked: int = 0  # of those, questions that a model answered anew
    input_tokens: int = 0  # of the new answers; 0 where nobody counts
    output_tokens: int = 0
    cost: float = 0.0  # of the new answers in the config's currency; 0.0 where no price is set
    seconds: float = 0.0  # that were spent waiting for answers


@dataclass(frozen=True)
class InpaintRequest:
    """What to paint where: a picture, and the mask of what may change."""

    picture: np.ndarray
    mask: np.ndarray
    prompt: str = ""  # what shall be seen there; "" = what would be behind it (removal)
    negative_prompt: str = ""
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # e.g. {"class_origin": "dog"}; an oracle reads it


@dataclass(frozen=True)
class CompositeRequest:
    """Something pasted into a picture that shall look as if it belonged there (SmartEdit's fourth picture)."""

    picture: np.ndarray  # with the thing pasted in
    mask: np.ndarray  # the thing's pixels
    background: np.ndarray  # the picture without it
    seed: int = 0  # of the noise
    truth: Truth = field(default_factory=dict)
