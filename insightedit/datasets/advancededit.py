"""AdvancedEdit's published JSON: files of pairs, one for each photo and step, or one list of entries.

What its authors' machine left in the files is put right where it can be: paths that are blank or absolute are resolved
by file name, and swapped replacements that kept the captions of the forward ones get them exchanged.

Source: the released sample of the pipeline's output, and the paper, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets import reading
from insightedit.datasets.pairs import Listing, Pair
from insightedit.files import is_junk, natural

TASKS = ("remove", "add", "replace")
JUDGED = ("qwen_VIE_SC", "qwen_VIE_PQ")
PATHS = (("origin_img_path", "origin_path"), ("target_img_path", "target_path"))  # AdvancedEdit's, SmartEdit's


def advancededit(config: SourceConfig) -> Listing:
    """Pairs that AdvancedEdit's pipeline wrote, of each photo those of the last step; pictures lie anywhere below."""
    root = reading.folder_of(config.path, config.kind, "the steps' folders")
    finder = reading.Finder(reading.folder_of(config.images or root, config.kind, "the pictures"))
    files = pair_files(root)
    if not files:
        raise ConfigError(
            f"{root} holds no pairs of AdvancedEdit's steps 3 to 5: name the folder around 3_editing_pair_construction."
        )
    entries = list[tuple[Path, str, str]]()
    for file, kind in files:
        try:
            names = sorted(_table(file), key=natural)
        except reading.ReadError:
            names = ["0"]  # stands for the whole file, and is told
        entries += [(file, kind, name) for name in names]
    keys = [f"{file.stem}/{kind}-{key}" for file, kind, key in entries]

    def make(number: int) -> Pair:
        file, _, entry = entries[number]
        fields = _table(file)[entry]
        task = fields.get("task_type") if isinstance(fields, dict) else None
        if task not in TASKS:
            raise reading.ReadError(
                reading.FIELDS, f"`task_type` is {task!r:.40}: it has to be one of {', '.join(TASKS)}"
            )
        return _pair(keys[number], finder, _table(file), entry, file.stem)

    return Listing(len(keys), make, keys.__getitem__, [file for file, _ in files], is_fitted=True)


def reasonedit(config: SourceConfig) -> Listing:
    """One JSON file of entries: SmartEdit's synthetic pairs for understanding and reasoning, and AdvancedEdit's.

    `path` is the file, or the folder with it: {"0000": {origin_img_path, target_img_path, instruction: [...]}, ...}.
    Pictures are found by their paths below `images` (or the file's folder), else by file name.
    """
    file = reading.only_file(Path(str(config.path)), ("*.json",), config.kind)
    finder = reading.Finder(reading.folder_of(config.images or file.parent, config.kind, "the pictures"))
    table = reading.json_of(file, dict, "{'0000': {origin_img_path, target_img_path, instruction: [...]}}")
    keys = list(table)

    def make(number: int) -> Pair:
        return _pair(keys[number], finder, table, keys[number])

    return Listing(len(keys), make, keys.__getitem__, [file], is_fitted=True)


def step_files(root: Path) -> list[tuple[Path, float | None]]:
    """(file, the step whose folder it lies in, 1.1 to 5, None outside of all) of the JSON files below a root."""
    files = [path for path in root.rglob("*.json") if path.is_file() and not is_junk(path.relative_to(root))]
    found = list[tuple[Path, float | None]]()
    for file in sorted(files, key=lambda path: natural(path.relative_to(root).as_posix())):
        marks = (re.match(r"1_([12])_|([2-5])_", part) for part in reversed(file.relative_to(root).parts[:-1]))
        mark = next(filter(None, marks), None)
        found.append((file, mark and (1 + int(mark[1]) / 10 if mark[1] else float(mark[2]))))
    return found


def pair_files(root: Path) -> list[tuple[Path, str]]:
    """(file, "remove_add" or "replace") of the last step that has a photo's pairs, by photo."""
    last: dict[tuple[str, str], tuple[float, Path]] = {}
    for file, step in step_files(root):
        if step is None or step < 3:
            continue
        kind = "replace" if "replace" in file.relative_to(root).parts else "remove_add"
        before = last.get((file.stem, kind))
        if before is None or before[0] < step:
            last[file.stem, kind] = (step, file)
    return [(last[key][1], key[1]) for key in sorted(last, key=lambda key: (natural(key[0]), key[1]))]


def _pair(key: str, finder: reading.Finder, table: Mapping[str, Any], entry: str, photo: str = "") -> Pair:
    """An entry of a table; where its paths are blank the names of the `photo`'s pictures are guessed as published."""
    fields = table[entry]
    if not isinstance(fields, dict):
        raise reading.ReadError(reading.FIELDS, f"the entry is {fields!r:.40}")
    is_odd = entry.isdecimal() and int(entry) % 2 == 1  # the even one before it, swapped
    forward = table.get(str(int(entry) - 1)) if is_odd else None
    guesses: tuple[str | None, str | None] = (None, None)
    if photo:
        before, after = (str(fields.get(f"class_{end}") or "").replace(" ", "_") for end in ("origin", "target"))
        is_forward = {"remove": True, "add": False}.get(str(fields.get("task_type")), not is_odd)
        one, other = (before, after) if is_forward else (after, before)
        made = f"{photo}_*_{one}_to_{other}" if other else f"{photo}_*_{one}"  # `*` = a number
        guesses = (photo, made) if is_forward else (made, photo)
    pictures = []
    for names, guess in zip(PATHS, guesses, strict=True):
        path = next((fields[name] for name in names if is_told(fields.get(name))), None)
        if path is None and guess is None:
            raise reading.ReadError(reading.FIELDS, f"no {' or '.join(names)} among {', '.join(fields)}")
        pictures.append(by_stem(finder, str(guess)) if path is None else finder.find(path))
    return read_entry(key, fields, *pictures, forward)


def read_entry(key: str, fields: Mapping[str, Any], source: Path, target: Path, forward: Any) -> Pair:
    """A record of the pipeline; `forward` is the one that it swaps, whose captions may have stayed in it, or None."""
    instructions = instructions_of(fields)
    task = fields.get("task_type")
    ends = [str(fields.get(f"detailed_caption_{end}") or "") for end in ("origin", "target")]
    if task != "replace":
        told = str(fields.get("detailed_caption") or "")
        ends = [told, ""] if task == "remove" else ["", told]
    scores, notes = scores_of(fields)
    if task == "replace" and isinstance(forward, dict) and ends[0] != ends[1]:
        before = [str(forward.get(f"detailed_caption_{end}") or "") for end in ("origin", "target")]
        classes = [_class(forward, "class_target"), _class(forward, "class_origin")]
        if ends == before and classes == [_class(fields, "class_origin"), _class(fields, "class_target")]:
            ends = ends[::-1]
            notes["corrected"] = "the captions were those of the forward pair"
    mask = fields.get("segmentation") or None
    return Pair(
        key,
        instructions,
        source,
        target,
        mask=mask
        if mask is None or isinstance(mask, dict)
        else reading.ReadError(reading.FIELDS, f"`segmentation` is {mask!r:.40}"),
        task=str(task or "edit"),
        caption=str(fields.get("img_caption") or ""),
        facts={
            **{name: _class(fields, name) for name in ("class_origin", "class_target")},
            "detailed_origin": ends[0],
            "detailed_target": ends[1],
            "scores": scores,
            "notes": notes,
        },
    )


def by_stem(finder: reading.Finder, pattern: str) -> Path:
    """The only picture whose stem has this form (`*` = any words)."""
    form = re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))
    found = [path for path in finder.pictures() if form.fullmatch(path.stem)]
    if len(found) != 1:
        raise reading.ReadError(
            reading.MISSING, f"its path is blank, and {len(found)} pictures are called {pattern}: write the file name"
        )
    return found[0]


def is_told(path: object) -> bool:
    """Whether there is a path."""
    return isinstance(path, str) and bool(path.strip())


def _table(file: Path) -> dict[str, Any]:
    """The entries of a file of pairs, from memory while it does not change."""
    return _loaded(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _loaded(file: Path, _written: int) -> dict[str, Any]:
    table = reading.load_json(file)
    if not isinstance(table, dict):
        raise reading.ReadError(
            reading.FIELDS, f"{file.name} holds a {type(table).__name__} in place of numbered entries"
        )
    return table


def instructions_of(fields: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Wordings by kind: the first is the template, the others are rewordings; reasoning stands in keys of its own."""
    value = fields.get("instruction")
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    told = fields.get("instruction_kinds")
    kinds = told if isinstance(told, list) and len(told) == len(texts) else ["template", *["simple"] * len(texts)]
    found: dict[str, tuple[str, ...]] = {}
    pairs = list(zip(kinds, texts, strict=False))
    pairs += [("reasoning", fields.get(f"reasoning_instruction{number}")) for number in (1, 2)]
    pairs += [("expressive", fields.get("expressive_instruction"))]
    for kind, text in pairs:
        if isinstance(text, str) and text.strip():
            found[str(kind)] = (*found.get(str(kind), ()), text.strip())
    if not found:
        raise reading.ReadError(reading.NO_TEXT, f"`instruction` is {value!r:.40}")
    return found


def _class(fields: Mapping[str, Any], name: str) -> str:
    """A class; names are published with underlines."""
    return str(fields.get(name) or "").replace("_", " ").strip()


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
