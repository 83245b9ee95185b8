"""What was measured, exactly: two numbers may stand in one table only if their protocol hashes are equal.

The hash covers the scenes and the rule of success. Fields that later versions add to the records leave it alone as long
as every earlier number stays the same bit for bit, so that old and new reports compare; they have rules and a hash of
their own (`insightedit.evaluation.scenes.details`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from insightedit.evaluation.scenes import metrics

RULES = {
    "editing": "scenes_v1",
    "subject": "scenes_subject_v1",
    "subject_editing": "scenes_subject_editing_v1",
}  # task -> name of its rules


@dataclass(frozen=True)
class SceneProtocol:
    """The set of scenes and the rules.

    Attributes:
        split: of the scenes.
        size: pixels of a side.
        seed: of the scenes.
        count: scenes.
        pairs: minimal pairs.
        data_sha256: over the bytes of every source (or, for a new picture, empty backdrop), target, instruction
            and reference, so that a changed scene generator shows.
        name: of the task's rules, from `RULES`; a change of a definition gets a new name.
        min_progress: see `scenes_metrics`.
        max_leak: see `scenes_metrics`.
        leak_threshold: grey levels.
        psnr_cap: dB.
        background_radius: pixels.
        box_width: pixels.
    """

    split: str
    size: int
    seed: int
    count: int
    pairs: int
    data_sha256: str
    name: str = RULES["editing"]
    min_progress: float = metrics.MIN_PROGRESS
    max_leak: float = metrics.MAX_LEAK
    leak_threshold: int = metrics.SUCCESS_THRESHOLD
    psnr_cap: float = metrics.PSNR_CAP
    background_radius: int = 0
    box_width: int = 0

    @classmethod
    def describe(
        cls, *, split: str, size: int, seed: int, count: int, pairs: int, data_sha256: str, task: str = "editing"
    ) -> SceneProtocol:
        """The protocol for scenes of `size`, with the pixel widths that follow from it."""
        return cls(
            split,
            size,
            seed,
            count,
            pairs,
            data_sha256,
            RULES[task],
            background_radius=metrics.background_radius(size),
            box_width=metrics.box_width(size),
        )

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
