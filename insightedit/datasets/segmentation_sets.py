"""Published segmentations, painted as editing records: COCO-Stuff, RefCOCO, GRefCOCO, ReasonSeg."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.random_choice_dataset import RandomChoiceDataset, choose
from insightedit.datasets.reading import folder_of, inside, json_of, only_file, read_pixels
from insightedit.datasets.segmentation import coco_mask, painting_record, polygon_mask
from insightedit.images.reading import read_labels
from insightedit.types import EditRecord

ABSENT_SHARE = 0.2  # COCO-Stuff asks for a class that is not there: SmartEdit
UNLABELLED = 255
LEFT_OUT = {"other", "stuff"}  # `sky-other` is called sky


def coco_stuff(config: SourceConfig) -> RandomChoiceDataset:
    """COCO-Stuff: asks for a class; in 20 % of the visits for one that is not there, and nothing changes.

    `path` holds `labels.txt` (lines `1: person`) and the label pictures `SPLIT2017/*.png`, whose values are label
    numbers minus 1, 255 = no label; `images` holds `SPLIT2017/*.jpg`. Splits: train, val.

    Raises:
        ConfigError: if one of these is missing.
    """
    path = folder_of(config.path, config.kind, "labels.txt and label pictures")
    names = _labels(path, config.kind)
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

    Raises:
        ConfigError: if a file is missing or of another shape, or no reference belongs to the split.
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
        for name in _object_ids(ref):
            mask |= coco_mask(objects[name], picture["height"], picture["width"])
        thing = f'"{choose(ref["sentences"], rng)["sent"]}"'
        return painting_record(f"{config.kind}/{ref['ref_id']}", image, mask, thing, rng)

    return RandomChoiceDataset(len(refs), make, (file, file.parent / "instances.json"))


def reasonseg(config: SourceConfig) -> RandomChoiceDataset:
    """ReasonSeg (LISA): asks for what a question implies.

    `path` holds `SPLIT/NAME.jpg` and `SPLIT/NAME.json`, {text: [...], shapes: [{label: target | ignore, points}]}.

    Raises:
        ConfigError: if the split's folder holds no annotation.
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


def _object_ids(ref: dict[str, Any]) -> list[int]:
    """The annotations that a reference means; GRefCOCO writes -1 or nothing for none."""
    ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    return [name for name in ids if name is not None and name >= 0]


def _labels(path: Path, kind: str) -> dict[int, str]:
    """Value in the label pictures -> name of the class."""
    file = path / "labels.txt"
    if not file.is_file():
        raise ConfigError(f"{file} is missing: kind `{kind}` reads the classes' names there.")
    names = {}
    for line in file.read_text(encoding="utf-8").split("\n"):
        number, colon, name = line.partition(":")
        if colon and number.strip().isdecimal() and 0 < int(number) <= UNLABELLED:
            names[int(number) - 1] = _spoken(name.strip())
    if not names:
        raise ConfigError(f"{file} holds no line `1: person`: take COCO-Stuff's labels.txt.")
    return names


def _spoken(name: str) -> str:
    """`sky-other` -> sky, `wall-brick` -> brick wall."""
    return " ".join(reversed([part for part in name.split("-") if part not in LEFT_OUT]))
