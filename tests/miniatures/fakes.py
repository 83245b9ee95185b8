"""Coloured squares in place of the rendered scenes: a few lines that any change of the scenes leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from insightedit.scenes import CLASSES
from insightedit.scenes.scene import Background, Scene, SceneObject

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}


@dataclass(frozen=True)
class Squares:
    """Scenes of one square on grey, whose edit recolours it."""

    size: int

    def __getitem__(self, index: int) -> SimpleNamespace:
        random = np.random.default_rng(index)
        old, new = random.permutation(list(COLOURS))[:2]
        column = random.integers(2)
        side = ("left", "right")[column]
        return SimpleNamespace(
            source=self._picture(column, COLOURS[old], random.integers(60, 200)),
            target=self._picture(column, COLOURS[new], 128),
            instruction=f"Turn the {old} square {new}.",
            expressive_instruction=f"The square on the {side} becomes {new}.",
            caption_source=f"A {old} square on the {side}.",
            caption_target=f"A {new} square on the {side}.",
            scene=self._scene(column, old),
            target_scene=self._scene(column, new),
            qa=lambda: [
                ("Which colour is the square?", old),
                ("Where is the square?", side),
                (f"which object should change? Turn the {old} square {new}.", f"the square on the {side}"),
            ],
        )

    def requests(self, sample: SimpleNamespace, count: int, whole: int = 0) -> list[tuple[str, str]]:
        """The sample's own instruction, again and again."""
        return [(sample.instruction, sample.expressive_instruction)] * (count + whole)

    def _scene(self, column: int, colour: str) -> Scene:
        thing = SceneObject(
            CLASSES[0], slot=3 + 2 * int(column), x=250 + 500 * column, y=375, height=250, colour=colour
        )
        return Scene(Background("grey", 0, 0, 1000), (thing,))

    def _picture(self, column: int, colour: tuple[int, int, int], grey: int) -> np.ndarray:
        picture = np.full((self.size, self.size, 3), grey, np.uint8)
        half = self.size // 2
        picture[half // 2 : half, column * half + 4 : (column + 1) * half - 4] = colour
        return picture
