"""Sprites and photographs: what scenes are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from insightedit.images.reading import read_picture, read_rgb, to_pil

EMBEDDED = Path(__file__).parent / "assets"
KINDS = ("sprite", "photo")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sprite:
    """A named cut-out."""

    name: str  # class name as instructions use it, e.g. `dog`
    group: str  # what it is a kind of, e.g. `animal`
    fact: str  # what only few things are, e.g. `animal that can fly`; empty if none is known
    path: Path  # picture file with an alpha channel


@dataclass(frozen=True)
class Photo:
    """A background photograph and the split that may show it."""

    name: str
    split: str
    path: Path


@dataclass(frozen=True)
class Assets:
    """All sprites and photographs of one world."""

    sprites: dict[str, Sprite]
    photos: tuple[Photo, ...]
    folder: Path = EMBEDDED

    @classmethod
    def embedded(cls) -> Assets:
        """The assets that travel with the package."""
        return _load(EMBEDDED)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Assets:
        """A user's own pack: `metadata.json` (a list) or `metadata.jsonl`, one entry per file.

        Entries need `file`, `kind` (sprite or photo), `name`; sprites may have `group` (or `category`) and `fact`,
        photos may have `split` (by default every fifth photo is kept for `test`, the one before it for `val`). A file
        that is not there is a FileNotFoundError; an entry that is not usable, or too few sprites or photos for scenes a
        ValueError.
        """
        return _load(Path(folder))

    def photos_of(self, split: str) -> tuple[Photo, ...]:
        """Backgrounds that `split` may show."""
        return tuple(p for p in self.photos if p.split == split)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in a fixed order."""
        return tuple(self.sprites)


@lru_cache(maxsize=8)
def _load(folder: Path) -> Assets:
    sprites: dict[str, Sprite] = {}
    photos: list[Photo] = []
    for entry in read_metadata(folder):
        path = folder / entry["file"]
        if entry["kind"] == "sprite":
            name = entry["name"].lower()
            group = entry.get("group") or entry.get("category", "thing").split("-")[0]
            sprites.setdefault(name, Sprite(name, group, entry.get("fact", ""), path))
        else:
            by_place = ("train", "train", "train", "val", "test")[len(photos) % 5]
            photos.append(Photo(entry["name"], entry.get("split", by_place), path))
    assets = Assets(sprites, tuple(photos), folder)
    if len(sprites) < 8 or any(not assets.photos_of(s) for s in SPLITS):
        raise ValueError(
            f"{folder} has {len(sprites)} sprites and {len(photos)} photos: scenes need at least 8 sprites and "
            "one photo in each of train, val and test."
        )
    return assets


def read_metadata(folder: Path) -> list[dict]:
    """The checked entries of a pack's metadata file, one per sprite or photograph; errors as of `from_folder`."""
    whole, lines = folder / "metadata.json", folder / "metadata.jsonl"
    try:
        if whole.is_file():
            entries = json.loads(whole.read_text(encoding="utf-8"))
        elif lines.is_file():
            texts = lines.read_text(encoding="utf-8").splitlines()
            entries = [json.loads(line) for line in texts if line.strip()]
        else:
            raise FileNotFoundError(
                f"{folder} holds no metadata.json or metadata.jsonl: list each file there with file, kind and name."
            )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the metadata of {folder} is not JSON ({error}): write a list in metadata.json, or one object a line "
            "in metadata.jsonl."
        ) from None
    for number, entry in enumerate(entries):
        where = f"entry {number} of the metadata of {folder}"
        if not isinstance(entry, dict) or not all(entry.get(key) for key in ("file", "kind", "name")):
            raise ValueError(f"{where} is {entry!r}: it needs file, kind and name.")
        if entry["kind"] not in KINDS:
            raise ValueError(f"{where} has the kind {entry['kind']!r}: choose one of {', '.join(KINDS)}.")
        if entry.get("split", "train") not in SPLITS:
            raise ValueError(f"{where} has the split {entry['split']!r}: choose one of {', '.join(SPLITS)}.")
        if not (folder / entry["file"]).is_file():
            raise FileNotFoundError(
                f"{where} lists {entry['file']}, which is not there: add the file or drop the entry."
            )
    return entries


@lru_cache(maxsize=256)
def load_sprite(path: Path) -> Image.Image:
    """RGBA picture of a sprite at its own size."""
    return to_pil(read_picture(path)).convert("RGBA")


@lru_cache(maxsize=256)
def load_photo(path: Path) -> Image.Image:
    """RGB photograph at its own size."""
    return Image.fromarray(read_rgb(path))
