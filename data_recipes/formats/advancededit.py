"""AdvancedEdit's published JSON: one file for each photo and step of InsightEdit's data pipeline.

Its pairs are read by `insightedit.datasets.advancededit`, which trains on them; here also photos of the steps before.

Source: the released sample of the pipeline's output, and the paper, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.formats.reading import Listed, open_pairs, place_of, resized_mask
from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import ObjectAnnotation, Record
from insightedit.datasets.advancededit import by_stem, is_told, json_files, pair_files, step_of
from insightedit.datasets.reading import FIELDS, Finder, ReadError, load_json, natural, read_pixels
from insightedit.datasets.segmentation import decode_mask

CAPTION = Path("1_caption_object_extraction/1_1_recaption")
OBJECTS = Path("1_caption_object_extraction/1_2_object_extraction")
MASKS = Path("2_mask_generation")
PAIRS = Path("3_editing_pair_construction")
RECAPTION = Path("4_instruction_recaption")
QUALITY = Path("5_quality_evaluation")


def open_advancededit(config: InputConfig) -> Input:
    """The output of the published pipeline, or of any part of it, below a folder.

    Where there are pairs (steps 3 to 5), each entry is a record, as training reads it; else each photo with what step
    2, 1.2 or 1.1 knows about it. Pictures may lie anywhere below the folder.
    """
    root = place_of(config)
    if root.is_dir() and pair_files(root):
        return open_pairs(config)
    photos: dict[str, dict[float, Path]] = {}
    for file in json_files(root):
        step = step_of(file, root)
        if step is not None and step < 3:
            photos.setdefault(file.stem, {})[step] = file
    if not photos:
        raise FileNotFoundError(
            f"{root} holds no JSON of AdvancedEdit's steps: name the folder with {CAPTION.parts[0]}, {MASKS}, "
            f"{PAIRS} ..."
        )
    names, finder = sorted(photos, key=natural), Finder(root)
    return Listed(
        len(names),
        names.__getitem__,
        lambda number: _photo(names[number], photos[names[number]], finder, config.max_side),
    )


def _photo(name: str, files: Mapping[float, Path], finder: Finder, max_side: int | None) -> Record:
    """A photo with its caption and objects, from the last step (step -> file) that knows it."""

    def read(path: object = None) -> np.ndarray:
        return read_pixels(finder.find(path) if is_told(path) else by_stem(finder, name), max_side)

    if set(files) == {1.1}:
        told = load_json(files[1.1])  # the released sample is no JSON: said, not crashed on
        texts = told.values() if isinstance(told, dict) else [told]
        caption = next((text for text in texts if isinstance(text, str)), "")
        return Record(name, image=read(), caption=caption)
    details = load_json(files[1.2]) if 1.2 in files else {}
    listed = details.get("object_list", [])
    if 2.0 not in files:
        keys = ("category", "obj_simple_caption", "obj_detailed_caption")
        things = [ObjectAnnotation(*(str(one.get(key, "")) for key in keys)) for one in listed]
        return Record(name, image=read(), caption=str(details.get("img_caption", "")), things=tuple(things))
    simple = {str(one.get("category", "")): str(one.get("obj_simple_caption", "")) for one in listed}
    told = load_json(files[2.0])
    image = read(told.get("image_path"))
    things = [_thing(one, simple, told, image.shape[:2]) for one in told.get("annotations", [])]
    return Record(name, image=image, caption=str(told.get("img_caption", "")), things=tuple(things))


def _thing(
    one: Mapping[str, Any], simple: Mapping[str, str], told: Mapping[str, Any], size: tuple[int, int]
) -> ObjectAnnotation:
    """An annotation of step 2, in pixels of the photo as it was read."""
    name = str(one.get("class_name", "")).replace("_", " ")
    height, width = size
    scale = (width / float(told.get("img_width") or width), height / float(told.get("img_height") or height))
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ReadError(FIELDS, f"the box of {name} is {box!r:.60}: it has to be [left, top, right, bottom]")
    mask = decode_mask(one.get("segmentation"))
    score = one.get("score")
    score = score[0] if isinstance(score, list) and score else score
    return ObjectAnnotation(
        name,
        caption=simple.get(name) or simple.get(str(one.get("class_name")), ""),
        detailed_caption=str(one.get("detailed_caption", "")),
        box=(box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]),
        mask=None if mask is None else resized_mask(mask, size),
        score=float(score) if isinstance(score, int | float) else None,
    )
