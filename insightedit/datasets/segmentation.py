"""Segmentation as editing, of COCO-Stuff, RefCOCO, GRefCOCO and ReasonSeg; and masks as COCO writes them.

"Colour the dog red" -> the dog's pixels blended half and half with red.

Source: InstructDiffusion's idea in SmartEdit's numbers (50 %, eight named colours, eleven instructions); the wordings
and the shades are ours.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageDraw

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.pairs import RandomChoiceDataset, choose
from insightedit.datasets.reading import FIELDS, ReadError, folder_of, inside, json_of, only_file, read_pixels
from insightedit.images.reading import read_labels
from insightedit.types import EditRecord

ABSENT_SHARE = 0.2  # COCO-Stuff asks for a class that is not there: SmartEdit
UNLABELLED = 255
LEFT_OUT = {"other", "stuff"}  # `sky-other` is called sky
BLEND = 0.5  # SmartEdit
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255),
    "magenta": (255, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0),
}  # fmt: skip
TEMPLATES = (
    "Colour {thing} {colour} and leave the rest as it is.",
    "Lay a {colour} veil over {thing}.",
    "Mark {thing} in {colour}.",
    "Where is {thing}? Show it in {colour}.",
    "Tint the pixels of {thing} {colour}.",
    "Make {thing} shine through in {colour}.",
    "Highlight {thing} with {colour}, nothing else.",
    "Find {thing} and shade it {colour}.",
    "Cover {thing} with half-transparent {colour}.",
    "Segment {thing}; use {colour}.",
    "Give {thing} a {colour} overlay.",
)


def paint(image: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """Blend a region, (H, W) bool, of an (H, W, 3) uint8 picture with a named colour; the rest stays, byte for byte."""
    if image.shape[:2] != mask.shape:
        raise ValueError(f"the mask is {mask.shape}, its picture {image.shape[:2]}: they must be of one size.")
    painted = image.copy()
    blended = (1 - BLEND) * image[mask] + BLEND * np.array(COLOURS[colour])
    painted[mask] = np.round(blended).astype(np.uint8)
    return painted


def painting_record(key: str, image: np.ndarray, mask: np.ndarray, thing: str, rng: np.random.Generator) -> EditRecord:
    """An editing record; wording and colour are drawn. With an empty mask nothing is painted, and target = source.

    `image` is (H, W, 3) uint8, `mask` (H, W) bool; `thing` is what it covers, with its article, e.g. `the left dog`.
    """
    colour = choose(tuple(COLOURS), rng)
    instruction = choose(TEMPLATES, rng).format(thing=thing, colour=colour)
    return EditRecord(key, instruction, source_image=image, target_image=paint(image, mask, colour))


def polygon_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Polygons [x, y, x, y, ...] in pixels -> (H, W) bool, all of them filled."""
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers: it takes x and y of three corners or more.")
        pen.polygon([(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1)
    return np.asarray(canvas, dtype=bool)


def run_length_mask(counts: str | Sequence[int], height: int, width: int) -> np.ndarray:
    """Lengths of runs of 0 and 1 in turn, column after column, as numbers or COCO's compressed text -> (H, W) bool."""
    runs: list[int] = [] if isinstance(counts, str) else list(counts)
    value = shift = 0
    # the text: five bits a letter, lowest first, bit 6 = more to come; from the fourth run on, differences
    for letter in counts.encode("ascii") if isinstance(counts, str) else b"":
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if sum(runs) != height * width or min(runs, default=-1) < 0:
        raise ValueError(f"the runs of a mask fill {sum(runs)} pixels of {height} x {width}.")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def coco_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """COCO's `segmentation` in any of its forms -> (H, W) bool."""
    if isinstance(segmentation, dict):
        return run_length_mask(segmentation["counts"], height, width)
    if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], dict):
        masks = [run_length_mask(part["counts"], height, width) for part in segmentation]
        return np.logical_or.reduce(masks)
    if isinstance(segmentation, list) and segmentation:
        return polygon_mask(segmentation, height, width)
    raise ValueError(f"a segmentation is {segmentation!r}: it is polygons or run lengths.")


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """An (H, W) bool mask as COCO writes it: `{"size": [H, W], "counts": text}`."""
    height, width = mask.shape
    flat = np.asarray(mask, dtype=bool).T.reshape(-1)  # column after column
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat.size and flat[0]:
        runs = [0, *runs]  # the first run is one of zeros
    letters = bytearray()  # written as `run_length_mask` reads them
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        while True:
            bits = value & 0x1F
            value >>= 5
            is_last = value == (-1 if bits & 0x10 else 0)
            letters.append((bits if is_last else bits | 0x20) + 48)
            if is_last:
                break
    return {"size": [height, width], "counts": letters.decode("ascii")}


def decode_mask(segmentation: Any) -> np.ndarray | None:
    """(H, W) bool of a record's `segmentation`; None where there is none."""
    if segmentation in (None, "", [], {}):
        return None
    try:
        height, width = (int(side) for side in segmentation["size"])
        return coco_mask(segmentation, height, width)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReadError(FIELDS, f"`segmentation` is not COCO's run lengths: {error}") from None


def coco_stuff(config: SourceConfig) -> RandomChoiceDataset:
    """COCO-Stuff: asks for a class; in 20 % of the visits for one that is not there, and nothing changes.

    `path` holds `labels.txt` (lines `1: person`) and the label pictures `SPLIT2017/*.png`, whose values are label
    numbers minus 1, 255 = no label; `images` holds `SPLIT2017/*.jpg`. Splits: train, val.
    """
    path = folder_of(config.path, config.kind, "labels.txt and label pictures")
    if not (path / "labels.txt").is_file():
        raise ConfigError(f"{path / 'labels.txt'} is missing: kind `{config.kind}` reads the classes' names there.")
    names = {}  # value in the label pictures -> name of the class
    for line in (path / "labels.txt").read_text(encoding="utf-8").split("\n"):
        number, colon, name = line.partition(":")
        if colon and number.strip().isdecimal() and 0 < int(number) <= UNLABELLED:
            parts = [part for part in name.strip().split("-") if part not in LEFT_OUT]
            names[int(number) - 1] = " ".join(reversed(parts))  # `wall-brick` -> brick wall
    if not names:
        raise ConfigError(f"{path / 'labels.txt'} holds no line `1: person`: take COCO-Stuff's labels.txt.")
    year = f"{config.split}2017"
    maps = sorted((path / year).glob("*.png"))
    if not maps:
        raise ConfigError(f"{path / year} holds no *.png: kind `{config.kind}` reads label pictures there.")
    images = folder_of(config.images, config.kind, f"the pictures {year}/*.jpg (`images`)")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        file = maps[number]
        labels = read_labels(file)
        there = sorted({int(value) for value in np.unique(labels)} & names.keys())
        absent = rng.random() < ABSENT_SHARE
        asked = choose(sorted(names.keys() - set(there)) if absent else there, rng)
        image = read_pixels(images / year / f"{file.stem}.jpg")
        return painting_record(f"{config.kind}/{file.stem}", image, labels == asked, f"the {names[asked]}", rng)

    return RandomChoiceDataset(len(maps), make, maps)


def referring(config: SourceConfig) -> RandomChoiceDataset:
    """RefCOCO, RefCOCO+, RefCOCOg and GRefCOCO: asks for what a sentence refers to, none, one or several objects.

    `path` is the folder with `instances.json` and `refs(*).p`, `refs(*).json` or `grefs(*).json`, or such a file beside
    an `instances.json`; `images` holds COCO's train2014 pictures. The `.p` files are pickles: they are read as plain
    lists, texts and numbers, and nothing in them is executed.
    """
    file = only_file(Path(str(config.path)), ("refs*.p", "refs*.json", "grefs*.json"), config.kind)
    instances = json_of(file.parent / "instances.json", dict, "COCO's {images, annotations}")
    images = folder_of(config.images, config.kind, "COCO's train2014 pictures (`images`)")
    refs = [ref for ref in _references(file, config.kind) if ref["split"] == config.split]
    if not refs:
        raise ConfigError(f"no reference in {file} belongs to the split `{config.split}`.")
    pictures = {entry["id"]: entry for entry in instances["images"]}
    objects = {entry["id"]: entry["segmentation"] for entry in instances["annotations"]}

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        ref = refs[number]
        picture = pictures[ref["image_id"]]
        image = read_pixels(inside(images, picture["file_name"]))
        mask = np.zeros(image.shape[:2], dtype=bool)
        ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
        for name in (one for one in ids if one is not None and one >= 0):  # GRefCOCO: -1 or nothing for none
            mask |= coco_mask(objects[name], picture["height"], picture["width"])
        thing = f'"{choose(ref["sentences"], rng)["sent"]}"'
        return painting_record(f"{config.kind}/{ref['ref_id']}", image, mask, thing, rng)

    return RandomChoiceDataset(len(refs), make, (file, file.parent / "instances.json"))


def reasonseg(config: SourceConfig) -> RandomChoiceDataset:
    """ReasonSeg (LISA): asks for what a question implies.

    `path` holds `SPLIT/NAME.jpg` and `SPLIT/NAME.json`, {text: [...], shapes: [{label: target | ignore, points}]}.
    """
    path = folder_of(Path(str(config.path)) / config.split, config.kind, "NAME.jpg and NAME.json")
    files = sorted(path.glob("*.json"))
    if not files:
        raise ConfigError(f"{path} holds no *.json: kind `{config.kind}` reads annotations there.")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        file = files[number]
        annotation = json.loads(file.read_text(encoding="utf-8", errors="replace"))
        image = read_pixels(file.with_suffix(".jpg"))
        height, width = image.shape[:2]
        outlines = {"target": [], "ignore": []}
        for shape in annotation["shapes"]:
            kind = "ignore" if "ignore" in shape["label"] else "target"
            outlines[kind].append([float(value) for point in shape["points"] for value in point])
        mask = polygon_mask(outlines["target"], height, width) & ~polygon_mask(outlines["ignore"], height, width)
        if not mask.any():
            raise ValueError(f"{file.name} outlines no target.")
        texts = annotation["text"]
        text = choose(texts, rng) if isinstance(texts, list) else texts
        return painting_record(f"{config.kind}/{file.stem}", image, mask, f'what answers "{text}"', rng)

    return RandomChoiceDataset(len(files), make, files)


class _PlainUnpickler(pickle.Unpickler):
    """Lists, dicts, texts and numbers only: whatever needs a class or a function is refused before it is looked up."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it wants {module_name}.{global_name}, and plain data needs none")


def _references(file: Path, kind: str) -> list[dict[str, Any]]:
    if file.suffix != ".p":
        return json_of(file, list, "a list of references")
    try:
        with file.open("rb") as stream:
            values = _PlainUnpickler(stream, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{file} is no plain list of references ({error}): fetch it anew, or write it as JSON."
        ) from error
    if not isinstance(values, list):
        raise ConfigError(f"{file} holds a {type(values).__name__}: kind `{kind}` reads a list.")
    return values
