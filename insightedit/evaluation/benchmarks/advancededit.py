"""AdvancedEdit-Eval (InsightEdit): remove, add and replace, in the shape of the published data pipeline.

The benchmark itself is not released. What can be read is the output of the pipeline's steps 3 to 5, one JSON file per
photo, or a manifest of the same records; so anybody's pairs can be measured in this shape. Every pair is there twice,
forward and swapped; the published swapped replacements keep the captions of the forward ones, which is put right here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from insightedit.datasets.advancededit import json_files, step_of
from insightedit.datasets.segmentation import coco_mask
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.masks import write_mask
from insightedit.evaluation.benchmarks.reading import Notes, PictureIndex, as_id, reads, some
from insightedit.evaluation.benchmarks.tables import UNPACKED

TASKS = {"remove": ("class_origin",), "add": ("class_target",), "replace": ("class_origin", "class_target")}
MANIFESTS = ("manifest.json", "manifest.jsonl")
FIRST_STEP = 3  # of the published pipeline: before it there are no pairs
SHAPE = (
    "{task_type, origin_img_path, target_img_path, instruction: [], class_origin, class_target, bbox, segmentation}"
)

CARD = Card(
    name="advancededit",
    title="AdvancedEdit-Eval",
    paper="Xu et al., InsightEdit, CVPR 2025",
    obtain="It is not released: bring pairs of your own in this layout, or run the published data pipeline.",
    licence="none stated",
    layout=f"""\
manifest.json     [{{id, ...}}, ...] or {{id: {{...}}}}, or manifest.jsonl, of records
  {SHAPE}
or 3_editing_pair_construction/{{remove_add,replace}}/... 4_instruction_recaption/... 5_quality_evaluation/...
  <photo>.json    {{"0": record, "1": the same pair swapped, ...}}; the last step that has a photo counts
pictures by their file names, anywhere below the folder""",
    counts={"all": 300},
    splits=("plain", "reasoning"),
)


@dataclass(frozen=True)
class _PairEntry:
    """A record and where it stands."""

    name: str
    where: str
    fields: Mapping[str, Any]

    @property
    def ends(self) -> tuple[str, str]:
        """File names of source and target."""
        source, target = (
            PurePosixPath(str(self.fields.get(f"{end}_img_path", "")).replace("\\", "/")).name
            for end in ("origin", "target")
        )
        return source, target

    @property
    def is_swapped(self) -> bool:
        """Whether the photo is the target: made pictures are called `<photo>_<number>_<what>`."""
        source, target = (PurePosixPath(name).stem for name in self.ends)
        return source.startswith(f"{target}_")


@reads(CARD)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Samples with task as category, photo as cluster, and what is there afterwards as `local_caption`.

    That is empty for removals: which label the paper takes there is not published. `extra` has the classes and detailed
    captions. Split plain takes the first of a record's instructions, reasoning its `reasoning_instruction1`. Masks are
    run lengths; they are written once to `unpacked/masks/`.
    """
    groups = _read_manifest(notes)
    groups = _read_steps(notes) if groups is None else groups
    if not groups and not notes.faults:
        notes.fault("It holds neither a manifest.json nor *.json files of the pipeline's steps 3 to 5.")
    index = PictureIndex(notes, notes.folder)
    records = [record for group in groups for record in _put_right(notes, group)]
    samples = [sample for record in records if (sample := _sample(notes, index, record, split)) is not None]
    _note_judge(notes, records)
    notes.warn("The published pairs are not released: these are others, and no number compares.", differs=True)
    return samples


def _read_manifest(notes: Notes) -> list[list[_PairEntry]] | None:
    """Records of a manifest as one group, for those of one photo need not stand together; None if there is none."""
    found = [path for name in MANIFESTS if (path := notes.folder / name).is_file()]
    if len(found) > 1:
        notes.fault(f"It holds {' and '.join(MANIFESTS)}: remove one.")
        return []
    if not found:
        return None
    path = found[0]
    if path.suffix == ".jsonl":
        table: Any = notes.read_jsonl(path, SHAPE)
    else:
        table = notes.read_json(path, (list, dict), f"a list or dictionary of {SHAPE}")
    pairs = table.items() if isinstance(table, dict) else enumerate(table or [])
    return [_records(notes, path.name, ((str(key), row) for key, row in pairs), "")]


def _read_steps(notes: Notes) -> list[list[_PairEntry]]:
    """Records by file, of the last step that has the photo and kind of task."""
    last: dict[tuple[str, str], tuple[float, list[_PairEntry]]] = {}
    for path in json_files(notes.folder):
        found = step_of(path, notes.folder)
        step = FIRST_STEP if found is None else found
        if step < FIRST_STEP or path.relative_to(notes.folder).parts[0] == UNPACKED:
            continue
        table = notes.read_json(path, dict, f'{{"0": {SHAPE}, ...}}')
        if table is None:
            continue
        if found is None and not any(isinstance(row, dict) and "task_type" in row for row in table.values()):
            notes.warn(f"{notes.short(path)} holds no records and is left out.")
            continue
        records = _records(notes, notes.short(path), table.items(), path.stem)
        tasks = {str(record.fields.get("task_type")) for record in records}
        key = (path.stem, "replace" if tasks == {"replace"} else "remove_add")
        if key in last and last[key][0] == step:
            notes.fault(f"{notes.short(path)} is there twice in step {step:g}: remove one.")
        if key not in last or last[key][0] < step:
            last[key] = (step, records)
    return [[_named(record, kind) for record in records] for (_, kind), (_, records) in last.items()]


def _named(record: _PairEntry, kind: str) -> _PairEntry:
    return _PairEntry(as_id(record.name, kind), record.where, record.fields)


def _records(notes: Notes, file: str, rows: Any, prefix: str) -> list[_PairEntry]:
    records = []
    for key, row in rows:
        if not isinstance(row, dict):
            notes.fault(f"{file}, entry {key}, is {row!r:.40}: it should hold {SHAPE}.")
            continue
        records.append(_PairEntry(as_id(prefix, row.get("id", key)), f"{file}, entry {key}", row))
    return records


def _put_right(notes: Notes, records: Sequence[_PairEntry]) -> list[_PairEntry]:
    """Swapped replacements with their captions swapped too, and a fault for pairs that are not swapped.

    In the pipeline's files an odd entry is the even one before it with source and target exchanged.
    """
    forward = {record.ends: record for record in records}
    removals = {record.ends for record in records if record.fields.get("task_type") == "remove"}
    kept, right = [], []
    for record in records:
        other = forward.get(record.ends[::-1])
        if record.fields.get("task_type") == "add" and record.ends in removals:
            notes.fault(f"{record.where} adds with the pictures of its removal in the same order: swap them.")
        captions = [record.fields.get(f"detailed_caption_{end}") for end in ("origin", "target")]
        if other is not None and record.is_swapped and all(captions) and captions[0] != captions[1]:
            before = [other.fields.get(f"detailed_caption_{end}") for end in ("origin", "target")]
            if captions == before:
                kept.append(record.where)
                swapped = {"detailed_caption_origin": captions[1], "detailed_caption_target": captions[0]}
                record = _PairEntry(record.name, record.where, {**record.fields, **swapped})
        right.append(record)
    if kept:
        notes.warn(
            f"{len(kept)} swapped replacements keep the captions of the forward ones, a fault of the published "
            f"pipeline ({some(kept)}): their captions are swapped here."
        )
    return right


def _sample(notes: Notes, index: PictureIndex, record: _PairEntry, split: str) -> BenchmarkSample | None:
    fields, where = record.fields, record.where
    task = notes.text_of(fields, "task_type", where)
    if task and task not in TASKS:
        notes.fault(f"{where} has the task_type {task!r}: there are {', '.join(TASKS)}.")
    paths = [notes.text_of(fields, key, where, needed=False) for key in ("origin_img_path", "target_img_path")]
    if not all(paths):
        notes.fault(f"{where} has a blank path, as in the published sample: write the pictures' file names there.")
    instructions = _instructions(notes, record, split)
    classes = _classes(notes, record, task)
    if task not in TASKS or not all(paths) or not instructions:
        return None
    source, target = (index.find(path, where) for path in paths)
    if source is None or target is None:
        return None
    caption = notes.text_of(fields, "img_caption", where, needed=False)
    extra = {**classes, "rewordings": " | ".join(instructions[1:])}
    for key in ("detailed_caption", "detailed_caption_origin", "detailed_caption_target"):
        extra[key] = notes.text_of(fields, key, where, needed=False)
    return BenchmarkSample(
        sample_id=record.name,
        instruction=instructions[0],
        category=task,
        source=source,
        target=target,
        mask=_mask(notes, record),
        source_caption="" if record.is_swapped else caption,
        target_caption=caption if record.is_swapped else "",
        local_caption=classes["class_target"],
        cluster=(target if record.is_swapped else source).stem,
        extra={key: value for key, value in extra.items() if value},
    )


def _instructions(notes: Notes, record: _PairEntry, split: str) -> list[str]:
    if split == "reasoning":
        first = notes.text_of(record.fields, "reasoning_instruction1", record.where)
        second = notes.text_of(record.fields, "reasoning_instruction2", record.where, needed=False)
        return [text for text in (first, second) if text] if first else []
    value = record.fields.get("instruction")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or not "".join(texts).strip():
        notes.fault(f"{record.where} has {value!r:.60} as `instruction`: it has to be a list of texts.")
        return []
    return [text.strip() for text in texts if text.strip()]


def _classes(notes: Notes, record: _PairEntry, task: str) -> dict[str, str]:
    """What is there before and after; names are published with underlines."""
    classes = {}
    for key in ("class_origin", "class_target"):
        needed = key in TASKS.get(task, ())
        classes[key] = notes.text_of(record.fields, key, record.where, needed=needed).replace("_", " ")
        if classes[key] and task in TASKS and not needed:
            notes.fault(
                f"{record.where} is of the task {task} and has the {key} {classes[key]!r}: it has to be empty."
            )
    return classes


def _mask(notes: Notes, record: _PairEntry) -> Path | None:
    """The region as a picture, from run lengths; None where there are none, or with a fault noted."""
    code = record.fields.get("segmentation")
    if code is None or code == "" or code == []:
        return None
    try:
        height, width = (int(side) for side in code["size"])
        region = coco_mask(code, height, width)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        why = str(error).rstrip(".")
        notes.fault(f"{record.where} has a segmentation that cannot be read ({why}): it has to be COCO's run lengths.")
        return None
    if not region.any():
        notes.fault(f"{record.where} has an empty segmentation: nothing would be edited.")
    _check_box(notes, record, width, height)
    return write_mask(notes, region, record.name)


def _check_box(notes: Notes, record: _PairEntry, width: int, height: int) -> None:
    box = record.fields.get("bbox")
    if box is None:
        return
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        notes.fault(f"{record.where} has {box!r:.60} as `bbox`: it has to be [x, y, width, height] in pixels.")
    elif box[0] + box[2] > width + 1 or box[1] + box[3] > height + 1:
        notes.fault(
            f"{record.where} has the bbox {box}, which leaves the {width} x {height} picture: it has to be "
            "[x, y, width, height], not the [x, y, x, y] of step 2."
        )


def _note_judge(notes: Notes, records: Sequence[_PairEntry]) -> None:
    keys = ("qwen_VIE_SC", "qwen_VIE_PQ")
    failed = [one.name for one in records if any(one.fields.get(key, "") is None for key in keys)]
    if failed:
        notes.warn(
            f"{len(failed)} records have no score of the pipeline's judge, which failed on them: {some(failed)}."
        )
