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
    """An object of a photo, as far as it is known by now.

    Attributes:
        name: its category, e.g. "teapot".
        caption: what it looks like in a few words, "a blue teapot".
        detailed_caption: the same at length, with where it stands.
        box: left, top, right, bottom in pixels of the photo; None before it is detected.
        mask: (H, W) bool over the photo; None before it is segmented.
        score: of the detector, 0 to 1; None before.
    """

    name: str
    caption: str = ""
    detailed_caption: str = ""
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None
    score: float | None = None

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
    """A photo on its way to becoming an editing pair. Steps return changed copies: `record.but(caption=...)`.

    Attributes:
        key: unique in a run; what is made of a record has a key below its own, `00017` -> `00017/2-remove`.
        image: (H, W, 3) uint8 RGB, the photo as it was read; None where pairs were read instead.
        caption: of the photo.
        things: objects in it.
        task: what the pair does, one of `TASKS`; "" while there is no pair.
        source: (H, W, 3) uint8 RGB before the edit; None for pairs that draw from blank.
        target: (H, W, 3) uint8 RGB after the edit, of the source's size; None while there is no pair.
        mask: (H, W) bool, where the edit is meant to change the picture.
        class_origin: what is edited; "" where something is added.
        class_target: what comes in its place; "" where something is removed.
        detailed_origin: detailed caption of what is edited.
        detailed_target: detailed caption of what comes.
        instructions: wordings of one edit, by kind: "template", "simple", "advanced", "reasoning", "expressive".
        references: pictures (h, w, 3) uint8 RGB for each `<imagehere>` of the instructions, in order.
        scores: of the quality step, by name.
        truth: what is known where the picture was rendered, ready for JSON; empty for photographs. Only oracle
            backends and reports look at it.
        notes: what steps want to keep for the output, ready for JSON.
    """

    key: str
    image: np.ndarray | None = None
    caption: str = ""
    things: tuple[ObjectAnnotation, ...] = ()
    task: str = ""
    source: np.ndarray | None = None
    target: np.ndarray | None = None
    mask: np.ndarray | None = None
    class_origin: str = ""
    class_target: str = ""
    detailed_origin: str = ""
    detailed_target: str = ""
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: tuple[np.ndarray, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

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
        """Refuse a pair that cannot be trained on.

        Raises:
            ValueError: one sentence; what is missing or does not fit.
        """
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
    """A record that a step refuses.

    Attributes:
        key: of the record.
        step: that refused it.
        reason: in a few words, the same for all of a kind, so that reasons can be counted: "mask is too small".
        detail: about this one: "0.02 % of the picture".
    """

    key: str
    step: str
    reason: str
    detail: str = ""
