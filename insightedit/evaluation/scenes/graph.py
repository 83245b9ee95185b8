"""Scenes as graphs: what stands where, which sentences are true of it, and how far two pictures agree in them.

A picture is never parsed from its pixels alone: `scene_from_image` finds the graph whose *rendering*
is nearest. Here G_s is the graph of the source, G_t that of the right target, P that of the output.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from insightedit.scenes import EditSample, SubjectSample
from insightedit.scenes.candidates import candidate_drawings, candidate_scenes
from insightedit.scenes.scene import SceneObject

if TYPE_CHECKING:
    from insightedit.scenes.render import Renderer

POSITION_TOLERANCE = 20  # thousandths of the side
SIZE_TOLERANCE = 0.15  # of the natural logarithm of the ratio of two heights
GIVEN = "given"  # the ground that source and target share
NO_GROUNDS = ("reference", "blank")  # what stands in place of a scene where an editor hands back an input or nothing

Predicate = tuple[str | int | None, ...]


@dataclass(frozen=True)
class SceneGraph:
    """What a picture shows."""

    things: tuple[SceneObject, ...] = ()  # back to front, at most one in each place (`SceneObject.slot`)
    look: str | None = None  # a global operation, or None
    ground: str = GIVEN  # name of what the things stand on; `GIVEN`, or another one

    def at(self, slot: int) -> SceneObject | None:
        """What stands in a place."""
        return next((thing for thing in self.things if thing.slot == slot), None)

    def without(self, slot: int) -> SceneGraph:
        """The graph with a place emptied."""
        return replace(self, things=tuple(thing for thing in self.things if thing.slot != slot))

    def put(self, slot: int, thing: SceneObject | None) -> SceneGraph:
        """The graph with a place filled anew, emptied with None; a new thing stands in front of the others."""
        if thing is None:
            return self.without(slot)
        if self.at(slot) is None:
            return replace(self, things=(*self.things, thing))
        return replace(self, things=tuple(thing if o.slot == slot else o for o in self.things))


@dataclass(frozen=True)
class PlacedSprite:
    """A thing as it is drawn: `below * through + paint`, then divided by 255 and rounded down."""

    through: np.ndarray  # (h, w, 1) int32, how much of what is below shows, 0..255
    paint: np.ndarray  # (h, w, 3) int32
    top: int  # row and column of its corner in the picture; may lie outside
    left: int

    @property
    def bottom(self) -> int:
        """Row after the last."""
        return self.top + self.paint.shape[0]

    @property
    def right(self) -> int:
        """Column after the last."""
        return self.left + self.paint.shape[1]


@dataclass(frozen=True)
class GraphCase:
    """The truth about one edit as graphs, and the means to draw any other."""

    renderer: Renderer  # of the sample
    candidates: Mapping[str, SceneGraph]  # name -> graph of every candidate that was drawn
    draw_ground: Callable[[str], np.ndarray]  # name of a ground -> a fresh (H, W, 3) uint8 picture of it
    _grounds: dict[str, np.ndarray] = field(default_factory=dict)
    _sprites: dict[tuple[str, int, bool, str | None], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def source(self) -> SceneGraph:
        """G_s; of a new picture, its empty backdrop."""
        return self.candidates["source"]

    @property
    def target(self) -> SceneGraph:
        """G_t."""
        return self.candidates["target"]

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Places in which the edit changes something."""
        places = sorted({thing.slot for graph in (self.source, self.target) for thing in graph.things})
        return tuple(slot for slot in places if self.source.at(slot) != self.target.at(slot))

    def sprite(self, thing: SceneObject) -> PlacedSprite:
        """A thing where and as the renderer draws it."""
        size = self.renderer.size
        key = thing.name, max(3, thing.height * size // 1000), thing.flip, thing.colour
        if key not in self._sprites:
            rgb, alpha = (part.astype(np.int32) for part in self.renderer.sprite(*key))
            self._sprites[key] = 255 - alpha, rgb * alpha + 127
        through, paint = self._sprites[key]
        height, width = paint.shape[:2]
        return PlacedSprite(through, paint, thing.y * size // 1000 - height // 2, thing.x * size // 1000 - width // 2)

    def render(self, graph: SceneGraph) -> np.ndarray:
        """(H, W, 3) uint8: the picture of a graph."""
        if graph.ground not in self._grounds:
            self._grounds[graph.ground] = self.draw_ground(graph.ground)
        return self.renderer.draw(self._grounds[graph.ground].copy(), graph.things, graph.look)


def graph_case_of(sample: object) -> GraphCase | None:
    """The truth about a sample of `data_recipes.scenes` as graphs; None for samples of any other kind."""
    if isinstance(sample, EditSample):
        return _case_of_edit(sample)
    return _case_of_new_picture(sample) if isinstance(sample, SubjectSample) else None


def _case_of_edit(sample: EditSample) -> GraphCase:
    renderer, scene, by_picture = sample.renderer, sample.scene, sample.subject is not None
    scenes = {"source": scene, "target": sample.target_scene}
    scenes |= candidate_scenes(scene, sample.edit, renderer.assets.classes, by_picture)
    candidates = {name: SceneGraph(drawn.objects, drawn.photometric) for name, drawn in scenes.items()}
    if by_picture:
        candidates["copy_reference"] = SceneGraph(ground="reference")

    def ground(name: str) -> np.ndarray:
        return sample.references[0].copy() if name == "reference" else renderer.ground(scene)

    return GraphCase(renderer, candidates, ground)


def _case_of_new_picture(sample: SubjectSample) -> GraphCase:
    renderer = sample.renderer
    drawings = candidate_drawings(sample.backdrop, sample.things, renderer.assets.classes)
    backdrops = {GIVEN: sample.backdrop}
    candidates = {"source": SceneGraph(), "target": SceneGraph(sample.things)}
    candidates |= {"blank_canvas": SceneGraph(ground="blank"), "copy_reference": SceneGraph(ground="reference")}
    for name, (backdrop, things) in drawings.items():
        ground = GIVEN if backdrop == sample.backdrop else name
        backdrops[ground] = backdrop
        candidates[name] = SceneGraph(things, ground=ground)

    def draw(name: str) -> np.ndarray:
        if name in NO_GROUNDS:
            return (sample.blank if name == "blank" else renderer.reference(sample.subjects[0])).copy()
        return renderer.backdrop(backdrops[name])

    return GraphCase(renderer, candidates, draw)


def snap(graph: SceneGraph, *truths: SceneGraph) -> SceneGraph:
    """The graph with each place and height that is within tolerance of a truth's replaced by it.

    Tolerances: `POSITION_TOLERANCE` in each direction, `SIZE_TOLERANCE`; the first truth that fits counts.

    Source: the project's definition of exact edit success: 2 % of the side, |log size ratio| of 0.15.
    """
    things = []
    for thing in graph.things:
        known = [found for truth in truths if (found := truth.at(thing.slot)) is not None]
        place = next((truth for truth in known if is_near(thing, truth)), thing)
        size = next((truth for truth in known if is_as_large(thing, truth)), thing)
        things.append(replace(thing, x=place.x, y=place.y, height=size.height))
    return replace(graph, things=tuple(things))


def is_near(one: SceneObject, other: SceneObject) -> bool:
    """Whether two things stand at the same place within tolerance."""
    return max(abs(one.x - other.x), abs(one.y - other.y)) <= POSITION_TOLERANCE


def is_as_large(one: SceneObject, other: SceneObject) -> bool:
    """Whether two things have the same height within tolerance."""
    return abs(math.log(one.height / other.height)) <= SIZE_TOLERANCE


def predicates(graph: SceneGraph) -> frozenset[Predicate]:
    """All that can be said of a graph: attributes of each place, counts, and relations between kinds.

    Mirrored left to right or not is no predicate: half of the sprites look the same both ways.
    """
    found: set[Predicate] = {("look", graph.look), ("ground", graph.ground), ("things", len(graph.things))}
    found |= {("count", *entry) for entry in Counter(thing.name for thing in graph.things).items()}
    for thing in graph.things:
        found |= {("is", thing.slot, thing.name), ("tint", thing.slot, thing.colour)}
        found |= {("height", thing.slot, thing.height), ("place", thing.slot, thing.x, thing.y)}
    for one, other in permutations(graph.things, 2):
        if other.x - one.x > POSITION_TOLERANCE:
            found.add(("left of", one.name, other.name))
        if math.log(one.height / other.height) > SIZE_TOLERANCE:
            found.add(("larger than", one.name, other.name))
    return frozenset(found)


@dataclass(frozen=True)
class Agreement:
    """What of the wanted change was made, and what was to stay stayed."""

    # whether all predicates are the target's: the right things, alone, with the right kind and tint, in their places
    # and sizes within tolerance, on the right ground with the right look
    exact: bool
    change_accuracy: float  # share of the predicates that the edit adds or deletes that came or went, 0..1
    keep_accuracy: float  # share of the predicates that the edit leaves that stayed, 0..1
    # harmonic mean of the two: low for an edit that does too little and for one that does too much
    predicate_f1: float


def agreement(source: SceneGraph, target: SceneGraph, seen: SceneGraph) -> Agreement:
    """Compare P with G_s and G_t.

    With `Add = G_t - G_s` and `Del = G_s - G_t`: ChangeAcc `(|Add & P| + |Del - P|) / (|Add| + |Del|)` and KeepAcc
    `|(G_s & G_t) & P| / |G_s & G_t|`.
    """
    before, wanted = _known_predicates(source), _known_predicates(target)
    found = predicates(snap(seen, target, source))
    added, deleted, kept = wanted - before, before - wanted, before & wanted
    change = (len(added & found) + len(deleted - found)) / (len(added) + len(deleted))
    keep = len(kept & found) / len(kept)
    f1 = 2 * change * keep / (change + keep) if change + keep else 0.0
    return Agreement(found == wanted, change, keep, f1)


_known_predicates = lru_cache(maxsize=8)(predicates)  # the same two graphs are compared with every output of a sample
