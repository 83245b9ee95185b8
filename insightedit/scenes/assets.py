"""Sprites and photographs: what scenes are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
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
    draw: bool = True  # whether edits may put it into a picture; else it is only seen, moved and taken away


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
    packs: tuple[Path, ...] = ()  # folders of which the photographs alone were added

    @classmethod
    def embedded(cls, pack: str | Path | None = None) -> Assets:
        """The assets that travel with the package; with the photographs of a `pack` beside them, see `with_photos`."""
        return _load(EMBEDDED) if pack is None else _load(EMBEDDED).with_photos(pack)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Assets:
        """A user's own pack: `metadata.json` (a list) or `metadata.jsonl`, one entry per file.

        Entries need `file`, `kind` (sprite or photo), `name`; sprites may have `group` (or `category`), `fact` and
        `draw` (false for what is only seen), photos may have `split` (by default every fifth photo is kept for `test`,
        the one before it for `val`). A file that is not there is a FileNotFoundError; an entry that is not usable, or
        too few sprites or photos for scenes a ValueError.
        """
        return _load(Path(folder))

    def with_photos(self, folder: str | Path) -> Assets:
        """The same sprites, and the photographs of a folder beside one's own, each in its split.

        The folder is as for `from_folder`; it may hold photographs alone, its sprites are passed over. A photograph
        called as one that is there already is taken for the same one and left out, or it could stand in two splits.
        Errors as of `from_folder`.
        """
        folder = Path(folder)
        known = {photo.name.lower() for photo in self.photos}
        photos = tuple(photo for photo in _read_photos(folder) if photo.name.lower() not in known)
        if not photos:
            raise ValueError(f"{folder} has no photographs that are not known: list some with the kind photo.")
        return replace(self, photos=(*self.photos, *photos), packs=(*self.packs, folder))

    def photos_of(self, split: str) -> tuple[Photo, ...]:
        """Backgrounds that `split` may show."""
        return tuple(p for p in self.photos if p.split == split)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that edits may draw, in a fixed order."""
        return tuple(sprite.name for sprite in self.sprites.values() if sprite.draw)

    @cached_property
    def seen_classes(self) -> tuple[str, ...]:
        """Names of all classes that pictures may show, those that edits may draw among them."""
        return tuple(self.sprites)

    @cached_property
    def only_seen_classes(self) -> tuple[str, ...]:
        """Names of the classes that edits never draw."""
        return tuple(sprite.name for sprite in self.sprites.values() if not sprite.draw)


@lru_cache(maxsize=8)
def _load(folder: Path) -> Assets:
    sprites: dict[str, Sprite] = {}
    for entry in read_metadata(folder):
        if entry["kind"] == "sprite":
            name, path = entry["name"].lower(), folder / entry["file"]
            group = entry.get("group") or entry.get("category", "thing").split("-")[0]
            sprites.setdefault(name, Sprite(name, group, entry.get("fact", ""), path, entry.get("draw", True)))
    assets = Assets(sprites, _read_photos(folder), folder)
    if len(assets.classes) < 8 or any(not assets.photos_of(s) for s in SPLITS):
        raise ValueError(
            f"{folder} has {len(assets.classes)} sprites and {len(assets.photos)} photos: scenes need at least 8 "
            "sprites and one photo in each of train, val and test. Photographs alone go beside the embedded ones: "
            "Assets.embedded(folder), or `pack`."
        )
    return assets


def _read_photos(folder: Path) -> tuple[Photo, ...]:
    """Photographs of a pack; of those that have one name all but the first are called by their file, too."""
    photos: dict[str, Photo] = {}
    for entry in read_metadata(folder):
        if entry["kind"] == "photo":
            by_place = ("train", "train", "train", "val", "test")[len(photos) % 5]
            name = entry["name"] if entry["name"] not in photos else f"{entry['name']} ({entry['file']})"
            photos[name] = Photo(name, entry.get("split", by_place), folder / entry["file"])
    return tuple(photos.values())


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


@lru_cache(maxsize=1024)
def load_sprite(path: Path) -> Image.Image:
    """RGBA picture of a sprite at its own size."""
    return to_pil(read_picture(path)).convert("RGBA")


@lru_cache(maxsize=256)
def load_photo(path: Path, side: int | None = None) -> Image.Image:
    """RGB photograph at its own size, or with a shorter side of `side` pixels if that is smaller."""
    photo = Image.fromarray(read_rgb(path))
    if side is None or min(photo.size) <= side:
        return photo
    width, height = (length * side // min(photo.size) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.BOX)
