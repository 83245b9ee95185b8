"""What a record says beside success: exactness, predicates, attribute errors, likeness, codes of failure.

These fields stand beside those of the protocol and change none of them: the scenes, the rule of success and every
earlier number are the same, so the protocol's name and hash are, too, and reports with and without details compare.
The details have a name and a hash of their own, which a report carries; detail columns are set side by side only where
these agree.

The codes of failure are F1 to F14, several for one output, one of them the primary: it follows from the verdict, that
is from the rule of success; the others from what the output shows. F8, F10, F12 and F14 are for people and judges:
scenes with exact truth do not tell them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from insightedit.evaluation.scenes import attributes as scenes_attributes
from insightedit.evaluation.scenes import graph as scenes_graph
from insightedit.evaluation.scenes import metrics
from insightedit.evaluation.scenes import scene_from_image as scenes_parse
from insightedit.evaluation.scenes.attributes import AttributeCase, AttributeErrors
from insightedit.evaluation.scenes.graph import (
    Agreement,
    GraphCase,
    SceneGraph,
    agreement,
    graph_case_of,
    is_as_large,
    is_near,
    snap,
)
from insightedit.evaluation.scenes.scene_from_image import parse, tone_shift

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.scoring import EditCase, EditScores


BY_KIND = {  # of the nearest candidate's name; any other kind is F3
    "source": "F1",
    "blank_canvas": "F1",
    "copy_reference": "F1",  # an input handed back
    "wrong_object": "F2",
    "only_object": "F4",
    "only_subject": "F4",
    "wrong_backdrop": "F5",  # the ground is not as it has to be
    "wrong_place": "F6",
    "wrong_direction": "F6",  # bigger in place of smaller
    "wrong_subject": "F9",
    "wrong_tint": "F9",
}
MAX_DRIFT = 8  # grey levels of a colour channel's median shift on the background
MAX_SHIFT = 0.1  # of the side
ALIGNED_PSNR = 35.0  # dB on the background, above which nothing can have shifted visibly
SHIFT_GAIN = 0.5  # share of the squared error on the background that a shift leaves at most


@dataclass(frozen=True)
class DetailRules:
    """The definitions behind the details; a change of one gets a new name."""

    name: str = "scenes_details_v1"  # of the definitions as a whole
    position_tolerance: int = scenes_graph.POSITION_TOLERANCE  # of an exact edit, thousandths of the side
    size_tolerance: float = scenes_graph.SIZE_TOLERANCE  # of an exact edit, natural logarithm of a ratio of heights
    min_gain: float = scenes_parse.MIN_GAIN  # see `scene_from_image`
    explained: float = scenes_parse.EXPLAINED  # see `scene_from_image`; grey levels
    thing_threshold: int = scenes_attributes.SUCCESS_THRESHOLD  # grey levels by which a thing's pixels stand out
    max_drift: int = MAX_DRIFT  # of tone; grey levels
    max_shift: float = MAX_SHIFT  # of the whole picture; share of the side

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
        self._attributes = None if self.graphs is None else AttributeCase(self.graphs, case.target)
        unedited = case.source if case.round_trip is None else case.round_trip
        self._allowed_tone = tone_shift(case.source, unedited, case.background)

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
            codes |= shown_failures(self.graphs, seen)
        if self._leaks(scores, nearest, output):
            codes.add("F5")
        if is_drifted(tone, self._allowed_tone):
            codes.add("F11")
        moved = shift_of(case.source, output, case.background)
        if any(moved):
            codes.add("F13")
        primary = primary_failure(scores.success, scores.nearest, scores.progress)
        others = sorted(codes - {primary}, key=lambda code: int(code[1:]))
        listed = others if primary is None else [primary, *others]
        return {**numbers, "shift": list(moved), "failure": primary, "failures": listed}


def primary_failure(success: bool, nearest: str, progress: float) -> str | None:
    """The code that the rule of success gives, None for a success; arguments as in `EditScores`."""
    if success:
        return None
    if nearest == "target":
        return "F4" if progress < metrics.MIN_PROGRESS else "F5"
    return BY_KIND.get(nearest.split(":")[0], "F3")


def shown_failures(case: GraphCase, seen: SceneGraph) -> set[str]:
    """Codes that follow from what stands where in P, as `seen`.

    F2: another thing than those meant has changed. F3: a thing meant is neither as it was nor as it should be, in class
    or tint. F4: of several things meant some are done, others untouched. F6: the wanted thing stands or measures
    otherwise, or stands in a place that was to stay empty. F7: there are more things than before and after the edit, or
    fewer than both. F9: F3 where a reference picture shows the thing.
    """
    seen = snap(seen, case.target, case.source)
    source, target = case.source, case.target
    counts = len(source.things), len(target.things)
    codes = {"F7"} if not min(counts) <= len(seen.things) <= max(counts) else set()
    done, untouched = 0, 0
    for slot in case.slots:
        thing, wanted, before = seen.at(slot), target.at(slot), source.at(slot)
        done += thing == wanted
        untouched += thing == before
        if thing is None or thing == before:
            continue
        looks = thing.name, thing.colour
        if not any(o is not None and looks == (o.name, o.colour) for o in (wanted, before)):
            codes.add("F9" if "copy_reference" in case.candidates else "F3")
        if wanted is not None and not (is_near(thing, wanted) and is_as_large(thing, wanted)):
            codes.add("F6")
    if done and untouched:
        codes.add("F4")
    for slot in {thing.slot for graph in (source, seen) for thing in graph.things} - set(case.slots):
        before, thing = source.at(slot), seen.at(slot)
        if before is not None and before != thing:
            codes.add("F2")
        if before is None and thing is not None and any(thing.name == o.name for o in target.things):
            codes.add("F6")
    return codes


def is_drifted(shift: np.ndarray, allowed: np.ndarray) -> bool:
    """F11: whether the background's shift in some channel, less what is allowed, exceeds `MAX_DRIFT`.

    Both are (3,) medians in grey levels by `tone_shift`, the second of the autoencoder's round trip: medians, because
    one thing that is gone from the background is no drift of the picture.
    """
    return bool((np.abs(shift - allowed) > MAX_DRIFT).any())


def shift_of(source: np.ndarray, output: np.ndarray, background: np.ndarray) -> tuple[int, int]:
    """F13: by how many pixels the whole picture O lies too far to the right and too low; (0, 0) for none.

    The peak of the cross-correlation of the two pictures' structure (light without its local mean) is believed if the
    source, moved by it, leaves at most half of the squared error on the background B. Changes of scale are not looked
    for.

    Source: `skimage.registration.phase_cross_correlation`.
    """
    psnr = metrics.strict_psnr(source, output, background)
    if psnr is None or psnr >= ALIGNED_PSNR:
        return 0, 0
    structures = [_structure(picture) * background for picture in (output, source)]
    if not all(structure.any() for structure in structures):
        return 0, 0  # a flat picture looks the same wherever it lies
    found, _, _ = phase_cross_correlation(*structures, normalization=None)
    down, right = (int(v) for v in found)
    if (down, right) == (0, 0) or max(abs(down), abs(right)) > MAX_SHIFT * background.shape[0]:
        return 0, 0
    moved, where = (np.roll(p, (down, right), axis=(0, 1)) for p in (source, background))
    edge = np.zeros_like(where)
    edge[max(0, down) : len(edge) + min(0, down), max(0, right) : len(edge) + min(0, right)] = True
    where = where & background & edge
    if not where.any():
        return 0, 0
    before, after = (metrics.squared_distance(picture, output, where) for picture in (source, moved))
    return (right, down) if after <= SHIFT_GAIN * before else (0, 0)


def _structure(picture: np.ndarray) -> np.ndarray:
    """(H, W) float32: light without its local mean."""
    light = picture.astype(np.float32).mean(axis=2)
    return light - ndimage.uniform_filter(light, size=max(3, len(light) // 8))
