"""How far the edited thing is from what was wanted: kind, colour, place, size, count; and its likeness, by pixels.

No network: the thing is matched to the target's by the graphs (`scene_from_image`), and its likeness
is that of two cut-outs, which are brought to one place and size by their moments first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from insightedit.evaluation.core.statistics import mean
from insightedit.evaluation.scenes.graph import GraphCase, SceneGraph
from insightedit.evaluation.scenes.metrics import SUCCESS_THRESHOLD, largest_change
from insightedit.scenes.scene import SceneObject

CROP = 48  # pixels of a side of an aligned cut-out
SPREAD = 2.5  # half of its side, in root mean square distances of the thing's pixels from their centre
BINS = 8  # of each channel in the histogram
MARGIN = 60  # thousandths of the side around the box that a thing is looked for in
MIN_PIXELS = 9  # of a cut-out


@dataclass(frozen=True)
class AttributeErrors:
    """Errors of the edited things, means where there are several; None for an edit that leaves none to look at."""

    found: float | None  # share of the wanted things that stand in the output, 0..1; the errors below are about these
    right_kind: float | None  # share of them that have the right class
    colour_error: float | None  # CIEDE2000 between the mean colours of the thing and of the target's, 0..100
    position_error: float | None  # distance of the centres over the picture's diagonal
    size_error: float | None  # |log2| of the ratio of the heights
    count_error: int  # things in the output less things in the target, without the sign; never None
    subject_histogram: float | None  # intersection of the colour histograms of the aligned cut-outs, 0..1
    subject_iou: float | None  # overlap of their masks, 0..1
    subject_ssim: float | None  # structural similarity of their light, mean over either mask, -1..1


@dataclass(frozen=True)
class Cutout:
    """A thing cut out of a picture, with whatever box around it."""

    picture: np.ndarray  # (h, w, 3) uint8
    mask: np.ndarray  # (h, w) bool, the thing's pixels

    @cached_property
    def colour(self) -> np.ndarray:
        """(3,) mean colour in CIELAB."""
        return rgb2lab(self.picture[self.mask][None]).reshape(-1, 3).mean(axis=0)

    @cached_property
    def histogram(self) -> np.ndarray:
        """(BINS**3,) shares of the thing's pixels."""
        red, green, blue = (self.picture[self.mask].astype(np.int64) * BINS // 256).T
        counts = np.bincount((red * BINS + green) * BINS + blue, minlength=BINS**3)
        return counts / counts.sum()

    @cached_property
    def aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """(CROP, CROP) float32 in 0..255, the thing's light on black, and (CROP, CROP) bool.

        The centre of the mask comes to the middle, and its root mean square radius to one size.
        """
        points = np.argwhere(self.mask)
        centre = points.mean(axis=0)
        radius = max(1.0, math.sqrt(((points - centre) ** 2).sum(axis=1).mean()))
        ramp = np.linspace(-SPREAD * radius, SPREAD * radius, CROP)
        grid = np.meshgrid(centre[0] + ramp, centre[1] + ramp, indexing="ij")
        planes = (self.picture.mean(axis=2) * self.mask, self.mask)
        light, mask = (ndimage.map_coordinates(plane.astype(np.float32), grid, order=1) for plane in planes)
        return light, mask > 0.5


def likeness(one: Cutout, other: Cutout) -> tuple[float, float, float]:
    """Histogram intersection, mask IoU and masked SSIM of two cut-outs, whatever their places and sizes.

    The first is about colours, the second about the outline, the third about the structure of light within.

    Source: `skimage.metrics.structural_similarity`, 7 x 7 windows; the mean of its map over both masks.
    """
    shared = float(np.minimum(one.histogram, other.histogram).sum())
    (first, mask), (second, other_mask) = one.aligned, other.aligned
    union = mask | other_mask
    similarity = structural_similarity(first, second, data_range=255.0, full=True)[1]
    iou = np.count_nonzero(mask & other_mask) / np.count_nonzero(union)
    return shared, iou, float(np.asarray(similarity)[union].mean())


class AttributeCase:
    """What the things of the target T, (H, W, 3) uint8, look like, computed once for all outputs of a sample."""

    def __init__(self, case: GraphCase, target: np.ndarray) -> None:
        self.case = case
        self.wanted = [thing for slot in case.slots if (thing := case.target.at(slot)) is not None]
        self.wanted_cuts = [cut_out(case, case.target, thing, target) for thing in self.wanted]

    def errors(self, seen: SceneGraph, output: np.ndarray) -> AttributeErrors:
        """Compare an output O, (H, W, 3) uint8, whose graph is P, with the target."""
        things = zip(self.wanted, self.wanted_cuts, strict=True)
        rows = [self._errors_of(wanted, cut, seen, output) for wanted, cut in things]
        means: dict[str, Any] = {f.name: mean(getattr(row, f.name) for row in rows) for f in fields(AttributeErrors)}
        count = abs(len(seen.things) - len(self.case.target.things))
        return AttributeErrors(**{**means, "count_error": count})

    def _errors_of(
        self, wanted: SceneObject, wanted_cut: Cutout | None, seen: SceneGraph, output: np.ndarray
    ) -> AttributeErrors:
        """Errors of the thing in the wanted place; else of the nearest that stands where nothing was to stand."""
        nothing = AttributeErrors(0.0, None, None, None, None, 0, None, None, None)
        if (thing := seen.at(wanted.slot)) is None:
            taken = {thing.slot for graph in (self.case.source, self.case.target) for thing in graph.things}
            others = [thing for thing in seen.things if thing.slot not in taken]
            thing = min(others, key=lambda thing: _distance(thing, wanted), default=None)
        if thing is None:
            return nothing
        errors = replace(
            nothing,
            found=1.0,
            right_kind=float(thing.name == wanted.name),
            position_error=_distance(thing, wanted) / (1000 * math.sqrt(2)),
            size_error=abs(math.log2(thing.height / wanted.height)),
        )
        cut = cut_out(self.case, seen, thing, output)
        if cut is None or wanted_cut is None:
            return errors
        histogram, iou, ssim = likeness(cut, wanted_cut)
        colour = float(deltaE_ciede2000(cut.colour, wanted_cut.colour))
        return replace(errors, colour_error=colour, subject_histogram=histogram, subject_iou=iou, subject_ssim=ssim)


def cut_out(case: GraphCase, graph: SceneGraph, thing: SceneObject, picture: np.ndarray) -> Cutout | None:
    """Cut a thing of a graph out of a picture; None if fewer than `MIN_PIXELS` stand out.

    Its pixels are those within the box of its sprite (and a margin) that differ by more than 20 grey levels from the
    graph's picture without it; the largest connected piece of them.
    """
    size, sprite = case.renderer.size, case.sprite(thing)
    margin = max(1, MARGIN * size // 1000)
    rows = slice(max(0, sprite.top - margin), max(0, sprite.bottom + margin))
    columns = slice(max(0, sprite.left - margin), max(0, sprite.right + margin))
    empty = case.render(graph.without(thing.slot))
    differs = largest_change(empty[rows, columns], picture[rows, columns]) > SUCCESS_THRESHOLD
    labels = np.empty(differs.shape, dtype=np.int32)
    ndimage.label(differs, output=labels)
    sizes = np.bincount(labels.reshape(-1))[1:]
    if sizes.max(initial=0) < MIN_PIXELS:
        return None
    return Cutout(picture[rows, columns], labels == 1 + int(sizes.argmax()))


def _distance(one: SceneObject, other: SceneObject) -> float:
    """Distance of two centres in thousandths of the side."""
    return math.hypot(one.x - other.x, one.y - other.y)
