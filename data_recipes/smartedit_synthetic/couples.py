"""Photos in couples: the thing that comes into a photo is taken from a second one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from data_recipes.formats.photos import open_folder
from data_recipes.oracle.photos import open_scenes
from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import Record, Rejected


@dataclass(frozen=True)
class Couples:
    """Each photo with another one of the same source in `references`, the same one in every run.

    Which one follows from the photo's number, the source's length and `seed`; `start` and `count` do not matter.

    Attributes:
        photos: at least two.
        seed: another one couples them otherwise.
    """

    photos: Input
    seed: int

    def __len__(self) -> int:
        """As many as there are photos."""
        return len(self.photos)

    def partner(self, index: int) -> int:
        """Number of the second photo; never the same one."""
        told = f"{self.seed}/couple/{index}".encode()
        drawn = int.from_bytes(hashlib.sha256(told).digest()[:8], "little")
        return (index + 1 + drawn % (len(self) - 1)) % len(self)

    def __getitem__(self, index: int) -> Record | Rejected:
        """Photo number `index` and its second one."""
        first, second = self.photos[index], self.photos[self.partner(index)]
        if isinstance(first, Rejected):
            return first
        if isinstance(second, Rejected):
            return Rejected(first.key, "read", "second photo cannot be read", f"{second.key}: {second.reason}")
        assert second.image is not None, "sources of photos give photos"
        truth = {**first.truth, "partner": dict(second.truth)} if first.truth else {}
        return first.but(references=(second.image,), truth=truth, notes={**first.notes, "second_photo": second.key})


def open_couples(config: InputConfig) -> Couples:
    """A folder of photos, as `folder` reads it, in couples.

    Raises:
        ValueError: if the config names no path, or there is one photo only.
        FileNotFoundError: if there is no such folder, or no picture in it.
    """
    photos = open_folder(config)
    if len(photos) < 2:
        raise ValueError(
            f"{config.path} holds one photo, and couples need a second one to take a thing from: add photos."
        )
    return Couples(photos, config.seed)


def open_scene_couples(config: InputConfig) -> Couples:
    """Rendered scenes, as `scenes` gives them, in couples.

    Raises:
        ValueError: if no count is set, or the split or the size cannot be.
    """
    return Couples(open_scenes(config), config.seed)
