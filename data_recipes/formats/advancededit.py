"""AdvancedEdit's published JSON: one file for each photo and step of InsightEdit's data pipeline.

What its authors' machine left in the files is put right where it can be: paths that are blank or absolute are resolved
by file name, and swapped replacements that kept the captions of the forward ones get them exchanged.

Source: the released sample of the pipeline's output, and the paper, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.formats.reading import (
    FIELDS,
    MISSING,
    NO_TEXT,
    Finder,
    Listed,
    ReadError,
    load_json,
    place_of,
    read_pixels,
)
from data_recipes.formats.run_lengths import decode_mask
from data_recipes.pipeline.inputs import Input, InputConfig
from data_recipes.pipeline.records import Record, Thing
from insightedit.evaluation.benchmarks.reading import is_junk, natural

CAPTION = Path("1_caption_object_extraction/1_1_recaption")
OBJECTS = Path("1_caption_object_extraction/1_2_object_extraction")
MASKS = Path("2_mask_generation")
PAIRS = Path("3_editing_pair_construction")
RECAPTION = Path("4_instruction_recaption")
QUALITY = Path("5_quality_evaluation")
TASKS = ("remove", "add", "replace")
JUDGED = ("qwen_VIE_SC", "qwen_VIE_PQ")
ASPECT = 0.02  # sides may differ by so much in their proportion and still be one picture at two sizes


def open_advancededit(config: InputConfig) -> Input:
    """The output of the published pipeline, or of any part of it.

    `path` is its folder. Where there are pairs (steps 3 to 5), each entry is a record, from the last step that has its
    photo; else each photo with what step 2, 1.2 or 1.1 knows about it. Pictures may lie anywhere below the folder.

    Raises:
        ValueError: if the config names no path.
        FileNotFoundError: if nothing is there, or the folder holds none of the steps' files.
    """
    root = place_of(config)
    layout = Layout(root, Finder(root), config.max_side)
    pairs = layout.pair_files()
    if pairs:
        entries = [(file, kind, key) for file, kind in pairs for key in _entry_keys(file)]
        keys = [f"{file.stem}/{kind}-{key}" for file, kind, key in entries]
        return Listed(keys, lambda number: layout.pair(keys[number], *entries[number]))
    photos = layout.photo_files()
    if not photos:
        raise FileNotFoundError(
            f"{root} holds no JSON of AdvancedEdit's steps: name the folder with {CAPTION.parts[0]}, {MASKS}, "
            f"{PAIRS} ..."
        )
    names = sorted(photos, key=natural)
    return Listed(names, lambda number: layout.photo(names[number], photos[names[number]]))


def step_of(file: Path, root: Path) -> float | None:
    """The step whose folder a file lies in, 1.1 to 5; None outside of all."""
    parts = file.relative_to(root).parts[:-1]
    for part in reversed(parts):
        if found := re.match(r"1_([12])_", part):
            return 1 + int(found[1]) / 10
        if found := re.match(r"([2-5])_", part):
            return float(found[1])
    return None


@dataclass(frozen=True)
class Layout:
    """The folder, and how its records are read.

    Attributes:
        root: of the pipeline's output.
        finder: of pictures below it.
        max_side: pixels of the longer side at most; None leaves pictures as they are.
    """

    root: Path
    finder: Finder
    max_side: int | None
    _files: list[Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        files = [path for path in self.root.rglob("*.json") if not is_junk(path.relative_to(self.root))]
        files.sort(key=lambda path: natural(path.relative_to(self.root).as_posix()))
        object.__setattr__(self, "_files", files)

    def pair_files(self) -> list[tuple[Path, str]]:
        """(file, "remove_add" or "replace") of the last step that has a photo's pairs, by photo."""
        last: dict[tuple[str, str], tuple[float, Path]] = {}
        for file in self._files:
            step = step_of(file, self.root)
            if step is None or step < 3:
                continue
            kind = "replace" if "replace" in file.relative_to(self.root).parts else "remove_add"
            before = last.get((file.stem, kind))
            if before is None or before[0] < step:
                last[file.stem, kind] = (step, file)
        return [(last[key][1], key[1]) for key in sorted(last, key=lambda key: (natural(key[0]), key[1]))]

    def photo_files(self) -> dict[str, dict[float, Path]]:
        """Photo -> step -> file, of the steps before there are pairs."""
        found: dict[str, dict[float, Path]] = {}
        for file in self._files:
            step = step_of(file, self.root)
            if step is not None and step < 3:
                found.setdefault(file.stem, {})[step] = file
        return found

    def photo(self, name: str, files: Mapping[float, Path]) -> Record:
        """A photo with its caption and objects, from the last step that knows it.

        Raises:
            ReadError: if a file or the picture cannot be read.
        """
        if set(files) == {1.1}:
            told = load_json(files[1.1])  # the released sample is no JSON: said, not crashed on
            texts = told.values() if isinstance(told, dict) else [told]
            caption = next((text for text in texts if isinstance(text, str)), "")
            return Record(name, image=self._photo(name, None), caption=caption)
        details = load_json(files[1.2]) if 1.2 in files else {}
        listed = {str(one.get("category", "")): one for one in details.get("object_list", [])}
        if 2.0 not in files:
            things = [
                Thing(
                    str(one.get("category", "")),
                    str(one.get("obj_simple_caption", "")),
                    str(one.get("obj_detailed_caption", "")),
                )
                for one in details.get("object_list", [])
            ]
            image = self._photo(name, None)
            return Record(
                name, image=image, caption=str(details.get("img_caption", "")), things=tuple(things)
            )
        simple = {name: str(one.get("obj_simple_caption", "")) for name, one in listed.items()}
        told = load_json(files[2.0])
        image = self._photo(name, told.get("image_path"))
        things = [_thing(one, simple, told, image.shape[:2]) for one in told.get("annotations", [])]
        return Record(name, image=image, caption=str(told.get("img_caption", "")), things=tuple(things))

    def _photo(self, name: str, path: object) -> np.ndarray:
        """The photo of a name, (H, W, 3) uint8."""
        return read_pixels(self.finder.find(path) if _is_told(path) else self._by_stem(name), self.max_side)

    def _by_stem(self, pattern: str) -> Path:
        """The only picture whose stem has this form (`*` = any words)."""
        form = re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))
        found = [path for path in self.finder.pictures() if form.fullmatch(path.stem)]
        if len(found) != 1:
            raise ReadError(
                MISSING,
                f"its path is blank, and {len(found)} pictures are called {pattern}: write the file name",
            )
        return found[0]

    def pair(self, key: str, file: Path, kind: str, entry: str) -> Record:
        """One entry of a step's file.

        Raises:
            ReadError: if the entry is incomplete, or a picture cannot be read.
        """
        table = _table(file)
        fields = table[entry]
        task = fields.get("task_type") if isinstance(fields, dict) else None
        if task not in TASKS:
            raise ReadError(FIELDS, f"`task_type` is {task!r:.40}: it has to be one of {', '.join(TASKS)}")
        instructions = instructions_of(fields)
        source, target, mask = self._pictures(file.stem, entry, fields)
        origin, wanted, corrected = _captions(table, entry, fields)
        scores, notes = scores_of(fields)
        if corrected:
            notes["corrected"] = "the captions were those of the forward pair"
        return Record(
            key,
            caption=str(fields.get("img_caption") or ""),
            task=task,
            source=source,
            target=target,
            mask=mask,
            class_origin=_class(fields, "class_origin"),
            class_target=_class(fields, "class_target"),
            detailed_origin=origin,
            detailed_target=wanted,
            instructions=instructions,
            scores=scores,
            notes=notes,
        )

    def _pictures(
        self, photo: str, entry: str, fields: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Source, target and mask at one size: photos are published larger than what was made of them."""
        paths = [
            self.finder.find(fields[name]) if _is_told(fields.get(name)) else self._by_stem(guess)
            for name, guess in zip(
                ("origin_img_path", "target_img_path"), guesses(photo, entry, fields), strict=True
            )
        ]
        source, target = (read_pixels(path, self.max_side) for path in paths)
        source, target = _one_size(source, target)
        mask = decode_mask(fields.get("segmentation"))
        if mask is not None and _is_same_form(mask.shape, target.shape[:2]):
            mask = _resized_mask(mask, target.shape[:2])
        return source, target, mask


def guesses(photo: str, entry: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    """What source and target should be called where the paths are blank, by the published naming; `*` = a number."""
    before, after = (str(fields.get(f"class_{end}") or "").replace(" ", "_") for end in ("origin", "target"))
    is_forward = {"remove": True, "add": False}.get(str(fields.get("task_type")), not _is_odd(entry))
    one, other = (before, after) if is_forward else (after, before)
    made = f"{photo}_*_{one}_to_{other}" if other else f"{photo}_*_{one}"
    return (photo, made) if is_forward else (made, photo)


def _is_odd(entry: str) -> bool:
    return entry.isdecimal() and int(entry) % 2 == 1


def _is_told(path: object) -> bool:
    return isinstance(path, str) and bool(path.strip())


def _table(file: Path) -> dict[str, Any]:
    """The entries of a file of pairs, from memory while it does not change.

    Raises:
        ReadError: if it is no JSON object.
    """
    return _loaded(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _loaded(file: Path, _written: int) -> dict[str, Any]:
    table = load_json(file)
    if not isinstance(table, dict):
        raise ReadError(FIELDS, f"{file.name} holds a {type(table).__name__} in place of numbered entries")
    return table


def _entry_keys(file: Path) -> list[str]:
    """Names of the entries; one that stands for the whole file where it cannot be read."""
    try:
        return sorted(_table(file), key=natural)
    except ReadError:
        return ["0"]


def instructions_of(fields: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Wordings by kind: the first is the template, the others are rewordings; reasoning stands in keys of its own.

    Raises:
        ReadError: if there is none.
    """
    value = fields.get("instruction")
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    told = fields.get("instruction_kinds")
    kinds = (
        told if isinstance(told, list) and len(told) == len(texts) else ["template", *["simple"] * len(texts)]
    )
    found: dict[str, tuple[str, ...]] = {}
    pairs = list(zip(kinds, texts, strict=False))
    pairs += [("reasoning", fields.get(f"reasoning_instruction{number}")) for number in (1, 2)]
    pairs += [("expressive", fields.get("expressive_instruction"))]
    for kind, text in pairs:
        if isinstance(text, str) and text.strip():
            found[str(kind)] = (*found.get(str(kind), ()), text.strip())
    if not found:
        raise ReadError(NO_TEXT, f"`instruction` is {value!r:.40}")
    return found


def _class(fields: Mapping[str, Any], name: str) -> str:
    """A class; names are published with underlines."""
    return str(fields.get(name) or "").replace("_", " ").strip()


def _captions(table: Mapping[str, Any], entry: str, fields: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Detailed captions of what is edited and of what comes, and whether they had to be exchanged."""
    task = fields.get("task_type")
    if task != "replace":
        told = str(fields.get("detailed_caption") or "")
        return (told, "", False) if task == "remove" else ("", told, False)
    ends = [str(fields.get(f"detailed_caption_{end}") or "") for end in ("origin", "target")]
    forward = table.get(str(int(entry) - 1)) if _is_odd(entry) else None
    if isinstance(forward, dict) and ends[0] != ends[1]:
        before = [str(forward.get(f"detailed_caption_{end}") or "") for end in ("origin", "target")]
        classes = [_class(forward, "class_target"), _class(forward, "class_origin")]
        if ends == before and classes == [_class(fields, "class_origin"), _class(fields, "class_target")]:
            return ends[1], ends[0], True
    return ends[0], ends[1], False


def scores_of(fields: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of the judge, and what else it said; a judgement that failed is named."""
    scores: dict[str, float] = {}
    notes: dict[str, Any] = {}
    for name in JUDGED:
        told = fields.get(name, {})
        if told is None:
            notes.setdefault("judge_failed", []).append(name)
        if not isinstance(told, dict):
            continue
        for key, value in told.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                scores[key] = float(value)
            elif isinstance(value, str) and value:
                notes[f"{name} {key}"] = value
    more = fields.get("scores")
    if isinstance(more, dict):
        scores |= {str(key): float(value) for key, value in more.items()}
    return scores, notes


def _thing(
    one: Mapping[str, Any], simple: Mapping[str, str], told: Mapping[str, Any], size: tuple[int, int]
) -> Thing:
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
    return Thing(
        name,
        caption=simple.get(name) or simple.get(str(one.get("class_name")), ""),
        detailed_caption=str(one.get("detailed_caption", "")),
        box=(box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]),
        mask=None if mask is None else _resized_mask(mask, size),
        score=float(score) if isinstance(score, int | float) else None,
    )


def _is_same_form(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes are of one proportion."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= ASPECT


def _one_size(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The larger of two pictures of one proportion at the smaller one's size; others stay as they are."""
    if source.shape == target.shape or not _is_same_form(source.shape, target.shape):
        return source, target
    size = min(source.shape[:2], target.shape[:2])
    fitted = [
        picture
        if picture.shape[:2] == size
        else np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))
        for picture in (source, target)
    ]
    return fitted[0], fitted[1]


def _resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
