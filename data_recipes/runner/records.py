"""What flows through a data recipe: a photo, what is found in it, and the editing pair that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from insightedit.types import REFERENCE_PLACEHOLDER

TASKS = ("remove", "add", "replace", "recolour", "subject", "reasoning", "edit")


@dataclass(frozen=True)
class ObjectAnnotation:
    """An object of a photo, as far as it is known by now."""

    name: str  # its category, e.g. "teapot"
    caption: str = ""  # what it looks like in a few words, "a blue teapot"
    detailed_caption: str = ""  # the same at length, with where it stands
    # left, top, right, bottom in pixels of the photo; None before it is detected
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None  # (H, W) bool over the photo; None before it is segmented
    score: float | None = None  # of the detector, 0 to 1; None before

    @property
    def words(self) -> str:
        """What it is called: the caption, else the category."""
        return self.caption or self.name

    @property
    def pixels(self) -> np.ndarray:
        """The mask of a thing that has one."""
        assert self.mask is not None, "chosen by its mask"
        return self.mask


@dataclass(frozen=True)
class Record:
    """A photo on its way to becoming an editing pair. Steps return changed copies: `record.but(caption=...)`."""

    key: str  # unique in a run; what is made of a record has a key below its own, `00017` -> `00017/2-remove`
    # (H, W, 3) uint8 RGB, the photo as it was read; None where pairs were read instead
    image: np.ndarray | None = None
    caption: str = ""  # of the photo
    things: tuple[ObjectAnnotation, ...] = ()  # objects in it
    task: str = ""  # what the pair does, one of `TASKS`; "" while there is no pair
    source: np.ndarray | None = None  # (H, W, 3) uint8 RGB before the edit; None for pairs that draw from blank
    # (H, W, 3) uint8 RGB after the edit, of the source's size; None while there is no pair
    target: np.ndarray | None = None
    mask: np.ndarray | None = None  # (H, W) bool, where the edit is meant to change the picture
    class_origin: str = ""  # what is edited; "" where something is added
    class_target: str = ""  # what comes in its place; "" where something is removed
    detailed_origin: str = ""  # detailed caption of what is edited
    detailed_target: str = ""  # detailed caption of what comes
    # wordings of one edit, by kind: "template", "simple", "advanced", "reasoning", "expressive"
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # pictures (h, w, 3) uint8 RGB for each `<imagehere>` of the instructions, in order
    references: tuple[np.ndarray, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)  # of the quality step, by name
    # what is known where the picture was rendered, ready for JSON; empty for photographs. Only oracle backends and
    # reports look at it
    truth: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)  # what steps want to keep for the output, ready for JSON

    def but(self, **changes: Any) -> Record:
        """A copy with other values."""
        return replace(self, **changes)

    @property
    def photo(self) -> np.ndarray:
        """The image of a record that has one."""
        assert self.image is not None, "records without a photo are refused before"
        return self.image

    @property
    def is_pair(self) -> bool:
        """Whether there is something to train on."""
        return self.target is not None

    @property
    def wordings(self) -> tuple[str, ...]:
        """All instructions, each once, in the order of their kinds."""
        return tuple(dict.fromkeys(text for texts in self.instructions.values() for text in texts))

    @property
    def plain_wordings(self) -> tuple[str, ...]:
        """Those that a user would say: all but the expressive ones, in the order of their kinds."""
        return tuple(text for kind, texts in self.instructions.items() if kind != "expressive" for text in texts)

    def check(self) -> None:
        """Refuse a pair that cannot be trained on, by a ValueError that says what is missing or does not fit."""
        if self.target is None or not self.wordings:
            missing = "target picture" if self.target is None else "instruction"
            raise ValueError(f"{self.key} has no {missing}: the recipe lacks the step that makes it.")
        if self.task not in TASKS:
            raise ValueError(f"{self.key} is of the task {self.task!r}: it has to be one of {', '.join(TASKS)}.")
        size = self.target.shape[:2]
        for name, picture in (("source", self.source), ("mask", self.mask)):
            if picture is not None and picture.shape[:2] != size:
                raise ValueError(
                    f"{self.key} has a {name} of {picture.shape[1]} x {picture.shape[0]} px and a target of "
                    f"{size[1]} x {size[0]} px: both have to be of one size."
                )
        for text in self.wordings:
            if text.count(REFERENCE_PLACEHOLDER) not in (0, len(self.references)):
                raise ValueError(
                    f"{self.key} has {text.count(REFERENCE_PLACEHOLDER)} {REFERENCE_PLACEHOLDER} in {text!r} and "
                    f"{len(self.references)} reference pictures: there has to be one for each."
                )


@dataclass(frozen=True)
class Rejected:
    """A record that a step refuses."""

    key: str  # of the record
    step: str  # that refused it
    reason: str  # in a few words, the same for all of a kind, so that reasons can be counted: "mask is too small"
    detail: str = ""  # about this one: "0.02 % of the picture"
