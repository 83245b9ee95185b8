"""What a record says beside success: exactness, predicates, attribute errors, likeness, codes of failure.

These fields stand beside those of the protocol and change none of them: the scenes, the rule of success and every
earlier number are the same, so the protocol's name and hash are, too, and reports with and without details compare.
The details have a name and a hash of their own, which a report carries; detail columns are set side by side only where
these agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.evaluation.scenes import attributes as scenes_attributes
from insightedit.evaluation.scenes import failures as scenes_failures
from insightedit.evaluation.scenes import graph as scenes_graph
from insightedit.evaluation.scenes import metrics
from insightedit.evaluation.scenes import scene_from_image as scenes_parse
from insightedit.evaluation.scenes.attributes import AttributeCase, AttributeErrors
from insightedit.evaluation.scenes.graph import Agreement, agreement, graph_case_of
from insightedit.evaluation.scenes.scene_from_image import parse, tone_shift

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.scoring import EditCase, EditScores


@dataclass(frozen=True)
class DetailRules:
    """The definitions behind the details; a change of one gets a new name."""

    name: str = "scenes_details_v1"  # of the definitions as a whole
    position_tolerance: int = scenes_graph.POSITION_TOLERANCE  # of an exact edit, thousandths of the side
    size_tolerance: float = scenes_graph.SIZE_TOLERANCE  # of an exact edit, natural logarithm of a ratio of heights
    min_gain: float = scenes_parse.MIN_GAIN  # see `scene_from_image`
    explained: float = scenes_parse.EXPLAINED  # see `scene_from_image`; grey levels
    thing_threshold: int = scenes_attributes.SUCCESS_THRESHOLD  # grey levels by which a thing's pixels stand out
    max_drift: int = scenes_failures.MAX_DRIFT  # see `failures`; grey levels
    max_shift: float = scenes_failures.MAX_SHIFT  # see `failures`; share of the side

    def to_dict(self) -> dict[str, Any]:
        """All of it and the first 16 hex digits of its SHA-256, ready for JSON."""
        values = asdict(self)
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return {**values, "hash": digest[:16]}


class DetailCase:
    """Details of one sample's outputs.

    Args:
        sample: any; only those of `data_recipes.scenes` have a graph, for others most details are None.
        case: the same sample's truth in pixels.
    """

    def __init__(self, sample: object, case: EditCase) -> None:
        self.case, self.graphs = case, graph_case_of(sample)

    @cached_property
    def _attributes(self) -> AttributeCase | None:
        return None if self.graphs is None else AttributeCase(self.graphs, self.case.target)

    @cached_property
    def _allowed_tone(self) -> np.ndarray:
        case = self.case
        return tone_shift(case.source, case.source if case.round_trip is None else case.round_trip, case.background)

    def _leaks(self, scores: EditScores, nearest: np.ndarray, output: np.ndarray) -> bool:
        """Whether more of the background has changed than the nearest candidate (a wrong object, say) explains."""
        if scores.leak is None or scores.leak_plain is None or scores.leak <= metrics.MAX_LEAK:
            return False
        changes = (metrics.largest_change(one, output)[self.case.background] for one in (self.case.source, nearest))
        leak = metrics.share_above(np.minimum(*changes), metrics.SUCCESS_THRESHOLD)
        allowed = scores.leak_plain - scores.leak  # the autoencoder's
        return leak - allowed > metrics.MAX_LEAK

    def of(self, scores: EditScores, output: np.ndarray) -> dict[str, Any]:
        """The details of one output O, (H, W, 3) uint8, ready for JSON.

        Returns:
            The fields of `Agreement` and `AttributeErrors`, `shift` (pixels to the right and down), `failure` (the
            primary code, None for a success) and `failures` (all codes, the primary first).
        """
        numbers: dict[str, Any] = dict.fromkeys(f.name for f in (*fields(Agreement), *fields(AttributeErrors)))
        codes: set[str] = set()
        case = self.case
        nearest = case.target if scores.nearest == "target" else case.rivals[scores.nearest]
        tone = tone_shift(case.source, output, case.background)
        if self.graphs is not None and self._attributes is not None:
            seen = parse(self.graphs, scores.nearest, nearest, output, tone)
            numbers |= vars(agreement(self.graphs.source, self.graphs.target, seen))
            numbers |= vars(self._attributes.errors(seen, output))
            codes |= scenes_failures.shown_failures(self.graphs, seen)
        if self._leaks(scores, nearest, output):
            codes.add("F5")
        if scenes_failures.is_drifted(tone, self._allowed_tone):
            codes.add("F11")
        moved = scenes_failures.shift_of(case.source, output, case.background)
        if any(moved):
            codes.add("F13")
        primary = scenes_failures.primary_failure(scores.success, scores.nearest, scores.progress)
        others = sorted(codes - {primary}, key=lambda code: int(code[1:]))
        first = [] if primary is None else [primary]
        return {**numbers, "shift": list(moved), "failure": primary, "failures": [*first, *others]}
