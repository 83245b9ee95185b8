"""Perceptual signatures of pictures: near-equal pictures are found again after scaling, compression or small changes.

A signature is 64 bits of a cosine transform, 256 bits of gradients and 48 bytes of colours; all three have to agree.
Crops, mirrored and turned pictures are not recognised.

Source: the cosine hash is Zauner's pHash, the gradient hash Krawetz's dHash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from insightedit.datasets.reading import ReadError, picture_files, read_pixels
from insightedit.datasets.tables import open_rows

DTYPE = np.dtype([("cosine", "<u8"), ("gradient", "<u8", 4), ("colour", "u1", 48)])
NEAR_COSINE, NEAR_GRADIENT = 8, 56  # bits of 64 and of 256; other scenes differ in 14 and 75 at least
NEAR_COLOUR = 6.0  # of 255, mean over 4 x 4 cells
MIN_SPREAD = 6.0  # of 255: flatter pictures look alike, whatever they are
CHUNK = 1024
MASK_WORDS = ("mask", "segmentation")


def signature(picture: np.ndarray) -> np.ndarray | None:
    """() of `DTYPE`, of an (H, W, 3) uint8 picture; None where it is too flat to be recognised."""
    image = Image.fromarray(picture)
    grey = image.convert("L")
    small = np.asarray(grey.resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
    if small.std() < MIN_SPREAD:
        return None
    low = dctn(small, norm="ortho")[:8, :8].reshape(-1)
    steps = np.asarray(grey.resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    made = np.zeros((), DTYPE)
    made["cosine"] = np.packbits(low > np.median(low[1:])).view("<u8")[0]
    made["gradient"] = np.packbits((np.diff(steps, axis=1) > 0).reshape(-1)).view("<u8")
    made["colour"] = np.asarray(image.resize((4, 4), Image.Resampling.BOX)).reshape(-1)
    return made


def near(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) bool: which of N signatures are of nearly the same picture as a single one."""
    found = np.bitwise_count(others["cosine"] ^ one["cosine"]) <= NEAR_COSINE
    candidates = np.flatnonzero(found)
    if candidates.size:
        kept = others[candidates]
        gradient = np.bitwise_count(kept["gradient"] ^ one["gradient"]).sum(axis=1)
        colour = np.abs(kept["colour"].astype(np.int16) - one["colour"].astype(np.int16)).mean(axis=1)
        found[candidates] = (gradient <= NEAR_GRADIENT) & (colour <= NEAR_COLOUR)
    return found


@dataclass
class Signatures:
    """Signatures that grow, 88 bytes each, and what each is of."""

    names: list[str] = field(default_factory=list)
    _room: np.ndarray = field(default_factory=lambda: np.zeros(CHUNK, DTYPE))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def all(self) -> np.ndarray:
        """(N,) of `DTYPE`."""
        return self._room[: len(self.names)]

    def add(self, one: np.ndarray, name: str) -> None:
        """Take one more."""
        if len(self.names) == len(self._room):
            self._room = np.concatenate([self._room, np.zeros(len(self._room), DTYPE)])
        self._room[len(self.names)] = one
        self.names.append(name)

    def find(self, one: np.ndarray) -> str | None:
        """Name of the first that is near; None where none is."""
        found = np.flatnonzero(near(one, self.all))
        return self.names[int(found[0])] if found.size else None


def named_test_set(word: str) -> tuple[str, Path]:
    """`NAME=FOLDER`, or a folder that is called as it is; FileNotFoundError if nothing is there."""
    name, equals, folder = word.partition("=")
    if not equals or Path(word).exists():
        name, folder = Path(word).name, word
    if not Path(folder).exists():
        raise FileNotFoundError(f"--against {word}: there is no {folder}; name a folder, or NAME=FOLDER.")
    return name, Path(folder)


def signatures_of(path: Path) -> Signatures:
    """Signatures of all pictures below a folder, also in parquet and tar files, without masks; ValueError of none."""
    found = Signatures()
    for name, source in _pictures(path):
        with suppress(ReadError):
            picture = read_pixels(source)
            made = signature(picture)
            is_mask = ((picture < 16) | (picture > 239)).all() and (np.ptp(picture, axis=2) < 16).all()
            if made is not None and not is_mask:
                found.add(made, name)
    if not len(found):
        raise ValueError(f"{path} holds no pictures to compare with: name the folder of a test set.")
    return found


def _pictures(path: Path) -> Iterator[tuple[str, Path | bytes]]:
    """(name, file or its content) of all that is not called a mask."""
    for file in picture_files(path) if path.is_dir() else ():
        name = file.relative_to(path).as_posix()
        if not any(word in name.lower() for word in MASK_WORDS):
            yield name, file
    for kind, ending in (("parquet", ".parquet"), ("webdataset", ".tar")):
        for file in sorted(path.rglob(f"*{ending}")) if path.is_dir() else [path] if path.suffix == ending else ():
            rows = open_rows(kind, file, "train")
            for number in range(len(rows)):
                with suppress(ReadError):
                    for column, value in rows.row(number).items():
                        if any(word in column.lower() for word in MASK_WORDS):
                            continue
                        for one in value if isinstance(value, list) else [value]:
                            if isinstance(one, dict) and isinstance(one.get("bytes"), bytes):
                                yield f"{file.name}/{rows.key(number)}.{column}", one["bytes"]
