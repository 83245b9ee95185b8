"""AdvancedEdit's published JSON: one file for each photo and step of InsightEdit's data pipeline.

Its pairs are read by `insightedit.datasets.advancededit`, which trains on them; here also photos of the steps before.
What is written here is read by tools for the published files.

Source: the released sample of the pipeline's output, and the paper, section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress, groupby
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.backends.windows import box_of
from data_recipes.formats.reading import Listed, open_pairs, place_of, resized
from data_recipes.formats.writers import save_png, write_json
from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import ObjectAnnotation, Record
from insightedit.datasets.advancededit import TASKS, by_stem, is_told, pair_files, step_files
from insightedit.datasets.reading import FIELDS, Finder, ReadError, load_json, natural, read_pixels, unique_keys
from insightedit.datasets.segmentation import decode_mask, encode_mask

CAPTION = Path("1_caption_object_extraction/1_1_recaption")
OBJECTS = Path("1_caption_object_extraction/1_2_object_extraction")
MASKS = Path("2_mask_generation")
PAIRS = Path("3_editing_pair_construction")
RECAPTION = Path("4_instruction_recaption")
QUALITY = Path("5_quality_evaluation")
PHOTOS = "photos"  # published without
LATER = ("reasoning_instruction1", "reasoning_instruction2", "expressive_instruction")  # keys that step 4 adds
JUDGED = ("qwen_VIE_SC", "qwen_VIE_PQ", "scores")  # keys that step 5 adds
SC, PQ = ("instruction_follow", "non_overedit"), ("naturalness", "no_artifacts")


def open_advancededit(config: InputConfig) -> Input:
    """The output of the published pipeline, or of any part of it, below a folder.

    Where there are pairs (steps 3 to 5), each entry is a record, as training reads it; else each photo with what step
    2, 1.2 or 1.1 knows about it. Pictures may lie anywhere below the folder.
    """
    root = place_of(config)
    if root.is_dir() and pair_files(root):
        return open_pairs(config)
    photos: dict[str, dict[float, Path]] = {}
    for file, step in step_files(root):
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
        mask=None if mask is None else resized(mask, size),
        score=float(score) if isinstance(score, int | float) else None,
    )


def write_advancededit(records: Iterable[Record], out: Path) -> int:
    """Write photos and pairs as the published pipeline's steps do.

    Each pair has an even number, and its swapped one the odd number after it; what a run rejected leaves a gap. Kinds
    of wordings stand in `instruction_kinds`, scores of other names in `scores`, both beside the published keys.

    Records are photos with what was found in them, or pairs of `TASKS`; those of a photo (key up to `/`) have to stand
    together.
    """
    count, done = 0, set()
    for photo, group in groupby(records, key=lambda record: record.key.split("/")[0]):
        if photo in done:
            raise ValueError(f"the records of {photo} do not stand together: sort them by key before writing.")
        done.add(photo)
        page = _Page(out, unique_keys([photo])[0])
        for record in group:
            page.take(record)
            count += 1
        page.write()
    return count


@dataclass
class _Page:
    """All that is known of one photo."""

    out: Path
    photo: str
    caption: str = ""
    things: tuple[ObjectAnnotation, ...] = ()
    image: np.ndarray | None = None
    made: dict[bytes, tuple[str, str, int]] = field(default_factory=dict)  # digest -> file, kind, number
    entries: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Add a record."""
        self.caption = self.caption or record.caption
        self.things = self.things or record.things
        if record.image is not None and self.image is None:
            self.image = record.image
        if not record.is_pair:
            return
        if record.task not in TASKS or record.source is None or record.target is None or record.references:
            raise ValueError(
                f"{record.key} is of the task {record.task!r}: AdvancedEdit's files hold {', '.join(TASKS)}, each of a "
                "source by words; leave others out, or write another layout."
            )
        kind = "replace" if record.task == "replace" else "remove_add"
        is_swapped = record.task == "add"  # the photo is the target
        if kind == "replace":
            is_photo = self.image is not None and np.array_equal(record.target, self.image)
            is_swapped = is_photo or _digest(record.source) in self.made
        made, photo = (record.source, record.target) if is_swapped else (record.target, record.source)
        if self.image is None:
            self.image = photo
        digest = _digest(made)  # a made picture is written once for both directions
        if digest not in self.made or self.made[digest][1] != kind:
            number = sum(known == kind for _, known, _ in self.made.values())
            classes = [record.class_origin, record.class_target][:: -1 if is_swapped else 1]
            told = "_to_".join(_underlined(name) for name in classes if name) or "object"
            self.made[digest] = (f"{self.photo}_{number}_{told}.png", kind, number)
            save_png(made, self.out / PAIRS / kind / "target_imgs", self.made[digest][0])
        name, _, number = self.made[digest]
        paths = (name, f"{self.photo}.png") if is_swapped else (f"{self.photo}.png", name)
        self.entries.setdefault(kind, {})[2 * number + is_swapped] = _entry(record, *paths)

    def write(self) -> None:
        """Write the steps' files."""
        if self.image is not None:
            save_png(self.image, self.out / PHOTOS, f"{self.photo}.png")
        if self.caption:
            self._json(CAPTION, {"img_caption": self.caption})
        if self.things:
            listed = [
                {"category": one.name, "obj_simple_caption": one.caption, "obj_detailed_caption": one.detailed_caption}
                for one in self.things
            ]  # fmt: skip
            self._json(OBJECTS, {"object_list": listed, "img_caption": self.caption})
        annotations = [
            {
                "class_name": _underlined(one.name),
                "detailed_caption": one.detailed_caption,
                "bbox": list(one.box),
                "segmentation": None if one.mask is None else encode_mask(one.mask),
                "score": [] if one.score is None else [one.score],
            }
            for one in self.things
            if one.box is not None
        ]
        if annotations and self.image is not None:
            height, width = self.image.shape[:2]
            facts = {"image_path": f"{self.photo}.png", "img_caption": self.caption, "annotations": annotations}
            self._json(MASKS, {**facts, "box_format": "xyxy", "img_width": width, "img_height": height})
        for kind, entries in self.entries.items():
            said = {name for entry in entries.values() for name in entry}
            steps = [
                (PAIRS, (*LATER, *JUDGED)),
                (RECAPTION, JUDGED),
                (QUALITY, ()),
            ]  # what later steps add is left out
            been = (True, said.intersection(LATER), said.intersection(JUDGED))
            for step, left_out in compress(steps, been):
                folder = step / kind / "json_file" if step == PAIRS else step / kind
                table = {
                    str(number): {name: value for name, value in entries[number].items() if name not in left_out}
                    for number in sorted(entries)
                }
                self._json(folder, table)

    def _json(self, folder: Path, value: Any) -> None:
        write_json(self.out / folder / f"{self.photo}.json", value)


def _entry(record: Record, source: str, target: str) -> dict[str, Any]:
    """Everything about a pair, of all steps."""
    listed = [
        (kind, text)
        for kind, texts in record.instructions.items()
        if kind not in ("reasoning", "expressive")
        for text in texts
    ]
    entry: dict[str, Any] = {
        "target_img_path": target,
        "origin_img_path": source,
        "mask_json_path": f"{record.key.split('/')[0]}.json",
        "instruction": [text for _, text in listed],
        "instruction_kinds": [kind for kind, _ in listed],
        "task_type": record.task,
        "img_caption": record.caption,
        "class_origin": _underlined(record.class_origin),
        "class_target": _underlined(record.class_target),
        "bbox": None if record.mask is None else [0, 0, 0, 0],  # x, y, width, height in pixels
        "segmentation": None if record.mask is None else encode_mask(record.mask),
    }
    if record.mask is not None and record.mask.any():
        box = box_of(record.mask)
        entry["bbox"] = [box.left, box.top, box.width, box.height]
    if record.task == "replace":
        entry["detailed_caption_origin"] = record.detailed_origin
        entry["detailed_caption_target"] = record.detailed_target
    else:
        entry["detailed_caption"] = record.detailed_origin or record.detailed_target
    for number, text in enumerate(record.instructions.get("reasoning", ())[:2], 1):
        entry[f"reasoning_instruction{number}"] = text
    for text in record.instructions.get("expressive", ())[:1]:
        entry["expressive_instruction"] = text
    if record.scores:
        for name, keys in (("qwen_VIE_SC", SC), ("qwen_VIE_PQ", PQ)):
            known = {key: record.scores[key] for key in keys if key in record.scores}
            entry[name] = {**known, "reasoning": record.notes.get(f"{name} reasoning", "")} if known else None
        entry["scores"] = {key: value for key, value in record.scores.items() if key not in (*SC, *PQ)}
    return entry


def _underlined(name: str) -> str:
    return "_".join(name.replace("/", " ").split())


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.sha1(picture.tobytes(), usedforsecurity=False).digest()
