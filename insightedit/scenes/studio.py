"""What reference pictures show, and the plain backdrops that their subjects are put on. Integers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOT_CENTRES, Background, SceneObject
from insightedit.scenes.wordings import PLACEHOLDER, article

Colour = tuple[int, int, int]

PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (250, 242, 220), (226, 238, 250), (230, 246, 228), (250, 230, 236), (232, 232, 236),
)  # fmt: skip
TINTS: tuple[str | None, ...] = (None, *(name for name in COLOURS if name != "white"))  # paper is white
BACKDROP_COLOURS: dict[str, Colour] = {**COLOURS, "grey": (150, 150, 150), "brown": (120, 75, 40)}
CLOSE_UP = 2  # a reference shows the subject twice as large as the picture that it will stand in


@dataclass(frozen=True)
class Subject:
    """What a reference picture shows.

    Attributes:
        name: class name of the sprite.
        colour: name of its tint, one of `TINTS`; None for the sprite's own colours.
        flip: mirrored left to right.
        paper: index into `PAPERS`, the light ground that it is shown on, which does not matter.
    """

    name: str
    colour: str | None = None
    flip: bool = False
    paper: int = 0

    def standing_at(self, slot: int) -> SceneObject:
        """The subject in a picture: medium height, at the centre of a place, else as the reference shows it."""
        x, y = SLOT_CENTRES[slot]
        return SceneObject(self.name, slot, x, y, HEIGHTS["medium"], self.flip, self.colour)


@dataclass(frozen=True)
class Backdrop:
    """What subjects are put on in a new picture.

    Attributes:
        kind: `plain` (one colour) or `gradient` (two), told in words; `swatch` (one or two colours without
            names) or `photo`, told by a reference picture.
        colours: one or two RGB colours in 0..255; none for a photo.
        names: their names; none for a swatch or a photo.
        across: whether a gradient goes from left to right; else from top to bottom.
        photo: the crop, for a photo.
    """

    kind: str
    colours: tuple[Colour, ...] = ()
    names: tuple[str, ...] = ()
    across: bool = False
    photo: Background | None = None

    @property
    def is_pictured(self) -> bool:
        """Whether a reference picture tells it, since words do not."""
        return not self.names

    @property
    def words(self) -> str:
        """`a red background`; `<imagehere>` where a picture tells it."""
        if self.is_pictured:
            return PLACEHOLDER
        if self.kind == "plain":
            return article(f"{self.names[0]} background")
        start, end = ("at the left", "at the right") if self.across else ("at the top", "at the bottom")
        return f"a background from {self.names[0]} {start} to {self.names[1]} {end}"

    @property
    def meaning(self) -> str:
        """The same, with words for what a picture tells."""
        return {"swatch": "a coloured background", "photo": "a photo"}.get(self.kind, self.words)


class Studio:
    """Draws reference pictures, backdrops and new pictures.

    Args:
        renderer: of the scenes, whose size all pictures have.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.close_up = Renderer(renderer.assets, CLOSE_UP * renderer.size)

    def reference(self, subject: Subject) -> np.ndarray:
        """(size, size, 3) uint8: the subject in the middle of light paper, twice as large as it will be."""
        size = self.close_up.size
        canvas = np.full((size, size, 3), PAPERS[subject.paper], dtype=np.uint8)
        self.close_up.paste(canvas, subject.standing_at(4))
        edge = (size - self.renderer.size) // 2
        return np.ascontiguousarray(canvas[edge : edge + self.renderer.size, edge : edge + self.renderer.size])

    def backdrop(self, backdrop: Backdrop) -> np.ndarray:
        """A fresh (size, size, 3) uint8 picture of the backdrop alone."""
        if backdrop.photo is not None:
            return self.renderer.background(backdrop.photo)
        size = self.renderer.size
        first, last = (np.array(backdrop.colours[i], dtype=np.uint32) for i in (0, -1))
        step = np.arange(size, dtype=np.uint32)[:, None]
        ramp = (first * (size - 1 - step) + last * step + (size - 1) // 2) // (size - 1)
        line = ramp[None, :] if backdrop.across else ramp[:, None]
        return np.ascontiguousarray(np.broadcast_to(line, (size, size, 3)).astype(np.uint8))

    def draw(self, backdrop: Backdrop, things: tuple[SceneObject, ...]) -> np.ndarray:
        """(size, size, 3) uint8: the backdrop with things on it, back to front."""
        canvas = self.backdrop(backdrop)
        for thing in things:
            self.renderer.paste(canvas, thing)
        return canvas


def is_held_out_subject(name: str, colour: str | None, classes: tuple[str, ...]) -> bool:
    """Whether this class is never shown in this tint in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 5 + TINTS.index(colour) * 4) % 11 == 3
