"""Why an edit failed: the codes F1 to F14, several for one output, one of them the primary.

The primary code follows from the verdict, that is from the rule of success; the others from what the output shows.
F8, F10, F12 and F14 are for people and judges: scenes with exact truth do not tell them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from insightedit.evaluation.scenes import metrics
from insightedit.evaluation.scenes.graph import GraphCase, SceneGraph, is_as_large, is_near, snap

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
    """F11: whether the background's shift in some channel, less the autoencoder's, exceeds `MAX_DRIFT`.

    Medians, not means: one thing that is gone from the background is no drift of the picture.

    Args:
        shift: (3,) median shift of red, green, blue on the background, grey levels; see `scenes_parse.tone_shift`.
        allowed: the same of the autoencoder's round trip; zeros if it is unknown.
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
    before = metrics.squared_distance(source, output, where)
    after = metrics.squared_distance(moved, output, where)
    return (right, down) if after <= SHIFT_GAIN * before else (0, 0)


def _structure(picture: np.ndarray) -> np.ndarray:
    """(H, W) float32: light without its local mean."""
    light = picture.astype(np.float32).mean(axis=2)
    return light - ndimage.uniform_filter(light, size=max(3, len(light) // 8))
