"""The one record every data source turns into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EditRecord:
    """One training sample.

    Attributes:
        key: name of the sample within its source, for messages.
        instruction: what the user asks for; for a caption record, the caption itself.
        source_image: (H, W, 3) uint8 RGB, None for text-only records.
        target_image: (H, W, 3) uint8 RGB of the same size, None for text-only and chat records.
        reply: the assistant's words where the record is a conversation, else None (a template is used).
        caption: text whose CLIP states stage 1 aligns with; None elsewhere.
    """

    key: str
    instruction: str
    source_image: np.ndarray | None = None
    target_image: np.ndarray | None = None
    reply: str | None = None
    caption: str | None = None

    @property
    def is_edit(self) -> bool:
        """Whether the record has a picture to draw."""
        return self.target_image is not None
