"""What an output shows, found by drawing: the scene graph whose rendering is nearest to the picture.

The search starts at the nearest of the candidates, which are whole pictures, and goes on place by place (coordinate
descent): is something there, of which kind, in which tint, how large, exactly where? Each guess is drawn with the
scenes' own renderer into the picture as it is known so far, and the squared distance to the output decides. A guess
has to explain 5 % more than the one before it. A place that the present graph explains to 12 grey levels (root mean
square) is left as it is, and the whole picture's shift in tone is taken off first: a metric of its own measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from insightedit.evaluation.scenes.graph import GIVEN, NO_GROUNDS, GraphCase, PlacedSprite, SceneGraph
from insightedit.images.tones import LOCAL_TONES, apply_tone
from insightedit.scenes.candidates import moved
from insightedit.scenes.scene import COLOURS, SLOT_CENTRES, SceneObject

MIN_GAIN = 0.05  # share of the squared distance that a better guess has to take away
EXPLAINED = 12.0  # grey levels, root mean square
CELL = 160  # thousandths of the side: half of the square that tells whether a place is explained
REACH = 300  # the same of the square in which a place's guesses are compared
FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6, 2.0)  # of a height
STEPS = (50, 25, 12)  # thousandths of the side, of the search for the exact place
MAX_MOVES = 4  # at each step width
MIN_BACKGROUND = 0.05  # share of the picture that tells the shift in tone
ROUNDS = 2


def parse(case: GraphCase, start: str, picture: np.ndarray, output: np.ndarray, shift: np.ndarray) -> SceneGraph:
    """P, the graph of an output.

    Args:
        case: the truth about the edit.
        start: name of the candidate that is nearest to the output.
        picture: (H, W, 3) uint8, that candidate as it was drawn.
        output: (H, W, 3) uint8, O.
        shift: (3,) int32 in grey levels, by which the output's tone as a whole is off: `tone_shift`. It is taken off,
            unless the nearest candidate stands on another ground than the source, which tells nothing about it.

    Returns:
        A graph whose things stand in the nine places, each at most `REACH` from the centre of its own. Where the
        nearest candidate is no scene (a reference picture, a blank canvas) or has one of `LOCAL_TONES`, its own graph.
    """
    graph = case.candidates[start]
    if graph.ground in NO_GROUNDS:
        return graph
    if graph.look in LOCAL_TONES or np.array_equal(picture, output):
        return graph
    seen = output.astype(np.int32) - (shift if graph.ground == GIVEN else 0)
    for _ in range(ROUNDS):
        before = graph
        for slot in range(len(SLOT_CENTRES)):
            middle = _square(slot, picture.shape[0], CELL)
            gap = (picture[middle] - seen[middle]).reshape(-1)
            if gap @ gap > EXPLAINED**2 * gap.size:
                graph = _search(case, graph, slot, seen)
                picture = case.render(graph)
        if graph == before:
            break
    return graph


def tone_shift(source: np.ndarray, output: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(3,) int32 in grey levels: the lower median of O - S over B; zeros where B is almost nothing."""
    if background.mean() < MIN_BACKGROUND:
        return np.zeros(3, dtype=np.int32)
    middle = (np.count_nonzero(background) + 1) // 2
    medians = []
    for channel in range(3):
        gaps = (output[..., channel].astype(np.int16) - source[..., channel])[background]
        counts = np.bincount(gaps + 255, minlength=511)  # many times as fast as sorting
        medians.append(int(np.searchsorted(np.cumsum(counts), middle)) - 255)
    return np.array(medians, dtype=np.int32)


def _square(slot: int, size: int, reach: int) -> tuple[slice, slice]:
    """Rows and columns of a picture that lie within `reach`, thousandths of the side, of a place's centre."""
    x, y = (slice(max((v - reach) * size // 1000, 0), (v + reach) * size // 1000) for v in SLOT_CENTRES[slot])
    return slice(y.start, min(y.stop, size)), slice(x.start, min(x.stop, size))


def _search(case: GraphCase, graph: SceneGraph, slot: int, seen: np.ndarray) -> SceneGraph:
    """The graph with the best guess in one place."""
    place = _SlotSearch.prepare(case, graph, slot, seen)
    best, cost = graph.at(slot), place.cost(graph.at(slot))
    moved_thing, _ = place.nudged(best, cost)
    guesses = chain(_kinds(case, graph, slot, best), _tints(graph, best), [moved_thing])
    best, cost = place.better(best, cost, guesses)  # all at once: one after another, a false step hides the truth
    best, cost = place.better(best, cost, _tints(graph, best))
    best, cost = place.nudged(best, cost)
    heights = [] if best is None else [replace(best, height=round(best.height * factor)) for factor in FACTORS]
    best, cost = place.better(best, cost, heights)
    best, cost = place.nudged(best, cost)
    return graph.put(slot, best)


def _kinds(case: GraphCase, graph: SceneGraph, slot: int, best: SceneObject | None) -> Iterator[SceneObject | None]:
    """Nothing; what should stand there, what stood there; other kinds.

    These are all kinds there are where the edit is, those of the scene where another thing stands, and copies of the
    scene's things where nothing stands.
    """
    yield None
    known = [thing for g in (case.target, case.source) if (thing := g.at(slot)) is not None]
    things = (*case.target.things, *case.source.things)
    pattern = known[0] if known else best
    yield from known
    if pattern is None:
        yield from (moved(thing, slot) for thing in things)
    else:
        names = case.renderer.assets.classes if slot in case.slots else [thing.name for thing in things]
        yield from (replace(pattern, name=name) for name in names)


def _tints(graph: SceneGraph, best: SceneObject | None) -> Iterator[SceneObject | None]:
    """All tints; none where a look (black and white, sepia) may have taken them away."""
    if best is not None and graph.look is None:
        yield from (replace(best, colour=colour) for colour in (None, *COLOURS))


@dataclass(frozen=True)
class _SlotSearch:
    """One place of a picture, prepared for drawing many guesses into it."""

    case: GraphCase  # truth and renderer
    under: np.ndarray  # (H, W, 3) int32, ground and things that stand further back
    over: tuple[PlacedSprite, ...]  # things that stand further in front
    look: str | None  # global operation
    seen: np.ndarray  # (H, W, 3) int32, the output without its shift in tone
    empty: int  # squared distance of the place to the output with nothing in it
    sums: np.ndarray  # (H + 1, W + 1) int64, running sums of the same by pixel
    centre: tuple[int, int]  # of the place, thousandths

    @classmethod
    def prepare(cls, case: GraphCase, graph: SceneGraph, slot: int, seen: np.ndarray) -> _SlotSearch:
        """Draw all that a guess does not change."""
        size = case.renderer.size
        order = [thing.slot for thing in graph.things]
        number = order.index(slot) if slot in order else len(order)
        under = case.render(SceneGraph(graph.things[:number], ground=graph.ground))
        gap = case.render(graph.without(slot)) - seen
        sums = np.zeros((size + 1, size + 1), dtype=np.int64)
        np.cumsum(np.einsum("hwc,hwc->hw", gap, gap), axis=0, out=sums[1:, 1:])
        np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
        square = _square(slot, size, REACH)
        over = tuple(case.sprite(thing) for thing in graph.things[number + (slot in order) :])
        over = tuple(sprite for sprite in over if _overlap(sprite, *square) is not None)
        empty = _sum(sums, *square)
        return cls(case, under.astype(np.int32), over, graph.look, seen, empty, sums, SLOT_CENTRES[slot])

    def cost(self, thing: SceneObject | None) -> int:
        """Squared distance of the place to the output with a guess in it, up to what all guesses share."""
        if thing is None:
            return self.empty
        sprite = self.case.sprite(thing)
        drawn = _overlap(sprite, slice(0, self.seen.shape[0]), slice(0, self.seen.shape[1]))
        if drawn is None:
            return self.empty
        (rows, columns), piece = drawn
        patch = self.under[rows, columns] * sprite.through[piece]
        patch += sprite.paint[piece]
        patch //= 255
        for other in self.over:
            if (both := _overlap(other, rows, columns)) is not None:
                (y, x), piece = both
                below = patch[y.start - rows.start :, x.start - columns.start :][
                    : y.stop - y.start, : x.stop - x.start
                ]
                below[:] = (below * other.through[piece] + other.paint[piece]) // 255
        if self.look is not None:
            patch = apply_tone(patch.astype(np.uint8), self.look).astype(np.int32)
        patch -= self.seen[rows, columns]
        gap = patch.reshape(-1)
        return self.empty + int(gap @ gap) - _sum(self.sums, rows, columns)

    def better(
        self, best: SceneObject | None, cost: int, guesses: Iterable[SceneObject | None]
    ) -> tuple[SceneObject | None, int]:
        """The best guess and its cost; the present one unless another takes `MIN_GAIN` of the cost away."""
        bar = cost * (1 - MIN_GAIN)
        for guess in dict.fromkeys(guesses):
            found = self.cost(guess)
            if found < min(bar, cost):
                best, cost = guess, found
        return best, cost

    def nudged(self, best: SceneObject | None, cost: int) -> tuple[SceneObject | None, int]:
        """The guess moved to where it fits best, uphill in ever smaller steps."""
        for step in STEPS:
            for _ in range(MAX_MOVES):
                if best is None:
                    return best, cost
                moves = [(dx, dy) for dx in (-step, 0, step) for dy in (-step, 0, step) if dx or dy]
                near = [replace(best, x=best.x + dx, y=best.y + dy) for dx, dy in moves]
                x, y = self.centre  # of this place: what is nearer to the next one is not looked at
                near = [one for one in near if math.hypot(one.x - x, one.y - y) < REACH / 2]
                found, lower = self.better(best, cost, near)
                if lower == cost:
                    break
                best, cost = found, lower
        return best, cost


def _sum(sums: np.ndarray, rows: slice, columns: slice) -> int:
    """Sum over a box of what `sums` runs over."""
    first, last = sums[rows.start], sums[rows.stop]
    return int(last[columns.stop] - last[columns.start] - first[columns.stop] + first[columns.start])


def _overlap(
    sprite: PlacedSprite, rows: slice, columns: slice
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a sprite covers a box of the picture: there, and in the sprite's own pixels; None if it does not."""
    y0, y1 = max(sprite.top, rows.start), min(sprite.bottom, rows.stop)
    x0, x1 = max(sprite.left, columns.start), min(sprite.right, columns.stop)
    if y1 <= y0 or x1 <= x0:
        return None
    piece = slice(y0 - sprite.top, y1 - sprite.top), slice(x0 - sprite.left, x1 - sprite.left)
    return (slice(y0, y1), slice(x0, x1)), piece
