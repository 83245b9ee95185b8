"""AdvancedEdit-Eval (InsightEdit): remove, add and replace, in the shape of the published data pipeline.

The benchmark itself is not released. What can be read is the output of the pipeline's steps 3 to 5, one JSON file per
photo, or a manifest of the same records; so anybody's pairs can be measured in this shape. Every pair is there twice,
forward and swapped; the published swapped replacements keep the captions of the forward ones, which is put right here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from insightedit.datasets.advancededit import JUDGED, read_entry, step_files
from insightedit.datasets.notes import UNPACKED, Entry, EntryError, Notes, as_id, some
from insightedit.datasets.reading import ReadError
from insightedit.datasets.segmentation import decode_mask
from insightedit.datasets.unpacking import write_mask
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads

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


Group = list[tuple[str, Any]]  # (where it stands, record with the sample's id) of those that may be each other's swap


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
    samples, kept = [], list[str]()
    for group in groups:
        by_ends = {_ends(row): row for _, row in group if isinstance(row, dict)}
        removals = {_ends(row) for _, row in group if isinstance(row, dict) and row.get("task_type") == "remove"}
        samples += notes.each(group, SHAPE, partial(_sample, split, by_ends, removals, kept))
    if kept:
        notes.warn(
            f"{len(kept)} swapped replacements keep the captions of the forward ones, a fault of the published "
            f"pipeline ({some(kept)}): their captions are swapped here."
        )
    rows = [row for group in groups for _, row in group if isinstance(row, dict)]
    if failed := [row["id"] for row in rows if any(row.get(key, "") is None for key in JUDGED)]:
        notes.warn(
            f"{len(failed)} records have no score of the pipeline's judge, which failed on them: {some(failed)}."
        )
    notes.warn("The published pairs are not released: these are others, and no number compares.", differs=True)
    return samples


def _read_manifest(notes: Notes) -> list[Group] | None:
    """Records of a manifest as one group, for those of one photo need not stand together; None if there is none."""
    found = [path for name in MANIFESTS if (path := notes.folder / name).is_file()]
    if len(found) > 1:
        notes.fault(f"It holds {' and '.join(MANIFESTS)}: remove one.")
        return []
    if not found:
        return None
    path, shape = found[0], f"a list or dictionary of {SHAPE}"
    is_lines = path.suffix == ".jsonl"
    table: Any = notes.read_jsonl(path, SHAPE) if is_lines else notes.read_json(path, (list, dict), shape)
    return [_group(path.name, table if isinstance(table, dict) else dict(enumerate(table or [])))]


def _read_steps(notes: Notes) -> list[Group]:
    """Records by file, of the last step that has the photo and kind of task."""
    last: dict[tuple[str, str], tuple[float, Group]] = {}
    for path, found in step_files(notes.folder):
        step = FIRST_STEP if found is None else found
        if step < FIRST_STEP or path.relative_to(notes.folder).parts[0] == UNPACKED:
            continue
        table = notes.read_json(path, dict, f'{{"0": {SHAPE}, ...}}')
        if table is None:
            continue
        tasks = {str(row.get("task_type")) for row in table.values() if isinstance(row, dict)}
        if found is None and not any("task_type" in row for row in table.values() if isinstance(row, dict)):
            notes.warn(f"{notes.short(path)} holds no records and is left out.")
            continue
        kind = "replace" if tasks == {"replace"} else "remove_add"
        before = last.get((path.stem, kind), (0.0, []))[0]
        if before == step:
            notes.fault(f"{notes.short(path)} is there twice in step {step:g}: remove one.")
        if before < step:
            last[path.stem, kind] = (step, _group(notes.short(path), table, path.stem, kind))
    return [group for _, group in last.values()]


def _group(file: str, table: Mapping[Any, Any], photo: str = "", kind: str = "") -> Group:
    return [
        (
            f"{file}, entry {key}",
            {**row, "id": as_id(photo, row.get("id", key), kind)} if isinstance(row, dict) else row,
        )
        for key, row in table.items()
    ]


def _ends(row: Mapping[str, Any]) -> tuple[str, str]:
    """File names of source and target."""
    source, target = (
        PurePosixPath(str(row.get(f"{end}_img_path", "")).replace("\\", "/")).name for end in ("origin", "target")
    )
    return source, target


def _sample(
    split: str,
    by_ends: Mapping[tuple[str, str], dict[str, Any]],
    removals: set[tuple[str, str]],
    kept: list[str],
    entry: Entry,
) -> BenchmarkSample:
    """A record as training reads it, and checked; `kept` gathers those whose captions had to be exchanged."""
    fields, ends = entry.fields, _ends(entry.fields)
    # made pictures are called `<photo>_<number>_<what>`: where the source is one, the photo is the target
    is_swapped = PurePosixPath(ends[0]).stem.startswith(f"{PurePosixPath(ends[1]).stem}_")
    task = entry.text("task_type")
    if task not in TASKS:
        raise EntryError(f"has the task_type {task!r}: there are {', '.join(TASKS)}")
    if task == "add" and ends in removals:
        entry.fault("adds with the pictures of its removal in the same order: swap them")
    paths = [entry.text(f"{end}_img_path", needed=False) for end in ("origin", "target")]
    if not all(paths):
        raise EntryError("has a blank path, as in the published sample: write the pictures' file names there")
    if split == "reasoning":
        entry.text("reasoning_instruction1")
    for key in ("class_origin", "class_target"):
        told = entry.text(key, needed=key in TASKS[task])
        if told and key not in TASKS[task]:
            raise EntryError(f"is of the task {task} and has the {key} {told!r}: it has to be empty")
    source, target = map(entry.find, paths)
    pair = read_entry(fields["id"], fields, source, target, by_ends.get(ends[::-1]) if is_swapped else None)
    facts, wordings = pair.facts, pair.instructions
    kept += [entry.where] if "corrected" in facts["notes"] else []
    plain = [one for kind, found in wordings.items() if kind not in ("reasoning", "expressive") for one in found]
    first, *others = wordings["reasoning"] if split == "reasoning" else plain
    details = {"detailed_caption": facts["detailed_origin"] or facts["detailed_target"]}
    if task == "replace":
        details = {f"detailed_caption_{end}": facts[f"detailed_{end}"] for end in ("origin", "target")}
    classes = {key: facts[key] for key in ("class_origin", "class_target")}
    extra = {**classes, "rewordings": " | ".join(others), **details}
    return BenchmarkSample(
        sample_id=fields["id"],
        instruction=first,
        category=task,
        source=source,
        target=target,
        mask=_mask(entry, pair.mask),
        source_caption="" if is_swapped else pair.caption.strip(),
        target_caption=pair.caption.strip() if is_swapped else "",
        local_caption=classes["class_target"],
        cluster=(target if is_swapped else source).stem,
        extra={key: value.strip() for key, value in extra.items() if value.strip()},
    )


def _mask(entry: Entry, segmentation: Any) -> Path | None:
    """The region as a picture, from run lengths; None where there are none."""
    if isinstance(segmentation, ReadError):
        raise segmentation
    region = decode_mask(segmentation)
    if region is None:
        return None
    if not region.any():
        entry.fault("has an empty segmentation: nothing would be edited")
    (height, width), box = region.shape, entry.fields.get("bbox")
    if box is not None and (
        not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box)
    ):
        entry.fault(f"has {box!r:.60} as `bbox`: it has to be [x, y, width, height] in pixels")
    elif box is not None and (box[0] + box[2] > width + 1 or box[1] + box[3] > height + 1):
        entry.fault(
            f"has the bbox {box}, which leaves the {width} x {height} picture: it has to be [x, y, width, height], "
            "not the [x, y, x, y] of step 2"
        )
    return write_mask(entry.notes, region, entry.fields["id"])
