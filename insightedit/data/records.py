"""The one record every data source turns into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Task = Literal["editing", "subject", "subject_editing"]
TASKS: tuple[Task, ...] = ("editing", "subject", "subject_editing")
REFERENCE_PLACEHOLDER = "<imagehere>"


@dataclass(frozen=True)
class EditRecord:
    """One training sample.

    Attributes:
        key: name of the sample within its source, for messages.
        instruction: what the user asks for; for a caption record, the caption itself. With reference images it
            holds one `<imagehere>` for each of them, in order.
        source_image: (H, W, 3) uint8 RGB, None for text-only records and for the task `subject`, which draws on a
            blank canvas.
        target_image: (H, W, 3) uint8 RGB of the same size, None for text-only and chat records.
        reply: the assistant's words where the record is a conversation, else None (a template is used).
        caption: text whose CLIP states stage 1 aligns with; None elsewhere.
        reference_images: pictures (H, W, 3) uint8 RGB of any size that stand in the instruction's placeholders.
        task: `editing` of the source by words, `subject` (draw the referenced subjects from blank) or
            `subject_editing` (put a referenced subject into the source).

    Raises:
        ValueError: if placeholders and reference images differ in number, or the pictures are not the task's.
    """

    key: str
    instruction: str
    source_image: np.ndarray | None = None
    target_image: np.ndarray | None = None
    reply: str | None = None
    caption: str | None = None
    reference_images: tuple[np.ndarray, ...] = ()
    task: Task = "editing"

    def __post_init__(self) -> None:
        placeholders = self.instruction.count(REFERENCE_PLACEHOLDER)
        if placeholders != len(self.reference_images):
            raise ValueError(
                f"record {self.key} has {placeholders} {REFERENCE_PLACEHOLDER} in its instruction and "
                f"{len(self.reference_images)} reference images: there has to be one for each."
            )
        has = (self.source_image is not None, bool(self.reference_images))
        if (self.task == "subject" and has[0]) or (self.task == "subject_editing" and has != (True, True)):
            raise ValueError(
                f"record {self.key} is of the task {self.task} with{'' if has[0] else 'out'} a source and "
                f"with{'' if has[1] else 'out'} reference images: `subject` has no source, `subject_editing` has both."
            )

    @property
    def is_edit(self) -> bool:
        """Whether the record has a picture to draw."""
        return self.target_image is not None


def task_of(has_source: bool, has_references: bool) -> Task:
    """The task that follows from what is given, where instructions may carry pictures."""
    if not has_source:
        return "subject"
    return "subject_editing" if has_references else "editing"
