"""What is asked of photographs: what every editor should do, and what none should try.

Requests come in blocks of six, all but the scene about one photograph: three whole-picture operations, whose answer is
known to the pixel; one wish outside of a small editor's world (winter, a beard, words); one that means a thing which
the photograph does not show; and an edit of a scene that can be done, so that an editor which refuses everything shows.
Wordings of the test split are held out from training, every operation comes as often as the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np

from insightedit.images.reading import is_picture_file, read_rgb
from insightedit.images.tones import TONES, apply_tone, operation_of
from insightedit.scenes import Assets, EditSample, SceneSampler
from insightedit.scenes.assets import EMBEDDED, Photo
from insightedit.scenes.draws import pick
from insightedit.scenes.wordings import tone_request

BLOCK = ("tone", "outside", "tone", "absent", "tone", "scene")  # kinds of requests, see above
DECLINED = ("outside", "absent")  # kinds whose right answer is the photograph as it was
SCENE_SIDE, WORDS_SIDE = 128, 32  # pixels of a side of the scenes; of those of which only the words are taken
LEAST_CHANGE = 0.5  # grey levels: the least mean change of an operation that is asked for
OPERATIONS = tuple(dict.fromkeys(map(operation_of, TONES)))


@dataclass(frozen=True)
class PhotoRequest:
    """One thing that is asked, and what follows from it."""

    kind: str  # one of `BLOCK`
    name: str  # of the sample, "tone-000012"
    instruction: str  # what a user would say
    photo: Photo | None = None  # what is to be edited; None for a scene
    phrase: str | None = None  # the operation, one of `TONES`
    scene: EditSample | None = None  # what is to be edited, for a scene

    @property
    def category(self) -> str:
        """The operation without its degree; for all else the kind."""
        return self.kind if self.phrase is None else operation_of(self.phrase)

    def source(self) -> np.ndarray:
        """(H, W, 3) uint8: the photograph at its own size, or the scene."""
        if self.scene is not None:
            return self.scene.source
        assert self.photo is not None
        return read_rgb(self.photo.path)

    def truth(self, source: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the right answer."""
        if self.scene is not None:
            return self.scene.target
        return source if self.phrase is None else apply_tone(source, self.phrase)


@dataclass(frozen=True)
class PhotoSet:
    """Which photographs, and how many requests; the same settings ask for the same things.

    Raises:
        ValueError: for a count below 1, two sources of photographs, or none in them.
        FileNotFoundError: if a folder is not there.
    """

    count: int = 600  # requests
    split: str = "test"  # of the photographs and wordings: "train", "val" or "test"
    seed: int = 0
    pack: Path | None = None  # assets whose photographs of the split are taken beside those that come along
    photos: Path | None = None  # a folder of photographs, all of which are taken

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}: it has to be at least 1.")
        if self.pack is not None and self.photos is not None:
            raise ValueError("--pack and --photos exclude each other: name one of them.")
        if not self.photographs:
            raise ValueError(f"{self.photos or self.pack} holds no photographs of the split {self.split!r}: add some.")

    @property
    def folder(self) -> Path:
        """Where the photographs lie."""
        return self.photos or self.pack or EMBEDDED

    @cached_property
    def photographs(self) -> tuple[Photo, ...]:
        """In a fixed order."""
        if self.photos is None:
            return self._assets.photos_of(self.split)
        if not self.photos.is_dir():
            raise FileNotFoundError(f"No folder {self.photos}: --photos names a folder of photographs.")
        found = sorted(path for path in self.photos.iterdir() if is_picture_file(path))
        return tuple(Photo(path.stem, self.split, path) for path in found)

    def __iter__(self) -> Iterator[PhotoRequest]:
        """All requests, in order; a photograph is opened once for its block."""
        order = self._random(0).permutation(len(self.photographs))
        scenes, declined = self._scenes(), {kind: self._declined(kind) for kind in DECLINED}
        for block in range(-(-self.count // len(BLOCK))):
            photo = self.photographs[order[block % len(order)]]
            source = read_rgb(photo.path)
            for place, kind in enumerate(BLOCK[: self.count - block * len(BLOCK)]):
                number = block * len(BLOCK) + place
                name, rng = f"{kind}-{number:06d}", self._random(1 + number)
                if kind == "scene":
                    scene = next(scenes)
                    yield PhotoRequest(kind, name, scene.instruction, scene=scene)
                elif kind == "tone":
                    phrase = self._phrase(rng, 3 * block + place // 2, photo, source)
                    words = tone_request(rng, phrase, self.split)
                    yield PhotoRequest(kind, name, words, photo, phrase)
                else:
                    words = next(words for words, thing in declined[kind] if not _may_show(photo, thing))
                    yield PhotoRequest(kind, name, words, photo)

    @cached_property
    def _assets(self) -> Assets:
        embedded = Assets.embedded()
        return embedded if self.pack is None else embedded.with_photos(self.pack)

    def _random(self, number: int) -> np.random.Generator:
        """Numbers of one request alone; number 0 is the order of the photographs."""
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, number], dtype=np.uint64)))

    def _scenes(self) -> Iterator[EditSample]:
        """Edits of the split's scenes but those that photographs are asked for here."""
        sampler = SceneSampler(self.split, SCENE_SIDE, self.seed, self._assets)
        return (sample for sample in map(sampler.__getitem__, count()) if sample.task != "photometric")

    def _declined(self, kind: str) -> Iterator[tuple[str, str]]:
        """Requests that the split's scenes decline, and the thing that they mean, "" of those outside of the world."""
        sampler = SceneSampler(self.split, WORDS_SIDE, self.seed, self._assets, declines=1.0)
        asked = ((sample.instruction, sample.edit.name or "") for sample in map(sampler.__getitem__, count()))
        return (one for one in asked if bool(one[1]) == (kind == "absent"))

    def _phrase(self, rng: np.random.Generator, number: int, photo: Photo, source: np.ndarray) -> str:
        """The operation of the request `number` of its kind, in any degree; the next one where it would not be seen."""
        turn, place = divmod(number, len(OPERATIONS))
        order = self._random(1 << 32 | turn).permutation(len(OPERATIONS))  # all of them before any comes again
        for step in range(len(OPERATIONS)):
            operation = OPERATIONS[order[(place + step) % len(OPERATIONS)]]
            phrase = pick(rng, [one for one in TONES if operation_of(one) == operation])
            if np.abs(apply_tone(source, phrase).astype(np.int16) - source).mean() >= LEAST_CHANGE:
                return phrase
        raise ValueError(f"no operation changes {photo.name}: leave it out.")


def _may_show(photo: Photo, thing: str) -> bool:
    """Whether a photograph's name lets one think that a thing is on it."""
    shown = photo.name.lower()
    return bool(thing) and (thing in shown or shown in thing)
